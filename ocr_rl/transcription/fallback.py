"""The text that a PDF itself holds, for a page that a policy could not read: taken by choice, and marked in the row."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from ocr_rl.contract import Page
from ocr_rl.evaluate.endpoint import Read
from ocr_rl.evaluate.engines import PAGE_TIMEOUT_S, Job, engine_text
from ocr_rl.pages.raster import PageError
from ocr_rl.pages.workers import Pool, Refusal

_WAITING = 64  # pages at most; a PDF may take its time


class LayerTexts:
    """A worker that reads text layers, started when the first one is wanted."""

    def __init__(self) -> None:
        self._pool = Pool(engine_text, workers=1, timeout_s=PAGE_TIMEOUT_S)

    def close(self) -> None:
        self._pool.close()

    def text(self, page: Page) -> str:
        """The page's own text; "" where it has none or cannot be opened."""
        ((_, text),) = self._pool.run([Job(spec="text_layer", page=page)])
        return "" if isinstance(text, Refusal) else text.strip()


def with_layers(results: Iterable[tuple[Page, Read]]) -> Iterator[tuple[Page, Read, str]]:
    """Each result, with the page's own text where no transcript ended; others need not wait for that text."""
    waiting: deque[tuple[Page, Read, Future[str]]] = deque()
    thread = ThreadPoolExecutor(1)
    layer = LayerTexts()
    try:
        for page, result in results:
            if ended(result):
                yield page, result, ""
            else:
                waiting.append((page, result, thread.submit(layer.text, page)))
            while waiting and (waiting[0][2].done() or len(waiting) >= _WAITING):
                yield _with_text(*waiting.popleft())
        while waiting:
            yield _with_text(*waiting.popleft())
    finally:
        thread.shutdown(wait=False, cancel_futures=True)
        layer.close()


def _with_text(page: Page, result: Read, text: Future[str]) -> tuple[Page, Read, str]:
    return page, result, text.result()


def ended(result: Read) -> bool:
    """Whether a policy came to the end of the page."""
    return not isinstance(result, PageError) and result[-1].transcript.finish == "stop"
