"""Reward: how alike the tables of a transcript and of the reference are, cell by cell.

This is GriTS of cell content, factored as in its paper: Smock, Pesala and Abraham, arXiv 2203.12555. Shape suffixes:
I, J rows of the two tables, K, L their columns.
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

MOST_PAIRS = 16_000_000  # pairs of places; two tables with more are not compared and share nothing
MORE_TABLES = 32  # so many tables more than the reference has are compared; the rest only adds to the places


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """GriTS (content) over all tables of the page, in [0, 1]; no score for a page whose reference has no table.

    The value is 2 x similarity of paired cells / places of all tables of both texts. The most similar tables are paired
    first, then their rows in order and their columns in order. The similarity of two normalised cell texts is
    1 - (insertions + deletions) / (both lengths). A spanning cell lies on each of its places, and a hole is an empty
    cell. Markdown and HTML tables count alike; a row of headings is a row. The paper compares single tables.
    """

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        if page.reference is None:
            return Score(value=None, why="the page has no reference")
        wanted, own = _tables(page.reference), _tables(transcript.body)
        if not wanted:
            return Score(value=None, why="the reference has no table")
        shared = _shared(wanted, own[: len(wanted) + MORE_TABLES])
        of_wanted, of_own = sum(map(_size, wanted)), sum(map(_size, own))
        parts = {"precision": shared / max(1, of_own), "recall": shared / of_wanted}
        why = f"{len(own)} tables with {of_own} places against {len(wanted)} with {of_wanted}"
        return Score(value=2 * shared / (of_wanted + of_own), parts=parts, why=why)


def _tables(text: str) -> list[TextTable]:
    prepared = prepare(text)
    return [table for table in prepared.tables("strict", markdown=True) if _size(table)]


def _size(table: TextTable) -> int:
    return table.table.num_rows * table.table.num_cols


def _shared(wanted: Sequence[TextTable], own: Sequence[TextTable]) -> float:
    """The sum of the similarities of all paired cells."""
    pairs = [(_alike(a, b), i, j) for i, a in enumerate(wanted) for j, b in enumerate(own)]
    pairs.sort(key=lambda pair: (-pair[0] / (_size(wanted[pair[1]]) + _size(own[pair[2]])), pair[1:]))
    total, left, free = 0.0, set(range(len(wanted))), set(range(len(own)))
    for shared, i, j in pairs:
        if i in left and j in free:
            total += shared
            left.remove(i)
            free.remove(j)
    return total


def _alike(a: TextTable, b: TextTable) -> float:
    """The sum of the similarities of the paired cells of two tables."""
    if _size(a) * _size(b) > MOST_PAIRS:
        return 0.0
    (texts_a, at_IK), (texts_b, at_JL) = _grid(a), _grid(b)
    alike = cdist(texts_a, texts_b, scorer=Indel.normalized_similarity, dtype=np.float32)
    alike_IJKL = alike[at_IK[:, None, :, None], at_JL[None, :, None, :]]
    rows = _pairs(_best(alike_IJKL))
    columns = _pairs(_best(alike_IJKL.transpose(2, 3, 0, 1)))
    return float(alike_IJKL[rows][:, *columns].sum(dtype=np.float64))


def _grid(table: TextTable) -> tuple[list[str], np.ndarray]:
    """The different texts of a table, and for each place the index of its text."""
    numbers = {"": 0}
    at = np.zeros((table.table.num_rows, table.table.num_cols), dtype=np.int32)
    for place, cell in table.table.grid.items():
        at[place] = numbers.setdefault(table.by_place[cell.place], len(numbers))
    return list(numbers), at


def _best(alike: np.ndarray) -> np.ndarray:
    """[..., M, N] -> [...]: the largest sum over pairs of M and N items that do not cross."""
    start = np.zeros((*alike.shape[:-2], alike.shape[-1] + 1), dtype=alike.dtype)
    return reduce(_one_more, np.moveaxis(alike, -2, 0), start)[..., -1]


def _one_more(best: np.ndarray, alike: np.ndarray) -> np.ndarray:
    """The largest sums with the first 0 .. N items once the other side has one item more."""
    grown = np.maximum(best[..., 1:], best[..., :-1] + alike)
    return np.concatenate([best[..., :1], np.maximum.accumulate(grown, axis=-1)], axis=-1)


def _pairs(alike: np.ndarray) -> tuple[list[int], list[int]]:
    """The pairs of M and N items whose sum is `_best` of a matrix."""
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
