"""A group of samples becomes a scored group: every reward asked, its answers checked, weights applied.

The one place that decides what a reward's silence (None) or failure means. It knows nothing about how rewards are
found, about advantages or about training.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import SupportsFloat

from ocr_rl.contract import Page, Reward, Score, Transcript, UserError
from ocr_rl.rollout.flow import Group


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedReward:
    """One reward of a recipe. Weight 0: shown in reports, not trained on.

    `gate`: the least value with which a transcript's other rewards count; below it the transcript's total is 0, or,
    where `holds` names rewards, the value of each of those.
    `by_part`: per-reward normalisation (GDPO) takes each of its parts for itself, as the test types of `pass_rate`.
    Where the reward has options `weights` and `floors` by part, as that one has, they hold for its parts (`ByPart`).
    """

    name: str
    reward: Reward
    weight: float = 1.0
    gate: float | None = None
    holds: tuple[str, ...] = ()
    by_part: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"the weight of {self.name} must be 0 or more, got {self.weight}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ByPart:
    """How the parts of a reward count when each is normalised for itself."""

    weights: Mapping[str, float] = field(default_factory=dict)  # within the reward's own; a part not named: 1
    floors: Mapping[str, float] = field(default_factory=dict)

    def scale(self, score: Score) -> float:
        """What a transcript's parts are multiplied by: share / floor of the part that lacks most, as in `pass_rate`."""
        lacking = (score.parts[name] / floor for name, floor in self.floors.items() if name in score.parts)
        return min([1.0, *lacking])


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupScores:
    """What the rewards say of sibling transcripts of one page."""

    by_reward: Mapping[str, tuple[Score, ...]]  # by name, one per transcript, values in [0, 1] or None
    weights: Mapping[str, float]  # of the rewards that apply to the page; they sum to 1
    passes: tuple[bool, ...]  # every gate that holds all rewards and applies, one per transcript
    rewards: tuple[float, ...]  # weighted mean over the rewards that apply, 0 where a gate is not passed
    by_part: Mapping[str, ByPart] = field(default_factory=dict)  # rewards whose parts are normalised each for itself
    held: Mapping[str, tuple[bool, ...]] = field(default_factory=dict)  # by gate: whether it holds a transcript back


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredGroup:
    """A group with its scores, on its way to advantages."""

    group: Group
    scores: GroupScores


class RewardFault(Exception):
    """A reward failed; the policy's output is not to blame, and no score can be made of it."""

    def __init__(self, name: str, page_id: str, reason: str) -> None:
        super().__init__(name, page_id, reason)
        self.name, self.page_id, self.reason = name, page_id, " ".join(reason.split())  # one line

    def __str__(self) -> str:
        return f"Reward {self.name} failed on page {self.page_id}: {self.reason}"


ScoreAll = Callable[[Sequence[tuple[Page, Sequence[Transcript]]]], Iterable[GroupScores | RewardFault]]
FLOAT = 1e-9  # a gate's value may miss its least by rounding


class FaultBudget:
    """How many reward's faults training puts up with: fewer than 5, or at most 1 % of the last 1,000 groups."""

    LAST, SHARE, FREE = 1000, 0.01, 5

    def __init__(self) -> None:
        self.total = 0
        self._recent: deque[bool] = deque(maxlen=self.LAST)

    def note(self, fault: RewardFault | None) -> None:
        """Count one group. Raises UserError when there are too many faults."""
        self._recent.append(fault is not None)
        self.total += fault is not None
        faults = sum(self._recent)
        if fault is not None and faults >= self.FREE and faults > self.SHARE * len(self._recent):
            raise UserError(f"{faults} of the last {len(self._recent)} groups could not be scored; the latest: {fault}")


def score(
    groups: Sequence[Group], rewards: Sequence[WeightedReward], budget: FaultBudget | None = None
) -> Iterator[ScoredGroup]:
    """Score group after group in this process; faults as in `score_groups`."""
    return score_groups(groups, lambda pages: (score_or_fault(page, group, rewards) for page, group in pages), budget)


def score_groups(
    groups: Sequence[Group], score_all: ScoreAll, budget: FaultBudget | None = None
) -> Iterator[ScoredGroup]:
    """Score group after group. A reward's fault drops its group and counts in `budget`; without one it is raised."""
    transcripts = [(group.page, [sample.transcript() for sample in group.samples]) for group in groups]
    for group, scores in zip(groups, score_all(transcripts), strict=True):
        fault = scores if isinstance(scores, RewardFault) else None
        if budget is not None:
            budget.note(fault)
        elif fault is not None:
            raise fault
        if isinstance(scores, GroupScores):
            yield ScoredGroup(group=group, scores=scores)


