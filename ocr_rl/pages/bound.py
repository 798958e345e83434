"""A run is bound to its pages: what they were when it began, and what of them has changed since.

    sources = BoundSources(run.folder, root, begun=True)
    sources(source)       pages as `open_pages` gives them; UserError where they are not those that the run began with
    sources.hold(path)    the same of a file: pairs, weights, or a reward of one's own
    sources.commits       of models by their hub names: what the run began with, to be read again
    sources.keep()        write down what they are: `pages.json` in the run's folder

A document is known by its bytes, its tests and its references. A run that began before there was such a file is bound
to what is there when it goes on. Knows nothing about what is done with pages.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ocr_rl.config import PageSource
from ocr_rl.contract import Page, UserError
from ocr_rl.pages.raster import document_sha, file_sha
from ocr_rl.pages.source import open_pages
from ocr_rl.run import read_json, write_atomically
from ocr_rl.text.checks import PageCheck

FILE = "pages.json"
_DIGITS = 16  # of each hash
_PARTS = {  # what a hash is of, by its key: how a sentence calls it
    "document": "the document {} was replaced",
    "pages": "other pages of {} have tests or a reference",
    "tests": "the tests of {} changed",
    "references": "a reference of {} changed",
}

Known = Mapping[str, Mapping[str, str]]  # by name of the document: a hash of each part


class BoundSources:
    """Opens sources of pages below `root`, and holds each to what it was when the run in `folder` began."""

    def __init__(self, folder: Path, root: Path, *, begun: bool) -> None:
        self._path, self._root = folder / FILE, root
        self.begun = begun
        self._kept = begun and self._path.exists()
        self.late = begun and not self._kept  # a run that began before there was such a file
        known = read_json(self._path, holds=("sources", "files")) if self._kept else {"sources": {}, "files": {}}
        self._sources: dict[str, Known] = known["sources"]
        self._files: dict[str, str] = known["files"]
        commits = known.get("commits")  # none in a run of an earlier version
        self.commits: dict[str, str] = commits if isinstance(commits, dict) else {}

    def __call__(self, source: PageSource) -> list[Page]:
        pages = open_pages(source, self._root)
        name = json.dumps(source.model_dump(mode="json", exclude_none=True), sort_keys=True)
        now = fingerprint(pages)
        if (change := difference(self._sources.get(name, now), now)) is not None:
            where = getattr(source, "dir", None) or f"{self._root}, {getattr(source, 'synth', 'pages')}"
            raise UserError(self._refusal(str(where), change))
        if name not in self._sources:
            self._sources[name] = now
            self._write_again()
        return pages

    def hold(self, path: Path) -> None:
        """Hold a file to what it was. UserError where it is absent or has changed."""
        try:
            now = file_sha(path)[:_DIGITS]
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
        if self._files.setdefault(str(path), now) != now:
            raise UserError(self._refusal(str(path), "the file changed"))

    def keep(self) -> None:
        """Write down what the run is bound to; sources that are opened later are added."""
        self._kept = True
        self._write_again()

    def _write_again(self) -> None:
        if self._kept:
            known = {"sources": self._sources, "files": self._files, "commits": self.commits}
            write_atomically(self._path, json.dumps(known, indent=1, ensure_ascii=False))

    def _refusal(self, where: str, change: str) -> str:
        return f"{where}: since {self._path.parent} began, {change}; put back what was there, or give another --out."


def fingerprint(pages: Sequence[Page]) -> Known:
    """Hashes by the name of each document, which is its path below the folder that all lie in."""
    by_pdf: dict[Path, list[Page]] = {}
    for page in pages:
        by_pdf.setdefault(page.pdf, []).append(page)
    root = _root(list(by_pdf))
    return {pdf.relative_to(root).as_posix(): _parts(pdf, of_pdf) for pdf, of_pdf in by_pdf.items()}


def difference(begun: Known, now: Known) -> str | None:
    """What has changed first, and in how many documents, as half a sentence; None where nothing has."""
    changes = [
        *(f"the document {name} is gone" for name in begun if name not in now),
        *(f"the document {name} is new" for name in now if name not in begun),
        *(
            sentence.format(name)
            for name in begun
            if name in now
            for part, sentence in _PARTS.items()
            if begun[name].get(part) != now[name][part]
        ),
    ]
    more = f" (and {len(changes) - 1} more changes)" if len(changes) > 1 else ""
    return f"{changes[0]}{more}" if changes else None


def _root(pdfs: Sequence[Path]) -> Path:
    """The folder below which the names of documents stand: the last pdfs/ that all of them share."""
    shared = Path(os.path.commonpath([pdf.parent for pdf in pdfs])) if pdfs else Path()
    return next((folder for folder in (shared, *shared.parents) if folder.name == "pdfs"), shared)


def _parts(pdf: Path, pages: Iterable[Page]) -> dict[str, str]:
    pages = sorted(pages, key=lambda page: page.number)
    return {
        "document": document_sha(pdf)[:_DIGITS],
        "pages": _hash([page.number for page in pages]),
        "tests": _hash([[check.to_json() for check in page.checks if isinstance(check, PageCheck)] for page in pages]),
        "references": _hash([[page.reference, sorted(page.tags)] for page in pages]),
    }


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:_DIGITS]
