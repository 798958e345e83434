"""The text layer of a born-digital PDF: lines in reading order, running headers and footers, and whether to trust it.

A page whose layer cannot be trusted has a reason instead of lines: it is a scan, it has hidden text or a broken
encoding. Text can be hidden in too many ways to look for them all: white on white, covered, clipped, transparent, off
the page. So the page is drawn, and wherever the layer has a word, something must be seen. PDFs come from outside, so
`read_layers` reads them in processes that may hang or crash. Knows nothing about tests.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c
from PIL.Image import Image

from ocr_rl.pages import pictures
from ocr_rl.pages.encodings import encoding_fault, is_no_language
from ocr_rl.pages.glyphs import glyphs
from ocr_rl.pages.ink import drawn, has_other_ink, is_seen
from ocr_rl.pages.layer_lines import lines
from ocr_rl.pages.opening import opened
from ocr_rl.pages.raster import image_of
from ocr_rl.pages.reading_order import Line, in_reading_order
from ocr_rl.pages.workers import Refusal, guarded

MAX_PAGES = 400  # of one document
MAX_CHARACTERS = 60_000  # of one page
_EDGE = 0.12  # share of the page's height in which running headers and footers stand
_LOOK_PX = 1000  # longest side of the picture in which words must be seen
_MARGIN = 0.08  # share of the page's height in which a line may be a running one though it stands there once
_GAP = 1.5  # heights of a line between it and the rest of the page
_VOWELS = re.compile("[aeiouyàáâãäåæèéêëìíîïòóôõöøùúûü]", re.IGNORECASE)
_CUT_CODE = re.compile(r"(?<!\w)[\u1f30-\u1faf](?!\w)")  # PDFium gives four digits of 1f600, the code of an emoji
_COVER = 900  # characters of a page that stands in place of a file's contents, at most
_WAIT = re.compile(r"please wait\W.{0,80}if this message is not eventually replaced", re.IGNORECASE)
_PORTFOLIO = re.compile(r"\bportfolio\b|\bpdf package\b|open (?:this|it) in (?:adobe|acrobat)", re.IGNORECASE)
_FORMULA_SIGN = re.compile("[∀∂∃∇∈∏∑√∞∩∪∫⊂⊆𝐀-𝟿]")
_ICON = 40.0  # pt; the longest side of a picture that may be a sign
_LATIN = re.compile("[a-zà-ÿ]", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """The text layer of a page."""

    number: int  # 1-based
    lines: tuple[Line, ...] = ()  # in reading order
    height: float = 0.0  # of the page, pt
    explained: bool = True  # whether nothing that looks like text is drawn where the layer has none
    pictured: float = 0.0  # share of the page that pictures cover, which may hold any text
    strange: bool = False  # whether it has signs that the layer cannot tell, such as an emoji
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
    if pictures.is_picture(pdf):
        if all(pictures.refused(pdf, [number]) for number in range(1, pictures.count(pdf) + 1)):
            raise Refusal(pictures.refused(pdf, [1])[0][1])
        raise Refusal("is a picture and has no text layer; put its transcript beside it, as Markdown")
    with opened(pdf) as document:
        count = len(document)
        pages = [layer_of(document, number) for number in range(1, min(count, MAX_PAGES) + 1)]
        if cover := _cover(document, pages):
            pages = [Layer(number=page.number, height=page.height, reason=cover) for page in pages]
    reason = f"it is past page {MAX_PAGES}, where reading stops"
    return [*with_running(pages), *(Layer(number=k, reason=reason) for k in range(MAX_PAGES + 1, count + 1))]


def _cover(document: pdfium.PdfDocument, pages: Sequence[Layer]) -> str:
    """Why all that a file shows is to be seen in place of its contents; empty if its pages are its own."""
    if len(pages) > 2:
        return ""
    text = " ".join(line.text for page in pages for line in page.lines)
    inside = [attachment.get_name() for attachment in map(document.get_attachment, range(document.count_attachments()))]
    form = pdfium_c.FPDF_GetFormType(document)
    if _WAIT.search(text) or (form == pdfium_c.FORMTYPE_XFA_FULL and len(text) < _COVER):
        return "a placeholder (an XFA form, whose pages only Adobe's reader draws); print it to a PDF there"
    if inside and len(text) < _COVER and (not text or _PORTFOLIO.search(text)):
        names = ", ".join(inside[:3]) + (", …" if len(inside) > 3 else "")
        own = "the cover of a portfolio" if text else pages[0].reason
        return f"{own}; files are inside ({names}): take them out first"
    return ""


def layer_of(document: pdfium.PdfDocument, number: int) -> Layer:
    """The text layer of one page, 1-based, with no line marked as running."""
    try:
        page = document[number - 1]
    except pdfium.PdfiumError:
        return Layer(number=number, reason="the page is damaged")
    width, height = page.get_size()
    try:
        as_seen = image_of(document, page, _LOOK_PX) if page.get_rotation() else None
        if as_seen:
            _set_upright(page)
        return _upright_layer(document, page, number, as_seen)
    except Refusal as refusal:
        return Layer(number=number, height=height, reason=str(refusal))


def _upright_layer(document: pdfium.PdfDocument, page: pdfium.PdfPage, number: int, as_seen: Image | None) -> Layer:
    """The layer of a page that is not turned. Raises Refusal if the page cannot be drawn."""
    width, height = page.get_size()
    corner = page.get_bbox()
    textpage = page.get_textpage()
    count = textpage.count_chars()
    if count > MAX_CHARACTERS:
        return Layer(number=number, reason=f"the page has more than {MAX_CHARACTERS:,} characters")
    signs, text = _signs(page, textpage, count), textpage.get_text_range() if count else ""
    if reason := _distrust(signs, text, width * height):
        return Layer(number=number, height=height, reason=reason)
    letters = [*glyphs(textpage, count, corner[0], corner[1])]
    if reason := encoding_fault(letters):
        return Layer(number=number, height=height, reason=reason)
    # Print shops write sheet numbers and file names beside the page; such lines are left out. A line that lies half off
    # the page stays, and counts as hidden.
    picture = drawn(as_seen or image_of(document, page, _LOOK_PX), _LOOK_PX / max(width, height))
    found = lines(letters, picture, mathematical=len(_FORMULA_SIGN.findall(text)) >= 3)
    here = [line for line in found if _on_page(line, width, height)]
    if unseen := [line for line in here if not is_seen(line, picture)]:
        return Layer(number=number, height=height, reason=f"hidden text in {len(unseen)} of its {len(here)} lines")
    upright, slanted = [line for line in here if not line.slanted], [line for line in here if line.slanted]
    if _letters(slanted) > _letters(upright):
        return Layer(number=number, height=height, reason="its text stands sideways")
    return Layer(
        number=number,
        height=height,
        lines=(*in_reading_order(upright, width), *slanted),
        explained=not has_other_ink(here, picture),
        pictured=signs.pictures / (width * height),
        strange=_is_strange(signs, text),
    )


def _letters(lines: Sequence[Line]) -> int:
    return sum(len(line.text) for line in lines)


def _set_upright(page: pdfium.PdfPage) -> None:
    """Turn the objects of a page instead of the page, so that the places of its text are as they are seen."""
    left, bottom, right, top = page.get_bbox()
    turned = page.get_rotation()
    width, height = page.get_size()
    page.set_rotation(0)
    page.set_mediabox(0, 0, width, height)
    page.set_cropbox(0, 0, width, height)
    for thing in page.get_objects(max_depth=1):
        a, b, c, d, e, f = {
            90: (0, -1, 1, 0, -bottom, right),
            180: (-1, 0, 0, -1, right, top),
            270: (0, 1, -1, 0, top, -left),
        }[turned]
        thing.transform(pdfium.PdfMatrix(a, b, c, d, e, f))


def _on_page(line: Line, width: float, height: float) -> bool:
    return line.right > 0 and line.left < width and line.top > 0 and line.bottom < height


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signs:
    """What the objects and characters of a page tell of its text."""

    pictures: float  # pt²
    icons: int  # pictures as small as a letter
    hidden: int  # text objects that draw nothing
    unmapped: int  # characters without a meaning


def _signs(page: pdfium.PdfPage, textpage: pdfium.PdfTextPage, count: int) -> _Signs:
    pictures, icons, hidden = 0.0, 0, 0
    for thing in page.get_objects(max_depth=2):
        kind = pdfium_c.FPDFPageObj_GetType(thing)
        if kind == pdfium_c.FPDF_PAGEOBJ_IMAGE:
            left, bottom, right, top = thing.get_bounds()
            pictures += max(0.0, right - left) * max(0.0, top - bottom)
            icons += max(right - left, top - bottom) < _ICON
        elif kind == pdfium_c.FPDF_PAGEOBJ_TEXT:
            hidden += pdfium_c.FPDFTextObj_GetTextRenderMode(thing) == pdfium_c.FPDF_TEXTRENDERMODE_INVISIBLE
    unmapped = sum(pdfium_c.FPDFText_HasUnicodeMapError(textpage, k) == 1 for k in range(count))
    return _Signs(pictures=pictures, icons=icons, hidden=hidden, unmapped=unmapped)


def _distrust(signs: _Signs, text: str, area: float) -> str:
    """Why the layer may not say what the page shows; empty if there is no such reason."""
    letters = [c for c in text if not c.isspace()]
    if signs.hidden:
        return "hidden text, as a scanner's software writes it"
    if signs.pictures > 0.5 * area:
        return "most of the page is a picture"
    if len(letters) < 40:
        return "there is (nearly) no text"
    if signs.unmapped + sum(map(_is_unknown, letters)) > 0.02 * len(letters):
        return "a broken encoding: letters without a meaning"
    latin = _LATIN.findall(text)
    if len(latin) > 100 and not 0.22 < len(_VOWELS.findall(text)) / len(latin) < 0.6:
        return "a broken encoding: too few or too many vowels"
    if is_no_language(text):
        return "a broken encoding: its letters are those of no language"
    words = text.split()
    if sum(len(word) == 1 for word in words) > 0.4 * len(words):
        return "letters stand apart"
    return ""


def _is_strange(signs: _Signs, text: str) -> bool:
    """Whether signs may stand on the page that its text does not tell: a small picture, an emoji's code cut in two."""
    return bool(signs.icons or signs.unmapped or _CUT_CODE.search(text) or any(map(_is_unknown, text)))


