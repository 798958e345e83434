"""A page of a PDF, or a picture, becomes an RGB image whose longest side has a given length in px.

PDFium draws it, either in this process (`render`) or in worker processes (`render_all`), which are killed when a page
hangs, crashes or eats memory. A page that cannot be drawn is a `PageError` with a reason for people. It never stops the
pages after it. `opening` opens the file. This file knows nothing about datasets, prompts or models.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import TypeVar
from unicodedata import normalize

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c
from PIL import Image

from ocr_rl.contract import UserError
from ocr_rl.pages import pictures
from ocr_rl.pages.opening import opened
from ocr_rl.pages.workers import Refusal, guarded

LONGEST_PX = 1288  # what olmOCR's models were trained on
MAX_PX = 8192
MAX_SIDE_PT = 14_400.0  # 200 inches: the largest page that PDF readers promise to show (ISO 32000-1, annex C)
MAX_ASPECT = pictures.MAX_ASPECT
FRAMES = 16  # of a TIFF that are decoded in the time of one file, to see whether they are whole

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRef:
    """All that is needed to draw the pixels of a page again. Raises ValueError for a value that makes no sense."""

    pdf: Path
    number: int  # 1-based
    longest_px: int = LONGEST_PX
    rotation: int = 0  # degrees clockwise, added to the page's own: 0, 90, 180 or 270

    def __post_init__(self) -> None:
        if self.number < 1:
            raise ValueError(f"page numbers start at 1, got {self.number}")
        if not 1 <= self.longest_px <= MAX_PX:
            raise ValueError(f"longest_px must be from 1 to {MAX_PX}, got {self.longest_px}")
        if self.rotation not in (0, 90, 180, 270):
            raise ValueError(f"rotation must be 0, 90, 180 or 270, got {self.rotation}")


class PageError(UserError):
    """A page that cannot be drawn. `number` is None if the whole file is at fault, `pdf` for a PDF in memory."""

    def __init__(self, pdf: Path | None, number: int | None, reason: str) -> None:
        super().__init__(pdf, number, reason)
        self.pdf, self.number, self.reason = pdf, number, reason

    def __str__(self) -> str:
        name = "PDF in memory" if self.pdf is None else str(self.pdf)
        return f"{name}: {self.reason}" if self.number is None else f"{name}, page {self.number}: {self.reason}"


def render(ref: ImageRef) -> Image.Image:
    """Draw a page in this process: RGB on white paper, its longest side exactly `ref.longest_px`.

    The page's own /Rotate and crop box are honoured. Annotations and filled-in forms are drawn. Raises PageError.
    """
    return _named(ref.pdf, ref.number, lambda: _draw(ref.pdf, ref.number, ref.longest_px, ref.rotation))


def render_bytes(pdf_bytes: bytes, number: int, longest_px: int = LONGEST_PX, rotation: int = 0) -> Image.Image:
    """`render` for the bytes of a PDF."""
    ref = ImageRef(pdf=Path(), number=number, longest_px=longest_px, rotation=rotation)
    return _named(None, number, lambda: _draw(pdf_bytes, ref.number, ref.longest_px, ref.rotation))


def num_pages(pdf: Path) -> int:
    """The number of pages of a file, at least 1, counted in this process. Raises PageError."""
    return _named(pdf, None, lambda: _count(pdf))


def count_pages(pdfs: Iterable[Path], *, timeout_s: float = 30.0) -> Iterator[tuple[Path, int | PageError]]:
    """The number of pages of many files, in order, counted in a worker process that may hang or crash."""
    for pdf, pages in guarded(_count, pdfs, workers=1, timeout_s=timeout_s):
        yield pdf, PageError(pdf, None, str(pages)) if isinstance(pages, Refusal) else pages


def size_faults(pages: Iterable[tuple[Path, Sequence[int]]], *, timeout_s: float = 30.0) -> Iterator[PageError]:
    """Those of the pages (file, 1-based numbers) that `render` would refuse before drawing, above all for their size.

    Pages are loaded in a worker process, which may hang or crash. `timeout_s` is the time of one file, or of
    FRAMES frames of a TIFF: pictures are decoded, since nothing else tells whether they are whole.
    """
    for (pdf, _), refusals in guarded(_refused, in_parts(pages), workers=1, timeout_s=timeout_s):
        if isinstance(refusals, Refusal):
            yield PageError(pdf, None, str(refusals))
        else:
            yield from (PageError(pdf, number, reason) for number, reason in refusals)


def in_parts(pages: Iterable[tuple[Path, Sequence[int]]]) -> Iterator[tuple[Path, Sequence[int]]]:
    """The pages with each file's together, but at most FRAMES of a picture."""
    for pdf, numbers in pages:
        if len(numbers) <= FRAMES or not pictures.is_picture(pdf):
            yield pdf, numbers
        else:
            yield from ((pdf, numbers[start : start + FRAMES]) for start in range(0, len(numbers), FRAMES))


