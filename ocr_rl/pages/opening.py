"""A PDF is opened in one way: every verb takes the same files and refuses the others in the same words.

`opened` gives PDFium's document, or raises a `Refusal` with the reason. The caller knows the file and names it. Knows
nothing about pages beyond what tells that a file is whole.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from ocr_rl.file_kinds import DOCUMENTS, kind_of
from ocr_rl.pages.workers import Refusal

MAX_FILE_BYTES = 2**31
TRUNCATED = "the file is truncated: its end is missing"
XFA = (
    "the file is an XFA form, whose pages only Adobe's programs can draw; open it in one of them and print it to a PDF"
)
_END = b"%%EOF"
_OBJECT = (b" 0 obj", b"endobj", b"endstream")  # what a PDF has and what servers and mailers append has not
_SEARCHED = 1024  # bytes at the end of a file in which every reader looks for its end
# Adobe's programs write such a page in many languages, always with the same address.
_PLACEHOLDER = re.compile(r"please wait|adobe\.com", re.IGNORECASE)

logging.getLogger("pypdfium2").setLevel(logging.CRITICAL)  # its advice is about builds of itself and names no file


@contextlib.contextmanager
def opened(source: Path | bytes) -> Iterator[pdfium.PdfDocument]:
    """The document of a file or of its bytes, with its forms, checked as far as that is possible without drawing.

    What follows the end of a PDF is no part of it. PDFium rebuilds a lost cross-reference table, so a file cut short
    may open with blank or half pages: such a file is refused. Raises Refusal.
    """
    if b"%PDF-" not in (head := _head(source)):
        raise Refusal(_no_document(head))
    raw, _kept = _loaded(source)  # PDFium reads the bytes as long as the document is open
    document = pdfium.PdfDocument(raw)
    try:
        if len(document) < 1:
            raise Refusal("the document has no pages")
        if _is_placeholder(document):
            raise Refusal(XFA)
        with contextlib.suppress(pdfium.PdfiumError):  # a form that is damaged: the page is drawn without it
            document.init_forms()
        yield document
    finally:
        document.close()


def _no_document(head: bytes) -> str:
    """What is wrong with a file of another kind; pictures that are pages were sorted out before."""
    kind = kind_of(head)
    return f"the file is not a {DOCUMENTS}" + (f" but {kind}; save it as one of these" if kind else "")


def _loaded(source: Path | bytes) -> tuple[Any, Path | bytes]:
    """PDFium's handle of a document that is whole, and what it reads from."""
    raw, code = _load(source)
    if raw and pdfium_c.FPDF_DocumentHasValidCrossReferenceTable(raw):
        return raw, source
    try:
        if code == pdfium_c.FPDF_ERR_PASSWORD:
            raise Refusal("the file is encrypted and asks for a password")
        if code == pdfium_c.FPDF_ERR_SECURITY:
            raise Refusal("the file is encrypted in a way that PDFium does not know")
        end, size = _end_of(source)
    except Refusal:
        _close(raw)
        raise
    if size - end > _SEARCHED:
        _close(raw)
        whole = _first(source, end)
        raw, code = _load(whole)
        source = whole
    if not raw:
        raise Refusal("the file is damaged")
    return raw, source


def _load(source: Path | bytes) -> tuple[Any, int]:
    """PDFium's handle, and the code of its error if that is none."""
    if isinstance(source, bytes):
        raw = pdfium_c.FPDF_LoadMemDocument64(source, len(source), None)
    else:
        raw = pdfium_c.FPDF_LoadDocument(os.fsencode(source) + b"\0", None)
    return raw, 0 if raw else pdfium_c.FPDF_GetLastError()


def _close(raw: Any) -> None:
    if raw:
        pdfium_c.FPDF_CloseDocument(raw)


def _head(source: Path | bytes) -> bytes:
    """The first KiB, in which readers look for the header. Raises Refusal for what is no file of a fair size."""
    if isinstance(source, bytes):
        return source[:1024]
    try:
        if not source.is_file():  # a pipe would block for ever
            raise Refusal("it is not a file" if source.exists() else "there is no such file")
        with source.open("rb") as file:
            size = file.seek(0, 2)
            if size == 0:
                raise Refusal("the file is empty")
            if size > MAX_FILE_BYTES:
                raise Refusal(f"the file is absurdly large ({size / 2**30:.1f} GiB)")
            file.seek(0)
            return file.read(1024)
    except (OSError, ValueError) as error:
        raise Refusal(_unread(error)) from None


def _end_of(source: Path | bytes) -> tuple[int, int]:
    """Where the PDF ends, and the number of bytes of the file.

    Raises Refusal for a file cut short: it has no end, or objects of the PDF come after the last one.
    """
    try:
        with _viewed(source) as data:
            place = data.rfind(_END)
            if place < 0 or any(data.find(mark, place) >= 0 for mark in _OBJECT):
                raise Refusal(TRUNCATED)
            return place + len(_END), len(data)
    except (OSError, ValueError) as error:
        raise Refusal(_unread(error)) from None


@contextlib.contextmanager
def _viewed(source: Path | bytes) -> Iterator[bytes | mmap.mmap]:
    """The bytes, which are not read into memory all at once."""
    if isinstance(source, bytes):
        yield source
    else:
        with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def _first(source: Path | bytes, count: int) -> bytes:
    if isinstance(source, bytes):
        return source[:count]
    try:
        with source.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise Refusal(_unread(error)) from None


def _unread(error: OSError | ValueError) -> str:
    return f"the file cannot be read ({(isinstance(error, OSError) and error.strerror) or error})"


def _is_placeholder(document: pdfium.PdfDocument) -> bool:
    """Whether the page is not the document's own but asks to wait for a program that can lay out an XFA form."""
    form = document.get_formtype()
    if form == pdfium_c.FORMTYPE_XFA_FULL:
        return True
    if form != pdfium_c.FORMTYPE_XFA_FOREGROUND or len(document) > 1:
        return False
    try:
        page = document[0]
    except pdfium.PdfiumError:
        return False
    fields = pdfium_c.FPDFPage_GetAnnotCount(page)
    return not fields and bool(_PLACEHOLDER.search(page.get_textpage().get_text_range()))
