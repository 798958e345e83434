"""A transcript with the forms of it that page tests read: normalised text, tables, formulas, headings.

Every form is computed on first use and then kept. A transcript of more than `LONGEST` characters is not prepared at
all. Knows nothing about tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ocr_rl.contract import Reading
from ocr_rl.text import markdown
from ocr_rl.text.normalize import normalize, normalize_all, tail_repeats, without_surrogates
from ocr_rl.text.tables import Cell, Place, Table, html_tables, markdown_tables

LONGEST = 200_000  # characters; a dense newspaper page has about 30,000


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """A table with the normalised text of every cell."""

    table: Table
    cells: list[Cell]
    texts: list[str]  # the normalised text of each of `cells`, in the same order
    by_text: dict[str, list[Cell]]
    by_place: dict[Place, str]


class Prepared:
    """A transcript with the forms of it that checks read, computed on first use."""

    def __init__(self, text: str) -> None:
        self.length = len(text)
        self.raw = without_surrogates(text) if self.length <= LONGEST else ""
        self._pieces: dict[tuple[str, Reading], list[str]] = {}
        self._formulas: dict[bool, list[str]] = {}

    @cached_property
    def text(self) -> str:
        return normalize(self.raw)

    @cached_property
    def lower(self) -> str:
        return self.text.lower()

    @cached_property
    def markdown_tables(self) -> list[TextTable]:
        return [_with_text(table) for table in markdown_tables(self.raw)]

    @cached_property
    def html_tables(self) -> list[TextTable]:
        return [_with_text(table) for table in html_tables(self.raw)]

    @cached_property
    def tail_repeats(self) -> list[int]:
        return tail_repeats(self.raw)

    def pieces(self, kind: str, reading: Reading) -> list[str]:
        """The normalised pieces of a kind: "heading", "bold" or "italic"."""
        if (kind, reading) not in self._pieces:
            self._pieces[kind, reading] = [normalize(piece) for piece in markdown.PIECES[kind](self.raw, reading)]
        return self._pieces[kind, reading]

    def formulas(self, dollars: bool) -> list[str]:
        """The different formulas of the transcript; with `dollars` also those between dollars."""
        if dollars not in self._formulas:
            from ocr_rl.text.formulas import extract  # loads an engine that most pages do not need

            self._formulas[dollars] = list(dict.fromkeys(extract(self.raw, dollars=dollars)))
        return self._formulas[dollars]


def prepare(text: str) -> Prepared:
    """Prepare a transcript without its front matter, so that the work that checks share is done once."""
    return Prepared(text)


def _with_text(table: Table) -> TextTable:
    cells = list(table.cells.values())
    texts = normalize_all([cell.text for cell in cells])
    by_text: dict[str, list[Cell]] = {}
    for text, cell in zip(texts, cells, strict=True):
        by_text.setdefault(text, []).append(cell)
    by_place = dict(zip(table.cells, texts, strict=True))
    return TextTable(table=table, cells=cells, texts=texts, by_text=by_text, by_place=by_place)
