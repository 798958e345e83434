"""A PDF that looks as before and can be searched: an invisible text layer of the transcript over every page.

A page of a PDF stays what it is and gets the layer. One that holds text of its own becomes a picture first, or two
texts would be found, letter between letter; so does each frame of a picture. The words lie line by line over
the ink that is seen, in the order of the transcript: the right line as a rule, not the right place in it. A font
without glyphs carries any letter of Unicode, because a table in the file says what a code means. Knows nothing about
Markdown.
"""

from __future__ import annotations

import ctypes
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c
from PIL import Image

from ocr_rl.pages import pictures
from ocr_rl.pages.opening import opened
from ocr_rl.pages.raster import MAX_PX, drawable, image_of
from ocr_rl.pages.visual import visual_order

_LOOK_PX = 1000  # of the image on which lines are sought
_PX_PER_PT = 300 / 72  # of a page that becomes a picture
_LEAST_PX = 2576  # of its longest side: twice what models see
_CONTRAST = 48  # of 255: by how much ink differs from the paper
_HIGH_PT = 792.0  # longest side of a page that is made of a picture
_ADVANCE = 0.5  # of every code, in em: glyphless.ttf
_MOST_HIGH = 3.0  # of a line, in widths of its letters
_MAX_CODES = 65_000
# Made with fontTools' FontBuilder: .notdef, and a line without area, whose box tells readers where a letter lies.
_FONT = Path(__file__).with_name("glyphless.ttf")


@dataclass(frozen=True, slots=True, kw_only=True)
class PageText:
    """What is written over a page."""

    lines: Sequence[str]  # in reading order, words parted by spaces
    rotation: int = 0  # degrees clockwise by which the page was turned to be read


@dataclass(frozen=True, slots=True, kw_only=True)
class Searchable:
    """A job: a document and the texts of its pages, by number from 1."""

    source: Path
    texts: Mapping[int, PageText]


def searchable(job: Searchable) -> bytes:
    """The document as a PDF with its text layer. Untrusted PDFs: call it in a worker. Raises Refusal."""
    if pictures.is_picture(job.source):
        with _of_pictures(job.source) as document:
            return _layered(document, job.texts)
    with opened(job.source) as document:
        return _layered(document, job.texts)


def _layered(document: pdfium.PdfDocument, texts: Mapping[int, PageText]) -> bytes:
    font = _Font(document, "".join(line + " " for text in texts.values() for line in text.lines))
    for number, text in texts.items():
        page = drawable(document, number)
        image = image_of(document, page, _LOOK_PX, text.rotation)
        if page.get_textpage().get_text_bounded().strip():
            _flatten(document, page)
        for line, box in _placed(text.lines, bands(image)):
            _write(page, font, line, box, image.size, text.rotation)
        pdfium_c.FPDFPage_GenerateContent(page)
        page.close()
    saved = io.BytesIO()
    document.save(saved)
    return saved.getvalue()


def _flatten(document: pdfium.PdfDocument, page: pdfium.PdfPage) -> None:
    """Put a picture of what the page shows in the place of it; links and annotations stay."""
    longest = max(page.get_size())
    scale = min(max(_PX_PER_PT, _LEAST_PX / longest), MAX_PX / longest)
    drawn: Any = page.render(scale=scale, draw_annots=False, may_draw_forms=False)  # pyright: ignore[reportArgumentType]
    picture = drawn.to_pil().convert("RGB")
    for thing in list(page.get_objects(max_depth=1)):
        page.remove_obj(thing)
    corners = [_on_page(page, x, y, (1000, 1000), 0) for x, y in ((0, 1000), (1000, 1000), (0, 0))]
    (left, bottom), right, up = corners
    spread: Any = (right[0] - left, right[1] - bottom, up[0] - left, up[1] - bottom, left, bottom)
    _insert_picture(document, page, picture, pdfium.PdfMatrix(*spread))


def _insert_picture(
    document: pdfium.PdfDocument, page: pdfium.PdfPage, picture: Image.Image, matrix: pdfium.PdfMatrix
) -> None:
    """Its pixels as they are, over the unit square that the matrix moves."""
    image = pdfium.PdfImage.new(document)
    image.set_bitmap(pdfium.PdfBitmap.from_pil(_grey(picture)))
    image.set_matrix(matrix)
    page.insert_obj(image)
    page.gen_content()


def _grey(picture: Image.Image) -> Image.Image:
    """In shades of grey where it has no colour: a third of the bytes."""
    red, green, blue = picture.split()
    return red if red.tobytes() == green.tobytes() == blue.tobytes() else picture


def _of_pictures(source: Path) -> pdfium.PdfDocument:
    """A document with a page for every picture of the file, its pixels as they are."""
    document = pdfium.PdfDocument.new()
    for number in range(1, pictures.count(source) + 1):
        picture = pictures.draw(source, number, pictures.longest_px(source, number))
        scale = _HIGH_PT / max(picture.size)
        width, height = picture.width * scale, picture.height * scale
        page = document.new_page(width, height)
        _insert_picture(document, page, picture, pdfium.PdfMatrix().scale(width, height))
        page.close()
    return document


# --- where the lines are ----------------------------------------------------------------------------------------------

Box = tuple[int, int, int, int]  # left, top, right, bottom, in px of the image


def bands(image: Image.Image) -> list[Box]:
    """Rows of pixels with ink between rows without, from the top; the whole page where there is no ink."""
    grey = np.asarray(image.convert("L"), dtype=np.int16)
    paper = int(np.bincount(grey.ravel(), minlength=256).argmax())
    ink = np.abs(grey - paper) > _CONTRAST
    rows = np.flatnonzero(np.diff(np.concatenate(([False], ink.any(axis=1), [False])).astype(np.int8)))
    boxes: list[Box] = []
    for top, bottom in zip(rows[::2], rows[1::2], strict=True):
        columns = np.flatnonzero(ink[top:bottom].any(axis=0))
        if bottom - top >= 3:  # a rule is no line of text
            boxes.append((int(columns[0]), int(top), int(columns[-1]) + 1, int(bottom)))
    return boxes or [(0, 0, image.width, image.height)]


