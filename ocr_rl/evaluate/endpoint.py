"""Pages through a server: many in flight, each on its own `ladder`, and each with a deadline.

Pages are drawn in worker processes while others are on their way. No more are held than are in flight, so memory is
that of a few images however many pages there are. Knows nothing about how one question is asked (`chat`), nor about
what becomes of the transcripts.
"""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing
from typing import Any, TypeAlias, TypeVar

from ocr_rl.contract import Page, UserError
from ocr_rl.evaluate.chat import Endpoint, Refused, ask, client, question
from ocr_rl.evaluate.transcribe import Attempt, Ladder, Question, answered, ladder
from ocr_rl.models.settings import PromptSettings
from ocr_rl.pages.images import TIMEOUT_S, encoded, page_image
from ocr_rl.pages.raster import ImageRef, PageError
from ocr_rl.pages.workers import Refusal, guarded
from ocr_rl.rollout.sampler.base import seed_for

IN_A_ROW = 32  # pages, at least, that the server leaves without an answer before the job ends

_T = TypeVar("_T")
Read: TypeAlias = Sequence[Attempt] | PageError


class Unanswered(PageError):
    """A page to which the server gave no answer."""


def attempts_at(
    endpoint: Endpoint,
    pages: Iterable[Page],
    settings: PromptSettings,
    *,
    temperature: float = 0.0,
    retries: Sequence[float] = (),
    seed: int = 0,
    workers: int = 1,
) -> Iterator[tuple[Page, Read]]:
    """All attempts at each page, as they finish; a page that is refused or gets no answer comes with the reason.

    A page whose deadline passes keeps the attempts that it has. UserError where the server answers no page any more.
    """
    jobs = ((page, _ref(page, settings)) for page in pages)
    climb = _Climb(endpoint, settings, temperature=temperature, retries=retries, seed=seed)
    silent = 0
    for page, result in _in_flight(climb, jobs, workers):
        if isinstance(result, Unanswered):
            silent += 1
            if silent >= max(IN_A_ROW, endpoint.in_flight):
                raise UserError(
                    f"--endpoint {endpoint.url}: {silent} pages in a row have no answer (the last: {result.reason}); "
                    "look into the server's log, then give the same command to go on."
                )
        elif not isinstance(result, PageError):
            silent = 0
        yield page, result


def _ref(page: Page, settings: PromptSettings, rotation: int = 0) -> ImageRef:
    return ImageRef(pdf=page.pdf, number=page.number, longest_px=settings.longest_px, rotation=rotation)


def _in_flight(climb: _Climb, jobs: Iterable[tuple[Page, ImageRef]], workers: int) -> Iterator[tuple[Page, Read]]:
    """Results as they come; a page is drawn only while there is room for it on the way."""
    waiting: set[Future[tuple[Page, Read]]] = set()
    with closing(guarded(_encoded, jobs, workers=workers, timeout_s=TIMEOUT_S)) as drawings, _Loop() as loop:
        try:
            loop.start(climb.open()).result()
            for (page, _), png in drawings:
                if isinstance(png, Refusal):
                    yield page, PageError(page.pdf, page.number, str(png))
                    continue
                waiting.add(loop.start(climb.read(page, png)))
                full = len(waiting) >= climb.endpoint.in_flight
                done, waiting = wait(waiting, timeout=None if full else 0, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        finally:  # all answered, or a caller who has seen enough
            for future in waiting:
                future.cancel()
            loop.start(climb.close()).result()


def _encoded(job: tuple[Page, ImageRef]) -> bytes:
    return encoded(job[1])


class _Loop:
    """An event loop in a thread of its own: answers come in while pages are drawn and rows are written."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="endpoint", daemon=True).start()

    def start(self, doing: Coroutine[Any, Any, _T]) -> Future[_T]:
        return asyncio.run_coroutine_threadsafe(doing, self._loop)

    def __enter__(self) -> _Loop:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)


class _Climb:
    """What is the same for every page of a job."""

    def __init__(
        self,
        endpoint: Endpoint,
        settings: PromptSettings,
        *,
        temperature: float,
        retries: Sequence[float],
        seed: int,
    ) -> None:
        self.endpoint = endpoint
        self._settings, self._temperature, self._retries, self._seed = settings, temperature, retries, seed

    async def open(self) -> None:
        self._http = client(self.endpoint.url, self.endpoint.key)

    async def close(self) -> None:
        await self._http.aclose()

    async def read(self, page: Page, png: bytes) -> tuple[Page, Read]:
        """The page with all its attempts, or with the reason why it has none."""
        tries: list[Attempt] = []
        troubles: list[str] = []
        try:
            async with asyncio.timeout(self.endpoint.deadline_s):
                await self._up(ladder(self._temperature, self._retries), page, png, tries, troubles)
        except TimeoutError:
            reason = f"no answer within {self.endpoint.deadline_s:g} s"
            reason += f"; the last time the server {troubles[-1]}" if troubles else ""
        except Refused as refused:
            reason = str(refused)
        else:
            return page, tries
        return page, tries or Unanswered(page.pdf, page.number, reason)

    async def _up(self, walk: Ladder, page: Page, png: bytes, tries: list[Attempt], troubles: list[str]) -> None:
        step: Question | None = next(walk)
        rotation = 0
        while step is not None:
            if step.rotation != rotation:
                try:
                    png, rotation = await asyncio.to_thread(self._turned, page, step.rotation), step.rotation
                except PageError:
                    step = answered(walk, None)
                    continue
            start = time.perf_counter()
            transcript, prompt_tokens = await ask(self._http, self.endpoint, self._body(page, png, step), troubles)
            tries.append(
                Attempt(
                    transcript=transcript,
                    temperature=step.temperature,
                    rotation=rotation,
                    prompt_tokens=prompt_tokens,
                    seconds=round(time.perf_counter() - start, 4),
                )
            )
            step = answered(walk, transcript)

    def _turned(self, page: Page, rotation: int) -> bytes:
        png = io.BytesIO()
        page_image(_ref(page, self._settings, rotation)).save(png, "PNG", compress_level=1)
        return png.getvalue()

    def _body(self, page: Page, png: bytes, step: Question) -> dict[str, object]:
        settings = self._settings
        return {
            **question(self.endpoint, settings.instruction, png, image_first=settings.image_first),
            "temperature": step.temperature,
            "max_tokens": settings.max_tokens,
            "seed": seed_for(self._seed + step.step, page.id),  # as a sampler in this process derives it
            **self.endpoint.extra,
        }
