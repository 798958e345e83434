"""Tripwires of a recipe: bounds on a run's figures, and what happens beyond them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from ocr_rl.config.base import Positive, Section


class Tripwire(Section):
    """A bound for the mean of a figure of metrics.jsonl over its last `steps` steps, and what happens beyond it."""

    above: float | None = None
    """The wire trips where the mean reaches this."""
    below: float | None = None
    """The wire trips where the mean comes down to this."""
    of_start: bool = False
    """The bounds are multiples of the figure's mean over the run's first steps."""
    steps: Positive = 5
    """Over how many steps the mean is taken."""
    then: Literal["warn", "stop", "roll_back"] = "warn"
    """What happens then: a line, the end of the run, or back to the last good checkpoint and on with other pages."""

    @model_validator(mode="after")
    def _bounded(self) -> Tripwire:
        if self.above is None and self.below is None:
            raise ValueError("give a bound: above or below")
        return self


class Tripwires(Section):
    """When a run is not what it should be. A wire given without a bound, as in {then = "stop"}, keeps its default one.

    roll_back goes to the last checkpoint from before the figures that tripped, and on with other pages.
    """

    length: Tripwire = Tripwire(above=4.0, of_start=True)
    """Mean tokens of a sample."""
    finished: Tripwire = Tripwire(below=0.5, of_start=True, then="stop")
    """The share of samples that ended by themselves."""
    repetition: Tripwire = Tripwire(below=0.5, of_start=True, then="stop")
    """The reward of this name (1: nothing is said over and over), where the recipe asks for it."""
    reward: Tripwire = Tripwire(below=0.5, of_start=True, then="stop")
    """Mean reward of the samples."""
    entropy: Tripwire = Tripwire(above=5.0, below=0.05, of_start=True)
    """Mean entropy of the next token, in nats."""
    kl: Tripwire = Tripwire(above=2.0)
    """Mean KL to the starting policy, in nats a token."""
    grad_norm: Tripwire = Tripwire(above=20.0, of_start=True)
    """Norm of the gradient before it is clipped."""
    gap: Tripwire = Tripwire(above=0.2, steps=1, then="stop")
    """Mean difference, in nats a token, between sampler and learner: they do not have the same weights or image."""
    gap_max: Tripwire | None = None
    """The largest such difference; by default a stop above 0.01 where everything is float32, else no bound."""
    drift: Tripwire = Tripwire(above=0.01)
    """With a rollout ahead: the gap to the older weights that wrote the samples; beyond it an update moves too far."""
    explained_variance: Tripwire = Tripwire(below=-0.5)
    """Of PPO: how much of the returns' variance the critic explains; below 0 it is worse than none."""
    value_loss: Tripwire = Tripwire(above=5.0, of_start=True)
    """Of PPO: the critic's loss, a token; without critic.clip the mean squared error of its values."""
    page_gain: Tripwire = Tripwire(below=0.0, steps=1, then="stop")
    """Of [grpo] and [ppo]: by how many nats a token a blank page is worse than the page. At 0 it does not look."""
    falling_type: Literal["warn", "stop", "roll_back"] = "warn"
    """A test type gets clearly worse while the reward rises."""
    not_finite: Literal["stop", "roll_back"] = "stop"
    """A loss or a gradient that is no number; the optimiser never sees it."""
    roll_backs: int = Field(default=3, ge=0)
    """How often a run may go back before it stops."""

    @model_validator(mode="before")
    @classmethod
    def _default_bounds(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        filled = dict(given)
        for name, wire in given.items():
            default = cls.model_fields[name].default if name in cls.model_fields else None
            if isinstance(default, Tripwire) and isinstance(wire, dict) and not {"above", "below"} & set(wire):
                filled[name] = default.model_dump() | wire
        return filled

    @property
    def actions(self) -> set[str]:
        return {self.falling_type, self.not_finite, *(wire.then for _, wire in self if isinstance(wire, Tripwire))}
