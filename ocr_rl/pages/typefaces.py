"""What a page owes to the typefaces of this machine: a file need not hold those that it asks for.

PDFium draws the standard typefaces (Helvetica, Times, Courier, and Arial and Times New Roman as these) itself, in Latin
letters. For another one it takes what the machine has, and where that has no such letter, nothing is drawn and nobody
says so. `borrowed` names such pages, `scripts` the scripts in which letters are drawn here at all.
"""

from __future__ import annotations

import ctypes
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from ocr_rl.pages.opening import opened
from ocr_rl.pages.workers import Refusal, guarded

MAX_OBJECTS = 200_000  # of one page that are looked at
MAX_CHARACTERS = 60_000
_GLYPH_PX = 24  # height at which a letter is drawn to see whether it is there
_MAX_PX = 3000
_STANDARD = re.compile(r"(arial|couriernew|courier|helvetica|timesnewroman|times|symbol|zapfdingbats)(psmt|ps|mt)?")
_DEPTH = 8  # forms within forms
BEYOND = "\u0250"  # the first character past those that PDFium's own typefaces are expected to have


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


def borrowed(pages: Iterable[tuple[Path, Sequence[int]]], *, timeout_s: float = 60.0) -> Iterator[Borrowed]:
    """Those of the pages (file, 1-based numbers) that depend on this machine's typefaces.

    Files are read in a worker process, which may hang or crash; what cannot be read is passed over.
    """
    for _, result in guarded(_of_file, pages, workers=1, timeout_s=timeout_s):
        if not isinstance(result, Refusal):
            yield from result


def _of_file(job: tuple[Path, Sequence[int]]) -> list[Borrowed]:
    pdf, numbers = job
    dependent: list[Borrowed] = []
    with opened(pdf) as document:
        for number in numbers:
            try:
                page = document[number - 1]
            except (pdfium.PdfiumError, IndexError):
                continue
            if names := _asked_for(page):
                unseen = _unseen(document, page, names)
                absent, lent = (
                    sorted({face.name for face in names.values() if face.is_lent == lent and not face.is_standard})
                    for lent in (False, True)
                )
                if absent or lent or unseen:
                    dependent.append(
                        Borrowed(pdf=pdf, number=number, absent=tuple(absent), lent=tuple(lent), unseen=unseen)
                    )
            page.close()
    return dependent


# --- typefaces of a page ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Typeface:
    name: str  # in the file
    is_lent: bool  # whether PDFium takes one of the machine's that has this name
    is_standard: bool  # whether PDFium has its own for it, with Latin letters


def _asked_for(page: pdfium.PdfPage) -> dict[int, _Typeface]:
    """The typefaces of text objects that the file does not hold, by PDFium's handle."""
    seen: dict[int, _Typeface | None] = {}
    for thing in _text_objects(page):
        font = pdfium_c.FPDFTextObj_GetFont(thing)
        if (handle := _handle(font)) and handle not in seen:
            seen[handle] = None if pdfium_c.FPDFFont_GetIsEmbedded(font) else _typeface(font)
    return {handle: typeface for handle, typeface in seen.items() if typeface is not None}


def _text_objects(page: pdfium.PdfPage) -> Iterator[Any]:
    """The raw calls: pypdfium2's objects would take ten times as long."""
    left = MAX_OBJECTS
    stack = [(pdfium_c.FPDFPage_GetObject, page, k, 0) for k in reversed(range(pdfium_c.FPDFPage_CountObjects(page)))]
    while stack and left:
        get, holder, k, depth = stack.pop()
        thing = get(holder, k)
        kind = pdfium_c.FPDFPageObj_GetType(thing)
        left -= 1
        if kind == pdfium_c.FPDF_PAGEOBJ_TEXT:
            yield thing
        elif kind == pdfium_c.FPDF_PAGEOBJ_FORM and depth < _DEPTH:
            count = min(pdfium_c.FPDFFormObj_CountObjects(thing), left)
            stack += [(pdfium_c.FPDFFormObj_GetObject, thing, j, depth + 1) for j in reversed(range(count))]


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


def _handle(pointer: Any) -> int:
    """PDFium's address of a thing; 0 for none. Faster than a cast."""
    return ctypes.addressof(pointer.contents) if pointer else 0


# --- letters that are not there ---------------------------------------------------------------------------------------


def _unseen(document: pdfium.PdfDocument, page: pdfium.PdfPage, names: dict[int, _Typeface]) -> str:
    """The characters in those typefaces that leave no ink, each once, in their order."""
    textpage = page.get_textpage()
    if all(typeface.is_standard for typeface in names.values()) and max(textpage.get_text_range(), default="") < BEYOND:
        return ""
    drawn: dict[tuple[int, str], bool] = {}  # by typeface and character: whether it is drawn anywhere
    pictures: dict[int, tuple[list[float], pdfium.PdfBitmap | None, float]] = {}
    own = {_handle(pdfium_c.FPDFPage_GetObject(page, k)) for k in range(pdfium_c.FPDFPage_CountObjects(page))}
    for k in range(min(textpage.count_chars(), MAX_CHARACTERS)):
        thing = pdfium_c.FPDFText_GetTextObject(textpage, k)
        handle = _handle(pdfium_c.FPDFTextObj_GetFont(thing)) if thing else 0
        character = chr(pdfium_c.FPDFText_GetUnicode(textpage, k))
        if handle not in names or drawn.get((handle, character)) or not _shows(character):
            continue
        if (names[handle].is_standard and character < BEYOND) or pdfium_c.FPDFTextObj_GetTextRenderMode(thing) in (
            pdfium_c.FPDF_TEXTRENDERMODE_INVISIBLE,
            pdfium_c.FPDF_TEXTRENDERMODE_CLIP,
        ):
            continue
        place = _handle(thing)
        box = _box(textpage, k)
        if place not in pictures:
            pictures.clear()  # characters of an object follow one another
            pictures[place] = _picture(document, page, thing, box[3] - box[1])
        drawn[handle, character] = _has_ink(*pictures[place], box, in_form=place not in own)
    return "".join(dict.fromkeys(character for (_, character), is_drawn in drawn.items() if not is_drawn))


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
