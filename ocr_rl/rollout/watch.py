"""What a learning curve hides: a test type that gets worse while the reward rises.

Works on rows of metrics alone (dicts with "reward" and "pass_rate/<type>" or "pass_degree/<type>"). Knows nothing about
how they came about.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean, stdev
from typing import Any

from ocr_rl.text.checks import TYPES

WINDOW = 15  # steps at either end that are compared
BY_TYPE = ("pass_rate", "pass_degree")  # rewards whose parts are test types
CLEAR = 3.0  # standard errors that a change must exceed; 2 would call out noise in one of twenty


@dataclass(frozen=True, slots=True, kw_only=True)
class Fall:
    """A test type whose share (or degree) has fallen from one mean to another since the first steps."""

    reward: str
    type: str
    before: float
    now: float

    def __str__(self) -> str:
        return f"{self.type} {self.before:.0%} -> {self.now:.0%} while the reward rises"


def falls(rows: Sequence[Mapping[str, Any]]) -> list[Fall]:
    """Test types that are clearly worse in the last steps than in the first, if the reward is clearly better.

    Windows are the first and last WINDOW rows that know the type; with fewer than two windows there is nothing to say.
    """
    reward = _change(rows, "reward")
    if reward is None or _sure(*reward) <= CLEAR:
        return []
    fallen = []
    for of, name in product(BY_TYPE, TYPES):
        change = _change(rows, f"{of}/{name}")
        if change is not None and _sure(*change) < -CLEAR:
            fallen.append(Fall(reward=of, type=name, before=fmean(change[0]), now=fmean(change[1])))
    return fallen


def _change(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]] | None:
    values = [float(row[key]) for row in rows if key in row]
    return (values[:WINDOW], values[-WINDOW:]) if len(values) >= 2 * WINDOW else None


def _sure(before: Sequence[float], now: Sequence[float]) -> float:
    """The difference of the means in standard errors (Welch)."""
    error = math.sqrt((stdev(before) ** 2 + stdev(now) ** 2) / WINDOW)
    change = fmean(now) - fmean(before)
    return change / error if error > 0 else math.copysign(math.inf, change) if change else 0.0
