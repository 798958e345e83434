"""The documents that people dropped on the page, and what is known of their pages: images, transcripts, tests.

The last few are kept, in a folder that goes with the program. Knows nothing about HTTP.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Any

from ocr_rl.contract import Page, Transcript, UserError
from ocr_rl.evaluate.endpoint import attempts_at
from ocr_rl.evaluate.readers import AtEndpoint
from ocr_rl.evaluate.results import check_verdicts
from ocr_rl.evaluate.transcribe import RETRY_TEMPERATURES
from ocr_rl.local_web import Full, Wrong
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.pages.images import encoded
from ocr_rl.pages.raster import ImageRef, PageError, count_pages, document_sha
from ocr_rl.pages.workers import Refusal, guarded
from ocr_rl.transcription.shown import shown

MAX_BYTES = 40_000_000
MAX_PAGES = 200
_KEPT = 16  # documents
_AT_ONCE = 4  # pages being read
_WAIT_S = 30.0  # for one of these to be done
_SHOWN_PX = 1400
_TESTS_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dropped:
    path: Path
    sha256: str
    pages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tests:
    page: Page
    text: str


class Desk:
    def __init__(self, reader: AtEndpoint, data: Path | None) -> None:
        self._reader, self._data = reader, data
        self._folder = TemporaryDirectory(prefix="ocr-rl-web-")
        self._documents: OrderedDict[str, _Dropped] = OrderedDict()
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(_AT_ONCE)

    def close(self) -> None:
        self._folder.cleanup()

    def put(self, data: bytes) -> dict[str, Any]:
        """Take a file; its id and the number of its pages. Raises Wrong, Full; then nothing of it stays."""
        sha = hashlib.sha256(data).hexdigest()
        name = sha[:32]
        with self._lock:
            known = name in self._documents
        if not known:
            self._keep(name, sha, data)
        with self._lock:
            if name in self._documents:
                self._documents.move_to_end(name)
        return self.document(name)

    def _keep(self, name: str, sha: str, data: bytes) -> None:
        path = Path(self._folder.name) / name
        aside = path.with_name(f"{name}.{token_hex(8)}")  # two may drop the same file at once
        try:
            aside.write_bytes(data)
            dropped = _Dropped(path=path, sha256=sha, pages=self._count(aside))
            with self._lock:
                os.replace(aside, path)
                self._documents[name] = dropped
                gone = [self._documents.popitem(last=False)[1] for _ in range(len(self._documents) - _KEPT)]
        finally:
            aside.unlink(missing_ok=True)
        for old in gone:
            old.path.unlink(missing_ok=True)

    def _count(self, path: Path) -> int:
        with self._busy():
            ((_, count),) = count_pages([path])
        if isinstance(count, PageError):
            raise Wrong(f"It cannot be read: {count.reason}.")
        if count > MAX_PAGES:
            raise Wrong(f"It has {count} pages; at most {MAX_PAGES} are shown here.")
        return count

    def document(self, name: str) -> dict[str, Any]:
        return {"id": name, "pages": self._known(name).pages, "model": self._reader.model}

    def image(self, name: str, number: int) -> bytes:
        """The page as PNG."""
        page = self._page(name, number)
        ref = ImageRef(pdf=page.pdf, number=number, longest_px=_SHOWN_PX)
        with self._busy():
            ((_, png),) = guarded(encoded, [ref], workers=1, timeout_s=30.0)
        if isinstance(png, Refusal):
            raise Wrong(f"This page cannot be drawn: {png}.")
        return png

    def read(self, name: str, number: int) -> dict[str, Any]:
        """What the policy reads on a page, as text and as what is shown, with the verdicts of the page's tests."""
        page, reader = self._page(name, number), self._reader
        with self._busy():
            pairs = attempts_at(reader.endpoint, [page], reader.settings, retries=RETRY_TEMPERATURES, seed=reader.seed)
            try:
                ((_, tries),) = pairs
            except UserError as error:  # the server refuses every page
                raise Wrong(str(error)) from None
            if isinstance(tries, PageError):
                raise Wrong(f"This page was not read: {tries.reason}.")
            transcript = tries[-1].transcript
            return {
                "text": transcript.body,
                "shown": shown(transcript.body),
                "ended": transcript.finish == "stop",
                "attempts": len(tries),
                "tokens": sum(attempt.transcript.num_tokens for attempt in tries),
                "seconds": round(sum(attempt.seconds for attempt in tries), 1),
                "rotation": tries[-1].rotation,
                "tests": self._tests(name, number, transcript),
            }

    def _tests(self, name: str, number: int, transcript: Transcript) -> list[dict[str, Any]]:
        page = self._with_tests.get((self._known(name).sha256, number))
        if page is None:
            return []
        job = _Tests(page=replace(page, reference=None), text=transcript.body)
        ((_, verdicts),) = guarded(_judged, [job], workers=1, timeout_s=_TESTS_S)
        return [] if isinstance(verdicts, Refusal) else verdicts

    @cached_property
    def _with_tests(self) -> dict[tuple[str, int], Page]:
        """The dataset's pages by the hash of their document and their number."""
        pages = load_dataset(self._data) if self._data is not None else []
        return {(document_sha(page.pdf), page.number): page for page in pages if page.checks}

    def _known(self, name: str) -> _Dropped:
        with self._lock:
            document = self._documents.get(name)
        if document is None:
            raise Wrong("This document is not kept any more; drop it again.")
        return document

    def _page(self, name: str, number: int) -> Page:
        document = self._known(name)
        if number > document.pages:
            raise Wrong(f"There is no page {number}; the document has {document.pages}.")
        return Page(id=f"{document.sha256[:8]}:p{number}", pdf=document.path, number=number)

    def _busy(self) -> _Busy:
        return _Busy(self._room)


class _Busy:
    """One of the few who are worked for."""

    def __init__(self, room: threading.BoundedSemaphore) -> None:
        self._room = room

    def __enter__(self) -> None:
        if not self._room.acquire(timeout=_WAIT_S):
            raise Full

    def __exit__(self, *_: object) -> None:
        self._room.release()


def _judged(job: _Tests) -> list[dict[str, Any]]:
    return [
        {"id": verdict.id, "type": verdict.type, "passed": verdict.passed, "why": verdict.why}
        for verdict in check_verdicts(job.page, job.text, "strict")
    ]
