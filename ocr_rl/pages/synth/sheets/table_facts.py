"""The tested facts of a page's tables: relations of cells, and what to change to make a relation false.

Every cell with a text is asked for, as far as some cell of the page can be told from all others. Knows nothing about
how checks judge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

from ocr_rl.pages.cell_groups import Place, cell_groups
from ocr_rl.pages.synth.sheets.tree import Cell, Grid, Text, placed
from ocr_rl.text.normalize import normalize

_MOST = 60  # tests of the tables of a page
_AIM = 40  # if they need more, more cells are asked together
_HEADINGS = 2  # tests of a table that ask for headings

Change = dict[int, Any]  # new parts by the `id()` of old ones: see `tree.with_parts`


def table_facts(grids: Sequence[Grid], rng: Random) -> Iterator[tuple[dict[str, Any], Change]]:
    """Tests of the cells of a page's tables, each with what makes it false: two cells have changed places."""
    seen = Counter(normalize(cell.text.text) for grid in grids for row in grid.rows for cell in row)
    facts = []
    for grid in grids:
        table = _Table(grid, seen, rng)
        share = sum(map(len, grid.rows)) / max(1, sum(seen.values()))
        facts += [*table.of_headings(), *table.of_neighbours(max(1, round(_AIM * share)))]
    yield from facts if len(facts) <= _MOST else rng.sample(facts, _MOST)


class _Table:
    """A table with the place at which each cell begins."""

    def __init__(self, grid: Grid, seen: Counter[str], rng: Random) -> None:
        self.rng, self.seen = rng, seen
        at = placed(grid)
        begins: dict[int, Place] = {}
        for place in sorted(at):
            begins.setdefault(id(at[place]), place)
        self.at: Mapping[Place, Place] = {place: begins[id(cell)] for place, cell in at.items()}
        self.cells = {place: at[place] for place in begins.values()}
        self.heads = sum(all(cell.head for cell in cells) for cells in grid.rows)

    def of_neighbours(self, aim: int) -> Iterator[tuple[dict[str, Any], Change]]:
        texts = [place for place, cell in self.cells.items() if normalize(cell.text.text).strip()]
        single = [
            place for place in texts if self._once(place) and self.cells[place].rows == self.cells[place].cols == 1
        ]
        for place, around in cell_groups(self.at, self.rng, wanted=texts, anchors=single, aim=aim):
            test = {"type": "table", "cell": self.cells[place].text.text}
            test |= {way: self.cells[other].text.text for way, other in around.items()}
            if around:
                other = self.rng.choice([*around.values()])
                yield test, self._changed(other, {place, *around.values()})

    def of_headings(self) -> Iterator[tuple[dict[str, Any], Change]]:
        """What stands over a column, or at the head of a row."""
        places = [place for place in self.cells if place[0] >= self.heads and place[1] > 0 and self._once(place)]
        count = 0
        for r, c in self.rng.sample(places, len(places)) if self.heads else ():
            relation, head = self.rng.choice((("top_heading", (self.heads - 1, c)), ("left_heading", (r, 0))))
            head = self.at.get(head)
            if count == _HEADINGS:
                return
            if (
                head is None
                or head == (r, c)
                or not self._once(head)
                or self.cells[r, c].rows * self.cells[r, c].cols > 1
            ):
                continue
            line = {
                place for place in self.cells if place[relation == "top_heading"] == (r, c)[relation == "top_heading"]
            }
            swap = self._swap(head, line)
            if swap is not None:
                count += 1
                yield {"type": "table", "cell": self.cells[r, c].text.text, relation: self.cells[head].text.text}, swap

    def _once(self, place: Place) -> bool:
        return self.seen[normalize(self.cells[place].text.text)] == 1

    def _changed(self, place: Place, kept: set[Place]) -> Change:
        """The cell has changed places with another one or, where there is none, has another text."""
        text = self.cells[place].text
        return self._swap(place, kept) or {id(text): Text(text=f"no {text.text} here", style=text.style)}

    def _swap(self, place: Place, kept: set[Place]) -> Change | None:
        cell = self.cells[place]
        others = [other for at, other in self.cells.items() if at not in kept and at != place and _alike(cell, other)]
        if not others:
            return None
        other = self.rng.choice(others)
        return {id(cell.text): other.text, id(other.text): cell.text}


def _alike(cell: Cell, other: Cell) -> bool:
    """Whether two cells can change places so that somebody sees it."""
    same = (cell.head, cell.rows, cell.cols) == (other.head, other.rows, other.cols)
    return same and normalize(cell.text.text) != normalize(other.text.text) and bool(other.text.text.strip())
