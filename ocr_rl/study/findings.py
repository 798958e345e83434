"""What an experiment of a study showed: a sentence, a verdict, a table, a plot; and the arithmetic behind them.

A verdict is read off an interval by one rule (`verdict_of`), never by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from ocr_rl.evaluate.results import PageResult
from ocr_rl.evaluate.stats import Interval

Verdict = Literal["supported", "not supported", "undecided with this budget"]
PART = 0.1  # of a gain: the least that is worth speaking of, where a claim is about shares of gains
_DRAWS = 20_000  # of the pages; in a contrast each with an error of the runs, and with its mirror image
MATTERS = 0.03  # of the pass rate: an interval below this excludes any effect that is worth speaking of


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()

    @classmethod
    def of(cls, intervals: Sequence[Interval], x: Sequence[float] | None = None) -> Series:
        """In per cent, at x (side by side unless given)."""
        return cls(
            x=range(len(intervals)) if x is None else x,
            y=[100 * interval.mean for interval in intervals],
            low=[100 * interval.low for interval in intervals],
            high=[100 * interval.high for interval in intervals],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one experiment showed."""

    key: str
    claim: str
    verdict: Verdict
    effect: Interval  # that the verdict was read off: the claim's difference, positive where the claim is right
    unit: Literal["points", "logarithm"] = "points"
    seen: str  # one sentence with the interval
    header: Sequence[str] = ()
    table: Sequence[Sequence[str]] = ()
    x_label: str = ""
    y_label: str = ""
    series: Mapping[str, Series] = field(default_factory=dict)
    ticks: Sequence[str] = ()  # names of the places 0, 1, ... where x is no quantity

    @property
    def size(self) -> str:
        """The effect, with its interval."""
        if self.unit == "points":
            return points(self.effect)
        return f"{self.effect.mean:+.2f} [{self.effect.low:.2f}, {self.effect.high:.2f}] (logarithm of a ratio)"


def verdict_of(effect: Interval, matters: float = MATTERS) -> Verdict:
    """`effect` is the claim's difference, positive where the claim is right; `matters`: the least that is worth it.

    Supported where the interval lies above 0, be it ever so little; otherwise not supported where it lies below
    `matters`, so that an effect that matters is excluded; otherwise nothing is decided.
    """
    if effect.low > 0:
        return "supported"
    return "not supported" if effect.high < matters else "undecided with this budget"


def turned(effect: Interval) -> Interval:
    """The same difference the other way round."""
    return replace(effect, mean=-effect.mean, low=-effect.high, high=-effect.low)


PerPage = Mapping[str, float]
OWN = 3  # runs that a spread of their own can be read from


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """How far runs of one arm that differ in their seed alone lie apart, on the same pages."""

    sd: float = 0.0
    freedom: int = 0  # degrees of freedom that it is known with


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A figure of each page: the mean over runs, or over none (the start, which nobody trained here)."""

    pages: PerPage
    runs: int = 0
    noise: Noise = Noise()


def per_page(
    rows: Sequence[PageResult], of: Callable[[PageResult], float | None] = lambda row: row.pass_rate
) -> dict[str, float]:
    by_page: dict[str, list[float]] = {}
    for row in rows:
        if (value := of(row)) is not None:
            by_page.setdefault(row.page, []).append(value)
    return {page: float(np.mean(values)) for page, values in by_page.items()}


def spread(groups: Sequence[Sequence[float]]) -> Noise:
    """Standard deviation about each group's own mean, pooled over groups of two and more."""
    kept = [values for values in groups if len(values) > 1]
    freedom = sum(len(values) - 1 for values in kept)
    squares = sum(float(np.var(values)) * len(values) for values in kept)
    return Noise(sd=(squares / freedom) ** 0.5, freedom=freedom) if freedom else Noise()


def noise_of_runs(runs: Sequence[PerPage], pooled: Callable[[], Noise]) -> Noise:
    """Of these runs themselves where there are three or more; elsewhere what all arms' runs show (`pooled`)."""
    return noise_of([runs]) if len(runs) >= OWN else pooled()


def noise_of(arms: Sequence[Sequence[PerPage]]) -> Noise:
    """From each arm's runs: the standard deviation of a run's mean about its arm's, pooled over arms."""
    return spread([[float(np.mean(list(run.values()))) for run in runs] for runs in arms])


def contrast(*terms: tuple[float, Measured]) -> Interval:
    """A weighted sum of means over pages, with a 95 % interval: differences, and differences of differences.

    Pages are redrawn together for all terms, so what they have in common cancels. How much runs differ by their seed is
    drawn beside it: with few seeds an interval of the pages alone would speak of these runs only. Each term has the
    spread of its own runs, and Student's t as many degrees of freedom as Welch (1947) gives their sum.
    """
    mean, drawn, clusters = _drawn(terms)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(mean=mean, low=float(low), high=float(high), clusters=clusters)


