"""Tables of a transcript, Markdown and HTML, as grids with neighbours and headings.

Parses as the public olmOCR-Bench does (html.parser's idea of nesting, rows of nested tables also inside the outer
one, row 0 and column 0 of a Markdown table are headings), in time and memory that any text keeps bounded. Knows
nothing about tests.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html.entities import html5
from typing import Literal

Direction = Literal["up", "down", "left", "right"]
Place = tuple[int, int]  # row, column; from 0

DEEPEST = 12  # tables in tables in tables: deeper ones are part of their cell's text only
WIDEST_SPAN = 1_000  # the HTML standard's own limit for colspan
MOST_PLACES = 200_000  # of all grids of a transcript; beyond it spans count as 1


@dataclass(frozen=True, slots=True)
class Cell:
    row: int  # of its top left corner, which is also its name
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
    """Cells by the place of their top left corner, and which cell lies on each place of the grid."""

    cells: dict[Place, Cell]
    grid: dict[Place, Cell] = field(repr=False)
    num_rows: int
    fault: str = ""  # spans that contradict each other; the public benchmark's parser dies of such a table

    @cached_property
    def num_cols(self) -> int:
        return 1 + max((col for _, col in self.grid), default=-1)

    @property
    def is_rectangular(self) -> bool:
        """Whether a cell lies on every place up to the widest column in use."""
        return len(self.grid) == self.num_rows * self.num_cols

    def neighbours(self, cell: Cell, direction: Direction) -> list[Cell]:
        """The first other cell met in each row or column of the cell's span; holes are skipped."""
        found: dict[Place, Cell] = {}
        if direction in ("up", "down"):
            lines = range(cell.col, min(cell.col + cell.colspan, self.num_cols))
            edge = cell.row if direction == "up" else cell.row + cell.rowspan
        else:
            lines = range(cell.row, min(cell.row + cell.rowspan, self.num_rows))
            edge = cell.col if direction == "left" else cell.col + cell.colspan
        for line in lines:
            if other := self._first(cell, direction, line, edge):
                found[other.place] = other
        return list(found.values())

    def _first(self, cell: Cell, direction: Direction, line: int, edge: int) -> Cell | None:
        """From `edge` (a row for up and down) outward along the line; up and left the edge itself is inside."""
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
        """All heading cells met on the way up (left) through neighbours; without one, where the way ends."""
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
        self, cell: Cell, direction: Literal["up", "left"], good: Callable[[Cell], bool], known: dict[Place, Way]
    ) -> bool:
        """Whether any of `headings` is good. `known` keeps what is found for other cells: one dict per question."""
        to_visit = [(cell, self.neighbours(cell, direction))]
        while to_visit:
            here, onward = to_visit[-1]
            unknown = next((other for other in onward if other.place not in known), None)
            if unknown is not None:
                to_visit.append((unknown, self.neighbours(unknown, direction)))
                continue
            to_visit.pop()
            ways = [(other, good(other), known[other.place]) for other in onward]
            known[here.place] = Way(
                is_end=not onward,
                any_heading=any(other.heading or way.any_heading for other, _, way in ways),
                good_heading=any((other.heading and is_good) or way.good_heading for other, is_good, way in ways),
                good_end=any((way.is_end and is_good) or way.good_end for _, is_good, way in ways),
            )
        way = known[cell.place]
        return way.good_heading if way.any_heading else way.good_end


def _by_line(places: Iterable[tuple[int, int]]) -> dict[int, list[int]]:
    """(line, place) pairs -> the places of each line in rising order."""
    lines: dict[int, list[int]] = defaultdict(list)
    for line, place in sorted(places):
        lines[line].append(place)
    return lines


@dataclass(frozen=True, slots=True)
class Way:
    """What is met on the way from a cell up (left) to the end."""

    is_end: bool
    any_heading: bool
    good_heading: bool
    good_end: bool


# --- Markdown ---------------------------------------------------------------------------------------------------

_RULE = re.compile(r"[\s|:\-]+")


def markdown_tables(text: str) -> list[Table]:
    """Runs of two or more lines that contain a |. A line of dashes is a rule, not a row."""
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


@dataclass(slots=True)
class _HtmlCell:
    name: str
    rowspan: str | None
    colspan: str | None
    text: list[str]


@dataclass(slots=True)
class _HtmlRow:
    in_head: bool
    cells: list[_HtmlCell]


_VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "keygen", "link", "menuitem", "meta", "param")
    + ("source", "track", "wbr", "basefont", "bgsound", "command", "frame", "image", "isindex", "nextid", "spacer")
)
_TAG = re.compile(
    r"""<(?:(?P<end>/\s*)?(?P<name>[a-zA-Z][^\t\n\r\f />\x00]*)"""
    r"""(?P<rest>(?:=\s*"[^"]*"|=\s*'[^']*'|(?!=\s*["'])[^>])*)>|(?P<odd>!--|[!?/]))"""
)
_ATTRIBUTE = re.compile(r"""([^\s/>=][^\s/=>]*)(?:\s*=+\s*(?:"([^"]*)"|'([^']*)'|([^>\s]*)))?""")
_ENTITY = re.compile(r"&(?:(#(?:[0-9]+|[xX][0-9a-fA-F]+);?)|([a-zA-Z][-.a-zA-Z0-9]*);?)")
_RAW = frozenset(["script", "style"])  # their content is no text of the page


