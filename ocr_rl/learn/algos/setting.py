"""What an algorithm works with: its section of the recipe says how, this value says with what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ocr_rl import config
from ocr_rl.contract import Page
from ocr_rl.learn.learner import Learner
from ocr_rl.rollout.collect import Asking, Score
from ocr_rl.rollout.crediting import Credit
from ocr_rl.rollout.sampler.base import Sampler, Sampling

OpenPages = Callable[[config.PageSource], Sequence[Page]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Of every algorithm."""

    seed: int
    learner: Learner
    open_pages: OpenPages  # a recipe's source -> its pages
    folder: Path  # of the run
    pages: Sequence[Page] = ()  # to learn from, where the algorithm does not open them itself


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSetting(Setting):
    """Of an algorithm that learns from the policy's own samples."""

    sampler: Sampler
    score: Score
    sampling: config.Sampling
    page_limits: Mapping[str, int] = field(default_factory=dict)  # by page id (`rollout.page_limits`)
    credit: Credit | None = None  # shares a sample's advantage out over its tokens
    # Steps done -> whether the loop saves then, or asks the sampler itself: then no rollout may be on its way.
    pauses: Callable[[int], bool] = lambda done: True

    def asking(
        self, algorithm: config.Algorithm, seed_at: Callable[[int], int], *, refills: int = 0, ahead: int = 0
    ) -> Asking:
        """How this algorithm's rollouts ask (`collect`)."""
        how = Sampling(
            n=algorithm.group_size,
            temperature=self.sampling.temperature,
            max_tokens=self.sampling.max_tokens,
            page_limits=self.page_limits,
        )
        return Asking(
            sampler=self.sampler,
            prompter=self.learner.prompter,
            score=self.score,
            sampling=how,
            seed_at=seed_at,
            comparison=algorithm.comparison,
            refills=refills,
            ahead=ahead,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoSetting(SamplingSetting):
    """Of PPO."""

    critic: Learner  # with weights of its own, or the policy's learner where the critic is a head on its trunk
