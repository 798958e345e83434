"""The pages of a dataset as rows of a table: each row stands alone, with its document, its tests and its reference.

    id, pdf, page    as in the dataset
    reference        the text of the page's Markdown file, front matter included; null where there is none
    tests            a JSON list of the page's tests, as in the dataset's *.jsonl files, without `pdf` and `page`
    test_files       for each test the stem of its file
    document         the bytes of a PDF or a picture that holds this page alone

`ocr_rl.interop` scores such rows; `imported` makes a dataset of them again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from ocr_rl.contract import Page, UserError
from ocr_rl.files import Unreadable, read_text
from ocr_rl.pages.dataset import load_with_contents
from ocr_rl.pages.folder import Contents
from ocr_rl.pages.hub.documents import alone
from ocr_rl.pages.workers import Refusal


class Row(TypedDict):
    """One page."""

    id: str
    pdf: str
    page: int
    reference: str | None
    tests: str
    test_files: list[str]


def rows_of(folder: Path) -> Iterator[tuple[Page, Row]]:
    """Each page of a dataset with its row. UserError for a faulty dataset."""
    pages, contents = load_with_contents(folder)
    names = {path: name for name, path in contents.pdfs.items()}
    return ((page, _row(page, names[page.pdf], contents)) for page in pages)


def _row(page: Page, name: str, contents: Contents) -> Row:
    place = (name, page.number)
    tests = contents.tests.get(place, ())
    fields = [{key: value for key, value in test.fields.items() if key not in ("pdf", "page")} for test in tests]
    return Row(
        id=page.id,
        pdf=name,
        page=page.number,
        reference=_reference(contents.reference_files.get(place)),
        tests=json.dumps(fields, ensure_ascii=False),
        test_files=[test.file.stem for test in tests],
    )


def _reference(path: Path | None) -> str | None:
    try:
        return None if path is None else read_text(path)
    except Unreadable as flaw:
        raise UserError(f"{path}: {flaw}.") from None


def document_of(page: Page) -> bytes:
    """A document of this page alone: its file, where that has no other page. UserError for one that does not open."""
    try:
        return alone(page.pdf.read_bytes(), page.number)
    except Refusal as refusal:
        raise UserError(f"{page.pdf}, page {page.number}: {refusal}.") from None
