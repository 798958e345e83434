"""The transcripts of an audit's cases, scored by the rewards: one trial a page.

Knows nothing about what a good score would be (`audit`) nor about which transcripts are tried (`audit_pages`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ocr_rl.contract import UserError
from ocr_rl.evaluate.audit_pages import Case, Label, floating, transcripts
from ocr_rl.objectives.advantages import ADVANTAGES
from ocr_rl.rollout.scoring import GroupScores, RewardFault, ScoreAll

MIX = "the mix"  # of the rewards, as the recipe weighs and gates them


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A page's transcripts by label, and the values of every reward that applies, one per transcript."""

    page_id: str
    places: Mapping[Label, Sequence[int]]  # which transcripts have a label
    texts: Sequence[str]
    values: Mapping[str, Sequence[float]]
    scores: GroupScores  # what the values are of
    silent: Mapping[str, str] = field(default_factory=dict)  # rewards that do not apply, and why
    ties: Mapping[str, Sequence[float]] = field(default_factory=dict)  # caption where the reference has it, elsewhere

    def of(self, reward: str, sort: str, name: str = "") -> list[float]:
        """A reward's values of the transcripts with that label."""
        return [self.values[reward][k] for k in self.places.get((sort, name), ())]

    def advantages(self, of: Sequence[int], siblings: Sequence[int]) -> list[float]:
        """GDPO's advantages of some transcripts, in one group with their siblings."""
        group = list(dict.fromkeys([*of, *siblings]))
        return list(ADVANTAGES["gdpo"]([_only(self.scores, group)])[0][: len(of)])


def _only(scores: GroupScores, siblings: Sequence[int]) -> GroupScores:
    """The scores of some siblings."""
    return replace(
        scores,
        by_reward={name: tuple(of_reward[k] for k in siblings) for name, of_reward in scores.by_reward.items()},
        passes=tuple(scores.passes[k] for k in siblings),
        rewards=tuple(scores.rewards[k] for k in siblings),
    )


def run_trials(cases: Sequence[Case], score_all: ScoreAll) -> list[Trial]:
    """Score every transcript of every case. UserError where a reward fails."""
    labelled = [list(transcripts(case)) for case in cases]
    groups = [
        (case.page, [transcript for _, transcript in of_case]) for case, of_case in zip(cases, labelled, strict=True)
    ]
    floats = {case.page.id: pair for case in cases if (pair := floating(case)) is not None}
    results = map(_scores, score_all([*groups, *floats.values()]))
    trials = []
    for (page, group), of_case in zip(groups, labelled, strict=True):
        places: dict[Label, list[int]] = {}
        for k, (label, _) in enumerate(of_case):
            places.setdefault(label, []).append(k)
        scores = next(results)
        trials.append(
            Trial(
                page_id=page.id,
                places=places,
                texts=[transcript.body for transcript in group],
                values=_values(scores),
                scores=scores,
                silent={name: s[0].why for name, s in scores.by_reward.items() if s[0].value is None},
            )
        )
    ties = {page_id: _values(next(results)) for page_id in floats}
    return [replace(trial, ties=ties.get(trial.page_id, {})) for trial in trials]


def _scores(result: GroupScores | RewardFault) -> GroupScores:
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
