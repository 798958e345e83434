"""GRPO: sample G transcripts of each page, score them, learn from how a sample compares with its siblings.

Shao et al. 2024 (arXiv 2402.03300). A generator of steps: it resumes only after the learner's update, so sampling is
on-policy by shape. Weights are those of the whole step, so micro-batches cannot change the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from tqdm import tqdm

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.learn.algos.setting import SamplingSetting
from ocr_rl.learn.step import Step
from ocr_rl.objectives.aggregation import AGGREGATIONS, Sizes
from ocr_rl.objectives.losses import PolicyGradient
from ocr_rl.pages.epochs import Rests
from ocr_rl.rollout.collect import Rollout, Score, Turns, collect, timed
from ocr_rl.rollout.compare import upside_down
from ocr_rl.rollout.describe import describe_shares
from ocr_rl.rollout.flow import ComparedGroup, Row
from ocr_rl.rollout.sampler.base import seed_for
from ocr_rl.rollout.scoring import ScoredGroup
from ocr_rl.rollout.stuck import ROLLOUTS, why_stuck

_EMPTY_ROLLOUTS = 20  # in a row without one group to learn from: something is wrong


def grpo(cfg: config.Grpo, setting: SamplingSetting, state: Mapping[str, Any]) -> Iterator[Step]:
    """Steps from `state` (a step's own `state`, or empty) to `cfg.steps` optimiser updates."""
    learner, loss = setting.learner, loss_of(cfg)
    rests = Rests(cfg.rest, state.get("rests", {}))
    turns = Turns(pages=setting.pages, seed=setting.seed, drawn=int(state.get("drawn", 0)), rests=rests)
    asking = setting.asking(cfg, partial(seed_for, setting.seed), refills=cfg.refills, ahead=cfg.pages_per_step)
    tally = Tally()
    while learner.policy < cfg.steps:
        with timed(tally.clock, "sync_s"):
            asking.sampler.load(learner.weights(), learner.policy)
        got = collect(asking, turns, cfg.pages_per_step)
        tally.add(got)
        if learner.policy == 0 and got.groups:
            tqdm.write(describe_shares(got.scored, cfg.advantage))
        live = [upside_down(group, cfg.flip, f"{setting.seed}/{turns.drawn}") for group in got.live]
        rows = to_rows(live, cfg, setting.sampling.max_tokens)  # none too when every sample was cut off and masked
        if not rows:
            tally.require_signal(setting.score)
            continue
        with timed(tally.clock, "annotate_s"):
            # One update a rollout: the old policy is the one that is updated, and the pass through it the update's own.
            rows = learner.annotate(rows, old=cfg.minibatches > 1, reference=cfg.beta > 0)
        parts = split_by_group(rows, cfg.minibatches)
        for i, part in enumerate(parts):
            last = i == len(parts) - 1 or learner.policy + 1 == cfg.steps
            yield Step(
                rows=reweighted(part, rows, cfg.aggregation),
                loss=loss,
                metrics={**got.figures, "pages_drawn": turns.drawn, **tally.clock, **(tally.counts if i == 0 else {})},
                groups=live if last else (),
                state=turns.state if last else None,
            )
            if learner.policy >= cfg.steps:
                return
        tally = Tally()


def loss_of(cfg: config.Grpo) -> PolicyGradient:
    return PolicyGradient(
        surrogate=cfg.surrogate,
        ratio=cfg.ratio,
        epsilon=cfg.bounds[0],
        epsilon_high=cfg.bounds[1],
        delta=cfg.delta,
        beta=cfg.beta,
        kl=cfg.kl,
        importance_level=cfg.importance_level,
        importance_cap=cfg.importance_cap,
    )


class Tally:
    """Rollouts since the last step: the next step's line has the cost of those that taught nothing too."""

    def __init__(self) -> None:
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
            raise UserError(f"grpo: {self.rollouts} rollouts in a row gave nothing to learn from; {reason}")
        if self.rollouts == _EMPTY_ROLLOUTS:
            raise UserError(
                f"grpo: {self.rollouts} rollouts in a row gave no group whose samples differ in reward; use easier "
                "pages, a higher temperature or more samples per page."
                + (f" {self.lost} groups could not be scored: see the run's faults/." if self.lost else "")
            )


def to_rows(groups: Sequence[ComparedGroup], cfg: config.Grpo, max_tokens: int) -> list[Row]:
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
        rows.append(
            Row(
                prompt=group.prompt,
                completion_ids=sample.token_ids,
                group_id=j,
                weight=AGGREGATIONS[cfg.aggregation].weight(sizes),
                advantage=groups[j].advantages[k],
                temperature=group.temperature,
                banned_ids=group.banned_ids,
                sampler_logprobs=sample.logprobs,
            )
        )
    return rows


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
