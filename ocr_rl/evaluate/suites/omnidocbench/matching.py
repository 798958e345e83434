"""Which blocks of a page stand for which of a transcript: OmniDocBench's `quick_match` at v1.5, written anew.

1. A block that may be there or not takes its like out of the transcript.
2. A block that nothing is like takes the run of the transcript's blocks that is likest to it.
3. All blocks and runs are assigned at the least total distance; farther than FARTHEST is none.
4. A block without a partner joins a longer one of the transcript in which it stands.
5. What is left on both sides is assigned to each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

ALIKE = 0.25  # distance over the longer length, below which two blocks are each other's
FARTHEST = 0.7
IN_A_RUN = 0.6  # distance over its length, of a block of a run from where it stands in the page's
WITHIN = 0.4  # and of a page's block from where it stands in the transcript's
# Of texts that are compared on a page; with more, none stands in another (their code stops after 30 s).
MOST_WINDOWS = 1_000_000

Costs = NDArray[np.float64]  # (page's blocks, transcript's blocks)
Groups = list[tuple[list[int], list[int]]]  # (page's blocks, transcript's blocks)


def match(page: Sequence[str], aside: Sequence[bool], shown: Sequence[str]) -> Groups:
    """Groups of the page's blocks that are not aside, each with its partners in the transcript."""
    wanted = [k for k, is_aside in enumerate(aside) if not is_aside]
    if len(page) == len(shown) == 1:
        return [([0], [0])] if wanted else []
    taken = {
        j
        for k, is_aside in enumerate(aside)
        if is_aside
        for j, text in enumerate(shown)
        if apart(page[k], text) < ALIKE
    }
    free = [j for j in range(len(shown)) if j not in taken]
    groups = _Matching([page[k] for k in wanted], [shown[j] for j in free]).groups()
    return [([wanted[i] for i in ours], [free[j] for j in theirs]) for ours, theirs in groups]


def apart(one: str, other: str) -> float:
    """Edit distance over the longer length."""
    return Levenshtein.normalized_distance(one, other)


def costs(page: Sequence[str], shown: Sequence[str]) -> Costs:
    return np.array([[apart(a, b) for b in shown] for a in page], dtype=np.float64).reshape(len(page), len(shown))


class _Matching:
    """One page's; it counts the windows that it has looked at."""

    def __init__(self, page: Sequence[str], shown: Sequence[str]) -> None:
        self._page, self._shown = page, shown
        self._left = MOST_WINDOWS

    def groups(self) -> Groups:
        runs = self._runs()
        joined = [" ".join(self._shown[j] for j in run) for run in runs]
        distances = costs(self._page, joined)
        partners: dict[tuple[int, ...], list[int]] = {}
        lonely = set(range(len(self._page)))
        for i, k in assign(distances):
            if distances[i, k] <= FARTHEST:
                partners[tuple(runs[k])] = [i]
                lonely.discard(i)
        self._join_longer(partners, sorted(lonely))
        found = [(sorted(ours), list(theirs)) for theirs, ours in partners.items() if ours]
        matched = {i for ours, _ in found for i in ours}
        rest = [i for i in range(len(self._page)) if i not in matched]
        unused = [j for j in range(len(self._shown)) if j not in {j for run in partners for j in run}]
        last = costs([self._page[i] for i in rest], [self._shown[j] for j in unused])
        pairs = {rest[i]: unused[j] for i, j in assign(last)}
        found += [([i], [j]) for i, j in pairs.items()]
        return found + [([i], []) for i in rest if i not in pairs]

    def _join_longer(self, partners: dict[tuple[int, ...], list[int]], lonely: Sequence[int]) -> None:
        done = {i for ours in partners.values() for i in ours}
        for j, text in enumerate(self._shown):
            if within := [i for i in lonely if self._stands(self._page[i], text, WITHIN, strict=True)]:
                partners.setdefault((j,), []).extend(i for i in within if i not in done)
                done |= set(within)

    def _stands(self, short: str, long: str, most: float, *, strict: bool) -> bool:
        """Whether a window of the long text, as long as the short one, is at most so far from it."""
        if not short or len(short) > len(long):
            return False
        limit = _edits(most * len(short), strict=strict)
        for start in range(len(long) - len(short) + 1):
            self._left -= 1
            if self._left < 0:
                return False
            if Levenshtein.distance(long[start : start + len(short)], short, score_cutoff=limit) <= limit:
                return True
        return False

    def _runs(self) -> list[list[int]]:
        """The transcript's blocks, those that are best taken as one in one run."""
        distances = costs(self._page, self._shown)
        alike = distances < ALIKE
        masked = set(np.flatnonzero(alike.any(axis=0)).tolist())
        chosen: list[tuple[list[int], float]] = []
        for i in np.flatnonzero(~alike.any(axis=1)).tolist():
            tried = [self._run(i, j, masked) for j in range(len(self._shown)) if j not in masked]
            if tried:
                chosen.append(min(tried, key=lambda run: run[1]))
        start = {run[0]: run for run in _least_overlap(chosen)}
        runs: list[list[int]] = []
        j = 0
        while j < len(self._shown):
            runs.append(start.get(j, [j]))
            j = runs[-1][-1] + 1
        return runs

    def _run(self, i: int, j: int, masked: set[int]) -> tuple[list[int], float]:
        """From block j as far as it brings the run nearer to the page's block i, and its distance."""
        text, run = self._page[i], [j]
        so_far = self._shown[j]
        while run[-1] + 1 < len(self._shown) and run[-1] + 1 not in masked:
            following = self._shown[run[-1] + 1]
            longer = f"{so_far} {following}"
            if apart(text, longer) > apart(text, so_far):
                break
            if not all(self._stands(self._shown[k], text, IN_A_RUN, strict=False) for k in run):
                break
            if not self._stands(following, text, IN_A_RUN, strict=True):
                break
            run.append(run[-1] + 1)
            so_far = longer
            if len(longer) > len(text):
                break
        return run, apart(text, so_far)