def score_or_fault(
    page: Page, group: Sequence[Transcript], rewards: Sequence[WeightedReward]
) -> GroupScores | RewardFault:
    try:
        return score_page(page, group, rewards)
    except RewardFault as fault:
        return fault


def score_page(page: Page, transcripts: Sequence[Transcript], rewards: Sequence[WeightedReward]) -> GroupScores:
    """Ask every reward about sibling transcripts. Raises RewardFault, and UserError where no reward applies."""
    scores = {reward.name: ask(reward.name, reward.reward, page, transcripts) for reward in rewards}
    return combine(page, scores, rewards)


def combine(page: Page, scores: Mapping[str, tuple[Score, ...]], rewards: Sequence[WeightedReward]) -> GroupScores:
    """One total a transcript from the scores of all rewards. UserError where none with a weight applies."""
    applies = {
        reward.name: reward.weight
        for reward in rewards
        if scores[reward.name][0].value is not None and reward.weight > 0
    }
    if not applies:
        raise UserError(f"Page {page.id}: none of the rewards with a weight applies to it; give it what they need.")
    total = sum(applies.values())
    weights = {name: weight / total for name, weight in applies.items()}
    siblings = range(len(next(iter(scores.values()))))
    gates = [reward for reward in rewards if reward.gate is not None]
    held = {gate.name: tuple(not _opens(gate, scores, k) for k in siblings) for gate in gates}
    passes = tuple(not any(held[gate.name][k] for gate in gates if not gate.holds) for k in siblings)
    for gate in (gate for gate in gates if gate.holds):
        scores = {**scores, **{name: tuple(_after(gate, scores, name, k) for k in siblings) for name in gate.holds}}
    rewarded = (math.fsum(weight * _value(scores[name][k]) for name, weight in weights.items()) for k in siblings)
    return GroupScores(
        by_reward=scores,
        weights=weights,
        passes=passes,
        rewards=tuple(reward if passed else 0.0 for reward, passed in zip(rewarded, passes, strict=True)),
        held=held,
        by_part={reward.name: _by_part(reward.reward) for reward in rewards if reward.by_part},
    )


def _by_part(reward: Reward) -> ByPart:
    options = {option: getattr(reward, option, None) for option in ("weights", "floors")}
    return ByPart(**{option: value for option, value in options.items() if isinstance(value, Mapping)})


def _opens(gate: WeightedReward, scores: Mapping[str, tuple[Score, ...]], k: int) -> bool:
    """Where a gate does not apply to the page it is open."""
    assert gate.gate is not None
    value = scores[gate.name][k].value
    return value is None or value >= gate.gate - FLOAT


def _after(gate: WeightedReward, scores: Mapping[str, tuple[Score, ...]], name: str, k: int) -> Score:
    """What a gate leaves of another reward's score."""
    score = scores[name][k]
    if score.value is None or _opens(gate, scores, k):
        return score
    return Score(value=0.0, parts=dict.fromkeys(score.parts, 0.0), why=f"held back by {gate.name}")


def ask(name: str, reward: Reward, page: Page, transcripts: Sequence[Transcript]) -> tuple[Score, ...]:
    """One reward's answers, checked, clamped to [0, 1] and made plain. Raises RewardFault."""
    try:
        scores = tuple(_plain(score) for score in reward(page, transcripts))
    except _Strange as error:
        raise RewardFault(name, page.id, str(error)) from error
    except MemoryError:
        raise  # what fills a process is not only this reward: a worker that says so is ended
    except (Exception, SystemExit) as error:  # the boundary to other people's code
        raise RewardFault(name, page.id, f"{type(error).__name__}: {error}") from error
    if len(scores) != len(transcripts):
        raise RewardFault(name, page.id, f"{len(scores)} scores for {len(transcripts)} transcripts")
    if len({score.value is None for score in scores}) > 1:
        raise RewardFault(name, page.id, "None for some siblings and a value for others: None is about the page")
    return scores


class _Strange(Exception):
    """A score that says nothing."""


def _plain(score: Score) -> Score:
    """The same in Python's own types: what a plug-in made of them may not survive the way between two processes."""
    if score.value is not None and not math.isfinite(score.value):
        raise _Strange("a value that is not a number, or infinite")
    for part, share in score.parts.items():
        if not (isinstance(share, SupportsFloat) and math.isfinite(float(share))):
            raise _Strange(f"its part {part!r} is {share!r}, not a finite number")
    return Score(
        value=None if score.value is None else _clamped(score.value),
        parts={str(part): float(share) for part, share in score.parts.items()},
        why=_printable(str(score.why)),
    )


def _clamped(value: float) -> float:
    return min(1.0, max(0.0, float(value)))


def _printable(text: str) -> str:
    """One line that any terminal takes: control characters and halves of characters as Python would escape them."""
    line = " ".join(text.split())
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in line)


def _value(score: Score) -> float:
    assert score.value is not None
    return score.value
