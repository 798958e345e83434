"""What an algorithm yields: one optimiser step, what to show for it, and where to go on after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ocr_rl.learn.losses import Loss
from ocr_rl.rollout.flow import Row, ScoredGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    rows: Sequence[Row]
    loss: Loss
    metrics: Mapping[str, float] = field(default_factory=dict)
    groups: Sequence[ScoredGroup] = ()
    # JSON: the algorithm goes on from here. None in the middle of a rollout: the loop saves after a later step.
    state: Mapping[str, Any] | None = field(default_factory=dict)
