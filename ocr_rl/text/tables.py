"""Tables of a transcript, Markdown and HTML, as grids with neighbours and headings.

Tables are read as the public olmOCR-Bench reads them. Row 0 and column 0 of a Markdown table are headings; HTML is
nested as html.parser nests it (`html_rows`). Time and memory are bounded for any text. Knows nothing about tests.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from ocr_rl.text.html_rows import HtmlRow, html_rows

Direction = Literal["up", "down", "left", "right"]
Place = tuple[int, int]  # row, column; from 0

WIDEST_SPAN = 1_000  # the HTML standard's own limit for colspan
MOST_PLACES = 200_000  # of all grids of a transcript together; a span that would exceed it counts as 1


@dataclass(frozen=True, slots=True)
class Cell:
    row: int  # of its top left corner, which identifies the cell
    col: int
    text: str
    heading: bool
    rowspan: int = 1
    colspan: int = 1

    @property
    def place(self) -> Place:
        return self.row, self.col


@dataclass(frozen=True)
class Table:
    """Cells by the place of their top left corner, and the cell that lies on each place of the grid."""

    cells: dict[Place, Cell]
    grid: dict[Place, Cell] = field(repr=False)
    num_rows: int
    fault: str = ""  # how spans contradict each other; the public benchmark's parser raises on such a table

    @cached_property
    def num_cols(self) -> int:
        return 1 + max((col for _, col in self.grid), default=-1)

    @property
    def is_rectangular(self) -> bool:
        """Whether a cell lies on every place of the table, as wide as its widest row."""
        return len(self.grid) == self.num_rows * self.num_cols

    def neighbours(self, cell: Cell, direction: Direction) -> list[Cell]:
        """The nearest other cell in each row (left, right) or column (up, down) of the cell's span, over holes too."""
        if direction in ("up", "down"):
            lines = range(cell.col, min(cell.col + cell.colspan, self.num_cols))
            edge = cell.row if direction == "up" else cell.row + cell.rowspan
        else:
            lines = range(cell.row, min(cell.row + cell.rowspan, self.num_rows))
            edge = cell.col if direction == "left" else cell.col + cell.colspan
        if len(lines) == 1:
            other = self._first(cell, direction, lines[0], edge)
            return [other] if other else []
        others: dict[Place, Cell] = {}
        for line in lines:
            if other := self._first(cell, direction, line, edge):
                others[other.place] = other
        return list(others.values())

    def _first(self, cell: Cell, direction: Direction, line: int, edge: int) -> Cell | None:
        """The first other cell from `edge` outward on a line, which is a row for left and right, else a column.

        For up and left the edge itself still lies inside the cell.
        """
        across = direction in ("left", "right")
        taken = (self._taken_in_row if across else self._taken_in_col).get(line, [])
        at, step = bisect_left(taken, edge), 1
        if direction in ("up", "left"):
            at, step = at - 1, -1
        while 0 <= at < len(taken):
            other = self.grid[(line, taken[at]) if across else (taken[at], line)]
            if other is not cell:
                return other
            at += step
        return None

    @cached_property
    def _taken_in_row(self) -> dict[int, list[int]]:
        return _by_line((row, col) for row, col in self.grid)

    @cached_property
    def _taken_in_col(self) -> dict[int, list[int]]:
        return _by_line((col, row) for row, col in self.grid)

    def headings(self, cell: Cell, direction: Literal["up", "left"]) -> list[Cell]:
        """All heading cells on the way up (left) through neighbours; if there is none, the cells where the way ends."""
        met: dict[Place, Cell] = {}
        ends: list[Cell] = []
        to_visit = [cell]
        while to_visit:
            here = to_visit.pop()
            onward = self.neighbours(here, direction)
            if not onward and here is not cell:
                ends.append(here)
            for other in onward:
                if other.place not in met:
                    met[other.place] = other
                    to_visit.append(other)
        return [other for other in met.values() if other.heading] or ends

    def some_heading(
        self, cell: Cell, direction: Literal["up", "left"], good: Callable[[Cell], bool], ways: dict[Place, Way]
    ) -> bool:
        """Whether any of `headings` is good. `ways` keeps the answers of other cells: a dict for each question."""
        to_visit = [(cell, self.neighbours(cell, direction))]
        while to_visit:
            here, onward = to_visit[-1]
            unknown = next((other for other in onward if other.place not in ways), None)
            if unknown is not None:
                to_visit.append((unknown, self.neighbours(unknown, direction)))
                continue
            to_visit.pop()
            steps = [(other, good(other), ways[other.place]) for other in onward]
            ways[here.place] = Way(
                is_end=not onward,
                any_heading=any(other.heading or way.any_heading for other, _, way in steps),
                good_heading=any((other.heading and is_good) or way.good_heading for other, is_good, way in steps),
                good_end=any((way.is_end and is_good) or way.good_end for _, is_good, way in steps),
            )
        way = ways[cell.place]
        return way.good_heading if way.any_heading else way.good_end


