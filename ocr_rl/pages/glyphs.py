"""The glyphs of a PDF page as PDFium gives them: what each is called, where it is drawn, and by which piece of text.

Knows nothing about lines or words.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

_TILT = 3.0  # degrees by which upright text may slant
_UNSEEN = "\u200b\u200c\u200d\u2060\ufeff\u00ad"  # characters without a width, which part no words
_FIRST_HALF = 0xD800  # from here on a code may be half a character
_HYPHENS = "\x02\ufffe"  # PDFium's signs for a hyphen at the end of a line


class Glyph(NamedTuple):
    """A character of a text layer. Lengths are in pt; places are seen from the lower left corner of the page."""

    text: str  # one character; a space for whatever has no ink, and a newline where PDFium ends a line
    left: float  # of its ink, as are bottom, right and top
    bottom: float
    right: float
    top: float
    start: float = 0.0  # of the room that it takes in its line
    end: float = 0.0
    baseline: float = 0.0
    em: float = 0.0  # the height of its type; 0 where the typeface does not tell, as in bitmaps
    typeface: int = 0
    piece: int = 0  # the text object that drew it; 0 for what PDFium put in
    upright: bool = True


class _Piece(NamedTuple):
    key: int
    baseline: float
    em: float
    typeface: int
    upright: bool


def glyphs(textpage: pdfium.PdfTextPage, count: int, x: float, y: float) -> Iterator[Glyph]:
    """The glyphs in the order of the layer. (x, y) is the lower left corner of the page."""
    text = textpage.raw  # asking the wrapper for it takes time at every call
    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    refs = [ctypes.byref(value) for value in (left, right, bottom, top)]
    room = pdfium_c.FS_RECTF()
    room_ref = ctypes.byref(room)
    nowhere = _Piece(key=0, baseline=0.0, em=0.0, typeface=0, upright=True)
    piece = nowhere
    for k in range(count):
        code = pdfium_c.FPDFText_GetUnicode(text, k)
        character = chr(code) if code < _FIRST_HALF else _character(text, k, code)
        if not character or character in _UNSEEN:
            continue
        if character in "\r\n":
            yield Glyph("\n", 0.0, 0.0, 0.0, 0.0)
            continue
        pdfium_c.FPDFText_GetCharBox(text, k, *refs)
        if character.isspace() or right.value <= left.value:
            yield Glyph(" ", 0.0, 0.0, 0.0, 0.0)
            continue
        thing = pdfium_c.FPDFText_GetTextObject(text, k)
        key = ctypes.addressof(thing.contents) if thing else 0
        pdfium_c.FPDFText_GetLooseCharBox(text, k, room_ref)
        if key != piece.key:
            piece = _piece(text, k, key, thing) if key else nowhere
        yield Glyph(
            "-" if character in _HYPHENS else character,
            left.value - x,
            bottom.value - y,
            right.value - x,
            top.value - y,
            room.left - x,
            room.right - x,
            piece.baseline - y,
            piece.em,
            piece.typeface,
            key,
            piece.upright,
        )


def _piece(text: Any, k: int, key: int, thing: Any) -> _Piece:
    """What the glyphs of a text object share: it is one line in one typeface."""
    x, y, up, down = ctypes.c_double(), ctypes.c_double(), ctypes.c_float(), ctypes.c_float()
    pdfium_c.FPDFText_GetCharOrigin(text, k, ctypes.byref(x), ctypes.byref(y))
    matrix = pdfium_c.FS_MATRIX()
    pdfium_c.FPDFText_GetMatrix(text, k, ctypes.byref(matrix))
    font = pdfium_c.FPDFTextObj_GetFont(thing)
    pdfium_c.FPDFFont_GetAscent(font, 1.0, ctypes.byref(up))
    pdfium_c.FPDFFont_GetDescent(font, 1.0, ctypes.byref(down))
    angle = math.degrees(math.atan2(matrix.b, matrix.a))  # a slope, as of italics, turns no line
    return _Piece(
        key=key,
        baseline=y.value,
        em=matrix.a * pdfium_c.FPDFText_GetFontSize(text, k) if up.value > down.value else 0.0,
        typeface=ctypes.addressof(font.contents) if font else 0,
        upright=abs(angle) <= _TILT,
    )


def _character(text: Any, k: int, code: int) -> str:
    """A character of the layer, at its first half if PDFium gives two (as for 𝑥) and empty at the second."""
    if code < 0xDC00:
        low = pdfium_c.FPDFText_GetUnicode(text, k + 1)
        return chr(0x10000 + ((code - _FIRST_HALF) << 10) + low - 0xDC00) if 0xDC00 <= low < 0xE000 else "\ufffd"
    if code < 0xE000:
        before = pdfium_c.FPDFText_GetUnicode(text, k - 1) if k else 0
        return "" if _FIRST_HALF <= before < 0xDC00 else "\ufffd"
    return chr(code) if code < 0x110000 else "\ufffd"
