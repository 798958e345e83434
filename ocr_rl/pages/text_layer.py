"""The text layer of a born-digital PDF: lines in reading order, running headers and footers, and whether to trust it.

A page whose layer cannot be trusted (a scan, hidden text, a broken encoding) has a reason instead. PDFs come from
outside: `read_layers` works in processes that may hang or crash. Knows nothing about tests.
"""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from ocr_rl.pages.guarded import Refusal, guarded

MAX_PAGES = 400  # of one document
MAX_CHARACTERS = 60_000  # of one page
_EDGE = 0.12  # share of the page's height in which running headers and footers stand
_VOWELS = re.compile("[aeiouyàáâãäåæèéêëìíîïòóôõöøùúûü]", re.IGNORECASE)
_LATIN = re.compile("[a-zà-ÿ]", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Text that stands in one line of one column; the box in pt from the lower left corner of the page."""

    text: str
    left: float
    bottom: float
    right: float
    top: float
    running: bool = False  # a running header or footer


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """The text layer of a page."""

    number: int  # 1-based
    lines: tuple[Line, ...] = ()  # in reading order
    height: float = 0.0  # of the page, pt
    reason: str = ""  # why it cannot be trusted; empty: it can


def read_layers(
    pdfs: Iterable[Path], *, workers: int, timeout_s: float = 60.0
) -> Iterator[tuple[Path, list[Layer] | str]]:
    """The layers of each file's pages, or why there are none; in the order of the files."""
    for pdf, found in guarded(layers, pdfs, workers=workers, timeout_s=timeout_s):
        yield pdf, str(found) if isinstance(found, Refusal) else found


def layers(pdf: Path) -> list[Layer]:
    """Of every page of a file, running headers marked. Raises Refusal for a file that cannot be opened."""
    try:
        document = pdfium.PdfDocument(pdf)
    except pdfium.PdfiumError as error:
        raise Refusal(f"the file cannot be opened ({error})") from None
    with document:
        count = len(document)
        found = [_layer(document, number) for number in range(1, min(count, MAX_PAGES) + 1)]
    rest = Layer(number=MAX_PAGES + 1, reason=f"this and {count - MAX_PAGES - 1} more pages are past page {MAX_PAGES}")
    return [*with_running(found), *([rest] if count > MAX_PAGES else [])]


def _layer(document: pdfium.PdfDocument, number: int) -> Layer:
    try:
        page = document[number - 1]
    except pdfium.PdfiumError:
        return Layer(number=number, reason="the page is damaged")
    if page.get_rotation():
        return Layer(number=number, reason="the page is turned")
    width, height = page.get_size()
    textpage = page.get_textpage()
    count = textpage.count_chars()
    if count > MAX_CHARACTERS:
        return Layer(number=number, reason=f"the page has more than {MAX_CHARACTERS:,} characters")
    reason = _distrust(page, textpage, count, width * height)
    if reason:
        return Layer(number=number, height=height, reason=reason)
    return Layer(number=number, height=height, lines=tuple(in_reading_order(list(_lines(textpage, count)), width)))


def _distrust(page: pdfium.PdfPage, textpage: pdfium.PdfTextPage, count: int, area: float) -> str:
    """Why the layer may not say what the page shows; empty if nothing speaks against it."""
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


def _lines(textpage: pdfium.PdfTextPage, count: int) -> Iterator[Line]:
    """Stretches of characters without a line break, a wide gap or a jump between them."""
    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    refs = [ctypes.byref(value) for value in (left, right, bottom, top)]
    text: list[str] = []
    box = [0.0, 0.0, 0.0, 0.0]

    def line() -> Iterator[Line]:
        said = "".join(text).strip()
        if said:
            yield Line(text=said, left=box[0], bottom=box[1], right=box[2], top=box[3])
        text.clear()

    for k in range(count):
        code = pdfium_c.FPDFText_GetUnicode(textpage, k)
        character = chr(code) if code < 0x110000 else "\ufffd"
        if character in "\r\n":
            yield from line()
            continue
        if character in "\x02\ufffe":  # PDFium's sign for a hyphen at the end of a line
            character = "-"
        pdfium_c.FPDFText_GetCharBox(textpage, k, *refs)
        here = (left.value, bottom.value, right.value, top.value)
        if character.isspace() or here[2] <= here[0]:
            text.append(" ")
            continue
        size = max(here[3] - here[1], box[3] - box[1], 4.0)
        if text and (
            here[0] - box[2] > 1.6 * size or here[0] < box[2] - 3 * size or abs(here[1] - box[1]) > 1.2 * size
        ):
            yield from line()
        if text:
            box = [min(box[0], here[0]), min(box[1], here[1]), max(box[2], here[2]), max(box[3], here[3])]
        else:
            box = list(here)
        text.append(character)
    yield from line()


def in_reading_order(lines: Sequence[Line], width: float) -> list[Line]:
    """Top to bottom, and column by column where a white stripe parts them (recursive XY cut; Nagy and Seth 1984).

    A stripe must be 1.5 % of the page's width. Rows in which the same stripe is white belong together.
    """
    columns = _parted(lines, _across, 0.015 * width)
    parts = columns if len(columns) > 1 else _joined(_parted(lines, _down, 0.0), width)
    if len(parts) > 1:
        return [line for part in parts for line in in_reading_order(part, width)]
    return sorted(lines, key=lambda line: (-round(line.top / 3), line.left))


def _across(line: Line) -> tuple[float, float]:
    return line.left, line.right


def _down(line: Line) -> tuple[float, float]:
    return -line.top, -line.bottom


def _joined(rows: Sequence[list[Line]], width: float) -> list[list[Line]]:
    """Neighbouring rows in which the same stripe is white, as one part; other rows by themselves."""
    parts: list[list[Line]] = []
    open_part: list[Line] = []
    for row in rows:
        together = [*open_part, *row]
        if len(_parted(together, _across, 0.015 * width)) > 1:
            open_part = together
            continue
        if open_part:
            parts.append(open_part)
        open_part = row
    return [*parts, open_part] if open_part else parts


def _parted(lines: Sequence[Line], span: Callable[[Line], tuple[float, float]], gap: float) -> list[list[Line]]:
    """The lines in groups between which nothing stands, in order; `span` gives the start and end of a line."""
    parts: list[list[Line]] = []
    reach = float("-inf")
    for line in sorted(lines, key=lambda each: span(each)[0]):
        start, end = span(line)
        if not parts or start > reach + gap:
            parts.append([])
        parts[-1].append(line)
        reach = max(reach, end)
    return parts


def with_running(pages: Sequence[Layer]) -> list[Layer]:
    """Lines near an edge that stand on three pages or more, alike but for numbers and at one height, are running."""
    seen: Counter[tuple[str, int]] = Counter()
    for page in pages:
        seen.update({key for line in page.lines for key in _keys(line, page.height)})
    return [
        replace(
            page,
            lines=tuple(
                replace(line, running=any(seen[key] >= 3 for key in _keys(line, page.height))) for line in page.lines
            ),
        )
        for page in pages
    ]


def _keys(line: Line, height: float) -> Iterator[tuple[str, int]]:
    """What says that two lines are the same running one: the words without numbers, and the height to 8 pt."""
    if line.bottom > (1 - _EDGE) * height or line.top < _EDGE * height:
        words = re.sub(r"\d+|\b[ivxl]+\b", "#", line.text.lower())
        yield words, round(line.bottom / 8)