def file_sha(path: Path) -> str:
    """sha256 of the file's bytes in hex, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def document_sha(pdf: Path) -> str:
    """sha256 of the file's bytes in hex. It is remembered as long as the file's size and time of change stay."""
    stat = pdf.stat()
    return _sha_of(pdf.resolve(), stat.st_ino, stat.st_size, stat.st_mtime_ns)


def render_all(
    refs: Iterable[ImageRef], *, workers: int = 1, timeout_s: float = 30.0
) -> Iterator[tuple[ImageRef, Image.Image | PageError]]:
    """`render` for many pages, in order, in worker processes that may hang, crash or run out of memory.

    A page that does so comes back as a PageError, and the others go on. Workers serve page after page; a new one starts
    only after a kill. `timeout_s` is the time to draw one page.
    """
    for ref, result in guarded(drawn, refs, workers=workers, timeout_s=timeout_s):
        if isinstance(result, Refusal):
            yield ref, PageError(ref.pdf, ref.number, str(result))
        else:
            yield ref, Image.frombytes("RGB", *result)


# --- PDFium -----------------------------------------------------------------------------------------------------------

_pdfium_lock = threading.RLock()  # PDFium is not thread-safe, not even across documents


def _named(pdf: Path | None, number: int | None, work: Callable[[], _T]) -> _T:
    try:
        return work()
    except Refusal as refusal:  # it knows the reason, and we know the page
        raise PageError(pdf, number, str(refusal)) from None


def drawn(ref: ImageRef) -> tuple[tuple[int, int], bytes]:
    """The image of `render` as size and RGB bytes, which is how it crosses a pipe. Raises Refusal."""
    image = _draw(ref.pdf, ref.number, ref.longest_px, ref.rotation)
    return image.size, image.tobytes()  # plain bytes cross the pipe three times as fast as a pickled image


def _count(pdf: Path) -> int:
    if pictures.is_picture(pdf):
        return pictures.count(pdf)
    with _pdfium_lock, opened(pdf) as document:
        return len(document)


def _refused(job: tuple[Path, Sequence[int]]) -> list[tuple[int, str]]:
    pdf, numbers = job
    if pictures.is_picture(pdf):
        return pictures.refused(pdf, numbers)
    refused: list[tuple[int, str]] = []
    with _pdfium_lock, opened(pdf) as document:
        for number in numbers:
            try:
                drawable(document, number)
            except Refusal as refusal:
                refused.append((number, str(refusal)))
    return refused


def drawable(document: pdfium.PdfDocument, number: int) -> pdfium.PdfPage:
    """A page of a document that is open in this process. Raises Refusal for one that `render` refuses undrawn."""
    page = _loaded(document, number)
    _size_px(page, LONGEST_PX, 0)
    return page


def _draw(source: Path | bytes, number: int, longest_px: int, rotation: int) -> Image.Image:
    if pictures.is_picture(source):
        return pictures.draw(source, number, longest_px, rotation)
    with _pdfium_lock, opened(source) as document:
        return image_of(document, _loaded(document, number), longest_px, rotation)


def image_of(document: pdfium.PdfDocument, page: pdfium.PdfPage, longest_px: int, rotation: int = 0) -> Image.Image:
    """The image of a page that is open in this process. Raises Refusal for a page of a size that nobody could read."""
    width_px, height_px = _size_px(page, longest_px, rotation)
    bitmap = pdfium.PdfBitmap.new_native(width_px, height_px, pdfium_c.FPDFBitmap_BGR)
    bitmap.fill_rect((255, 255, 255, 255), 0, 0, width_px, height_px)
    # PdfPage.render rounds sizes up from a scale and can miss the longest side by one px, hence the raw calls.
    where = (bitmap, page, 0, 0, width_px, height_px, rotation // 90, pdfium_c.FPDF_ANNOT)
    pdfium_c.FPDF_RenderPageBitmap(*where)
    if document.formenv:
        pdfium_c.FPDF_FFLDraw(document.formenv, *where)
    return bitmap.to_pil()


def _loaded(document: pdfium.PdfDocument, number: int) -> pdfium.PdfPage:
    if number > len(document):
        raise Refusal(f"there is no such page, the document has {len(document)}")
    try:
        return document[number - 1]
    except pdfium.PdfiumError:
        raise Refusal("the page is damaged and cannot be loaded") from None


def _size_px(page: pdfium.PdfPage, longest_px: int, rotation: int) -> tuple[int, int]:
    """Width and height of the image in px. Raises Refusal for a page that nobody could read."""
    width, height = page.get_size()
    box = page.get_mediabox(fallback_ok=False)  # PDFium draws an empty one as Letter
    if min(width, height) <= 0 or (box is not None and (box[2] == box[0] or box[3] == box[1])):
        raise Refusal("the page has no size")
    longest, shortest = max(width, height), min(width, height)
    if not math.isfinite(longest) or longest > MAX_SIDE_PT:
        raise Refusal(f"the page is absurdly large ({width / 72:.0f} x {height / 72:.0f} inches)")
    if longest > MAX_ASPECT * shortest:
        raise Refusal(f"the page is absurdly thin ({width:g} x {height:g} pt)")
    shortest_px = pictures.shorter_px(longest_px, shortest, longest)
    wide = (width >= height) != (rotation in (90, 270))
    return (longest_px, shortest_px) if wide else (shortest_px, longest_px)


@lru_cache(maxsize=4096)
def _sha_of(pdf: Path, _inode: int, _size: int, _mtime_ns: int) -> str:
    return file_sha(pdf)


def long_name(folder: Path, name: str) -> str:
    """Why no file of that name can be written into the folder; empty if one can."""
    try:
        limit = os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # Windows, or a folder that is not there yet
        limit = 255
    size = len(os.fsencode(name))
    return f"its name is too long: {name} would have {size} bytes, and {limit} is the most; rename it" * (size > limit)


def distinct_stems(pdfs: Iterable[Path]) -> dict[Path, str]:
    """A name for each file: its stem, or `<stem>-2` and so on if that is taken. A file given twice counts once.

    Names are in NFC, and two that differ in that or in capitals alone are one: on some systems they name one file.
    """
    stems: dict[Path, str] = {}
    taken: set[str] = set()
    for pdf in dict.fromkeys(pdfs):
        own = normalize("NFC", pdf.stem)
        tries = (own if k == 1 else f"{own}-{k}" for k in count(1))
        stems[pdf] = next(stem for stem in tries if stem.casefold() not in taken)
        taken.add(stems[pdf].casefold())
    return stems
