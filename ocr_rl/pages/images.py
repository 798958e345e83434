"""Page images for whoever uses them again and again: drawn in a worker process, remembered by content, ahead of use.

A page that hangs PDFium, kills it or eats memory costs itself alone. Nothing here changes what is drawn.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeAlias

from PIL import Image

from ocr_rl.pages.guarded import Pool, Refusal
from ocr_rl.pages.raster import ImageRef, PageError, document_sha, drawn, render

CACHE_BYTES = 128 * 2**20
TIMEOUT_S = 30.0  # to draw one page

_Key: TypeAlias = tuple[str, int, int, int]


def page_image(ref: ImageRef) -> Image.Image:
    """`raster.render`, but remembered (up to CACHE_BYTES in all) and drawn in a worker process. Raises PageError."""
    return _images.get(ref)


def prefetch(refs: Iterable[ImageRef]) -> None:
    """Begin to draw these in the background, as many of the first as half the cache holds; returns at once."""
    _images.prefetch(refs)


class Images:
    """Images by the file's content, number, size and rotation; each is drawn once while it is remembered."""

    def __init__(self, cache_bytes: int = CACHE_BYTES, timeout_s: float = TIMEOUT_S) -> None:
        self._limit = cache_bytes
        self._pool = Pool(drawn, workers=1, timeout_s=timeout_s)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pages")  # the pool's only user
        self._made: OrderedDict[_Key, Future[Image.Image]] = OrderedDict()  # or in the making
        self._bytes = 0
        self._lock = threading.RLock()  # a future that is done at once calls back in this thread

    def get(self, ref: ImageRef) -> Image.Image:
        """A copy of the image. Raises PageError, again and again for the same page without drawing it again."""
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
                future = self._made[key] = self._thread.submit(self._draw, ref)
                future.add_done_callback(self._made_one)
            self._made.move_to_end(key)
            return future

    def _draw(self, ref: ImageRef) -> Image.Image:
        _, found = next(iter(self._pool.run([ref])))
        if isinstance(found, Refusal):
            raise found
        return Image.frombytes("RGB", *found)

    def _made_one(self, future: Future[Image.Image]) -> None:
        """Count it, and forget the images used longest ago that there is no room for."""
        with self._lock:
            self._bytes += _num_bytes(future)
            for key in list(islice(self._made, len(self._made) - 1)):
                if self._bytes <= self._limit:
                    break
                if self._made[key].done():
                    self._bytes -= _num_bytes(self._made.pop(key))


def _num_bytes(future: Future[Image.Image]) -> int:
    return 1000 if future.exception() else 3 * future.result().width * future.result().height


_images = Images()
