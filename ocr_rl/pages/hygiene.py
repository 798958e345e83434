"""Do two sets of pages share documents or text? And a manifest that says what a folder holds and what made it.

Text overlap is counted in shingles of eight words (Broder 1997), or letters where a script has no spaces; of large sets
some are kept, by their hash, so that they compare in seconds. Knows nothing about tests.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ocr_rl.contract import Page
from ocr_rl.pages.raster import document_sha, file_sha
from ocr_rl.pages.text_layer import read_layers
from ocr_rl.text.normalize import normalize

SHINGLE = 8  # words, or letters of a script without spaces
_KEPT = 4_000_000  # shingles of two sets together, about
_TAG = re.compile(r"<[^<>]*>")
_COMMON = 50  # pages of the other set that one shingle may bring up: the first ones (a licence stands on every page)
# Thai, Lao, Myanmar, Khmer, kana and Han: \w+ would take a sentence for a word.
_NO_SPACES = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"(?=\w)[{_NO_SPACES}]|[^\W{_NO_SPACES}]+")
_MAKERS = ("ocr-rl", "typst", "pypdfium2", "faker", "numpy", "pillow", "matplotlib")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """A page of one set that stands in another, too."""

    page: Page
    other: Page
    share: float  # of the shorter one's shingles; 1 for copies of a document

    def __str__(self) -> str:
        what = (
            "the same file" if self.share >= 1.0 and _same(self.page, self.other) else f"{self.share:.0%} of the text"
        )
        return f"{self.page.pdf}, page {self.page.number} = {self.other.pdf}, page {self.other.number} ({what})"


def overlaps(pages: Sequence[Page], others: Sequence[Page], least: float = 0.5) -> list[Overlap]:
    """Pages that stand in both sets: copies of a file, or at least this share of the shorter one's text.

    Text is the reference, else the PDF's text layer; scans without either are compared by their file alone. A page
    whose file is in the other set with other pages is named once, with the first of them; one whose text stands there
    more than _COMMON times perhaps not with all.
    """
    by_file: dict[str, list[Page]] = defaultdict(list)
    for other in others:
        by_file[document_sha(other.pdf)].append(other)
    found: dict[tuple[str, str], Overlap] = {}
    for page in pages:
        same = by_file.get(document_sha(page.pdf), [])
        for other in [other for other in same if other.number == page.number] or same[:1]:
            found[page.id, other.id] = Overlap(page=page, other=other, share=1.0)
    words, other_words = ([_words(text) for text in _texts(part)] for part in (pages, others))
    by_text: dict[tuple[str, ...], list[Page]] = defaultdict(list)
    for other, said in zip(others, other_words, strict=True):
        by_text[said].append(other)
    for page, said in zip(pages, words, strict=True):
        for other in by_text[said] if len(said) >= SHINGLE else ():
            found.setdefault((page.id, other.id), Overlap(page=page, other=other, share=1.0))
    one_in = 1 + sum(map(len, words + other_words)) // _KEPT
    marks, other_marks = ([_marks(said, one_in) for said in part] for part in (words, other_words))
    where: dict[int, list[int]] = defaultdict(list)
    for k, kept in enumerate(other_marks):
        for mark in kept:
            if len(where[mark]) < _COMMON:
                where[mark].append(k)
    for page, kept in zip(pages, marks, strict=True):
        seen = Counter(k for mark in kept for k in where.get(mark, ()))
        for k in (k for k, count in seen.items() if count >= 3):
            share = len(kept & other_marks[k]) / min(len(kept), len(other_marks[k]))
            if share >= least:
                found.setdefault((page.id, others[k].id), Overlap(page=page, other=others[k], share=share))
    return sorted(found.values(), key=lambda overlap: (-overlap.share, overlap.page.id, overlap.other.id))


def write_manifest(folder: Path, made_by: Mapping[str, Any]) -> Path:
    """`manifest.json`: how the folder was made, with which versions, and the sha256 of every file in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    manifest = {
        "made_by": dict(made_by),
        "versions": {name: _version(name) for name in _MAKERS},
        "files": {path.relative_to(folder).as_posix(): file_sha(path) for path in files},
    }
    path = folder / "manifest.json"
    path.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _texts(pages: Sequence[Page]) -> Iterator[str]:
    bare = dict.fromkeys(page.pdf for page in pages if page.reference is None)
    said: dict[tuple[Path, int], str] = {}
    for pdf, layers in read_layers(bare, workers=1):
        for layer in layers if not isinstance(layers, str) else ():
            said[pdf, layer.number] = "\n".join(line.text for line in layer.lines if not line.running)
    for page in pages:
        yield page.reference if page.reference is not None else said.get((page.pdf, page.number), "")


def _words(text: str) -> tuple[str, ...]:
    """Without tags: a table's text layer has none."""
    return tuple(_WORD.findall(normalize(_TAG.sub(" ", text)).lower()))


def _marks(words: Sequence[str], one_in: int) -> set[int]:
    runs = (" ".join(words[k : k + SHINGLE]) for k in range(len(words) - SHINGLE + 1))
    hashes = (int.from_bytes(hashlib.blake2b(run.encode(), digest_size=8).digest(), "big") for run in runs)
    return {value for value in hashes if value % one_in == 0}


def _same(page: Page, other: Page) -> bool:
    return document_sha(page.pdf) == document_sha(other.pdf)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
