"""Rewards of sibling samples become advantages: how much better than its siblings is a sample?

Pure functions on lists of floats, no tensors. They know nothing about pages or losses. A batch is a list of groups, a
group the rewards of its samples; groups may differ in size. A group of one has no siblings: advantage 0.

    centred([[1.0, 0.0], [0.5, 0.5]])  ->  [(0.5, -0.5), (0.0, 0.0)]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocr_rl.rollout.scoring import GroupScores

EPS = 1e-4  # added to a standard deviation, as TRL does
FLAT = 1e-6  # advantages below this are rounding noise

Batch = Sequence[Sequence[float]]
Advantages = list[tuple[float, ...]]


def centred(batch: Batch) -> Advantages:
    """Reward - group mean, no scaling (Dr. GRPO, Liu et al. 2025, arXiv 2503.20783)."""
    means = [fmean(group) for group in batch]
    return [tuple(reward - mean for reward in group) for group, mean in zip(batch, means, strict=True)]


def group_std(batch: Batch) -> Advantages:
    """(Reward - group mean) / (group standard deviation + EPS), ddof 1 (GRPO, Shao et al. 2024, arXiv 2402.03300)."""
    return [_scaled(advantages, _std(group)) for advantages, group in zip(centred(batch), batch, strict=True)]


def batch_std(batch: Batch) -> Advantages:
    """(Reward - group mean) / (standard deviation of all rewards of the batch + EPS), ddof 1."""
    std = _std([reward for group in batch for reward in group])
    return [_scaled(advantages, std) for advantages in centred(batch)]


def leave_one_out(batch: Batch) -> Advantages:
    """Reward - mean of the siblings' rewards (RLOO, Ahmadian et al. 2024, arXiv 2402.14740): centred * G / (G - 1)."""
    return [tuple(advantage * len(group) / max(1, len(group) - 1) for advantage in group) for group in centred(batch)]


def order(batch: Batch) -> Advantages:
    """`group_std` of each reward's rank among its siblings, equals sharing theirs: who is better, not by how much."""
    return group_std([_ranks(group) for group in batch])


def extremes(batch: Batch) -> Advantages:
    """`group_std` of 1 for the first best sample, -1 for the first worst and 0 for the others.

    What a pair of DPO (`best_and_worst`) tells of a group; an advantage's norm is that of `group_std`.
    """
    return group_std([_signs(group) for group in batch])


def _ranks(group: Sequence[float]) -> list[float]:
    ordered = sorted(group)
    return [ordered.index(reward) + (ordered.count(reward) - 1) / 2 for reward in group]


def _signs(group: Sequence[float]) -> list[float]:
    best, worst = group.index(max(group)), group.index(min(group))
    return [float(k == best) - float(k == worst) for k in range(len(group))]


def gdpo(batch: Sequence[Mapping[str, Sequence[float]]], weights: Sequence[Mapping[str, float]]) -> Advantages:
    """Every reward scaled inside its group (`group_std`), then the weighted sum (GDPO, arXiv 2601.05242).

    So a reward with a small spread counts as much as one with a large. `batch[j][name][k]` is the reward `name` of
    sample k of group j. Unlike the paper, the sum is not scaled again over the batch: a step's size would then depend
    on which pages share it.
    """
    advantages: Advantages = []
    for group, weight in zip(batch, weights, strict=True):
        scaled = {name: group_std([values])[0] for name, values in group.items()}
        columns = zip(*([weight[name] * value for value in values] for name, values in scaled.items()), strict=True)
        advantages.append(tuple(math.fsum(column) for column in columns))
    return advantages


def _total(scale: Callable[[Batch], Advantages]) -> Callable[[Sequence[GroupScores]], Advantages]:
    return lambda batch: scale([group.rewards for group in batch])


def columns(group: GroupScores) -> tuple[dict[str, list[float]], dict[str, float]]:
    """What GDPO normalises: (values per transcript, weight) by reward, or by "reward/part" where parts count alone.

    A transcript that a gate holds back has 0 everywhere. Parts share their reward's weight, alike or as its own
    `weights` say, and are scaled where one is below its floor (`ByPart`); a part that some sibling lacks stays out.
    """
    values: dict[str, list[float]] = {}
    weights: dict[str, float] = {}
    for name, weight in group.weights.items():
        for key, column, share in _columns_of(group, name):
            values[key] = [value if passes else 0.0 for value, passes in zip(column, group.passes, strict=True)]
            weights[key] = weight * share
    return values, weights


def _columns_of(group: GroupScores, name: str) -> list[tuple[str, list[float], float]]:
    """(key, value per transcript, share of the reward's weight) of a reward as a whole, or of each of its parts."""
    scores, by_part = group.by_reward[name], group.by_part.get(name)
    shared = [part for part in scores[0].parts if all(part in score.parts for score in scores)]
    counts = {part: by_part.weights.get(part, 1.0) for part in shared} if by_part else {}
    if not by_part or sum(counts.values()) <= 0:
        return [(name, [score.value or 0.0 for score in scores], 1.0)]
    scales = [by_part.scale(score) for score in scores]
    return [
        (
            f"{name}/{part}",
            [scale * _share(score.parts[part]) for scale, score in zip(scales, scores, strict=True)],
            counts[part] / sum(counts.values()),
        )
        for part in shared
    ]


def _share(part: float) -> float:
    """A part may be a count for people to read; what is learnt from lies in [0, 1], as a value does."""
    return min(1.0, max(0.0, part))


def shares(batch: Sequence[GroupScores], how: str) -> dict[str, float]:
    """What share of the batch's advantages each reward (or part) makes: sums to 1, or is empty without any spread.

    A reward's piece of a transcript's advantage is the weighted, centred value that it adds to it, scaled as `how`
    scales (for all but "gdpo" the scale is the same for all rewards of a transcript); shares are those of the sums of
    absolute pieces. What gates take away counts with the rewards that they take it from.
    """
    total: dict[str, float] = {}
    for group in batch:
        values, weights = columns(group)
        spread = _std(group.rewards) + EPS if how == "group_std" else 1.0
        for name, column in values.items():
            scaled = group_std([column])[0] if how == "gdpo" else centred([column])[0]
            total[name] = total.get(name, 0.0) + weights[name] * math.fsum(map(abs, scaled)) / spread
    whole = math.fsum(total.values())
    return {name: piece / whole for name, piece in total.items()} if whole > FLAT else {}


def _per_reward(batch: Sequence[GroupScores]) -> Advantages:
    table = [columns(group) for group in batch]
    return gdpo([values for values, _ in table], [weights for _, weights in table])


ADVANTAGES: Mapping[str, Callable[[Sequence[GroupScores]], Advantages]] = {
    "group_std": _total(group_std),
    "batch_std": _total(batch_std),
    "centred": _total(centred),
    "leave_one_out": _total(leave_one_out),
    "gdpo": _per_reward,
    "order": _total(order),
    "extremes": _total(extremes),
}


def _std(rewards: Sequence[float]) -> float:
    return stdev(rewards) if len(rewards) > 1 else 0.0


def _scaled(advantages: Sequence[float], std: float) -> tuple[float, ...]:
    return tuple(advantage / (std + EPS) for advantage in advantages)