def _by_line(places: Iterable[tuple[int, int]]) -> dict[int, list[int]]:
    """From (line, place) pairs to the places of each line in rising order."""
    lines: dict[int, list[int]] = defaultdict(list)
    for line, place in sorted(places):
        lines[line].append(place)
    return lines


@dataclass(frozen=True, slots=True)
class Way:
    """What stands on the way from a cell up (left) to the end of the table."""

    is_end: bool
    any_heading: bool
    good_heading: bool
    good_end: bool


# --- Markdown ---------------------------------------------------------------------------------------------------

_RULE = re.compile(r"[\s|:\-]+")


def markdown_tables(text: str) -> list[Table]:
    """The Markdown tables: runs of two or more lines that contain a |. A line of dashes is a rule, not a row."""
    tables = []
    block: list[str] = []
    for line in [*text.split("\n"), ""]:
        if "|" in line:
            block.append(line)
        else:
            if len(block) >= 2 and (table := _markdown_table(block)):
                tables.append(table)
            block = []
    return tables


def _markdown_table(lines: Sequence[str]) -> Table | None:
    rows = []
    for line in lines:
        if _RULE.fullmatch(line):
            continue
        row = [cell.strip() for cell in line.split("|")]
        if row and not row[0]:
            row = row[1:]
        if row and not row[-1]:
            row = row[:-1]
        rows.append(row)
    if not rows:
        return None
    cells = {
        (r, c): Cell(r, c, text, heading=r == 0 or c == 0) for r, row in enumerate(rows) for c, text in enumerate(row)
    }
    return Table(cells, cells, len(rows))


# --- HTML -------------------------------------------------------------------------------------------------------


def html_tables(text: str) -> list[Table]:
    """All <table> elements in the order of the text, nested ones too."""
    budget = MOST_PLACES
    tables = []
    for rows in html_rows(text):
        if not rows:
            continue
        table = table_of(rows, budget)
        budget -= len(table.grid)
        tables.append(table)
    return tables


def _span(value: str | None) -> int:
    """The whole number that a span attribute holds, if it is positive; else 1."""
    if value is None:
        return 1
    try:
        return min(max(1, int(value)), WIDEST_SPAN)
    except ValueError:
        return 1


def table_of(rows: Sequence[HtmlRow], budget: int = MOST_PLACES) -> Table:
    """The cells of the rows laid out from left to right, around row spans that are still open.

    `budget`: the most places of the grid; a span that would exceed it counts as 1.
    """
    cells: dict[Place, Cell] = {}
    grid: dict[Place, Cell] = {}
    num_rows = len(rows)
    open_spans: dict[int, tuple[Cell, int]] = {}  # column -> cell, rows still to cover

    def cover(row: int, col: int) -> None:
        cell, left = open_spans[col]
        grid[row, col] = cell
        if left > 1:
            open_spans[col] = cell, left - 1
        else:
            del open_spans[col]

    for r, row in enumerate(rows):
        col = 0
        for html_cell in row.cells:
            while col in open_spans:
                cover(r, col)
                col += 1
            colspan, rowspan = _span(html_cell.colspan), _span(html_cell.rowspan)
            if html_cell.rowspan is not None and html_cell.rowspan.strip() == "0":
                rowspan = num_rows - r  # to the last row
            if len(grid) + colspan * rowspan > budget:
                colspan = rowspan = 1
            text = "".join(html_cell.text).strip()
            cell = Cell(r, col, text, html_cell.name == "th" or row.in_head, rowspan, colspan)
            cells[cell.place] = cell
            for c in range(col, col + colspan):
                grid[r, c] = cell
                open_spans.pop(c, None)  # a wide cell ends the row span that it runs into
                if rowspan > 1:
                    open_spans[c] = cell, rowspan - 1
            col += colspan
        for c in sorted(open_spans):
            if c >= col:
                cover(r, c)
    r = num_rows
    while open_spans:
        for c in sorted(open_spans):
            cover(r, c)
        r += 1
    low = next((cell for cell in cells.values() if cell.row + cell.rowspan > r), None)
    fault = f"the row span of cell {low.text!r} is cut by a column span and ends below the table" if low else ""
    return Table(cells, grid, r, fault)
