"""Sentence BLEU (Post, arXiv 1804.08771) and chrF (Popovic, WMT 2015, W15-3049), to the bit as sacrebleu 2.6 has them.

The signatures are nrefs:1|case:mixed|eff:yes|tok:13a|smooth:exp and nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no.
Written anew because sacrebleu (Apache-2.0) brings 17 MB that only its downloads of test sets need; tests compare both.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

WORDS = 4  # longest n-gram of BLEU
CHARS = 6  # longest n-gram of chrF
BETA = 2  # chrF: recall weighs BETA^2 times as much as precision

# Tokeniser 13a for Western languages: punctuation stands alone, but a point, comma or dash inside a number.
_ESCAPES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_SPLITS = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BleuScore:
    """Score and precisions by order are percentages; lengths count tokens."""

    score: float
    precisions: Sequence[float]
    brevity: float  # the brevity penalty, in [0, 1]
    length: int
    reference_length: int


def sentence_bleu(text: str, reference: str) -> BleuScore:
    """BLEU of one text against one reference; orders of which the text has no n-gram are left out."""
    ngrams, length = _word_ngrams(text)
    reference_ngrams, reference_length = _word_ngrams(reference)
    correct, total = [0] * WORDS, [0] * WORDS
    for ngram, count in ngrams.items():
        total[len(ngram) - 1] += count
        if ngram in reference_ngrams:
            correct[len(ngram) - 1] += min(count, reference_ngrams[ngram])
    brevity = 1.0
    if length < reference_length:
        brevity = math.exp(1 - reference_length / length) if length else 0.0
    score, precisions = 0.0, [0.0] * WORDS
    if any(correct):
        orders, smooth = sum(map(bool, total)), 1.0
        for n in range(orders):
            if correct[n]:
                precisions[n] = 100.0 * correct[n] / total[n]
            else:  # Chen and Cherry 2014, method 3
                smooth *= 2
                precisions[n] = 100.0 / (smooth * total[n])
        score = brevity * math.exp(sum(math.log(share) for share in precisions[:orders]) / orders)
    return BleuScore(
        score=score, precisions=precisions, brevity=brevity, length=length, reference_length=reference_length
    )


def sentence_chrf(text: str, reference: str) -> float:
    """chrF2 of one text against one reference, in percent; white space does not count."""
    precision, recall, orders = 0.0, 0.0, 0
    for ngrams, reference_ngrams in zip(_char_ngrams(text), _char_ngrams(reference), strict=True):
        if ngrams and reference_ngrams:
            shared = sum(min(count, reference_ngrams[ngram]) for ngram, count in ngrams.items())
            precision += shared / ngrams.total()
            recall += shared / reference_ngrams.total()
            orders += 1
    precision, recall = precision / max(1, orders), recall / max(1, orders)
    if not precision + recall:
        return 0.0
    factor = BETA**2
    return 100 * ((1 + factor) * precision * recall / (factor * precision + recall))


@lru_cache(maxsize=16)  # a reference is asked about by every sample of its page
def _word_ngrams(text: str) -> tuple[Counter[tuple[str, ...]], int]:
    """All n-grams of 1 to WORDS tokens, and how many tokens there are."""
    tokens = _tokens(text)
    spans = ((start, start + n) for n in range(1, WORDS + 1) for start in range(len(tokens) - n + 1))
    return Counter(tuple(tokens[start:end]) for start, end in spans), len(tokens)


@lru_cache(maxsize=16)
def _char_ngrams(text: str) -> list[Counter[str]]:
    line = "".join(text.split())
    return [Counter(line[at : at + n] for at in range(len(line) - n + 1)) for n in range(1, CHARS + 1)]


def _tokens(text: str) -> list[str]:
    line = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for escape, character in _ESCAPES:
        line = line.replace(escape, character)
    line = f" {line} "
    for pattern, replacement in _SPLITS:
        line = pattern.sub(replacement, line)
    return line.split()
