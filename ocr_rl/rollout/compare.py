"""Scored groups are compared: every sample gets the advantage that it has over its siblings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ocr_rl.objectives.advantages import ADVANTAGES, FLAT
from ocr_rl.rollout.flow import ComparedGroup
from ocr_rl.rollout.sampler.base import seed_for
from ocr_rl.rollout.scoring import ScoredGroup


def with_advantages(groups: Sequence[ScoredGroup], how: str) -> list[ComparedGroup]:
    """Groups ready to learn from; `how` is a key of ADVANTAGES."""
    advantages = ADVANTAGES[how]([group.scores for group in groups])
    return [
        ComparedGroup(
            group=scored.group, scores=scored.scores.by_reward, rewards=scored.scores.rewards, advantages=advantages_G
        )
        for scored, advantages_G in zip(groups, advantages, strict=True)
    ]


def has_signal(group: ComparedGroup) -> bool:
    """Whether its samples differ at all: without that a group has no gradient."""
    return max(map(abs, group.advantages)) > FLAT


def upside_down(group: ComparedGroup, share: float, key: str) -> ComparedGroup:
    """Label noise: with probability `share` (by hash, so a resumed run has the same) the best sample is the worst."""
    if seed_for("flip", key, group.group.page.id) / 2**62 >= share:
        return group
    tokens = group.token_advantages
    return replace(
        group,
        advantages=tuple(-advantage for advantage in group.advantages),
        token_advantages=tokens and tuple(tuple(-advantage for advantage in own) for own in tokens),
    )
