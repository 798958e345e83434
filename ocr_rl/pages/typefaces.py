"""What a page owes to the typefaces of this machine: a file need not hold those that it asks for.

PDFium draws the standard typefaces (Helvetica, Times, Courier, and Arial and Times New Roman as these) itself, in Latin
letters. For another one it takes what the machine has, and where that has no such letter, nothing is drawn and nobody
says so. `surveyed` names such pages, `scripts` the scripts in which letters are drawn here at all.
"""

from __future__ import annotations

import ctypes
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from ocr_rl.pages import pictures
from ocr_rl.pages.opening import opened
from ocr_rl.pages.raster import PageError, drawable, in_parts, size_faults
from ocr_rl.pages.workers import Refusal, guarded

MAX_OBJECTS = 200_000  # of one page that are looked at
MAX_CHARACTERS = 60_000
_GLYPH_PX = 24  # height at which a letter is drawn to see whether it is there
_MAX_PX = 3000
_STANDARD = re.compile(r"(arial|couriernew|courier|helvetica|timesnewroman|times|symbol|zapfdingbats)(psmt|ps|mt)?")
_DEPTH = 8  # forms within forms
# What PDFium's own typefaces have: the letters of Windows' Latin encoding, and the marks of printed text.
_LATIN = re.compile(
    "[\\u0000-\\u00ff\\u0152\\u0153\\u0160\\u0161\\u0178\\u017d\\u017e\\u0192\\u02c6\\u02dc\\u2010-\\u2026\\u2030\\u2039\\u203a"
    "\\u2044\\u20ac\\u2122\\u2212\\ufb01\\ufb02\\ufffe]*"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Borrowed:
    """A page that asks for typefaces which its file does not hold. `str` is a sentence without the page's name."""

    pdf: Path
    number: int  # 1-based
    absent: tuple[str, ...]  # typefaces that are not on this machine either
    lent: tuple[str, ...]  # those that this machine has
    unseen: str  # characters that are drawn as nothing, each once

    def __str__(self) -> str:
        parts = []
        if self.absent:
            parts.append(f"asks for {', '.join(self.absent)}, which neither the file nor this machine has")
        if self.lent:
            parts.append(f"asks for {', '.join(self.lent)}, which this machine has and the file has not")
        if self.unseen:
            shown = self.unseen[:20] + ("…" if len(self.unseen) > 20 else "")
            parts.append(f"{len(self.unseen)} different characters are drawn as nothing ({shown})")
        return "; ".join(parts)


def surveyed(pages: Iterable[tuple[Path, Sequence[int]]], *, timeout_s: float = 60.0) -> Iterator[PageError | Borrowed]:
    """`size_faults` of the pages (file, 1-based numbers), and those that depend on this machine's typefaces.

    Each file is opened once, in a worker process. One that hangs or crashes there is looked at for its faults alone.
    """
    for (pdf, numbers), result in guarded(_of_file, in_parts(pages), workers=1, timeout_s=timeout_s):
        yield from size_faults([(pdf, numbers)]) if isinstance(result, Refusal) else result


def _of_file(job: tuple[Path, Sequence[int]]) -> list[PageError | Borrowed]:
    pdf, numbers = job
    if pictures.is_picture(pdf):
        return [PageError(pdf, number, reason) for number, reason in pictures.refused(pdf, numbers)]
    seen: list[PageError | Borrowed] = []
    with opened(pdf) as document:
        for number in numbers:
            try:
                page = drawable(document, number)
            except Refusal as refusal:
                seen.append(PageError(pdf, number, str(refusal)))
                continue
            if page_owes := _borrowed(document, page, pdf, number):
                seen.append(page_owes)
            page.close()
    return seen


def _borrowed(document: pdfium.PdfDocument, page: pdfium.PdfPage, pdf: Path, number: int) -> Borrowed | None:
    names = _asked_for(page)
    if not names:
        return None
    unseen = _unseen(document, page, names)
    absent, lent = (
        sorted({face.name for face in names.values() if face.is_lent == lent and not face.is_standard})
        for lent in (False, True)
    )
    if not (absent or lent or unseen):
        return None
    return Borrowed(pdf=pdf, number=number, absent=tuple(absent), lent=tuple(lent), unseen=unseen)


# --- typefaces of a page ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Typeface:
    name: str  # in the file
    is_lent: bool  # whether PDFium takes one of the machine's that has this name
    is_standard: bool  # whether PDFium has its own for it, with Latin letters


def _asked_for(page: pdfium.PdfPage) -> dict[int, _Typeface]:
    """The typefaces of text objects that the file does not hold, by PDFium's handle."""
    fonts = {font for font in _fonts(page) if not _is_embedded(font)}
    return {font: _typeface(ctypes.cast(font, pdfium_c.FPDF_FONT)) for font in sorted(fonts)}


def _fonts(page: pdfium.PdfPage) -> set[int]:
    """The handle of each typeface that text objects of the page have, also within forms."""
    fonts: set[int] = set()
    font_of = _font
    left = MAX_OBJECTS
    stack = [(_page_object, page.raw, pdfium_c.FPDFPage_CountObjects(page), 0)]
    while stack and left > 0:
        get, holder, count, depth = stack.pop()
        for k in range(min(count, left)):
            thing = get(holder, k)
            if font := font_of(thing):
                fonts.add(font)
            elif depth < _DEPTH and _kind(thing) == pdfium_c.FPDF_PAGEOBJ_FORM:
                stack.append((_form_object, thing, _count_in_form(thing), depth + 1))
        left -= count
    return fonts


def _plain(function: Any, result: Any, *arguments: Any) -> Any:
    """A function of PDFium that takes and gives addresses as numbers: pages have ten thousands of objects."""
    return ctypes.CFUNCTYPE(result, *arguments)(ctypes.cast(function, ctypes.c_void_p).value or 0)


_page_object = _plain(pdfium_c.FPDFPage_GetObject, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
_form_object = _plain(pdfium_c.FPDFFormObj_GetObject, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulong)
_count_in_form = _plain(pdfium_c.FPDFFormObj_CountObjects, ctypes.c_int, ctypes.c_void_p)
_font = _plain(pdfium_c.FPDFTextObj_GetFont, ctypes.c_void_p, ctypes.c_void_p)  # none for what is no text
_kind = _plain(pdfium_c.FPDFPageObj_GetType, ctypes.c_int, ctypes.c_void_p)
_mode = _plain(pdfium_c.FPDFTextObj_GetTextRenderMode, ctypes.c_int, ctypes.c_void_p)
_unicode = _plain(pdfium_c.FPDFText_GetUnicode, ctypes.c_uint, ctypes.c_void_p, ctypes.c_int)
_object_of = _plain(pdfium_c.FPDFText_GetTextObject, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
_is_embedded = _plain(pdfium_c.FPDFFont_GetIsEmbedded, ctypes.c_int, ctypes.c_void_p)


def _typeface(font: Any) -> _Typeface:
    name = re.sub(r"^[A-Z]{6}\+", "", _text(pdfium_c.FPDFFont_GetBaseFontName, font))
    asked, used = _letters(name), _letters(_text(pdfium_c.FPDFFont_GetFamilyName, font))
    is_standard = _STANDARD.fullmatch(_letters(re.split("[,-]", name)[0])) is not None
    is_lent = bool(asked and used) and (asked.startswith(used) or used.startswith(asked))
    return _Typeface(name=name, is_lent=is_lent, is_standard=is_standard)


def _text(call: Any, font: Any) -> str:
    buffer = ctypes.create_string_buffer(256)
    size = call(font, buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace") if 0 < size <= len(buffer) else "a typeface without a name"


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


# --- letters that are not there ---------------------------------------------------------------------------------------


def _unseen(document: pdfium.PdfDocument, page: pdfium.PdfPage, names: dict[int, _Typeface]) -> str:
    """The characters in those typefaces that leave no ink, each once, in their order."""
    textpage = page.get_textpage()
    own_only = all(typeface.is_standard for typeface in names.values())
    if own_only and _LATIN.fullmatch(textpage.get_text_range()):
        return ""
    drawn: dict[tuple[int, str], bool] = {}  # by typeface and character: whether it is drawn anywhere
    drawings: dict[int, tuple[list[float], pdfium.PdfBitmap | None, float]] = {}
    direct = {_page_object(page.raw, k) for k in range(pdfium_c.FPDFPage_CountObjects(page))}
    text = textpage.raw
    for k in range(min(textpage.count_chars(), MAX_CHARACTERS)):
        character = chr(_unicode(text, k))
        if not _shows(character) or (own_only and _is_latin(character)):
            continue
        thing = _object_of(text, k)
        font = _font(thing)
        if font not in names or drawn.get((font, character)) or (names[font].is_standard and _is_latin(character)):
            continue
        if _mode(thing) in (pdfium_c.FPDF_TEXTRENDERMODE_INVISIBLE, pdfium_c.FPDF_TEXTRENDERMODE_CLIP):
            continue
        box = _box(textpage, k)
        if thing not in drawings:
            drawings.clear()  # characters of an object follow one another
            drawings[thing] = _picture(document, page, ctypes.cast(thing, pdfium_c.FPDF_PAGEOBJECT), box[3] - box[1])
        drawn[font, character] = _has_ink(*drawings[thing], box, in_form=thing not in direct)
    return "".join(dict.fromkeys(character for (_, character), is_drawn in drawn.items() if not is_drawn))


@cache
def _is_latin(character: str) -> bool:
    return _LATIN.fullmatch(character) is not None


@cache
def _shows(character: str) -> bool:
    """Whether a character is one that leaves ink."""
    return unicodedata.category(character)[0] not in "ZC"


def _box(textpage: pdfium.PdfTextPage, k: int) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of a character with its white, pt."""
    box = pdfium_c.FS_RECTF()
    pdfium_c.FPDFText_GetLooseCharBox(textpage, k, box)
    return box.left, min(box.bottom, box.top), box.right, max(box.bottom, box.top)


def _picture(
    document: pdfium.PdfDocument, page: pdfium.PdfPage, thing: Any, height: float
) -> tuple[list[float], pdfium.PdfBitmap | None, float]:
    """The bounds of a text object (pt), the object alone on nothing, and the scale (px/pt)."""
    bounds = [ctypes.c_float() for _ in range(4)]
    pdfium_c.FPDFPageObj_GetBounds(thing, *(ctypes.byref(value) for value in bounds))
    sides = [value.value for value in bounds]
    longest = max(sides[2] - sides[0], sides[3] - sides[1])
    if not 0 < longest < 1e5:
        return sides, None, 1.0
    scale = min(_GLYPH_PX / max(height, 0.1), _MAX_PX / longest)
    raw = pdfium_c.FPDFTextObj_GetRenderedBitmap(document, page, thing, scale)
    return sides, pdfium.PdfBitmap.from_raw(raw) if raw else None, scale


def _has_ink(
    bounds: list[float],
    bitmap: pdfium.PdfBitmap | None,
    scale: float,
    box: tuple[float, float, float, float],
    *,
    in_form: bool,
) -> bool:
    """Whether the picture of a text object has ink where a character stands.

    Within a form objects have coordinates of their own: if the character stands elsewhere by them, ink anywhere counts.
    """
    if bitmap is None:
        return False
    alpha = bitmap.to_pil().getchannel("A")
    shy = 0.15 * (box[2] - box[0])  # neighbours lean over
    left, right = (round((x - bounds[0]) * scale) for x in (box[0] + shy, box[2] - shy))
    upper, lower = (round((bounds[3] - y) * scale) for y in (box[3], box[1]))
    part = (max(0, left), max(0, upper), min(alpha.width, right), min(alpha.height, lower))
    if part[0] < part[2] and part[1] < part[3]:
        alpha = alpha.crop(part)
    elif not in_form:
        return False  # an object ends where its last ink is
    return any(alpha.histogram()[64:])
