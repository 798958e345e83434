"""The rows of a job, `pages.jsonl`: one line a page, appended and on the disk before the next.

A row holds all that is known of its page. A killed job leaves at most a line that is cut; it goes when the file is
opened again, and the other pages are not asked about any more. Where a page's row stands is remembered, not the row:
memory does not grow with the texts. Knows nothing about how a page was read.
"""

from __future__ import annotations

import fcntl
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from ocr_rl import outputs
from ocr_rl.contract import Page, UserError
from ocr_rl.evaluate.transcribe import Attempt
from ocr_rl.text.front_matter import split_front_matter

NAME = "pages.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A file whose pages are read, and where in `pages.jsonl` the row of each page stands; -1: nowhere yet.

    `sums` are the rows' own, so that what was made of other rows is known.
    """

    pdf: Path
    stem: str  # of the files that are made of it
    sha256: str
    id: str  # what its pages' ids begin with
    places: array[int]
    sums: array[int]

    @classmethod
    def unread(cls, *, pdf: Path, stem: str, sha256: str, id: str, pages: int) -> Document:
        places, sums = array("q", [-1]) * pages, array("L", [0]) * pages
        return cls(pdf=pdf, stem=stem, sha256=sha256, id=id, places=places, sums=sums)

    def note(self, number: int, place: int, line: bytes) -> None:
        """A page's row stands there. The first one counts."""
        if 1 <= number <= len(self.places) and self.places[number - 1] < 0:
            self.places[number - 1], self.sums[number - 1] = place, crc32(line)

    @property
    def done(self) -> bool:
        return -1 not in self.places

    def missing(self) -> Iterator[Page]:
        """Its pages that have no row, in order."""
        for number, place in enumerate(self.places, 1):
            if place < 0:
                yield Page(id=f"{self.id}:p{number}", pdf=self.pdf, number=number)


def row_of(
    page: Page, document: Document, tries: Sequence[Attempt], *, fallback: str, reason: str, **of_job: Any
) -> dict:
    """What is known of a page. `fallback`: a text that stands for the policy's, and `reason` why; `of_job` as it is."""
    last = tries[-1].transcript if tries else None
    front = split_front_matter(last.raw)[0] if last else None
    return {
        "id": page.id,
        "pdf": str(page.pdf),
        "page": page.number,
        "pages": len(document.places),
        "sha256": document.sha256,
        "text": fallback or (last.body if last else ""),
        "source": "text-layer" if fallback else "model",
        **({"reason": reason} if reason else {}),
        "front_matter": asdict(front) if front else None,
        "finish": last.finish if last else "abort",
        "tokens": sum(attempt.transcript.num_tokens for attempt in tries),
        "prompt_tokens": sum(attempt.prompt_tokens for attempt in tries),
        "seconds": round(sum(attempt.seconds for attempt in tries), 4),
        "attempts": [_attempt(attempt) for attempt in tries],
        **of_job,
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "temperature": attempt.temperature,
        "rotation": attempt.rotation,
        "finish": attempt.transcript.finish,
        "tokens": attempt.transcript.num_tokens,
        "prompt_tokens": attempt.prompt_tokens,
        "seconds": attempt.seconds,
        "raw": attempt.transcript.raw,
    }


class Rows:
    """The file, opened for one job at a time. Leaving a `with` block closes it."""

    def __init__(self, folder: Path) -> None:
        """UserError where another job writes there."""
        self.path = folder / NAME
        with outputs.writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise UserError(f"{self.path}: another job is writing there; wait for it, or give another --out.") from None

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def find(self, documents: Iterable[Document]) -> None:
        """Note in the documents where their rows stand; a last line that was cut goes. UserError for a broken one."""
        of_id = {document.id: document for document in documents}
        self._file.seek(0)
        place = 0
        for number, line in enumerate(self._file, 1):
            if not line.endswith(b"\n"):
                break
            row = _parsed(line, self.path, number)
            document = of_id.get(row["id"].rpartition(":p")[0])
            if document is not None and document.sha256 == row["sha256"]:
                document.note(row["page"], place, line)
            place += len(line)
        self._file.truncate(place)
        self._file.seek(place)

    def append(self, document: Document, row: dict[str, Any]) -> None:
        """Write a page's row; it is on the disk when this returns."""
        place = self._file.seek(0, os.SEEK_END)
        line = json.dumps(row).encode() + b"\n"  # ASCII: a transcript may hold half a surrogate pair
        with outputs.writing(self.path):
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        document.note(row["page"], place, line)

    def of(self, document: Document) -> Iterator[dict[str, Any]]:
        """The rows that a document has, in the order of its pages."""
        for place in document.places:
            if place >= 0:
                self._file.seek(place)
                yield json.loads(self._file.readline())


def _parsed(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
        if isinstance(row["id"], str) and isinstance(row["sha256"], str) and isinstance(row["page"], int):
            return row
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise UserError(f"{path}, line {number}: is no row of a page; delete the line, the page is read again.")