def _is_unknown(c: str) -> bool:
    return c == "\ufffd" or "\ue000" <= c <= "\uf8ff" or (ord(c) < 32 and not c.isspace())


def with_running(pages: Sequence[Layer]) -> list[Layer]:
    """The pages with their running lines and their lines in the margin marked.

    A line is repeated if it stands on at least three pages, at one height and with the same words but for numbers. The
    three need not follow one another, as left and right pages have headers of their own. A repeated line near an edge
    is running. A line is in the margin if it stands in the outer 8 % of the height, or in the outer 12 % with a gap to
    the rest, or if it is repeated and goes on from a running line, as in a header of many lines.
    """
    seen = Counter(key for page in pages for key in {_key(line) for line in page.lines})
    return [replace(page, lines=tuple(_marked(page, seen))) for page in pages]


def _marked(page: Layer, seen: Counter[tuple[str, int]]) -> Iterator[Line]:
    repeated = [line for line in page.lines if seen[_key(line)] >= 3]
    running = {line for line in repeated if _near_edge(line, page.height)}
    beyond = _going_on([line for line in repeated if line not in running], running)
    for line in page.lines:
        margin = line in beyond or _in_margin(line, page.lines, page.height)
        yield replace(line, running=line in running, margin=margin)


def _going_on(lines: Sequence[Line], edge: Collection[Line]) -> set[Line]:
    """The lines that stand close to one at the edge, or to another such line."""
    beyond: set[Line] = set()
    while edge:
        edge = [line for line in lines if line not in beyond and any(_adjoin(line, other) for other in edge)]
        beyond.update(edge)
    return beyond


