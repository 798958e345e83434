"""What GRPO and PPO share: what a rollout cost, its samples as rows, minibatches of these, and the clipped loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.objectives.aggregation import AGGREGATIONS, Sizes
from ocr_rl.objectives.losses import PolicyGradient
from ocr_rl.rollout.collect import Rollout, Score
from ocr_rl.rollout.flow import ComparedGroup, Row, row_of
from ocr_rl.rollout.scoring import ScoredGroup
from ocr_rl.rollout.stuck import ROLLOUTS, why_stuck

_EMPTY_ROLLOUTS = 20  # in a row without one group to learn from: something is wrong


class Tally:
    """Rollouts since the last step: the next step's line has the cost of those that taught nothing too."""

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self.clock: dict[str, float] = {}
        self.rollouts, self.generated, self.lost = 0, 0, 0
        self.flat: list[ScoredGroup] = []  # of rollouts without a difference

    def add(self, rollout: Rollout) -> None:
        self.rollouts += 1
        self.generated += rollout.generated
        self.lost += rollout.lost
        self.flat += [] if rollout.live else rollout.scored
        for name, seconds in rollout.clock.items():
            self.clock[name] = self.clock.get(name, 0.0) + seconds

    @property
    def counts(self) -> dict[str, float]:
        """Of the rollout, not of each of its updates."""
        return {"generated": self.generated, **({"faults": self.lost} if self.lost else {})}

    def require_signal(self, score: Score) -> None:
        """UserError where rollouts that teach nothing are not to go on."""
        if self.rollouts == ROLLOUTS and (reason := why_stuck(self.flat, score)):
            raise UserError(f"{self.algorithm}: {self.rollouts} rollouts in a row gave nothing to learn from; {reason}")
        if self.rollouts == _EMPTY_ROLLOUTS:
            raise UserError(
                f"{self.algorithm}: {self.rollouts} rollouts in a row gave no group whose samples differ in reward; "
                "use easier pages, a higher temperature or more samples per page."
                + (f" {self.lost} groups could not be scored: see the run's faults/." if self.lost else "")
            )


def to_rows(groups: Sequence[ComparedGroup], cfg: config.OnPolicy, max_tokens: int) -> list[Row]:
    """One row a sample; a token's weight is its share of the whole step, as the aggregation says.

    `max_tokens` is the longest that a sample may be.
    """
    kept = [
        (j, k)
        for j, compared in enumerate(groups)
        for k, sample in enumerate(compared.group.samples)
        if sample.finish == "stop" or not cfg.mask_unfinished
    ]
    step_tokens = sum(len(groups[j].group.samples[k].token_ids) for j, k in kept)
    rows = []
    for j, k in kept:
        group, sample = groups[j].group, groups[j].group.samples[k]
        sizes = Sizes(
            tokens=len(sample.token_ids),
            siblings=len(group.samples),
            groups=len(groups),
            step_tokens=step_tokens,
            max_tokens=max_tokens,
        )
        weight = AGGREGATIONS[cfg.aggregation].weight(sizes)
        rows.append(row_of(group, sample, group_id=j, weight=weight, advantage=_advantage(groups[j], k)))
    return rows


def _advantage(compared: ComparedGroup, k: int) -> float | tuple[float, ...]:
    tokens = compared.token_advantages
    return compared.advantages[k] if tokens is None else tokens[k]


def split_by_group(rows: Sequence[Row], parts: int) -> list[list[Row]]:
    """At most `parts` minibatches of whole groups: a page is computed once."""
    ids = sorted({row.group_id for row in rows})
    parts = min(parts, len(ids))
    place = {group_id: i * parts // len(ids) for i, group_id in enumerate(ids)}
    split: list[list[Row]] = [[] for _ in range(parts)]
    for row in rows:
        split[place[row.group_id]].append(row)
    return split


def reweighted(part: Sequence[Row], rows: Sequence[Row], aggregation: str) -> list[Row]:
    """A minibatch is a step of its own: its tokens, or its samples, share the weight of the whole step."""

    def size(some: Sequence[Row]) -> int:
        return sum(len(row.completion_ids) for row in some) if AGGREGATIONS[aggregation].by_tokens else len(some)

    return [replace(row, weight=row.weight * size(rows) / size(part)) for row in part]


def loss_of(cfg: config.OnPolicy) -> PolicyGradient:
    return PolicyGradient(
        surrogate=cfg.surrogate,
        ratio=cfg.ratio,
        epsilon=cfg.bounds[0],
        epsilon_high=cfg.bounds[1],
        delta=cfg.delta,
        beta=cfg.beta_of_loss,
        kl=cfg.kl,
        importance_level=cfg.importance_level,
        importance_cap=cfg.importance_cap,
        importance_mask=cfg.importance_mask,
        stale=cfg.ahead > 0,
        weigh_kl=cfg.ahead > 0 or cfg.updates > 1,
    )
