"""A document of one page alone, cut out of the bytes of a PDF or a picture."""

from __future__ import annotations

import io

import pypdfium2 as pdfium
from PIL import Image

from ocr_rl.pages import pictures
from ocr_rl.pages.opening import opened
from ocr_rl.pages.workers import Refusal


def alone(data: bytes, number: int | None) -> bytes:
    """The bytes as they are, where the document has one page; else a new document of the page with this number.

    Raises Refusal for what is no document, and where it has several pages and no such one.
    """
    if pictures.is_picture(data):
        pages = pictures.count(data)
        return data if pages == 1 else _frame(data, _within(number, pages))
    with opened(data) as document:
        return data if len(document) == 1 else _cut_out(document, _within(number, len(document)))


def _within(number: int | None, pages: int) -> int:
    if number is None:
        raise Refusal(f"it has {pages} pages, and nothing says which")
    if not 1 <= number <= pages:
        raise Refusal(f"there is no page {number}, it has {pages}")
    return number


def _cut_out(document: pdfium.PdfDocument, number: int) -> bytes:
    page, buffer = pdfium.PdfDocument.new(), io.BytesIO()
    try:
        page.import_pages(document, [number - 1])
        page.save(buffer)
    finally:
        page.close()
    return buffer.getvalue()


def _frame(data: bytes, number: int) -> bytes:
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as picture:
        picture.seek(number - 1)
        picture.copy().save(buffer, "TIFF")
    return buffer.getvalue()