def _adjoin(line: Line, other: Line) -> bool:
    """Whether one of two lines stands above the other, and not far."""
    if line.right <= other.left or other.right <= line.left:
        return False
    gap = max(line.bottom - other.top, other.bottom - line.top)
    return gap < _GAP * min(line.top - line.bottom, other.top - other.bottom)


def _near_edge(line: Line, height: float) -> bool:
    return line.bottom > (1 - _EDGE) * height or line.top < _EDGE * height


def _in_margin(line: Line, lines: Sequence[Line], height: float) -> bool:
    if line.top - line.bottom > 0.03 * height:  # a small page, whose header reaches far into it
        return line.top > (1 - _MARGIN) * height or line.bottom < _MARGIN * height
    if line.bottom > (1 - _MARGIN) * height or line.top < _MARGIN * height:
        return True
    gap = _GAP * (line.top - line.bottom)
    if line.bottom > (1 - _EDGE) * height:
        return not any(line.bottom - gap < other.top <= line.bottom for other in lines)
    return line.top < _EDGE * height and not any(line.top <= other.bottom < line.top + gap for other in lines)


def _key(line: Line) -> tuple[str, int]:
    """By which lines of two pages are the same: the words without numbers, and the height in steps of 8 pt."""
    return re.sub(r"\d+|\b[ivxl]+\b", "#", line.text.lower()), round(line.bottom / 8)
