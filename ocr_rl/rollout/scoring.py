"""A group of samples becomes a graded group: every reward asked, its answers checked, weights applied.

The one place that decides what a reward's silence (None) or failure means. It knows nothing about how rewards are
found, about advantages or about training.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ocr_rl.contract import Page, Reward, Score, Transcript, UserError
from ocr_rl.rollout.flow import Group


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedReward:
    """One reward of a recipe. Weight 0: shown in reports, not trained on."""

    name: str
    reward: Reward
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"the weight of {self.name} must be 0 or more, got {self.weight}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grades:
    """What the rewards say of sibling transcripts of one page."""

    scores: Mapping[str, tuple[Score, ...]]  # by reward name, one per transcript, values in [0, 1] or None
    weights: Mapping[str, float]  # of the rewards that apply to the page; they sum to 1
    rewards: tuple[float, ...]  # weighted mean over those, one per transcript


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedGroup:
    """A group with its grades, on its way to advantages."""

    group: Group
    grades: Grades


class GraderFault(Exception):
    """A reward failed; the policy's output is not to blame, and no score can be made of it."""

    def __init__(self, name: str, page_id: str, reason: str) -> None:
        super().__init__(name, page_id, reason)
        self.name, self.page_id, self.reason = name, page_id, " ".join(reason.split())  # one line

    def __str__(self) -> str:
        return f"Reward {self.name} failed on page {self.page_id}: {self.reason}"


class FaultBudget:
    """How many grader faults training puts up with: fewer than 5, or at most 1 % of the last 1,000 groups."""

    LAST, SHARE, FREE = 1000, 0.01, 5

    def __init__(self) -> None:
        self.total = 0
        self._recent: deque[bool] = deque(maxlen=self.LAST)

    def note(self, fault: GraderFault | None) -> None:
        """Count one group. Raises UserError when there are too many faults."""
        self._recent.append(fault is not None)
        self.total += fault is not None
        faults = sum(self._recent)
        if fault is not None and faults >= self.FREE and faults > self.SHARE * len(self._recent):
            raise UserError(f"{faults} of the last {len(self._recent)} groups could not be graded; the latest: {fault}")


def score(
    groups: Iterable[Group], rewards: Sequence[WeightedReward], budget: FaultBudget | None = None
) -> Iterator[GradedGroup]:
    """Grade group after group. A grader fault drops its group and is counted in `budget`; without one it is raised."""
    for group in groups:
        try:
            graded = grade(group.page, [sample.transcript() for sample in group.samples], rewards)
        except GraderFault as fault:
            if budget is None:
                raise
            budget.note(fault)
            continue
        if budget is not None:
            budget.note(None)
        yield GradedGroup(group=group, grades=graded)


def grade(page: Page, transcripts: Sequence[Transcript], rewards: Sequence[WeightedReward]) -> Grades:
    """Ask every reward about sibling transcripts. Raises GraderFault, and UserError where no reward applies."""
    scores = {each.name: _ask(each, page, transcripts) for each in rewards}
    applies = {each.name: each.weight for each in rewards if scores[each.name][0].value is not None and each.weight > 0}
    if not applies:
        raise UserError(f"Page {page.id}: none of the rewards with a weight applies to it; give it what they need.")
    total = sum(applies.values())
    weights = {name: weight / total for name, weight in applies.items()}
    return Grades(
        scores=scores,
        weights=weights,
        rewards=tuple(
            math.fsum(weight * _value(scores[name][k]) for name, weight in weights.items())
            for k in range(len(transcripts))
        ),
    )


def require_rewards(pages: Iterable[Page], rewards: Sequence[WeightedReward]) -> None:
    """Before training: UserError for the first page to which no reward applies or on which one breaks."""
    empty = Transcript(raw="", body="", finish="stop", num_tokens=1)
    for page in pages:
        try:
            grade(page, [empty], rewards)
        except GraderFault as fault:
            raise UserError(f"{fault}; mend the reward, or take it out of the recipe.") from fault


def _ask(asked: WeightedReward, page: Page, transcripts: Sequence[Transcript]) -> tuple[Score, ...]:
    try:
        scores = tuple(asked.reward(page, transcripts))
    except Exception as error:  # the boundary to other people's code
        raise GraderFault(asked.name, page.id, f"{type(error).__name__}: {error}") from error
    if len(scores) != len(transcripts):
        raise GraderFault(asked.name, page.id, f"{len(scores)} scores for {len(transcripts)} transcripts")
    values = [score.value for score in scores]
    if any(value is None for value in values) != all(value is None for value in values):
        raise GraderFault(asked.name, page.id, "None for some siblings and a value for others: None is about the page")
    if any(value is not None and math.isnan(value) for value in values):
        raise GraderFault(asked.name, page.id, "a value that is not a number")
    return tuple(one if one.value is None else replace(one, value=min(1.0, max(0.0, one.value))) for one in scores)


def _value(score: Score) -> float:
    assert score.value is not None
    return score.value
