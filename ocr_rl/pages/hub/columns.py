"""Which columns of somebody's table hold a page's document, its text, its number, its name and its tests.

Known are the tables that `rows` writes, olmOCR-mix (with documents in the rows), pairs of images and texts as hubs have
them, and olmOCR-Bench's, whose rows are tests. It knows names and kinds of columns; it reads no rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ocr_rl.files import Unreadable
from ocr_rl.pages.hub.parquet import Kind
from ocr_rl.text.front_matter import FIELDS

_DOCUMENT = ("document", "pdf_bytes", "pdf", "image", "page_image", "jpg", "png")
_TEXT = ("reference", "natural_text", "response", "markdown", "text", "ground_truth", "transcription", "caption")
_PAGE = ("page", "page_number", "page_num")
_ID = ("id", "__index_level_0__", "name", "file_name")
_NUMBERS: tuple[Kind, ...] = ("number", "float", "text")  # of a page: tables out of pandas or CSV have the latter two
_TEST = ("pdf", "page", "id", "type")  # what every test of olmOCR-Bench has


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The names of a table's columns by what they hold; None where it has none of them."""

    document: str
    text: str | None = None
    page: str | None = None
    id: str | None = None
    name: str | None = None  # of the document, below pdfs/
    tests: str | None = None
    test_files: str | None = None
    front_matter: tuple[str, ...] = ()

    @property
    def all(self) -> list[str]:
        single = (self.document, self.text, self.page, self.id, self.name, self.tests, self.test_files)
        return [name for name in (*single, *self.front_matter) if name is not None]


def is_tests(kinds: Mapping[str, Kind | None]) -> bool:
    """Whether the rows of a table are tests, as in olmOCR-Bench as a data set."""
    return all(kinds.get(name) in _NUMBERS for name in _TEST) and _first(kinds, _DOCUMENT, ("bytes", "image")) is None


def columns_of(kinds: Mapping[str, Kind | None]) -> Columns:
    """Raises Unreadable, with the names of the columns, where none holds documents, or none texts or tests."""
    document = _first(kinds, _DOCUMENT, ("bytes", "image"))
    if document is None:
        raise Unreadable(
            _one_way(kinds)
            or f"no column holds the bytes of a PDF or a picture, as {_DOCUMENT[0]}, pdf or image do{_has(kinds)}; "
            "where the documents lie elsewhere, import a folder of them with a Markdown file beside each"
        )
    tests = _first(kinds, ("tests",), ("text", "objects"))
    text = _first(kinds, _TEXT, ("text",))
    if text is None and tests is None:
        raise Unreadable(
            _one_way(kinds) or f"no column holds texts, as reference, natural_text, markdown or text do{_has(kinds)}"
        )
    front_matter = FIELDS if all(field in kinds for field in FIELDS) else ()
    return Columns(
        document=document,
        text=text,
        page=_first(kinds, _PAGE, _NUMBERS[:2]) or _first(kinds, _PAGE, _NUMBERS),
        id=_first(kinds, _ID, ("text", "number")),
        name=_first(kinds, ("pdf",), ("text",)),
        tests=tests,
        test_files=_first(kinds, ("test_files",), ("texts",)),
        front_matter=front_matter,
    )


def _one_way(kinds: Mapping[str, Kind | None]) -> str:
    """What to import instead of tables that `pages export` and `sample` write for trainers alone; else nothing."""
    if {"reward_model", "extra_info"} <= kinds.keys():
        return (
            "its rows are verl's, without the pages' documents; what `pages export` writes without --layout comes back"
        )
    if {"chosen", "rejected"} <= kinds.keys():
        return "its rows are pairs of texts, not pages; what `pages export` writes without --preferences comes back"
    return ""


def _first(kinds: Mapping[str, Kind | None], names: Sequence[str], of: Sequence[Kind]) -> str | None:
    return next((name for name in names if kinds.get(name) in of), None)


def _has(kinds: Mapping[str, Kind | None]) -> str:
    return f" (it has {', '.join(list(kinds)[:12])})"
