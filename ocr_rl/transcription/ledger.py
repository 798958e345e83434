"""What a folder of transcripts knows of its documents, from call to call.

    documents.jsonl   each document: its path, hash and pages, the stem of its files, what its pages' ids begin with
    made.jsonl        each file that was made of rows, and of which

A later call with other inputs takes names that are free, so nothing of an earlier document is written over. A path
that holds other bytes than before keeps its name: its files are made anew, its old rows stay. Used by one job at a
time (`Rows` sees to that).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any
from unicodedata import normalize

from ocr_rl import outputs
from ocr_rl.contract import UserError
from ocr_rl.evaluate import journal
from ocr_rl.pages.raster import PageError, long_name
from ocr_rl.pages.references import NUMBERED
from ocr_rl.transcription.rows import Document

DOCUMENTS, MADE = "documents.jsonl", "made.jsonl"
_MAX_PAGES = 10**7  # of a document, in a line that somebody may have edited


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A file and what is in it; 0 pages: it could not be opened, and no later file takes its name in this call."""

    pdf: Path
    sha256: str = ""
    pages: int = 0


class Ledger:
    def __init__(self, folder: Path) -> None:
        """Reads and changes nothing. UserError for a line that is none of ours."""
        self._folder = folder
        self._entries = [_document(row, folder / DOCUMENTS) for row in _rows(folder / DOCUMENTS)]
        self._made = {row.get("file"): row.get("of") for row in _rows(folder / MADE) if isinstance(row, dict)}

    def named(self, opened: Iterable[Opened]) -> list[Document]:
        """The documents of these files as `enter` will name them."""
        return named(opened, self._entries)

    def enter(self, opened: Sequence[Opened]) -> tuple[list[PageError], list[Document]]:
        """The documents of these files, under their names; and files whose names are too long to be written.

        What is new is on the disk when this returns.
        """
        for name in (DOCUMENTS, MADE):
            journal.resume(self._folder / name)  # a line that was cut goes
        documents = self.named(opened)
        reasons = {document.pdf: long_name(self._folder, f"{document.stem}.md") for document in documents}
        refused = [PageError(pdf, None, reason) for pdf, reason in reasons.items() if reason]
        documents = [document for document in documents if not reasons[document.pdf]]
        old = {entry.id for entry in self._entries}
        new = [document for document in documents if document.id not in old]
        with outputs.writing(self._folder), (self._folder / DOCUMENTS).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(_entry(document)) + "\n" for document in new)
            file.flush()
            os.fsync(file.fileno())
        self._entries += new
        return refused, documents

    def others(self, documents: Iterable[Document]) -> list[Document]:
        """The documents of earlier calls that still have their names."""
        taken = {document.stem for document in documents}
        return [entry for stem, entry in {entry.stem: entry for entry in self._entries}.items() if stem not in taken]

    def is_made(self, target: Path, document: Document, how: str) -> bool:
        """Whether the file stands there and is of these rows, and of no fewer; `how` names what else shaped it."""
        return self._made.get(target.name) == _stamp(document, how) and target.exists()

    def note(self, target: Path, document: Document, how: str) -> None:
        """A file is made. A kill before this costs no more than making it again."""
        self._made[target.name] = _stamp(document, how)
        journal.append(self._folder / MADE, {"file": target.name, "of": self._made[target.name]})


def named(opened: Iterable[Opened], entries: Sequence[Document] = ()) -> list[Document]:
    """A document for each file that could be opened: as in `entries`, or with a stem and an id that are free there.

    The second of several files with one stem is `<stem>-2`, and so on. Stems are in NFC, and two that differ in that or
    in capitals alone are one: on some systems they name one file.
    """
    known = {(os.path.abspath(entry.pdf), entry.sha256): entry for entry in entries}
    stem_at = {os.path.abspath(entry.pdf): entry.stem for entry in entries}
    stems, ids = _Names(entry.stem for entry in entries), _Names(entry.id for entry in entries)
    documents: list[Document] = []
    for file in opened:
        path = os.path.abspath(file.pdf)
        if (path, file.sha256) in known:
            documents.append(replace(known[path, file.sha256], pdf=file.pdf))
            continue
        stem = stem_at.get(path) or stems.free(normalize("NFC", file.pdf.stem))
        if file.pages:
            own = ids.free(file.sha256[:8])
            documents.append(Document.unread(pdf=file.pdf, stem=stem, sha256=file.sha256, id=own, pages=file.pages))
    return documents


class _Names:
    """Names that are taken, in whatever capitals. None is that of another one's page: beside `x` stands no `x_pg1`."""

    def __init__(self, names: Iterable[str]) -> None:
        self._taken: set[str] = set()
        self._documents: set[str] = set()  # whose pages' names are taken
        self._next: defaultdict[str, Iterator[int]] = defaultdict(lambda: count(1))
        for name in names:
            self._take(name)

    def free(self, name: str) -> str:
        """The name, or with -2, -3, … behind it; it is taken now."""
        numbers = self._next[name.casefold()]
        tries = (name if number == 1 else f"{name}-{number}" for number in numbers)
        return self._take(next(text for text in tries if self._is_free(text.casefold())))

    def _is_free(self, name: str) -> bool:
        return name not in self._taken and name not in self._documents and _document_of(name) not in self._taken

    def _take(self, name: str) -> str:
        self._taken.add(name.casefold())
        if document := _document_of(name.casefold()):
            self._documents.add(document)
        return name


def _document_of(name: str) -> str:
    """ "x" for "x_pg1"; "" for the name of no page."""
    page = NUMBERED.fullmatch(name)
    return page["stem"] if page else ""


def _stamp(document: Document, how: str) -> str:
    return hashlib.sha256(f"{document.id} {how} ".encode() + document.sums.tobytes()).hexdigest()[:16]


def _entry(document: Document) -> dict[str, Any]:
    return {
        "pdf": os.path.abspath(document.pdf),
        "sha256": document.sha256,
        "pages": len(document.places),
        "stem": document.stem,
        "id": document.id,
    }


def _rows(path: Path) -> Iterator[Any]:
    """What stands in whole lines."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            raise UserError(f"{path}, line {number}: is no line of a job; give another --out.") from None


def _document(row: Any, path: Path) -> Document:
    try:
        pdf, sha256, stem, own, pages = (row[name] for name in ("pdf", "sha256", "stem", "id", "pages"))
        if all(isinstance(word, str) for word in (pdf, sha256, stem, own)) and 0 < pages <= _MAX_PAGES:
            return Document.unread(pdf=Path(pdf), stem=stem, sha256=sha256, id=own, pages=pages)
    except (KeyError, TypeError):
        pass
    raise UserError(f"{path}: holds a line that is no document of a job; give another --out.")