def _edits(most: float, *, strict: bool) -> int:
    whole = int(most + 1e-9)
    return whole - 1 if strict and abs(whole - most) < 1e-9 else whole


def _least_overlap(runs: Sequence[tuple[list[int], float]]) -> list[list[int]]:
    """Of runs that overlap, a set that does not, of the least mean distance; sets grow run by run from the left."""
    ordered = sorted(runs, key=lambda run: run[0][0])
    clusters: list[list[tuple[list[int], float]]] = []
    for run in ordered:
        if clusters and any(set(run[0]) & set(other) for other, _ in clusters[-1]):
            clusters[-1].append(run)
        else:
            clusters.append([run])
    return [run for cluster in clusters for run in _best_path(cluster)]


def _best_path(cluster: Sequence[tuple[list[int], float]]) -> list[list[int]]:
    paths: list[list[tuple[list[int], float]]] = [[cluster[0]]]
    for run in cluster[1:]:
        fits = False
        for path in paths:
            same = next((k for k, (other, _) in enumerate(path) if other == run[0]), None)
            if same is not None:
                if path[same][1] > run[1]:
                    path.append(run)
                    del path[same]
                fits = True
            elif not any(set(run[0]) & set(other) for other, _ in path):
                path.append(run)
                fits = True
        if not fits:
            paths.append([run])
    best = min(paths, key=lambda path: sum(cost for _, cost in path) / len(path))
    return [run for run, _ in best]


def assign(distances: Costs) -> list[tuple[int, int]]:
    """Pairs (row, column) of the least total distance, by rows: shortest augmenting paths (Crouse 2016)."""
    if distances.shape[0] > distances.shape[1]:
        return sorted((row, col) for col, row in assign(distances.T))
    rows, cols = distances.shape
    row_price, col_price = np.zeros(rows), np.zeros(cols)
    row_of = np.full(cols, -1)
    for first in range(rows):
        nearest, via = np.full(cols, np.inf), np.full(cols, -1)
        open_cols = np.arange(cols)[::-1].copy()
        visited: list[int] = []
        row, reached, col = first, 0.0, -1
        while col < 0 or row_of[col] >= 0:
            row = first if col < 0 else int(row_of[col])
            visited.append(row)
            onward = reached + distances[row, open_cols] - row_price[row] - col_price[open_cols]
            better = onward < nearest[open_cols]
            nearest[open_cols[better]], via[open_cols[better]] = onward[better], row
            reached = nearest[open_cols].min()
            at = _tied(nearest[open_cols] == reached, row_of[open_cols] < 0)
            col = int(open_cols[at])
            open_cols[at] = open_cols[-1]
            open_cols = open_cols[:-1]
        settled = np.setdiff1d(np.arange(cols), open_cols)
        col_of = {int(row): col for col, row in enumerate(row_of) if row >= 0}
        row_price[first] += reached
        for row in visited[1:]:
            row_price[row] += reached - nearest[col_of[row]]
        col_price[settled] -= reached - nearest[settled]
        _augment(row_of, via, col_of, first, col)
    return sorted((int(row), col) for col, row in enumerate(row_of) if row >= 0)


def _tied(least: NDArray[np.bool_], unused: NDArray[np.bool_]) -> int:
    """Of equally near columns the last one without a row, or else the first one: as SciPy decides ties."""
    free = np.flatnonzero(least & unused)
    return int(free[-1] if len(free) else np.flatnonzero(least)[0])


def _augment(row_of: NDArray[np.int_], via: NDArray[np.int_], col_of: Mapping[int, int], first: int, col: int) -> None:
    """Give the column to the row that it was reached from, and so on back to the first row."""
    while True:
        row = int(via[col])
        row_of[col] = row
        if row == first:
            return
        col = col_of[row]
