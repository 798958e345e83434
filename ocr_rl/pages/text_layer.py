"""The text layer of a born-digital PDF: lines in reading order, running headers and footers, and whether to trust it.

A page whose layer cannot be trusted has a reason instead of lines: it is a scan, it has hidden text or a broken
encoding. Text can be hidden in too many ways to look for them all: white on white, covered, clipped, transparent, off
the page. So the page is drawn, and wherever the layer has a word, something must be seen. PDFs come from outside, so
`read_layers` reads them in processes that may hang or crash. Knows nothing about tests.
"""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median_low

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from ocr_rl.pages.ink import has_other_ink, is_seen
from ocr_rl.pages.opening import opened
from ocr_rl.pages.pictures import is_picture
from ocr_rl.pages.raster import image_of
from ocr_rl.pages.reading_order import Line, in_reading_order
from ocr_rl.pages.workers import Refusal, guarded

MAX_PAGES = 400  # of one document
MAX_CHARACTERS = 60_000  # of one page
_EDGE = 0.12  # share of the page's height in which running headers and footers stand
_LOOK_PX = 1000  # longest side of the picture in which words must be seen
_MARGIN = 0.08  # share of the page's height in which a line may be a running one though it stands there once
_VOWELS = re.compile("[aeiouyàáâãäåæèéêëìíîïòóôõöøùúûü]", re.IGNORECASE)
_LATIN = re.compile("[a-zà-ÿ]", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """The text layer of a page."""

    number: int  # 1-based
    lines: tuple[Line, ...] = ()  # in reading order
    height: float = 0.0  # of the page, pt
    explained: bool = True  # whether nothing that looks like text is drawn where the layer has none
    reason: str = ""  # why the layer cannot be trusted; empty if it can


def read_layers(
    pdfs: Iterable[Path], *, workers: int, timeout_s: float = 240.0
) -> Iterator[tuple[Path, list[Layer] | str]]:
    """(file, the layers of its pages or the reason why there are none), in the order of the files."""
    for pdf, result in guarded(layers, pdfs, workers=workers, timeout_s=timeout_s):
        yield pdf, str(result) if isinstance(result, Refusal) else result


def layers(pdf: Path) -> list[Layer]:
    """The text layer of every page of a file, with running headers marked.

    Raises Refusal for a file that cannot be opened, and for a picture.
    """
    if is_picture(pdf):
        raise Refusal("is a picture and has no text layer; put its transcript beside it, as Markdown")
    with opened(pdf) as document:
        count = len(document)
        pages = [_layer(document, number) for number in range(1, min(count, MAX_PAGES) + 1)]
    reason = f"it is past page {MAX_PAGES}, where reading stops"
    return [*with_running(pages), *(Layer(number=k, reason=reason) for k in range(MAX_PAGES + 1, count + 1))]


def _layer(document: pdfium.PdfDocument, number: int) -> Layer:
    try:
        page = document[number - 1]
    except pdfium.PdfiumError:
        return Layer(number=number, reason="the page is damaged")
    if page.get_rotation():
        return Layer(number=number, reason="the page is turned")
    corner = page.get_bbox()
    width, height = page.get_size()
    textpage = page.get_textpage()
    count = textpage.count_chars()
    if count > MAX_CHARACTERS:
        return Layer(number=number, reason=f"the page has more than {MAX_CHARACTERS:,} characters")
    reason = _distrust(page, textpage, count, width * height)
    if reason:
        return Layer(number=number, height=height, reason=reason)
    # Print shops write sheet numbers and file names beside the page; such lines are left out. A line that lies half off
    # the page stays, and counts as hidden.
    lines = [line for line in _lines(textpage, count, corner[0], corner[1]) if _on_page(line, width, height)]
    try:
        picture = image_of(document, page, _LOOK_PX)
    except Refusal as refusal:
        return Layer(number=number, height=height, reason=str(refusal))
    if unseen := [line for line in lines if not is_seen(line, picture, _LOOK_PX / max(width, height))]:
        return Layer(number=number, height=height, reason=f"hidden text in {len(unseen)} of its {len(lines)} lines")
    return Layer(
        number=number,
        height=height,
        lines=tuple(in_reading_order(lines, width)),
        explained=not has_other_ink(lines, picture, _LOOK_PX / max(width, height)),
    )


def _on_page(line: Line, width: float, height: float) -> bool:
    return line.right > 0 and line.left < width and line.top > 0 and line.bottom < height


def _distrust(page: pdfium.PdfPage, textpage: pdfium.PdfTextPage, count: int, area: float) -> str:
    """Why the layer may not say what the page shows; empty if there is no such reason."""
    images, hidden = 0.0, 0
    for thing in page.get_objects(max_depth=2):
        kind = pdfium_c.FPDFPageObj_GetType(thing)
        if kind == pdfium_c.FPDF_PAGEOBJ_IMAGE:
            left, bottom, right, top = thing.get_bounds()
            images += max(0.0, right - left) * max(0.0, top - bottom)
        elif kind == pdfium_c.FPDF_PAGEOBJ_TEXT:
            hidden += pdfium_c.FPDFTextObj_GetTextRenderMode(thing) == pdfium_c.FPDF_TEXTRENDERMODE_INVISIBLE
    text = textpage.get_text_range() if count else ""
    letters = [c for c in text if not c.isspace()]
    if hidden:
        return "hidden text, as a scanner's software writes it"
    if images > 0.5 * area:
        return "most of the page is a picture"
    if len(letters) < 40:
        return "there is (nearly) no text"
    unmapped = sum(pdfium_c.FPDFText_HasUnicodeMapError(textpage, k) == 1 for k in range(count))
    strange = sum(c == "\ufffd" or "\ue000" <= c <= "\uf8ff" or (ord(c) < 32) for c in letters)
    if unmapped + strange > 0.02 * len(letters):
        return "a broken encoding: letters without a meaning"
    latin = _LATIN.findall(text)
    if len(latin) > 100 and not 0.22 < len(_VOWELS.findall(text)) / len(latin) < 0.6:
        return "a broken encoding: too few or too many vowels"
    words = text.split()
    if sum(len(word) == 1 for word in words) > 0.4 * len(words):
        return "letters stand apart"
    return ""


def _lines(textpage: pdfium.PdfTextPage, count: int, x: float, y: float) -> Iterator[Line]:
    """Stretches of characters without a line break, a wide gap or a jump between them.

    (x, y) is the lower left corner of the page.
    """
    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    refs = [ctypes.byref(value) for value in (left, right, bottom, top)]
    text: list[str] = []
    box = [0.0, 0.0, 0.0, 0.0]
    words: list[list[tuple[float, float, float, float]]] = [[]]  # boxes of the letters and digits of each word

    def line() -> Iterator[Line]:
        stripped = "".join(text).strip()
        if stripped:
            boxes = tuple(_around(word) for word in words if word)
            raised = tuple(_has_raised(word) for word in words if word)
            yield Line(text=stripped, left=box[0], bottom=box[1], right=box[2], top=box[3], words=boxes, raised=raised)
        text.clear()
        words[:] = [[]]

    for k in range(count):
        character = _character(textpage, k)
        if not character:
            continue
        if character in "\r\n":
            yield from line()
            continue
        if character in "\x02\ufffe":  # PDFium's sign for a hyphen at the end of a line
            character = "-"
        pdfium_c.FPDFText_GetCharBox(textpage, k, *refs)
        here = (left.value - x, bottom.value - y, right.value - x, top.value - y)
        if character.isspace() or here[2] <= here[0]:
            text.append(" ")
            words.append([])
            continue
        size = max(here[3] - here[1], box[3] - box[1], 4.0)
        if text and (
            here[0] - box[2] > 1.6 * size or here[0] < box[2] - 3 * size or abs(here[1] - box[1]) > 1.2 * size
        ):
            yield from line()
        box = list(_around([(box[0], box[1], box[2], box[3]), here])) if text else list(here)
        text.append(character)
        if character.isalnum():
            words[-1].append(here)
    yield from line()


def _character(textpage: pdfium.PdfTextPage, k: int) -> str:
    """A character of the layer, at its first half if PDFium gives two (as for 𝑥) and empty at the second."""
    code = pdfium_c.FPDFText_GetUnicode(textpage, k)
    if 0xD800 <= code < 0xDC00:
        low = pdfium_c.FPDFText_GetUnicode(textpage, k + 1)
        return chr(0x10000 + ((code - 0xD800) << 10) + low - 0xDC00) if 0xDC00 <= low < 0xE000 else "\ufffd"
    if 0xDC00 <= code < 0xE000:
        before = pdfium_c.FPDFText_GetUnicode(textpage, k - 1) if k else 0
        return "" if 0xD800 <= before < 0xDC00 else "\ufffd"
    return chr(code) if code < 0x110000 else "\ufffd"


def _has_raised(word: Sequence[tuple[float, float, float, float]]) -> bool:
    """Whether a letter or digit of a word stands above the line on which most of the others stand."""
    line = median_low(box[1] for box in word)
    tallest = max(box[3] - box[1] for box in word)
    return any(box[1] > line + 0.15 * tallest for box in word)


def _around(boxes: Sequence[tuple[float, float, float, float]]) -> tuple[float, float, float, float]:
    left, bottom, right, top = zip(*boxes, strict=True)
    return min(left), min(bottom), max(right), max(top)


def with_running(pages: Sequence[Layer]) -> list[Layer]:
    """The pages with their running lines and their lines in the margin marked.

    A line is running if it stands near an edge of at least three pages, at one height and with the same words but for
    numbers. The three need not follow one another, as left and right pages have headers of their own. A line is in the
    margin if it stands in the outer 8 % of the height, or in the outer 12 % with a gap to the rest.
    """
    seen: Counter[tuple[str, int]] = Counter()
    for page in pages:
        seen.update({key for line in page.lines for key in _keys(line, page.height)})
    return [
        replace(
            page,
            lines=tuple(
                replace(
                    line,
                    running=any(seen[key] >= 3 for key in _keys(line, page.height)),
                    margin=_in_margin(line, page.lines, page.height),
                )
                for line in page.lines
            ),
        )
        for page in pages
    ]


def _in_margin(line: Line, lines: Sequence[Line], height: float) -> bool:
    if line.top - line.bottom > 0.03 * height:  # a small page, whose header reaches far into it
        return line.top > (1 - _MARGIN) * height or line.bottom < _MARGIN * height
    if line.bottom > (1 - _MARGIN) * height or line.top < _MARGIN * height:
        return True
    gap = 1.5 * (line.top - line.bottom)
    if line.bottom > (1 - _EDGE) * height:
        return not any(line.bottom - gap < other.top <= line.bottom for other in lines)
    return line.top < _EDGE * height and not any(line.top <= other.bottom < line.top + gap for other in lines)


def _keys(line: Line, height: float) -> Iterator[tuple[str, int]]:
    """The key by which lines of two pages are the same: the words without numbers, and the height in steps of 8 pt.

    A line that is not near an edge has none.
    """
    if line.bottom > (1 - _EDGE) * height or line.top < _EDGE * height:
        words = re.sub(r"\d+|\b[ivxl]+\b", "#", line.text.lower())
        yield words, round(line.bottom / 8)
