"""Which cells of a table are asked together, so that a few table tests ask for all of them.

Knows nothing about where tables come from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from random import Random

Place = tuple[int, int]  # row and column
_STEPS = {"right": (0, 1), "down": (1, 0), "left": (0, -1), "up": (-1, 0)}


def cell_groups(
    at: Mapping[Place, Place], rng: Random, *, wanted: Collection[Place], anchors: Collection[Place], aim: int = 40
) -> Iterator[tuple[Place, dict[str, Place]]]:
    """Cells with some of their neighbours, until every wanted cell is in such a group, if that can be.

    `at` says for every place of the table where the cell begins that stands there. A cell is named by the place where
    it begins. `wanted` are the cells to be asked for, each with a text; `anchors` those that only one cell of the page
    can be taken for. A cell is asked with one neighbour, or with up to four if the table would need more than `aim`
    tests.
    """
    left, texts = set(wanted), set(wanted) | set(anchors)
    size = min(4, max(1, -(-len(left) // aim) - 1))
    for cell in sorted(wanted):
        if cell not in left:
            continue
        around = {c: _around(at, c, texts) for c in (cell, *_around(at, cell, texts).values()) if c in anchors}
        if not around:
            continue
        fresh = {c: [way for way, other in ways.items() if other in left - {cell}] for c, ways in around.items()}
        anchor = max(around, key=lambda c: (c in left) + min(size - (c != cell), len(fresh[c])))
        ways = around[anchor]
        picks = [way for way, other in ways.items() if other == cell][:1]
        picks += rng.sample(fresh[anchor], max(0, min(size - len(picks), len(fresh[anchor]))))
        if not picks and ways:
            picks = [rng.choice([*ways])]
        left -= {cell, anchor, *(ways[way] for way in picks)}
        yield anchor, {way: ways[way] for way in picks}


def _around(at: Mapping[Place, Place], cell: Place, among: Collection[Place]) -> dict[str, Place]:
    """The neighbours of a cell, by the way that leads to them."""
    ways: dict[str, Place] = {}
    for way, (down, right) in _STEPS.items():
        row, column = cell
        while at.get((row, column)) == cell:
            row, column = row + down, column + right
        if (other := at.get((row, column))) in among and other is not None:
            ways[way] = other
    return ways
