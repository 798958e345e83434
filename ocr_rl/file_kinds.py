"""What a file is by its first bytes, in words for people whose file is not of a kind that is wanted.

Only what a person may give by mistake is known here; that a file is of a kind that is read is decided where it is read.
"""

from __future__ import annotations

import re

DOCUMENTS = "PDF, PNG, JPEG, WebP or TIFF"  # what pages are made of

_BINARY = (
    (rb"%PDF-\d", "a PDF"),
    (rb"\x89PNG\r\n", "a PNG picture"),
    (rb"\xff\xd8\xff", "a JPEG picture"),
    (rb"RIFF....WEBP", "a WebP picture"),
    (rb"II[*+]\0|MM\0[*+]", "a TIFF picture"),
    (rb"GIF8[79]a", "a GIF picture"),
    (rb"BM.{4}\0{4}", "a BMP picture"),
    (rb"....ftyp(?:hei|hev|mif1|msf1)", "a HEIC picture"),
    (rb"....ftypavi", "an AVIF picture"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (rb"8BPS\0", "a Photoshop picture"),
    (rb"P[456]\n\d", "a PPM picture"),
    (rb"\0\0\x01\0", "an icon (ICO)"),
    (rb"AT&TFORM", "a DjVu file"),
    (rb"PK\x03\x04.*?word/", "a Word document (DOCX)"),
    (rb"PK\x03\x04.*?ppt/", "a PowerPoint file (PPTX)"),
    (rb"PK\x03\x04.*?xl/", "an Excel file (XLSX)"),
    (rb"PK\x03\x04.{26}mimetypeapplication/epub", "an EPUB book"),
    (rb"PK\x03\x04.{26}mimetypeapplication/vnd\.oasis", "an OpenDocument file (ODT, ODS, ODP)"),
    (rb"PK\x03\x04", "a ZIP archive, as DOCX, XLSX and PPTX files are"),
    (rb"\xd0\xcf\x11\xe0", "an old Office file (DOC, XLS, PPT)"),
    (rb"\x1f\x8b", "a gzip archive"),
)
_WRITTEN = (
    (rb"\s*(?:<\?xml.{0,600}?)?(?:<!--.{0,600}?-->\s*|<!DOCTYPE svg.{0,300}?>\s*)*<svg\b", "an SVG picture"),
    (rb"\s*(?:<!DOCTYPE html|<html\b)", "an HTML page"),
    (rb"%!PS", "a PostScript file"),
    (rb"\{\\rtf", "an RTF document"),
)
_SPACES = b"\t\n\v\f\r\x1b"


def is_binary(head: bytes) -> bool:
    """Whether the first bytes have characters that no text has."""
    control = sum(byte < 32 and byte not in _SPACES for byte in head)
    return 50 * control > len(head)


def binary_kind(head: bytes) -> str:
    """What a file that is no text is; empty where it may be a text, or is not known."""
    if not (b" obj" in head or any(byte < 9 for byte in head)):  # a page may show how such a file begins
        return ""
    return _kind(head, _BINARY)


def kind_of(head: bytes) -> str:
    """What a file is, as "a GIF picture"; empty where that is not known."""
    return _kind(head, _BINARY + _WRITTEN)


def _kind(head: bytes, kinds: tuple[tuple[bytes, str], ...]) -> str:
    return next((kind for mark, kind in kinds if re.match(mark, head, re.DOTALL | re.IGNORECASE)), "")
