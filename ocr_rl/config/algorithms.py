"""One section an algorithm: its settings, and its answers to what a run asks. ALGORITHMS is their table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import Field, model_validator

from ocr_rl.config.algorithm import Algorithm, OwnSamples
from ocr_rl.config.base import Positive, Section, Share
from ocr_rl.config.on_policy import Grpo, Ppo
from ocr_rl.config.sections import PageSource


class Stage(Section):
    """One lesson of a curriculum."""

    pages: PageSource
    """Pages with reference transcripts."""
    steps: Positive
    """Optimiser updates."""
    pages_per_step: Positive
    """Pages of one update."""
    front_matter: bool = True
    """Teach olmOCR's output format (YAML front matter before the Markdown)."""


class Sft(Algorithm):
    """Supervised fine-tuning on reference transcripts, stage after stage."""

    name = "sft"
    samples = False
    lowers_entropy = True

    stages: tuple[Stage, ...] = Field(min_length=1)
    """The lessons, in order."""

    @property
    def total_steps(self) -> int:
        return sum(stage.steps for stage in self.stages)


class FromSamples(OwnSamples):
    """Samples of the policy are drawn before the first step, scored, and what is best (and worst) of them is kept."""

    pages_per_round: Positive = 800
    """Pages whose samples are drawn before a round."""
    pages_per_step: Positive = 8
    """Pages of one update."""
    samples_per_page: int = Field(default=8, ge=2)
    """Samples of a page, of which the best (and the worst) is kept."""


class Rounds(FromSamples):
    """Learnt from for a round, then drawn anew."""

    steps: Positive
    """Optimiser updates over all rounds."""
    rounds: Positive = 1
    """1: offline, once. More: fresh samples of the policy as it is then; steps must divide by it."""

    @model_validator(mode="after")
    def _whole(self) -> Rounds:
        if self.steps % self.rounds:
            raise ValueError(f"steps ({self.steps}) must divide by rounds ({self.rounds})")
        return self


class BestOfN(Rounds):
    """Rejection sampling: supervised fine-tuning on the best sample of each page."""

    name = "best_of_n"


class Dpo(Rounds):
    """Rafailov et al. 2023 (arXiv 2305.18290): pairs are the best and the worst sample of a page."""

    name = "dpo"

    beta: float = Field(default=0.1, gt=0)
    """How sharply the margin between the two answers counts; smaller moves the policy farther from the reference."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of the labels that the loss takes to be wrong (conservative DPO)."""
    length_normalised: bool = False
    """Margins are means over tokens instead of sums."""
    nll_anchor: float = Field(default=0.0, ge=0)
    """Times the chosen answer's negative log-likelihood per token, added to the loss."""
    margin: Share = 0.0
    """Pairs whose rewards differ by no more than this are ties and are dropped."""
    flip: Share = 0.0
    """Share of pairs whose labels are exchanged: label noise, for studies."""
    preferences: Path | None = None
    """A JSONL file of pairs (pdf, page, chosen, rejected) to learn from instead of sampling."""

    @property
    def learns_from_rewards(self) -> bool:
        return self.preferences is None


class RewardModel(FromSamples):
    """A learned reward (Ouyang et al. 2022, arXiv 2203.02155): the policy's own shape scores what it would write."""

    name = "reward_model"
    writes = False
    rounds: ClassVar[int] = 1

    pairs_per_page: Positive = 1
    """Of a page's samples: the best and the worst, then the second of both, and so on; at most half the samples."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of the labels that the loss takes to be wrong."""
    graded_margin: float = Field(default=0.0, ge=0)
    """Times the difference of a pair's rewards: by how much its scores should differ at least (Llama 2's margin)."""
    margin: Share = 0.0
    """Pairs whose rewards differ by no more than this are ties and are dropped."""
    flip: Share = 0.0
    """Share of training pairs whose labels are exchanged: label noise, for studies."""
    held_out: float = Field(default=0.1, gt=0, lt=1)
    """Share of the pages whose pairs are not learnt from: accuracy and calibration are measured on them."""
    preferences: Path | None = None
    """A JSONL file of pairs (pdf, page, chosen, rejected) to learn from instead of sampling."""

    @model_validator(mode="after")
    def _enough(self) -> RewardModel:
        own = {"graded_margin", "margin", "pairs_per_page", "samples_per_page", "pages_per_round"}
        if self.preferences is not None and (odd := own & self.model_fields_set):
            raise ValueError(f"{min(odd)} is for pairs of the policy's own samples: leave it out beside preferences")
        if self.pairs_per_page > self.samples_per_page // 2:
            raise ValueError(
                f"pairs_per_page ({self.pairs_per_page}) is at most half of samples_per_page ({self.samples_per_page})"
            )
        return self

    @property
    def learns_from_rewards(self) -> bool:
        return self.preferences is None


ALGORITHMS: Mapping[str, type[Algorithm]] = {
    section.name: section for section in (Sft, Grpo, Ppo, Dpo, BestOfN, RewardModel)
}
