"""A transcript with the maps that lead from what tests search back to it, each made on first use."""

from __future__ import annotations

import re
from functools import cached_property

from ocr_rl.contract import Check, Reading, Verdict
from ocr_rl.text.normalize import canonical
from ocr_rl.text.prepared import Prepared, TextTable, prepare
from ocr_rl.text.source_map import LONGEST, MASK, SourceMap, Span, only, without_tags
from ocr_rl.text.tables import Cell, Place

_TABLE = re.compile(r"</?table\b", re.IGNORECASE)
_BAR = re.compile(r"[^|\n]*\|[^\n]*")
_DROPPED = re.compile(r"</?[bi]>|<br/?>")  # by `normalize`
_BETWEEN = "\ue001"  # cells; equal to nothing in a transcript


class Sources:
    """A transcript without front matter, prepared for one reading, with the ways back to its characters."""

    def __init__(self, body: str, reading: Reading) -> None:
        self.body = body
        self.reading: Reading = reading
        self.prepared: Prepared = prepare(body)

    def judge(self, check: Check) -> Verdict:
        return check.run(self.prepared, self.reading)

    @property
    def known(self) -> bool:
        """Whether places can be told at all."""
        return len(self.prepared.raw) == len(self.body) <= LONGEST

    @cached_property
    def searched(self) -> str:
        return self.prepared.searched(self.reading)

    def span(self, start: int, end: int) -> Span | None:
        """A stretch of the searched text in the transcript."""
        return self._searched_map.span(start, end)

    @cached_property
    def _searched_map(self) -> SourceMap:
        return SourceMap(self.searched, self._shown)

    @cached_property
    def notes_map(self) -> SourceMap:
        """From the text in which the strict reading looks for footnotes; its tags are the transcript's."""
        return SourceMap(canonical(self.prepared.seen.notes), self.body)

    @cached_property
    def _shown(self) -> str:
        """The transcript without tags; the compatible reading sees all but a few of them."""
        if self.reading == "strict":
            return without_tags(self.body)
        return _DROPPED.sub(lambda tag: MASK * len(tag[0]), self.body)

    def cell(self, table: TextTable, cell: Cell) -> Span | None:
        """A cell of one of the transcript's tables."""
        for markdown in (True, False):
            places, way = self._cells[markdown]
            if place := places.get((id(table), cell.place)):
                return way.span(*place)
        return None

    @cached_property
    def _cells(self) -> dict[bool, tuple[dict[tuple[int, Place], Span], SourceMap]]:
        """Of tables in Markdown and in HTML: the cells' places in their joined texts, and the map from there."""
        html = self.prepared.html_tables(self.reading)
        every = self.prepared.tables(self.reading, markdown=True)
        written = {True: every[: len(every) - len(html)], False: html}
        stretches = {True: _with_bars(self.body), False: _in_tags(self.body)}
        return {markdown: self._joined(tables, stretches[markdown]) for markdown, tables in written.items()}

    def _joined(
        self, tables: list[TextTable], stretches: list[Span]
    ) -> tuple[dict[tuple[int, Place], Span], SourceMap]:
        places: dict[tuple[int, Place], Span] = {}
        texts, at = list[str](), 0
        for table in tables:
            for cell in table.cells:
                places[id(table), cell.place] = (at, at + len(cell.text))
                texts.append(cell.text)
                at += len(cell.text) + 1
        return places, SourceMap(_BETWEEN.join(texts), only(without_tags(self.body), stretches))


def _with_bars(text: str) -> list[Span]:
    """The lines that hold a |."""
    return [match.span() for match in _BAR.finditer(text)]


def _in_tags(text: str) -> list[Span]:
    """What stands in <table> elements, the outermost of each; one that is left open goes to the end."""
    spans, depth, start = list[Span](), 0, 0
    for match in _TABLE.finditer(text):
        if match[0][1] != "/":
            start = match.start() if depth == 0 else start
            depth += 1
        elif depth:
            depth -= 1
            spans += [(start, match.start())] if depth == 0 else []
    return [*spans, (start, len(text))] if depth else spans