def kept_contrast(one: tuple[Measured, Measured], other: tuple[Measured, Measured], start: Measured) -> Interval:
    """The share of its gain that `other` keeps less the share that `one` keeps; each is (as it is, disturbed).

    Gains are over the start. Pages and runs are drawn as in `contrast`. Not known (nan) where a gain may be none.
    """
    terms = (*one, *other)
    pages = sorted(set.intersection(*(set(measured.pages) for measured in (*terms, start))))
    rng = np.random.default_rng(1)
    gains, means = [], []
    for measured in terms:
        values = np.array([measured.pages[page] - start.pages[page] for page in pages])
        means.append(float(values.mean()))
        parts = [(measured.noise.sd**2 / measured.runs, measured.noise.freedom)] if measured.runs else []
        gains.append(_redrawn(len(pages)) @ values + _of_runs(parts, rng))
    mean = means[3] / means[2] - means[1] / means[0] if means[0] and means[2] else float("nan")
    if min(float(np.quantile(gains[k], 0.025)) for k in (0, 2)) <= 0:
        return Interval(mean=mean, low=float("nan"), high=float("nan"), clusters=len(pages))
    low, high = np.quantile(gains[3] / gains[2] - gains[1] / gains[0], [0.025, 0.975])
    return Interval(mean=mean, low=float(low), high=float(high), clusters=len(pages))


def contrast_p(*terms: tuple[float, Measured]) -> float:
    """Two-sided, from the draws of `contrast`: twice the share on the other side of 0, at least 1 over their number."""
    _, drawn, _ = _drawn(terms)
    return min(1.0, 2 * (1 + min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))) / (len(drawn) + 1))


def _drawn(terms: Sequence[tuple[float, Measured]]) -> tuple[float, Any, int]:
    """The sum, what it might have been, and of how many pages.

    An error of the runs stands beside its mirror image: a difference turned round has its interval turned round.
    """
    pages = sorted(set.intersection(*(set(measured.pages) for _, measured in terms)))
    values = np.array([sum(weight * measured.pages[page] for weight, measured in terms) for page in pages])
    of_pages = _redrawn(len(pages)) @ values
    parts = [(weight**2 * m.noise.sd**2 / m.runs, m.noise.freedom) for weight, m in terms if m.runs]
    of_runs = _of_runs(parts, np.random.default_rng(1))
    return float(values.mean()), np.concatenate([of_pages + of_runs, of_pages - of_runs]), len(pages)


@lru_cache(maxsize=8)
def _redrawn(pages: int, seed: int = 0) -> Any:
    """What each page weighs in each draw of as many pages with replacement: (draws, pages), rows that sum to 1."""
    drawn = np.random.default_rng(seed).multinomial(pages, np.full(pages, 1 / pages), _DRAWS)
    return drawn / pages


def unpaired(first: Sequence[float], second: Sequence[float], noise: Sequence[tuple[Noise, int]] = ()) -> Interval:
    """Mean of `first` less mean of `second`, two sets of pages redrawn apart; beside it `noise`, of so many runs.

    The values are sorted, since the order of a set of pages differs by process.
    """
    a, b = np.sort(first), np.sort(second)
    drawn = _redrawn(len(a), 2) @ a - _redrawn(len(b), 3) @ b  # apart: sets of one size would be drawn alike otherwise
    parts = [(of_arm.sd**2 / runs, of_arm.freedom) for of_arm, runs in noise if runs]
    drawn += _of_runs(parts, np.random.default_rng(1))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(mean=float(a.mean() - b.mean()), low=float(low), high=float(high), clusters=len(a) + len(b))


def _of_runs(parts: Sequence[tuple[float, int]], rng: np.random.Generator) -> Any:
    """Errors of a sum of figures with these variances and degrees of freedom: Student's t, Welch's degrees (1947)."""
    known = [(variance, freedom) for variance, freedom in parts if variance > 0]
    whole = sum(variance for variance, _ in known)
    if not known:
        return np.zeros(_DRAWS)
    return whole**0.5 * rng.standard_t(whole**2 / sum(variance**2 / freedom for variance, freedom in known), _DRAWS)


def over_runs(values: Sequence[float]) -> Interval:
    """Mean of a figure of each run, with a 95 % interval by Student's t; of one run the interval is not known (nan)."""
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Interval(mean=mean, low=float("nan"), high=float("nan"), clusters=n)
    drawn = mean + np.std(values, ddof=1) / n**0.5 * np.random.default_rng(0).standard_t(n - 1, _DRAWS)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(mean=mean, low=float(low), high=float(high), clusters=n)


def points(interval: Interval) -> str:
    """A difference, in points of per cent."""
    return f"{100 * interval.mean:+.1f} {_between(interval)}"


def percent(interval: Interval) -> str:
    """A share, in per cent."""
    return f"{100 * interval.mean:.1f} {_between(interval)}"


def _between(interval: Interval) -> str:
    return f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]" if interval.low == interval.low else "(not known)"


def apart(after: Measured, before: Measured) -> str:
    """How far two arms (or an arm and the start) are apart, in points of per cent."""
    return points(contrast((1, after), (-1, before)))


def every(arms: Sequence[Measured | None]) -> list[Measured] | None:
    """All of them, or none where one is missing."""
    kept = [measured for measured in arms if measured is not None]
    return kept if len(kept) == len(arms) else None
