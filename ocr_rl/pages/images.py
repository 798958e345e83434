"""Page images for whoever uses them again and again: drawn in a worker process, remembered by content, ahead of use.

A page that hangs PDFium, kills it or eats memory costs itself alone. Nothing here changes what is drawn.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future
from itertools import islice
from queue import SimpleQueue
from typing import TypeAlias

from PIL import Image

from ocr_rl.contract import Page
from ocr_rl.pages.guarded import Pool, Refusal
from ocr_rl.pages.raster import ImageRef, PageError, document_sha, drawn, render

CACHE_BYTES = 128 * 2**20
TIMEOUT_S = 30.0  # to draw one page

_Key: TypeAlias = tuple[str, int, int, int]


def page_image(ref: ImageRef) -> Image.Image:
    """`raster.render`, but remembered (up to CACHE_BYTES in all) and drawn in a worker process. Raises PageError."""
    return _images.get(ref)


def image_of(page: Page, *, longest_px: int) -> Image.Image:
    """`page_image` of a dataset's page, as reports show it. Raises PageError."""
    return page_image(ImageRef(pdf=page.pdf, number=page.number, longest_px=longest_px))


def prefetch(refs: Iterable[ImageRef]) -> None:
    """Begin to draw these in the background, as many of the first as half the cache holds; returns at once."""
    _images.prefetch(refs)


class Images:
    """Images by the file's content, number, size and rotation; each is drawn once while it is remembered."""

    def __init__(self, cache_bytes: int = CACHE_BYTES, timeout_s: float = TIMEOUT_S) -> None:
        self._limit = cache_bytes
        self._pool = Pool(drawn, workers=1, timeout_s=timeout_s)
        self._asked: SimpleQueue[tuple[ImageRef, Future[Image.Image]]] = SimpleQueue()
        self._thread: threading.Thread | None = None  # the pool's only user
        self._made: OrderedDict[_Key, Future[Image.Image]] = OrderedDict()  # or in the making
        self._bytes = 0
        self._lock = threading.RLock()  # a future that is done at once calls back in this thread

    def get(self, ref: ImageRef) -> Image.Image:
        """A copy of the image. Raises PageError."""
        try:
            return self._future(ref).result().copy()
        except Refusal as refusal:
            raise PageError(ref.pdf, ref.number, str(refusal)) from None
        except OSError:
            return render(ref)  # no such file, or none that can be read: raises the PageError that fits

    def prefetch(self, refs: Iterable[ImageRef]) -> None:
        room = self._limit // 2
        for ref in refs:
            room -= 3 * ref.longest_px**2  # at most: a square page
            if room < 0:
                return
            with contextlib.suppress(OSError):  # whoever asks for it will hear of it
                self._future(ref)

    def _future(self, ref: ImageRef) -> Future[Image.Image]:
        key = (document_sha(ref.pdf), ref.number, ref.longest_px, ref.rotation)
        with self._lock:
            future = self._made.get(key)
            if future is None:
                future = self._made[key] = Future()
                future.add_done_callback(lambda done: self._made_one(key, done))
                self._asked.put((ref, future))
                self._start()
            self._made.move_to_end(key)
            return future

    def _start(self) -> None:
        if self._thread is None:  # a daemon: the program's end does not wait for pages that nobody asks for any more
            self._thread = threading.Thread(target=self._draw_all, name="pages", daemon=True)
            self._thread.start()

    def _draw_all(self) -> None:
        while True:
            ref, future = self._asked.get()
            try:
                _, found = next(iter(self._pool.run([ref])))
                if isinstance(found, Refusal):
                    raise found
                future.set_result(Image.frombytes("RGB", *found))
            except Exception as error:  # noqa: BLE001 whoever asks for the page gets it
                future.set_exception(error)

    def _made_one(self, key: _Key, future: Future[Image.Image]) -> None:
        """Count it, and forget the images used longest ago that there is no room for; a failure may not last."""
        with self._lock:
            if future.exception() is not None:
                del self._made[key]
                return
            self._bytes += _num_bytes(future.result())
            for old in list(islice(self._made, len(self._made) - 1)):
                if self._bytes <= self._limit:
                    break
                if self._made[old].done():
                    self._bytes -= _num_bytes(self._made.pop(old).result())


def _num_bytes(image: Image.Image) -> int:
    return 3 * image.width * image.height


_images = Images()