def _placed(lines: Sequence[str], boxes: Sequence[Box]) -> list[tuple[str, Box]]:
    """Each box with its part of the text: line by line where there are as many, else in proportion to the ink."""
    lines = [" ".join(line.split()) for line in lines if line.split()]
    if len(lines) == len(boxes):
        return list(zip(lines, boxes, strict=True))
    words = [word for line in lines for word in line.split()]
    widths = np.cumsum([right - left for left, _, right, _ in boxes])
    lengths = np.cumsum([len(word) + 1 for word in words]) if words else np.zeros(0)
    parts: list[list[str]] = [[] for _ in boxes]
    for word, end in zip(words, lengths, strict=True):
        middle = (end - (len(word) + 1) / 2) / lengths[-1] * widths[-1]
        parts[min(int(np.searchsorted(widths, middle)), len(boxes) - 1)].append(word)
    for part, after in pairwise(parts):  # readers take a hyphen at a line's end away
        while part and part[-1].endswith("-"):
            after.insert(0, part.pop())
    return [(" ".join(part), box) for part, box in zip(parts, boxes, strict=True) if part]


# --- PDFium -----------------------------------------------------------------------------------------------------------


class _Font:
    """A font whose codes are numbered as letters come, with the file's table of what each of them means."""

    def __init__(self, document: pdfium.PdfDocument, text: str) -> None:
        letters = list(dict.fromkeys(" " + text))[:_MAX_CODES]
        self.codes = {letter: code for code, letter in enumerate(letters, 1)}
        self.document = document
        data, gids = _font_data(), b"\0\1" * (len(letters) + 1)  # every code shows the one glyph
        self.raw = pdfium_c.FPDFText_LoadCidType2Font(
            document,
            _bytes(data),
            len(data),
            to_unicode(letters).encode("ascii"),
            _bytes(gids),
            len(gids),
        )
        if not self.raw:
            raise RuntimeError("PDFium does not take the font of the text layer")

    def encoded(self, text: str) -> Any:
        codes = [self.codes[letter] for letter in text if letter in self.codes]
        return (ctypes.c_uint32 * len(codes))(*codes)


@cache
def _font_data() -> bytes:
    return _FONT.read_bytes()


def _bytes(data: bytes) -> Any:
    return (ctypes.c_uint8 * len(data)).from_buffer_copy(data)


def to_unicode(letters: Iterable[str]) -> str:
    """PDF's table (a CMap) of what the codes 1, 2, … mean. Half a surrogate pair means U+FFFD."""
    rows = [
        f"<{code:04X}> <{letter.encode('utf-16-be', 'surrogatepass').hex().upper()}>"
        if not 0xD800 <= ord(letter) <= 0xDFFF
        else f"<{code:04X}> <FFFD>"
        for code, letter in enumerate(letters, 1)
    ]
    blocks = [rows[start : start + 100] for start in range(0, len(rows), 100)]  # a block has 100 at most
    maps = "".join(f"{len(block)} beginbfchar\n" + "\n".join(block) + "\nendbfchar\n" for block in blocks)
    return (
        "/CIDInit /ProcSet findresource begin\n12 dict begin\nbegincmap\n"
        "/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def\n"
        "/CMapName /Adobe-Identity-UCS def\n/CMapType 2 def\n"
        "1 begincodespacerange\n<0000> <FFFF>\nendcodespacerange\n"
        f"{maps}endcmap\nCMapName currentdict /CMap defineresource pop\nend\nend\n"
    )


def _write(page: pdfium.PdfPage, font: _Font, line: str, box: Box, size_px: tuple[int, int], rotation: int) -> None:
    """One line, invisible, stretched over its box. The box is in px of the image, which was drawn turned."""
    codes = font.encoded(visual_order(line))
    left, top, right, bottom = box
    start, end, up = (
        _on_page(page, x, y, size_px, rotation) for x, y in ((left, bottom), (right, bottom), (left, top))
    )
    high, long = math.dist(start, up) or 1.0, math.dist(start, end)
    advance = long / max(1, len(codes)) or 1.0
    # Readers take two equal letters that nearly lie over each other for one that is bold: not too high for their width.
    size = min(high, _MOST_HIGH * advance)
    wide = _ADVANCE * size * max(1, len(codes))
    text = pdfium_c.FPDFPageObj_CreateTextObj(font.document, font.raw, size)
    pdfium_c.FPDFText_SetCharcodes(text, codes, len(codes))
    pdfium_c.FPDFTextObj_SetTextRenderMode(text, pdfium_c.FPDF_TEXTRENDERMODE_INVISIBLE)
    matrix = pdfium_c.FS_MATRIX(
        (end[0] - start[0]) / wide,
        (end[1] - start[1]) / wide,
        (up[0] - start[0]) / high,
        (up[1] - start[1]) / high,
        *start,
    )
    pdfium_c.FPDFPageObj_SetMatrix(text, matrix)
    pdfium_c.FPDFPage_InsertObject(page, text)


def _on_page(page: pdfium.PdfPage, x: int, y: int, size_px: tuple[int, int], rotation: int) -> tuple[float, float]:
    """A point of the image in the page's own coordinates."""
    across, along = ctypes.c_double(), ctypes.c_double()
    pdfium_c.FPDF_DeviceToPage(page, 0, 0, *size_px, rotation // 90, x, y, across, along)
    return across.value, along.value
