"""Page images that are used again and again: drawn in a worker process, kept by content, and drawn ahead if asked.

A page that hangs PDFium, kills it or eats its memory costs itself alone. Nothing here changes what is drawn.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future
from itertools import islice
from queue import SimpleQueue
from typing import TypeAlias

from PIL import Image

from ocr_rl.contract import Page
from ocr_rl.pages.raster import ImageRef, PageError, document_sha, drawn, render
from ocr_rl.pages.workers import Pool, Refusal

CACHE_BYTES = 128 * 2**20
TIMEOUT_S = 30.0  # to draw one page

_Key: TypeAlias = tuple[str, int, int, int]


def page_image(ref: ImageRef) -> Image.Image:
    """The image of `raster.render`, drawn in a worker process and kept (CACHE_BYTES in all). Raises PageError."""
    return _images.get(ref)


def encoded(ref: ImageRef) -> bytes:
    """The image as PNG, quickly packed, drawn in this process: a job for a worker. Raises Refusal."""
    png = io.BytesIO()
    Image.frombytes("RGB", *drawn(ref)).save(png, "PNG", compress_level=1)
    return png.getvalue()


def image_of(page: Page, *, longest_px: int) -> Image.Image:
    """The image of a dataset's page, for reports. Raises PageError."""
    return page_image(ImageRef(pdf=page.pdf, number=page.number, longest_px=longest_px))


def prefetch(refs: Iterable[ImageRef]) -> None:
    """Begin to draw images in the background and return at once. Of many, the first that fill half of the cache."""
    _images.prefetch(refs)


class Images:
    """Images by the file's content, page number, size and rotation. While an image is kept it is not drawn again."""

    def __init__(self, cache_bytes: int = CACHE_BYTES, timeout_s: float = TIMEOUT_S) -> None:
        self._limit = cache_bytes
        self._pool = Pool(drawn, workers=1, timeout_s=timeout_s)
        self._wanted: SimpleQueue[tuple[ImageRef, Future[Image.Image]]] = SimpleQueue()
        self._thread: threading.Thread | None = None  # the pool's only user
        self._kept: OrderedDict[_Key, Future[Image.Image]] = OrderedDict()  # some still being drawn
        self._bytes = 0
        self._lock = threading.RLock()  # reentrant: a future that is done already calls back in the same thread

    def get(self, ref: ImageRef) -> Image.Image:
        """A copy of the image. Raises PageError."""
        try:
            return self._future(ref).result().copy()
        except Refusal as refusal:
            raise PageError(ref.pdf, ref.number, str(refusal)) from None
        except OSError:
            return render(ref)  # the file is missing or cannot be read: this raises the fitting PageError

    def prefetch(self, refs: Iterable[ImageRef]) -> None:
        room = self._limit // 2
        for ref in refs:
            room -= 3 * ref.longest_px**2  # at most: a square page
            if room < 0:
                return
            with contextlib.suppress(OSError):  # `get` will raise it
                self._future(ref)

    def _future(self, ref: ImageRef) -> Future[Image.Image]:
        key = (document_sha(ref.pdf), ref.number, ref.longest_px, ref.rotation)
        with self._lock:
            future = self._kept.get(key)
            if future is None:
                future = self._kept[key] = Future()
                future.add_done_callback(lambda done: self._keep(key, done))
                self._wanted.put((ref, future))
                self._start()
            self._kept.move_to_end(key)
            return future

    def _start(self) -> None:
        if self._thread is None:  # a daemon, so that the program's end does not wait for pages that nobody needs
            self._thread = threading.Thread(target=self._draw_all, name="pages", daemon=True)
            self._thread.start()

    def _draw_all(self) -> None:
        while True:
            ref, future = self._wanted.get()
            try:
                _, drawing = next(iter(self._pool.run([ref])))
                if isinstance(drawing, Refusal):
                    raise drawing
                future.set_result(Image.frombytes("RGB", *drawing))
            except Exception as error:  # noqa: BLE001 whoever wants the page gets the error
                future.set_exception(error)

    def _keep(self, key: _Key, future: Future[Image.Image]) -> None:
        """Count a drawn image, and forget the images used longest ago that have no room beside it.

        A failure is forgotten at once, since it may not last.
        """
        with self._lock:
            if future.exception() is not None:
                del self._kept[key]
                return
            self._bytes += _num_bytes(future.result())
            for old in list(islice(self._kept, len(self._kept) - 1)):
                if self._bytes <= self._limit:
                    break
                if self._kept[old].done():
                    self._bytes -= _num_bytes(self._kept.pop(old).result())


def _num_bytes(image: Image.Image) -> int:
    return 3 * image.width * image.height


_images = Images()
