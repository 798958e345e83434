"""Intervals, paired differences, tests and the public benchmark's score, from plain numbers.

NumPy only. Values come in grouped by cluster: a page, or a document of several pages. The tests of one page depend on
each other, so they must be drawn together. Every function is deterministic in its seed and does not depend on the order
of the clusters. This file knows nothing about pages, transcripts or models.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Clusters = Mapping[str, Sequence[float]]  # cluster name -> the values seen in it, at least one
Floats = NDArray[np.float64]
BASELINE_FILE = "baseline"  # the category of the tests that the public benchmark adds to every page
_BLOCK = 256  # draws held in memory at once
_TIE = 1e-12  # two statistics closer than this are equal: sums of the same numbers in another order


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its interval, in the unit of the values; `clusters` is how many there are to draw from."""

    mean: float
    low: float
    high: float
    clusters: int


def bootstrap_mean(values: Clusters, *, seed: int, draws: int = 2000, level: float = 0.95) -> Interval:
    """Mean over all values, with a percentile interval from redrawing whole clusters with replacement.

    The mean of a draw is a ratio of sums, so a cluster counts by its size, as it does in the estimate. Give one value
    per page for a mean over pages, one per test for a mean over tests. With fewer than about 30 clusters the interval
    is too narrow, as every percentile interval is. Raises ValueError without clusters or with an empty one.
    """
    sums, counts = _sums(values, sorted(values))
    replicates = _redraw(lambda times: (times @ sums) / (times @ counts), len(sums), seed, draws)
    return _interval(sums.sum() / counts.sum(), replicates, level, len(sums))


def paired_difference(
    before: Clusters, after: Clusters, *, seed: int, draws: int = 2000, level: float = 0.95
) -> Interval:
    """Mean of `after` less mean of `before`. A draw takes the same clusters of both, so what they share cancels.

    Raises ValueError where the two do not have the same clusters.
    """
    names = _same_clusters(before, after)
    (sums_b, counts_b), (sums_a, counts_a) = _sums(before, names), _sums(after, names)

    def difference(times: Floats) -> Floats:
        return (times @ sums_a) / (times @ counts_a) - (times @ sums_b) / (times @ counts_b)

    observed = sums_a.sum() / counts_a.sum() - sums_b.sum() / counts_b.sum()
    return _interval(observed, _redraw(difference, len(names), seed, draws), level, len(names))


def permutation_test(before: Clusters, after: Clusters, *, seed: int, draws: int = 10_000) -> float:
    """Two-sided p-value of "before and after are alike", by swapping the two within clusters.

    The observed labelling counts as one of the draws, so p is never 0 and never too small (Phipson and Smyth 2010).
    """
    names = _same_clusters(before, after)
    (sums_b, counts_b), (sums_a, counts_a) = _sums(before, names), _sums(after, names)
    move_sum, move_count = sums_b - sums_a, counts_b - counts_a  # what `after` gains when a cluster is swapped

    def difference(swapped: Floats) -> Floats:
        gained, counted = swapped @ move_sum, swapped @ move_count
        a = (sums_a.sum() + gained) / (counts_a.sum() + counted)
        return a - (sums_b.sum() - gained) / (counts_b.sum() - counted)

    observed = abs(difference(np.zeros((1, len(names))))[0])
    rng, extreme = np.random.default_rng(seed), 1
    for start in range(0, draws, _BLOCK):
        swapped = rng.integers(0, 2, size=(min(_BLOCK, draws - start), len(names))).astype(np.float64)
        extreme += int((np.abs(difference(swapped)) >= observed - _TIE).sum())
    return extreme / (draws + 1)


