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
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ocr_rl import outputs
from ocr_rl.contract import Page, UserError
from ocr_rl.evaluate.transcribe import Attempt
from ocr_rl.text.front_matter import split_front_matter

NAME = "pages.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A file whose pages are read, and where in `pages.jsonl` the row of each page stands; -1: nowhere yet."""

    pdf: Path
    stem: str  # of the files that are made of it
    sha256: str
    id: str  # what its pages' ids begin with
    places: array[int] = field(default_factory=lambda: array("q"))

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

    def __init__(self, folder: Path, documents: Sequence[Document]) -> None:
        """Where the rows of these documents stand is noted in them. UserError where another job writes there."""
        self.path = folder / NAME
        self._documents: dict[tuple[str, str], list[Document]] = defaultdict(list)  # one file may have several names
        for document in documents:
            self._documents[_key(document.pdf, document.sha256)].append(document)
        with outputs.writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise UserError(f"{self.path}: another job is writing there; wait for it, or give another --out.") from None
        try:
            self._resume()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _resume(self) -> None:
        self._file.seek(0)
        place = 0
        for number, line in enumerate(self._file, 1):
            if not line.endswith(b"\n"):
                break
            self._note(_parsed(line, self.path, number), place)
            place += len(line)
        self._file.truncate(place)
        self._file.seek(place)

    def _note(self, row: dict[str, Any], place: int) -> None:
        for document in self._documents.get(_key(Path(row["pdf"]), row["sha256"]), ()):
            if 1 <= row["page"] <= len(document.places) and document.places[row["page"] - 1] < 0:
                document.places[row["page"] - 1] = place
                return

    def append(self, document: Document, row: dict[str, Any]) -> None:
        """Write a page's row; it is on the disk when this returns."""
        place = self._file.seek(0, os.SEEK_END)
        with outputs.writing(self.path):
            self._file.write(json.dumps(row).encode() + b"\n")  # ASCII: a transcript may hold half a surrogate pair
            self._file.flush()
            os.fsync(self._file.fileno())
        document.places[row["page"] - 1] = place

    def of(self, document: Document) -> Iterator[dict[str, Any]]:
        """The rows that a document has, in the order of its pages."""
        for place in document.places:
            if place >= 0:
                self._file.seek(place)
                yield json.loads(self._file.readline())


def _key(pdf: Path, sha256: str) -> tuple[str, str]:
    return os.path.realpath(pdf), sha256


def _parsed(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
        if isinstance(row["pdf"], str) and isinstance(row["sha256"], str) and isinstance(row["page"], int):
            return row
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise UserError(f"{path}, line {number}: is no row of a page; delete the line, the page is read again.")
