"""BLEU, chrF, diff ratio, CER and WER: one definition each, for rewards and for reports, on one text.

    a, b = one_text(reference), one_text(transcript)
    bleu(a, b).value, cer(a, b).value

`one_text` is what a reader sees, in one form for what no reader tells apart: so composed and decomposed letters,
ligatures, widths, quotes, wrapped lines, delimiters of formulas and the notation of tables never count. Han, kana, Thai
and other scripts are written without spaces; there BLEU and WER, which count words, count characters instead, and say
so. Knows nothing about pages or rewards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from rapidfuzz.distance import Indel, Levenshtein

from ocr_rl.text.element import elements
from ocr_rl.text.normalize import count_alphanumeric, count_unspaced
from ocr_rl.text.places import joined

Unit = Literal["word", "character"]
Text = Literal["seen", "written"]  # seen: `one_text`; written: as it is, as public definitions have it
UNSPACED = 0.3  # share of a reference's letters in scripts without spaces, from which words are characters


class Figure(NamedTuple):
    value: float
    why: str
    parts: Mapping[str, float] = MappingProxyType({})


class Pair(NamedTuple):
    """Two texts ready for comparison, and what counts as a word of theirs."""

    reference: str
    candidate: str
    unit: Unit


def pair(reference: str, candidate: str, text: Text = "seen") -> Pair:
    """A reference and a transcript without front matter, in the form in which figures compare them."""
    if text == "written":
        return Pair(reference.strip(), candidate.strip(), "word")
    true = one_text(reference)
    return Pair(true, one_text(candidate), unit_of(true))


@lru_cache(maxsize=64)  # several rewards compare a group of transcripts with one reference
def one_text(text: str) -> str:
    """What a reader sees of a transcript, in one form, with one space between blocks."""
    return joined([element.text for element in elements(text)])[0]


def unit_of(reference: str) -> Unit:
    """What a word of a text is: a character, where a good part of it is in a script without spaces."""
    letters = 0 if reference.isascii() else count_alphanumeric(reference)
    return "character" if letters and count_unspaced(reference) > UNSPACED * letters else "word"


def words(text: str, unit: Unit) -> Sequence[str]:
    return text.split() if unit == "word" else "".join(text.split())


def bleu(texts: Pair) -> Figure:
    """Sentence BLEU in [0, 1]: sacrebleu nrefs:1|case:mixed|eff:yes|tok:13a|smooth:exp; tok:char by character.

    Against a blank reference a blank transcript has 1 and any other 0. Source: Post, arXiv 1804.08771.
    """
    if not texts.reference.strip():
        return Figure(float(not texts.candidate.strip()), "the page is blank")
    result = _bleu(texts.unit).sentence_score(texts.candidate, [texts.reference])
    why = f"{result.sys_len} {texts.unit}s against {result.ref_len}, brevity penalty {result.bp:.2f}"
    parts = {f"precision_{n}": share / 100 for n, share in enumerate(result.precisions, 1)}
    return Figure(_share(result.score), _by_character(why, texts), parts)


def chrf(texts: Pair) -> Figure:
    """Sentence chrF2 in [0, 1]: sacrebleu nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no. White space does not count.

    Against a blank reference a blank transcript has 1 and any other 0. Source: Popovic, WMT 2015, W15-3049.
    """
    if not texts.reference.strip():
        return Figure(float(not texts.candidate.strip()), "the page is blank")
    return Figure(_share(_chrf().sentence_score(texts.candidate, [texts.reference]).score), "")


def diff_ratio(texts: Pair, unit: Unit = "character") -> Figure:
    """1 - (insertions + deletions) / (both lengths), in characters or in words; 1 for two blank texts."""
    a, b = texts.candidate, texts.reference
    if unit == "word":
        a, b = words(a, texts.unit), words(b, texts.unit)
    why = f"{len(a)} {unit}s against {len(b)} of the reference"
    return Figure(Indel.normalized_similarity(a, b), _by_character(why, texts) if unit == "word" else why)


def cer(texts: Pair) -> Figure:
    """Levenshtein distance / characters of the reference; it may exceed 1. Against a blank reference 0 or 1."""
    rate = _rate(texts.reference, texts.candidate)
    return Figure(rate, f"character error rate {rate:.3f}")


def wer(texts: Pair) -> Figure:
    """`cer`, counted in words between white space. Case and punctuation count."""
    rate = _rate(words(texts.reference, texts.unit), words(texts.candidate, texts.unit))
    return Figure(rate, _by_character(f"word error rate {rate:.3f}", texts))


def _rate(reference: Sequence[str], candidate: Sequence[str]) -> float:
    return Levenshtein.distance(reference, candidate) / len(reference) if reference else float(bool(candidate))


def _by_character(why: str, texts: Pair) -> str:
    return f"{why}; by character, since the script has no spaces" if texts.unit == "character" else why


def _share(score: float) -> float:
    return min(1.0, max(0.0, score / 100))  # sacrebleu may return 100.00000000000004


@cache
def _bleu(unit: Unit) -> Any:
    from sacrebleu.metrics.bleu import BLEU  # slow to import, and not needed without references

    # Without effective_order every text of fewer than four words would score 0.
    return BLEU(effective_order=True, tokenize="char" if unit == "character" else "13a")


@cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()
