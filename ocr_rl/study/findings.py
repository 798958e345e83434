"""What an experiment of a study showed: a sentence, a verdict, a table, a plot; and the arithmetic behind them.

A verdict is read off an interval by one rule (`verdict_of`), never by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ocr_rl.evaluate.grade import Graded
from ocr_rl.evaluate.stats import Interval, bootstrap_mean

Verdict = Literal["supported", "not supported", "undecided with this budget"]
SAME = 0.01  # an interval within this of 0 says that there is no difference to speak of


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
            y=[100 * each.mean for each in intervals],
            low=[100 * each.low for each in intervals],
            high=[100 * each.high for each in intervals],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one experiment showed."""

    key: str
    claim: str
    verdict: Verdict
    seen: str  # one sentence with the interval
    header: Sequence[str] = ()
    table: Sequence[Sequence[str]] = ()
    x_label: str = ""
    y_label: str = ""
    series: Mapping[str, Series] = field(default_factory=dict)
    ticks: Sequence[str] = ()  # names of the places 0, 1, ... where x is no quantity


def verdict_of(effect: Interval) -> Verdict:
    """`effect` is the claim's difference, positive where the claim is right."""
    if effect.low > 0:
        return "supported"
    if effect.high < 0 or (effect.low > -SAME and effect.high < SAME):
        return "not supported"
    return "undecided with this budget"


PerPage = Mapping[str, float]


def per_page(
    rows: Sequence[Graded], of: Callable[[Graded], float | None] = lambda row: row.pass_rate
) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for row in rows:
        if (value := of(row)) is not None:
            found.setdefault(row.page, []).append(value)
    return {page: float(np.mean(values)) for page, values in found.items()}


def contrast(*terms: tuple[float, PerPage]) -> Interval:
    """The mean over pages of a weighted sum, with a page-clustered 95 % interval: differences of differences too."""
    pages = set.intersection(*(set(values) for _, values in terms))
    return bootstrap_mean({page: [sum(w * values[page] for w, values in terms)] for page in pages}, seed=0)


def unpaired(first: Sequence[float], second: Sequence[float], draws: int = 2000) -> Interval:
    """Mean of `first` less mean of `second`, two sets of pages redrawn apart."""
    rng = np.random.default_rng(0)
    a, b = np.asarray(first), np.asarray(second)
    drawn = rng.choice(a, (draws, len(a))).mean(1) - rng.choice(b, (draws, len(b))).mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(mean=float(a.mean() - b.mean()), low=float(low), high=float(high), clusters=len(a) + len(b))


def points(interval: Interval) -> str:
    """In points of per cent."""
    return f"{100 * interval.mean:+.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def apart(after: PerPage, before: PerPage) -> str:
    """How far two arms (or an arm and the start) are apart, in points of per cent."""
    return points(contrast((1, after), (-1, before)))