def html_tables(text: str) -> list[Table]:
    """All <table> elements in order of appearance, nested ones too."""
    budget = MOST_PLACES
    tables = []
    for rows in _html_rows(text):
        if not rows:
            continue
        table = _grid(rows, budget)
        budget -= len(table.grid)
        tables.append(table)
    return tables


def _html_rows(text: str) -> list[list[_HtmlRow]]:
    """The rows of every table. Only tags that tables are made of are kept; of the others only where they close."""
    if "<table" not in text.lower():
        return []
    tables: list[list[_HtmlRow]] = []
    stack: list[tuple[str, list[_HtmlRow] | _HtmlRow | _HtmlCell | None]] = []
    open_names: Counter[str] = Counter()
    open_tables: list[list[_HtmlRow]] = []
    open_cells: list[_HtmlCell] = []

    def write(piece: str) -> None:
        if open_cells and piece:
            if not piece.strip(" \t\n\f\r"):
                piece = "\n" if "\n" in piece else " "
            elif "&" in piece:
                piece = _ENTITY.sub(_character, piece)
            for cell in open_cells:
                cell.text.append(piece)

    def close(name: str) -> None:
        while open_names[name]:
            top, node = stack.pop()
            open_names[top] -= 1
            if open_tables and node is open_tables[-1]:
                open_tables.pop()
            elif open_cells and node is open_cells[-1]:
                open_cells.pop()
            if top == name:
                return

    at = 0
    for tag in _tags(text):
        write(text[at : tag.start])
        at = tag.end
        if tag.kind == "other":
            continue
        name = tag.name
        if tag.kind == "end":
            close(name)
            continue
        node: list[_HtmlRow] | _HtmlRow | _HtmlCell | None = None
        if name == "br":
            for cell in open_cells:
                cell.text.append("\n")
        elif name == "table":
            if len(open_tables) < DEEPEST:
                node = []
                tables.append(node)
                open_tables.append(node)
        elif name == "tr":
            node = _HtmlRow(in_head=open_names["thead"] > 0, cells=[])
            for table in open_tables:
                table.append(node)
        elif name in ("td", "th") and stack and isinstance(row := stack[-1][1], _HtmlRow):
            node = _HtmlCell(name, *_spans(tag.rest), [])
            row.cells.append(node)
            if len(open_cells) < DEEPEST:
                open_cells.append(node)
        if name not in _VOID:
            stack.append((name, node))
            open_names[name] += 1
            if tag.rest.endswith("/"):
                close(name)
    write(text[at:])
    return tables


def _spans(attributes: str) -> tuple[str | None, str | None]:
    """The values of rowspan and colspan; of several the last counts."""
    if "span" not in attributes.lower():
        return None, None
    values = {name.lower(): a or b or c for name, a, b, c in _ATTRIBUTE.findall(attributes)}
    return values.get("rowspan"), values.get("colspan")


def _character(entity: re.Match[str]) -> str:
    number, name = entity.groups()
    # an unknown name stays, without its semicolon
    return html.unescape(entity[0]) if number else html5.get(f"{name};", f"&{name}")


@dataclass(frozen=True, slots=True)
class _Tag:
    kind: Literal["start", "end", "other"]
    name: str
    rest: str
    start: int
    end: int


def _tags(text: str) -> Iterator[_Tag]:
    """Tags, comments, declarations and the content of scripts, as html.parser sees them, in linear time."""
    last = text.rfind(">") + 1  # nothing behind it can be a tag
    no_more: set[str] = set()  # closers that do not occur any more; looked for once
    at = 0
    while at < last and (match := _TAG.search(text, at, last)):
        start, at = match.start(), match.end()
        if odd := match["odd"]:
            closer = "-->" if odd == "!--" else ">"
            end = -1 if closer in no_more else text.find(closer, at)
            if end < 0:
                no_more.add(closer)
                continue
            at = end + len(closer)
            yield _Tag("other", "", "", start, at)
            continue
        name = match["name"].lower()
        if match["end"]:
            yield _Tag("end", name, "", start, at)
            continue
        yield _Tag("start", name, match["rest"], start, at)
        if name in _RAW:
            closed = re.compile(rf"</{name}", re.IGNORECASE).search(text, at)
            end = closed.start() if closed else len(text)
            yield _Tag("other", "", "", at, end)
            at = end


def _span(value: str | None) -> int:
    """The whole number that a span attribute holds, if it is positive; else 1."""
    if value is None:
        return 1
    try:
        return min(max(1, int(value)), WIDEST_SPAN)
    except ValueError:
        return 1


def _grid(rows: Sequence[_HtmlRow], budget: int) -> Table:
    """Lay the cells out from left to right around the row spans that are still open."""
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
        for found in row.cells:
            while col in open_spans:
                cover(r, col)
                col += 1
            colspan, rowspan = _span(found.colspan), _span(found.rowspan)
            if found.rowspan is not None and found.rowspan.strip() == "0":
                rowspan = num_rows - r  # to the last row
            if len(grid) + colspan * rowspan > budget:
                colspan = rowspan = 1
            text = "".join(found.text).strip()
            cell = Cell(r, col, text, found.name == "th" or row.in_head, rowspan, colspan)
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
