"""A transcript with the forms of it that page tests read: normalised text, tables, formulas, headings.

Every form is computed on first use and then kept. A transcript of more than `LONGEST` characters is not prepared at
all. Knows nothing about tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ocr_rl.contract import Reading
from ocr_rl.text import markdown
from ocr_rl.text.distance import Near, closest
from ocr_rl.text.normalize import normalize, normalize_all, tail_repeats, without_surrogates
from ocr_rl.text.tables import Cell, Place, Table, html_tables, markdown_tables
from ocr_rl.text.visible import Seen, searchable, see
from ocr_rl.text.walk import Mark

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
        self._formulas: dict[tuple[bool, Reading], list[str]] = {}
        self._searched: dict[tuple[Reading, bool], str] = {}
        self._text_tables: dict[tuple[str, Reading], list[TextTable]] = {}
        self._closest: dict[tuple[str, Reading], Near] = {}

    @cached_property
    def text(self) -> str:
        return normalize(self.raw)

    @cached_property
    def seen(self) -> Seen:
        """What a reader sees of it: the strict reading judges nothing else."""
        return see(self.raw)

    @cached_property
    def seen_text(self) -> str:
        return searchable(self.seen.text)

    def searched(self, reading: Reading, *, lower: bool = False) -> str:
        """The text that a test searches in a reading."""
        if (reading, lower) not in self._searched:
            text = self.seen_text if reading == "strict" else self.text
            self._searched[reading, lower] = text.lower() if lower else text
        return self._searched[reading, lower]

    def tables(self, reading: Reading, *, markdown: bool) -> list[TextTable]:
        """The tables, those in Markdown first; without `markdown` only those in HTML."""
        return [*(self._tables("markdown", reading) if markdown else ()), *self.html_tables(reading)]

    def html_tables(self, reading: Reading) -> list[TextTable]:
        return self._tables("html", reading)

    def _tables(self, written: str, reading: Reading) -> list[TextTable]:
        if (written, reading) not in self._text_tables:
            if reading == "strict":
                blocks = (block for block in self.seen.blocks if block.markdown == (written == "markdown"))
                tables = [block.table for block in blocks if block.table is not None]
            else:
                tables = markdown_tables(self.raw) if written == "markdown" else html_tables(self.raw)
            self._text_tables[written, reading] = [_with_text(table, reading) for table in tables]
        return self._text_tables[written, reading]

    def closest(self, needle: str, reading: Reading) -> Near:
        """The window of the searched text that is most like the needle; neighbours in an order share their texts."""
        if (needle, reading) not in self._closest:
            self._closest[needle, reading] = closest(needle, self.searched(reading))
        return self._closest[needle, reading]

    @cached_property
    def tail_repeats(self) -> list[int]:
        return tail_repeats(self.raw)

    def pieces(self, kind: Mark, reading: Reading) -> list[str]:
        """The normalised pieces of a kind: "heading", "bold" or "italic"."""
        if (kind, reading) not in self._pieces:
            if reading == "strict":
                pieces = [searchable(piece) for piece in self.seen.marked[kind]]
            else:
                pieces = [normalize(piece) for piece in markdown.PIECES[kind](self.raw)]
            self._pieces[kind, reading] = pieces
        return self._pieces[kind, reading]

    def formulas(self, reading: Reading, *, dollars: bool) -> list[str]:
        """The different formulas of the transcript; with `dollars` also those between dollars."""
        if (dollars, reading) not in self._formulas:
            if reading == "strict":
                formulas = [formula.tex for formula in self.seen.formulas if dollars or "$" not in formula.mark]
            else:
                from ocr_rl.text.formulas import extract  # loads an engine that most pages do not need

                formulas = extract(self.raw, dollars=dollars)
            self._formulas[dollars, reading] = list(dict.fromkeys(formulas))
        return self._formulas[dollars, reading]


def prepare(text: str) -> Prepared:
    """Prepare a transcript without its front matter, so that the work that checks share is done once."""
    return Prepared(text)


def _with_text(table: Table, reading: Reading) -> TextTable:
    cells = list(table.cells.values())
    raw = [cell.text for cell in cells]
    texts = [searchable(text) for text in raw] if reading == "strict" else normalize_all(raw)
    by_text: dict[str, list[Cell]] = {}
    for text, cell in zip(texts, cells, strict=True):
        by_text.setdefault(text, []).append(cell)
    by_place = dict(zip(table.cells, texts, strict=True))
    return TextTable(table=table, cells=cells, texts=texts, by_text=by_text, by_place=by_place)
