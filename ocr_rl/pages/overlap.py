"""Which pages of two sets share a document or much of their text.

Shared text is counted in shingles (Broder 1997): runs of eight words, or of eight letters in a script without spaces.
Of large sets only some shingles are kept, chosen by their hash, so that a comparison takes seconds. Knows nothing about
tests.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ocr_rl.contract import Page
from ocr_rl.pages.raster import document_sha
from ocr_rl.pages.text_layer import read_layers
from ocr_rl.text.normalize import normalize

SHINGLE = 8  # words, or letters of a script without spaces
_KEPT = 4_000_000  # about so many shingles of both sets together are compared
_TAG = re.compile(r"<[^<>]*>")
_COMMON = 50  # a shingle leads to at most so many pages of the other set: a licence text may stand on every page
# Thai, Lao, Myanmar, Khmer, kana and Han: \w+ would take a whole sentence of these for a word.
_NO_SPACES = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"(?=\w)[{_NO_SPACES}]|[^\W{_NO_SPACES}]+")

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """A page of one set whose file or text is also in the other set."""

    page: Page
    other: Page
    share: float  # shared shingles / shingles of the shorter text; 1 for copies of a document

    def __str__(self) -> str:
        what = (
            "the same file" if self.share >= 1.0 and _same(self.page, self.other) else f"{self.share:.0%} of the text"
        )
        return f"{self.page.pdf}, page {self.page.number} = {self.other.pdf}, page {self.other.number} ({what})"


def overlaps(pages: Sequence[Page], others: Sequence[Page], least: float = 0.5) -> list[Overlap]:
    """Pairs of pages that share a file, or at least the share `least` of the shorter text; the largest shares first.

    The text of a page is its reference, else its PDF's text layer. Scans without either are compared by their files.
    If the other set holds the same file but not the same page of it, the page is paired with the first page of that
    file. If a text stands on more than _COMMON pages of the other set, some of these pairs may be missing.
    """
    words, other_words = ([_words(text) for text in _texts(part)] for part in (pages, others))
    pairs: dict[tuple[str, str], Overlap] = {}
    for overlap in (
        *_of_one_file(pages, others),
        *_of_one_text(pages, words, others, other_words),
        *_of_shared_text(pages, words, others, other_words, least),
    ):
        pairs.setdefault((overlap.page.id, overlap.other.id), overlap)
    return sorted(pairs.values(), key=lambda overlap: (-overlap.share, overlap.page.id, overlap.other.id))


def _of_one_file(pages: Sequence[Page], others: Sequence[Page]) -> Iterator[Overlap]:
    by_file: dict[str, list[Page]] = defaultdict(list)
    for other in others:
        by_file[document_sha(other.pdf)].append(other)
    for page in pages:
        same = by_file.get(document_sha(page.pdf), [])
        for other in [other for other in same if other.number == page.number] or same[:1]:
            yield Overlap(page=page, other=other, share=1.0)


def _of_one_text(
    pages: Sequence[Page], words: Sequence[Words], others: Sequence[Page], other_words: Sequence[Words]
) -> Iterator[Overlap]:
    """Pages with the very same words. Here a text on many pages is paired with all of them."""
    by_text: dict[Words, list[Page]] = defaultdict(list)
    for other, text in zip(others, other_words, strict=True):
        by_text[text].append(other)
    for page, text in zip(pages, words, strict=True):
        for other in by_text[text] if len(text) >= SHINGLE else ():
            yield Overlap(page=page, other=other, share=1.0)


def _of_shared_text(
    pages: Sequence[Page], words: Sequence[Words], others: Sequence[Page], other_words: Sequence[Words], least: float
) -> Iterator[Overlap]:
    """Pages that share at least three shingles, and `least` of those of the shorter text."""
    one_in = 1 + (sum(map(len, words)) + sum(map(len, other_words))) // _KEPT
    marks, other_marks = ([_marks(text, one_in) for text in part] for part in (words, other_words))
    places: dict[int, list[int]] = defaultdict(list)  # mark -> indices of the other set's pages that have it
    for k, kept in enumerate(other_marks):
        for mark in kept:
            if len(places[mark]) < _COMMON:
                places[mark].append(k)
    for page, kept in zip(pages, marks, strict=True):
        counts = Counter(k for mark in kept for k in places.get(mark, ()))
        for k in (k for k, count in counts.items() if count >= 3):
            share = len(kept & other_marks[k]) / min(len(kept), len(other_marks[k]))
            if share >= least:
                yield Overlap(page=page, other=others[k], share=share)


def _texts(pages: Sequence[Page]) -> Iterator[str]:
    """The text of each page; empty for a page without a reference and without a text layer."""
    bare = dict.fromkeys(page.pdf for page in pages if page.reference is None)
    layer_texts: dict[tuple[Path, int], str] = {}
    for pdf, layers in read_layers(bare, workers=1):
        for layer in layers if not isinstance(layers, str) else ():
            layer_texts[pdf, layer.number] = "\n".join(line.text for line in layer.lines if not line.running)
    for page in pages:
        yield page.reference if page.reference is not None else layer_texts.get((page.pdf, page.number), "")


def _words(text: str) -> Words:
    """The words of a text without its tags, since the text layer of a table has none either."""
    return tuple(_WORD.findall(normalize(_TAG.sub(" ", text)).lower()))


def _marks(words: Words, one_in: int) -> set[int]:
    """Hashes of the shingles, about one in `one_in` of them."""
    runs = (" ".join(words[k : k + SHINGLE]) for k in range(len(words) - SHINGLE + 1))
    hashes = (int.from_bytes(hashlib.blake2b(run.encode(), digest_size=8).digest(), "big") for run in runs)
    return {value for value in hashes if value % one_in == 0}


def _same(page: Page, other: Page) -> bool:
    return document_sha(page.pdf) == document_sha(other.pdf)
