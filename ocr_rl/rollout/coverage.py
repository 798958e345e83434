"""Which of a mix's rewards and gates apply to the pages that a run learns from: one that applies to few is inert.

`require_rewards` asks every reward about an empty transcript of every page before step 0. Knows nothing about training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ocr_rl.contract import Page, Transcript, UserError
from ocr_rl.rollout.scoring import GroupScores, RewardFault, ScoreAll, WeightedReward

FEW = 0.2  # of the pages: a reward that applies to fewer is named


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """To how many of the pages each reward applies, and what it says most often where it does not."""

    pages: int
    applies: Mapping[str, int]  # by reward or gate
    why: Mapping[str, str]

    def lines(self, rewards: Sequence[WeightedReward]) -> list[str]:
        """One sentence for each reward and gate that applies to no page or to few."""
        return [self._line(reward) for reward in rewards if self.applies[reward.name] < FEW * self.pages]

    def _line(self, reward: WeightedReward) -> str:
        count, is_gate = self.applies[reward.name], reward.gate is not None
        kind = "gate" if is_gate else "reward"
        reason = f" ({self.why[reward.name]})" if self.why.get(reward.name) else ""
        if count == 0:
            effect = "stands open and holds nothing back" if is_gate else "teaches nothing"
            return (
                f"! The {kind} {reward.name} applies to none of the {self.pages} training pages{reason}: it {effect}. "
                "Give pages what it needs, or take it out of the recipe."
            )
        effect = "it stands open on the others" if is_gate else "on the others the rest of the mix counts alone"
        share = f"{count} of the {self.pages} training pages, {count / self.pages:.1%}{reason}"
        return f"! The {kind} {reward.name} applies to {share}: {effect}."


def require_rewards(pages: Sequence[Page], score_all: ScoreAll) -> Coverage:
    """Before training: UserError for the first page to which no reward applies or on which one breaks."""
    empty = Transcript(raw="", body="", finish="stop", num_tokens=1)
    return _coverage(score_all([(page, [empty]) for page in pages]))


def _coverage(answers: Iterable[GroupScores | RewardFault]) -> Coverage:
    applies: Counter[str] = Counter()
    why: dict[str, Counter[str]] = {}
    pages = 0
    for scores in answers:
        if isinstance(scores, RewardFault):
            raise UserError(f"{scores}; mend the reward, or take it out of the recipe.") from scores
        pages += 1
        for name, (score, *_) in scores.by_reward.items():
            applies[name] += score.value is not None
            if score.value is None and score.why:
                why.setdefault(name, Counter())[score.why] += 1
    most = {name: reasons.most_common(1)[0][0] for name, reasons in why.items()}
    return Coverage(pages=pages, applies=applies, why=most)
