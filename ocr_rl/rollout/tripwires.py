"""Tripwires: is the run still what it should be? A pure function of its metrics and the recipe's bounds.

Knows nothing about how a run stops or goes back; the loop does (`ocr_rl.learn.fit`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean
from typing import Any

from ocr_rl.config import Tripwire, Tripwires
from ocr_rl.rollout.watch import WINDOW, falls

_MEANING = {
    "gap": ": sampler and learner do not compute the same policy",
    "gap_max": ": sampler and learner do not compute the same policy",
    "drift": ": updates move too far for samples of older weights; lower optim.lr, or set ahead to 0",
    "page_gain": ": the policy does not look at the page",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A wire that tripped: what is to be done, why, and over how many steps the figures were seen."""

    name: str
    then: str
    why: str
    steps: int

    def __str__(self) -> str:
        return f"{self.then.replace('_', ' ')}: {self.why}"


def tripped(history: Sequence[Mapping[str, Any]], cfg: Tripwires) -> list[Decision]:
    """What the last row of metrics, after the rows before it, asks to be done; nothing about a figure it lacks."""
    if not history:
        return []
    wires = [(name, wire) for name, wire in cfg if isinstance(wire, Tripwire) and name in history[-1]]
    decisions = [
        Decision(name=name, then=wire.then, why=why, steps=wire.steps)
        for name, wire in wires
        if (why := _beyond(name, [float(row[name]) for row in history if name in row], wire))
    ]
    return decisions + [
        Decision(name=f"{fall.reward}/{fall.type}", then=cfg.falling_type, why=str(fall), steps=WINDOW)
        for fall in falls(history)
    ]


def _beyond(name: str, values: Sequence[float], wire: Tripwire) -> str:
    """Why the wire trips; "" when it does not, or when there are too few steps to say so."""
    if len(values) < wire.steps + (WINDOW if wire.of_start else 0):
        return ""
    if not all(map(isfinite, values[-wire.steps :])):
        return f"{name} is not a number"
    now, start = fmean(values[-wire.steps :]), fmean(values[:WINDOW])
    unit = start if wire.of_start else 1.0
    if unit <= 0:  # nothing to compare with
        return ""
    since = f" (at first {start:.3g})" if wire.of_start else ""
    if wire.above is not None and now >= wire.above * unit:
        return f"{name} {now:.3g} has reached {wire.above * unit:.3g}{since}{_MEANING.get(name, '')}"
    if wire.below is not None and now <= wire.below * unit:
        return f"{name} {now:.3g} has come down to {wire.below * unit:.3g}{since}{_MEANING.get(name, '')}"
    return ""
