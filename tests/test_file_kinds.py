"""What a file is by its first bytes: said to people whose file is of no kind that is wanted."""

from __future__ import annotations

import io
import zipfile

import pytest

from ocr_rl.file_kinds import binary_kind, kind_of
from ocr_rl.files import decoded
from tests.pages.pdfs import SEEN, block, pdf
from tests.pages.pictures import encoded, page


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name in names:
            file.writestr(name, "<xml/>" * 40)
    return buffer.getvalue()


KINDS = {
    "a PDF": pdf(block(*SEEN)),
    "a GIF picture": encoded(page(), "GIF"),
    "a BMP picture": encoded(page(), "BMP"),
    "a HEIC picture": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "an AVIF picture": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1",
    "a Word document (DOCX)": archive("[Content_Types].xml", "_rels/.rels", "word/document.xml"),
    "an Excel file (XLSX)": archive("[Content_Types].xml", "_rels/.rels", "xl/workbook.xml"),
    "a ZIP archive, as DOCX, XLSX and PPTX files are": archive("notes.txt"),
    "an old Office file (DOC, XLS, PPT)": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100),
}
WRITTEN = {
    "an SVG picture": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"></svg>',
    "an HTML page": b"\n<!DOCTYPE html><html></html>",
    "a PostScript file": b"%!PS-Adobe-3.0",
    "an RTF document": rb"{\rtf1\ansi}",
}


@pytest.mark.parametrize("kind", [*KINDS, *WRITTEN])
def test_kinds_are_known(kind: str) -> None:
    head = {**KINDS, **WRITTEN}[kind][:1024]
    assert kind_of(head) == kind
    assert binary_kind(head) == (kind if kind in KINDS else "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "%PDF-1.7 is how such a file begins",
        "GIF89a is a format",
        "BM is a company",
        "PK",
        "P5 7",
        *(data.decode() for data in WRITTEN.values()),
    ],
)
def test_a_text_may_speak_of_them(text: str) -> None:
    assert binary_kind(text.encode()) == ""
    assert decoded(text.encode()) == text
