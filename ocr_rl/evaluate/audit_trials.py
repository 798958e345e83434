"""The readings of an audit's cases with all that is made of them, scored by the rewards: one trial a reading.

Knows nothing about what a good score would be (`audit`) nor about which pages are tried (`audit_pages`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from random import Random

from ocr_rl.contract import Page, Transcript, UserError
from ocr_rl.evaluate.attacks import ATTACKS, Target
from ocr_rl.evaluate.attacks.order import caption_moved
from ocr_rl.evaluate.audit_pages import TRUTH, Case, Reading, front_of, percent, readings, transcript
from ocr_rl.evaluate.damage import CURVES, LEVELS
from ocr_rl.evaluate.edits import first_lines
from ocr_rl.objectives.advantages import ADVANTAGES
from ocr_rl.rollout.scoring import GroupScores, RewardFault, ScoreAll
from ocr_rl.text.elements import element_score

MIX = "the mix"  # of the rewards, as the recipe weighs and gates them
OMISSION = "first 60 % of the true lines"  # against a reader of the whole page who misreads a tenth of its letters
_OMITTED, _POOR = 0.6, 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Transcripts of one page that are scored together: the reading, its siblings, then what was made of it."""

    case: Case
    source: str
    transcripts: Sequence[Transcript]
    siblings: int
    attacks: Mapping[str, tuple[int, int]]  # what each is compared with, and what it is
    curves: Mapping[tuple[str, float], int]  # kind of damage and its share


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A group, and the values of every reward that applies, one per transcript."""

    group: Group
    scores: GroupScores  # what the values are of
    ties: Mapping[str, Sequence[float]] = field(default_factory=dict)  # caption where the truth has it, elsewhere

    @cached_property
    def values(self) -> Mapping[str, Sequence[float]]:
        return _values(self.scores)

    @property
    def silent(self) -> dict[str, str]:
        """The rewards that do not apply, and why."""
        return {name: s[0].why for name, s in self.scores.by_reward.items() if s[0].value is None}

    def honest(self, reward: str) -> Sequence[float]:
        """A reward's values of the reading and its siblings."""
        return self.values[reward][: 1 + self.group.siblings]

    def gain(self, reward: str, attack: str) -> float:
        before, after = self.group.attacks[attack]
        return self.values[reward][after] - self.values[reward][before]

    def advantage(self, attack: str) -> float:
        """How much GDPO prefers the attack to what it is compared with, in a group with the reading's siblings."""
        pair = self.group.attacks[attack]
        group = [*pair, *range(1, 1 + self.group.siblings)]
        before, after, *_ = ADVANTAGES["gdpo"]([_only(self.scores, group)])[0]
        return after - before

    def better(self, attack: str) -> bool:
        """Whether the attack reads the page better than what it is compared with; False where nobody can say."""
        if self.group.case.truth is None:
            return False
        before, after = (self._quality(k) for k in self.group.attacks[attack])
        return after > before + 1e-9

    def _quality(self, k: int) -> float:
        qualities = self.__dict__.setdefault("_qualities", {})
        if k not in qualities:
            qualities[k] = element_score(self.group.case.truth or "", self.group.transcripts[k].body)
        return qualities[k]


def _only(scores: GroupScores, siblings: Sequence[int]) -> GroupScores:
    """The scores of some siblings."""
    return replace(
        scores,
        by_reward={name: tuple(of_reward[k] for k in siblings) for name, of_reward in scores.by_reward.items()},
        passes=tuple(scores.passes[k] for k in siblings),
        rewards=tuple(scores.rewards[k] for k in siblings),
    )


def groups_of(case: Case, errors: Sequence[float]) -> Iterator[Group]:
    """A group for the truth, for each share of errors, and for each real sample that is attacked."""
    for reading in readings(case, errors):
        transcripts = [reading.transcript, *reading.siblings]
        attacks: dict[str, tuple[int, int]] = {}
        curves: dict[tuple[str, float], int] = {}
        for name, start, attacked in _attacks(case, reading):
            before = 0
            if start is not None:
                before = len(transcripts)
                transcripts.append(start)
            if attacked.raw != transcripts[before].raw or attacked.finish != "stop":
                attacks[name] = (before, len(transcripts))
                transcripts.append(attacked)
        if reading.source == TRUTH:
            for label, damaged in _damaged(case, reading):
                curves[label] = len(transcripts)
                transcripts.append(damaged)
        yield Group(
            case=case,
            source=reading.source,
            transcripts=transcripts,
            siblings=len(reading.siblings),
            attacks=attacks,
            curves=curves,
        )


def _attacks(case: Case, reading: Reading) -> Iterator[tuple[str, Transcript | None, Transcript]]:
    """Of every attack that applies its name, what it starts from (None: the reading) and what it makes of it."""
    target = Target(
        text=reading.transcript.body,
        second=reading.siblings[0].body,
        other=case.other,
        edges=case.edges,
        seed=case.seed,
    )
    for attack in ATTACKS:
        start = None if attack.start is None else attack.start(target)
        text = attack.make(target)
        if text is None or (attack.start is not None and start is None):
            continue
        front = front_of(case.page, lies=True) if attack.front == "lies" else reading.front
        before = None if start is None else transcript(start, reading.front)
        yield attack.name, before, transcript(text, front, "length" if attack.endless else "stop")
    if reading.source == percent(_POOR) and case.truth is not None:
        yield OMISSION, None, transcript(first_lines(case.truth, _OMITTED), reading.front)


def _damaged(case: Case, reading: Reading) -> Iterator[tuple[tuple[str, float], Transcript]]:
    for kind, damage in CURVES.items():
        for share in LEVELS:
            text = damage(reading.transcript.body, share, Random(f"{case.seed}/{kind}"))
            yield (kind, share), transcript(text, reading.front)


def _floating(case: Case) -> tuple[Page, list[Transcript]] | None:
    """The page with a caption before its table, and two transcripts: the true one, and one with the caption after it.

    None where the page has no table or where its true text is unknown.
    """
    orders = caption_moved(case.truth) if case.truth is not None else None
    if orders is None:
        return None
    page = replace(case.page, reference=orders[0] if case.page.reference is not None else None)
    return page, [transcript(text, front_of(case.page)) for text in orders]


def run_trials(cases: Sequence[Case], score_all: ScoreAll, errors: Sequence[float]) -> list[Trial]:
    """Score all that is made of every reading of every case. UserError where a reward fails."""
    groups = [group for case in cases for group in groups_of(case, errors)]
    floats = {case.page.id: pair for case in cases if 0.0 in errors and (pair := _floating(case)) is not None}
    jobs = [*((group.case.page, group.transcripts) for group in groups), *floats.values()]
    results = map(scores_or_error, score_all(jobs))
    trials = [Trial(group=group, scores=next(results)) for group in groups]
    ties = {page_id: _values(next(results)) for page_id in floats}
    return [
        replace(trial, ties=ties.get(trial.group.case.page.id, {})) if trial.group.source == TRUTH else trial
        for trial in trials
    ]


def scores_or_error(result: GroupScores | RewardFault) -> GroupScores:
    """The scores. UserError for a fault."""
    if isinstance(result, RewardFault):
        raise UserError(f"{result}; mend the reward, or take it out of the recipe.")
    return result


def _values(scores: GroupScores) -> dict[str, list[float]]:
    """By reward that applies, and of the mix."""
    values = {MIX: list(scores.rewards)}
    for name, of_reward in scores.by_reward.items():
        if of_reward[0].value is not None:
            values[name] = [score.value for score in of_reward if score.value is not None]
    return values