def holm(pvalues: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values (Holm 1979): compared with a level, they keep the chance of any false alarm below it."""
    adjusted, floor = {}, 0.0
    for rank, name in enumerate(sorted(pvalues, key=lambda name: pvalues[name])):
        floor = max(floor, min(1.0, pvalues[name] * (len(pvalues) - rank)))
        adjusted[name] = floor
    return {name: adjusted[name] for name in pvalues}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How often a test passed over the repeats of its page. `file`, its category, is the JSONL file it came from."""

    id: str
    type: str
    file: str
    page: str
    passes: int
    repeats: int

    @property
    def passed(self) -> bool:
        """The public benchmark's majority: more than half of the repeats, so 1 of 2 fails."""
        return 2 * self.passes > self.repeats

    @property
    def share(self) -> float:
        return self.passes / self.repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkScore:
    """The public benchmark's figures for one candidate, all in [0, 1]."""

    overall: Interval  # mean over files of the file's pass share; the interval redraws pages
    overall_public: (
        Interval  # the same mean; the interval redraws tests as if they were independent, as published ones do
    )
    by_file: Mapping[str, tuple[int, int]]  # file -> (tests passed, tests)
    by_type: Mapping[str, float]  # type -> mean share of passing repeats (shares, not majorities: as published)


def benchmark_score(tallies: Iterable[Tally], *, seed: int, draws: int = 1000, level: float = 0.95) -> BenchmarkScore:
    """Aggregate as olmOCR-Bench does: files of any size weigh the same, and added baseline tests are one more file.

    Pages are redrawn within strata (pages whose tests lie in the same files), so no file is ever left without tests.
    Raises ValueError without tallies.
    """
    tests = sorted(tallies, key=lambda test: (test.file, test.page, test.id))
    if not tests:
        raise ValueError("no tests to score")
    files = {name: column for column, name in enumerate(sorted({test.file for test in tests}))}
    pages = {name: row for row, name in enumerate(sorted({test.page for test in tests}))}
    passed, counted = np.zeros((len(pages), len(files))), np.zeros((len(pages), len(files)))
    for test in tests:
        at = pages[test.page], files[test.file]
        passed[at] += test.passed
        counted[at] += 1
    strata: dict[tuple[bool, ...], list[int]] = defaultdict(list)
    for row in range(len(pages)):
        strata[tuple(counted[row] > 0)].append(row)

    observed = float((passed.sum(axis=0) / counted.sum(axis=0)).mean())

    def overall(times: Floats) -> Floats:
        return ((times @ passed) / (times @ counted)).mean(axis=1)

    replicates = _redraw(overall, len(pages), seed, draws, list(strata.values()))
    by_type: dict[str, list[float]] = defaultdict(list)
    by_file: dict[str, list[float]] = defaultdict(list)
    for test in tests:
        by_type[test.type].append(test.share)
        by_file[test.file].append(float(test.passed))
    return BenchmarkScore(
        overall=_interval(observed, replicates, level, len(pages)),
        overall_public=independent_interval(list(by_file.values()), seed=seed, draws=draws, level=level),
        by_file={file: (int(sum(values)), len(values)) for file, values in by_file.items()},
        by_type={type_: float(np.mean(by_type[type_])) for type_ in sorted(by_type)},
    )


def independent_interval(
    files: Sequence[Sequence[float]], *, seed: int, draws: int = 1000, level: float = 0.95
) -> Interval:
    """Mean of the files' means, redrawing the tests of each file as if they were independent.

    The public benchmark prints this interval. It is too narrow where a page has several tests. Without tests it is
    zero, as in the public code.
    """
    values = [np.asarray(file, dtype=np.float64) for file in files if len(file)]
    if not values:
        return Interval(mean=0.0, low=0.0, high=0.0, clusters=0)
    rng = np.random.default_rng(seed)
    means = [file[rng.integers(0, len(file), size=(draws, len(file)))].mean(axis=1) for file in values]
    observed = float(np.mean([file.mean() for file in values]))
    return _interval(observed, np.mean(means, axis=0), level, sum(map(len, values)))


def _sums(values: Clusters, names: Sequence[str]) -> tuple[Floats, Floats]:
    """Sum and number of the values of each cluster, both of shape (clusters,)."""
    if not names:
        raise ValueError("no clusters to draw from")
    counts = np.array([len(values[name]) for name in names], dtype=np.float64)
    if not counts.all():
        raise ValueError(f"cluster {names[int(counts.argmin())]!r} has no values")
    return np.array([float(sum(values[name])) for name in names]), counts


def _same_clusters(before: Clusters, after: Clusters) -> list[str]:
    if unpaired := sorted(set(before) ^ set(after)):
        raise ValueError(f"{len(unpaired)} clusters are on one side only, the first is {unpaired[0]!r}")
    return sorted(before)


def _redraw(
    statistic: Callable[[Floats], Floats],
    clusters: int,
    seed: int,
    draws: int,
    strata: Sequence[Sequence[int]] | None = None,
) -> Floats:
    """Values of `statistic` over draws; it sees how often each cluster was drawn, shape (draws, clusters)."""
    rng = np.random.default_rng(seed)
    parts = [np.asarray(part) for part in (strata or [range(clusters)])]
    values = []
    for start in range(0, draws, _BLOCK):
        times = np.zeros((min(_BLOCK, draws - start), clusters))
        for part in parts:
            drawn = rng.integers(0, len(part), size=(len(times), len(part)))
            drawn += np.arange(len(times))[:, None] * len(part)  # one count over all draws of the block
            times[:, part] = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        values.append(statistic(times))
    return np.concatenate(values)


def _interval(mean: float, replicates: Floats, level: float, clusters: int) -> Interval:
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean=float(mean), low=float(low), high=float(high), clusters=clusters)
