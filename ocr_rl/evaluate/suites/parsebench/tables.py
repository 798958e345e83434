"""The tables of a transcript as ParseBench's rules see them: grids of texts, and what stands before each.

Defined by the benchmark's own code (run-llama/ParseBench at facdaf0, Apache-2.0), written anew. A span that is
no number counts as 1; the authors' code stops there, and every rule that looks at tables fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ocr_rl.text.html_rows import HtmlCell, Tag, feed, spans, unescape

MOST_PLACES = 200_000  # of a table's grid
LINES_BEFORE = 5  # a Markdown table, in which its heading is looked for
LETTERS_BEFORE = 300  # an HTML table
_OPEN_TABLE = re.compile(r"<table\b[^>]*>", re.IGNORECASE)
_TABLE = re.compile(r"<table\b[^>]*>.*?</table>", re.IGNORECASE | re.DOTALL)
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_LOWERED = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_SCRIPT = re.compile(r"<(su[bp])\b[^>]*>(.*?)</\1>", re.IGNORECASE | re.DOTALL)
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_CAPTION = re.compile(r"<caption[^>]*>(.*?)</caption>", re.IGNORECASE | re.DOTALL)
_ANY_TAG = re.compile(r"<[^>]+>")


class Grid(NamedTuple):
    """The texts on the places of a table; a spanning cell stands on each of its places."""

    cells: list[list[str]]
    headings: frozenset[tuple[int, int]]
    before: str  # the text right before it, and its caption as <caption>


def grids(text: str) -> Iterator[Grid]:
    """Markdown tables first."""
    yield from _markdown_grids(text)
    if "<table" in text.lower():
        text = _SCRIPT.sub(lambda tag: tag[2].translate(_RAISED if tag[1].lower() == "sup" else _LOWERED), text)
        text = _BREAK.sub(" ", text)
        reader = _Reader()
        feed(text, reader)
        ends = [*reader.starts[1:], len(text)]
        for rows, start, end in zip(reader.tables, reader.starts, ends, strict=True):
            yield _grid(rows, _before(text, start, end))


class _Reader:
    """Rows of the tables that stand in no other. A cell ends where the next one, its row or its table does."""

    def __init__(self) -> None:
        self.tables: list[list[list[HtmlCell]]] = []
        self.starts: list[int] = []
        self._depth = 0
        self._in_row = False
        self._cell: HtmlCell | None = None

    def write(self, piece: str) -> None:
        if self._cell is not None:
            self._cell.text.append(unescape(piece))

    def open(self, tag: Tag) -> None:
        if tag.name == "table":
            self._depth += 1
            self.write(" ")
        if tag.name == "table" and self._depth == 1:
            self.tables.append([])
            self.starts.append(tag.start)
            self._in_row = False
        elif self._depth == 1 and tag.name == "tr":
            self._in_row, self._cell = True, None
            self.tables[-1].append([])
        elif self._depth == 1 and tag.name in ("td", "th") and self._in_row:
            self._cell = HtmlCell(tag.name, *spans(tag.rest), [])
            self.tables[-1][-1].append(self._cell)

    def close(self, name: str) -> None:
        if name == "table":
            self._depth = max(0, self._depth - 1)
        if self._depth == 0 or (self._depth == 1 and name in ("tr", "td", "th")):
            self._cell = None
            self._in_row = self._depth == 1 and self._in_row and name != "tr"


def _markdown_grids(text: str) -> Iterator[Grid]:
    lines = text.strip().split("\n")
    start = 0
    for k, line in enumerate([*lines, ""]):
        if "|" in line:
            continue
        if k - start > 1 and (rows := [row for row in map(_markdown_row, lines[start:k]) if row]):
            widest = max(map(len, rows))
            cells = [row + [""] * (widest - len(row)) for row in rows]
            headings = [(r, c) for r in range(len(cells)) for c in range(widest) if r == 0 or c == 0]
            yield Grid(cells, frozenset(headings), "\n".join(lines[max(0, start - LINES_BEFORE) : start]).strip())
        start = k + 1


def _markdown_row(line: str) -> list[str]:
    """Its cells; none for a rule. Empty ends are pipes at the ends."""
    if not line.replace("|", "").strip(" \t-:"):
        return []
    cells = [cell.strip() for cell in line.split("|")]
    cells = cells[1:] if cells and not cells[0] else cells
    return cells[:-1] if cells and not cells[-1] else cells


def _before(text: str, start: int, end: int) -> str:
    """What stands between the table before and the one at `start`; its caption is looked for up to `end`."""
    around = _ANY_TAG.sub("", text[text.rfind("</table>", 0, start) + 1 : start]).removeprefix("/table>").strip()
    caption = _CAPTION.search(text, start, end)
    name = f"<caption>{_ANY_TAG.sub('', caption[1]).strip()}</caption> " if caption else ""
    return f"{name}{around[-LETTERS_BEFORE:]}".strip()


def _grid(rows: Sequence[Sequence[HtmlCell]], before: str) -> Grid:
    places: dict[tuple[int, int], str] = {}
    headings: set[tuple[int, int]] = set()
    for r, row in enumerate(rows):
        c = 0
        for cell in row:
            while (r, c) in places:
                c += 1
            wide, high = _span(cell.colspan), _span(cell.rowspan)
            if len(places) + wide * high > MOST_PLACES:
                wide = high = 1
            covered = [(r + down, c + on) for down in range(high) for on in range(wide)]
            places |= dict.fromkeys(covered, "".join(cell.text).strip())
            headings |= set(covered) if cell.name == "th" else set()
            c += wide
    height, width = (1 + max((place[k] for place in places), default=-1) for k in (0, 1))
    cells = [[places.get((r, c), "") for c in range(width)] for r in range(height)]
    return Grid(cells, frozenset(headings), before)


def _span(value: str | None) -> int:
    value = (value or "1").strip()
    return min(int(value), MOST_PLACES) if value.isdecimal() and len(value) < 10 else 1


def with_cells(text: str) -> str:
    """Behind the text every cell of its tables on a line of its own, and every row."""
    lines = []
    for grid in grids(text):
        for row in grid.cells:
            filled = [cell for cell in row if cell]
            lines += [*filled, " ".join(filled)] if len(filled) > 1 else filled
    return "\n".join([text, *lines])


def without_tables(text: str) -> str:
    """HTML tables and what is in them taken out; an unclosed one goes to the end."""
    removed = 1
    while removed:
        text, removed = _TABLE.subn(" ", text)
    left = _OPEN_TABLE.search(text)
    return f"{text[: left.start()]} " if left else text
