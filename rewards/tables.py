"""Reward: how alike the tables of a transcript and of the reference are, cell by cell.

GriTS of cell content, factored as in its paper: Smock, Pesala and Abraham, arXiv 2203.12555. Shape suffixes: I, J rows
of the two tables, K, L their columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate

import numpy as np
from rapidfuzz.distance import Indel
from rapidfuzz.process import cdist

from ocr_rl.contract import Page, Score, Transcript, per_transcript
from ocr_rl.text.prepared import TextTable, prepare

MOST_PAIRS = 16_000_000  # of places of two tables that are compared; beyond it they share nothing
MORE_TABLES = 32  # of a transcript than the reference has that are compared; those after them only count


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """GriTS (content) over all tables of the page, in [0, 1]; no score for a page whose reference has no table.

    2 x the similarity of paired cells / the places of all tables of both sides. Tables are paired most alike first,
    then their rows in order, then their columns in order; the similarity of two normalised cell texts is 1 -
    (insertions + deletions) / (both lengths). A spanning cell lies on each of its places, a hole is an empty cell.
    Markdown and HTML tables count alike; a row of headings is a row. Differs from the paper in taking many tables.
    """

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        if page.reference is None:
            return Score(value=None, why="the page has no reference")
        wanted, said = _tables(page.reference), _tables(transcript.body)
        if not wanted:
            return Score(value=None, why="the reference has no table")
        shared = _shared(wanted, said[: len(wanted) + MORE_TABLES])
        of_wanted, of_said = sum(map(_size, wanted)), sum(map(_size, said))
        parts = {"precision": shared / max(1, of_said), "recall": shared / of_wanted}
        why = f"{len(said)} tables with {of_said} places against {len(wanted)} with {of_wanted}"
        return Score(value=2 * shared / (of_wanted + of_said), parts=parts, why=why)


def _tables(text: str) -> list[TextTable]:
    prepared = prepare(text)
    return [table for table in (*prepared.markdown_tables, *prepared.html_tables) if _size(table)]


def _size(table: TextTable) -> int:
    return table.table.num_rows * table.table.num_cols


def _shared(wanted: Sequence[TextTable], said: Sequence[TextTable]) -> float:
    """The similarity of all paired cells, summed."""
    found = [(_alike(a, b), i, j) for i, a in enumerate(wanted) for j, b in enumerate(said)]
    found.sort(key=lambda pair: (-pair[0] / (_size(wanted[pair[1]]) + _size(said[pair[2]])), pair[1:]))
    total, left, free = 0.0, set(range(len(wanted))), set(range(len(said)))
    for shared, i, j in found:
        if i in left and j in free:
            total += shared
            left.remove(i)
            free.remove(j)
    return total


def _alike(a: TextTable, b: TextTable) -> float:
    """The similarity of the paired cells of two tables, summed."""
    if _size(a) * _size(b) > MOST_PAIRS:
        return 0.0
    (texts_a, at_IK), (texts_b, at_JL) = _grid(a), _grid(b)
    alike = cdist(texts_a, texts_b, scorer=Indel.normalized_similarity, dtype=np.float32)
    alike_IJKL = alike[at_IK[:, None, :, None], at_JL[None, :, None, :]]
    rows = _pairs(_best(alike_IJKL))
    columns = _pairs(_best(alike_IJKL.transpose(2, 3, 0, 1)))
    return float(alike_IJKL[rows][:, *columns].sum(dtype=np.float64))


def _grid(table: TextTable) -> tuple[list[str], np.ndarray]:
    """The different texts, and which of them lies on each place."""
    numbers = {"": 0}
    at = np.zeros((table.table.num_rows, table.table.num_cols), dtype=np.int32)
    for place, cell in table.table.grid.items():
        at[place] = numbers.setdefault(table.by_place[cell.place], len(numbers))
    return list(numbers), at


def _best(alike: np.ndarray) -> np.ndarray:
    """[..., M, N] -> [...]: the most that pairs of M and N items, none of which cross, can share."""
    start = np.zeros((*alike.shape[:-2], alike.shape[-1] + 1), dtype=alike.dtype)
    return reduce(_one_more, np.moveaxis(alike, -2, 0), start)[..., -1]


def _one_more(best: np.ndarray, alike: np.ndarray) -> np.ndarray:
    """What can be shared with the first 0 .. N items, when there is one item more on the other side."""
    grown = np.maximum(best[..., 1:], best[..., :-1] + alike)
    return np.concatenate([best[..., :1], np.maximum.accumulate(grown, axis=-1)], axis=-1)


def _pairs(alike: np.ndarray) -> tuple[list[int], list[int]]:
    """The pairs of M and N items behind `_best` of a matrix."""
    table = list(accumulate(alike, _one_more, initial=np.zeros(alike.shape[1] + 1, dtype=alike.dtype)))
    pairs = []
    m, n = alike.shape
    while m and n:
        if table[m][n] == table[m - 1][n]:
            m -= 1
        elif table[m][n] == table[m][n - 1]:
            n -= 1
        else:
            m, n = m - 1, n - 1
            pairs.append((m, n))
    return [m for m, _ in pairs], [n for _, n in pairs]
