"""What an algorithm yields: one optimiser step, what to show for it, and where to go on after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ocr_rl.objectives.losses import Loss
from ocr_rl.rollout.flow import ComparedGroup, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    rows: Sequence[Row]
    loss: Loss | None  # None: the policy stands still while its critic warms up
    critic_loss: Loss | None = None  # of a critic with weights of its own, on the same rows
    metrics: Mapping[str, float] = field(default_factory=dict)
    groups: Sequence[ComparedGroup] = ()
    # JSON: the algorithm goes on from here. None in the middle of a rollout: the loop saves after a later step.
    state: Mapping[str, Any] | None = field(default_factory=dict)
