"""One section an algorithm: its settings, and its answers to what a run asks. ALGORITHMS is their table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from ocr_rl.config.base import KeyOf, Natural, Positive, Section, Share
from ocr_rl.config.sections import PageSource
from ocr_rl.objectives.advantages import ADVANTAGES
from ocr_rl.objectives.aggregation import AGGREGATIONS
from ocr_rl.objectives.losses import IMPORTANCE, KL, RATIOS, SURROGATES


class Algorithm(Section):
    """What the wiring asks of an algorithm's section. Its steps are in the file of its name in `ocr_rl/learn/algos`."""

    name: ClassVar[str]  # of the section
    samples: ClassVar[bool] = True  # whether it needs a sampler while it learns
    on_policy: ClassVar[bool] = False  # whether it samples between its updates, so that it may go on with other pages
    lowers_entropy: ClassVar[bool] = False  # whether falling entropy is what it is meant to do

    @property
    def total_steps(self) -> int:
        """Optimiser updates from the start to the end."""
        raise NotImplementedError

    @property
    def learns_from_rewards(self) -> bool:
        """Whether the recipe's rewards score the policy's own samples."""
        return self.samples

    @property
    def needs_reference(self) -> bool:
        """Whether a frozen copy of the starting policy is kept in memory."""
        return False

    @property
    def group_size(self) -> int:
        """Siblings in a group of the policy's own samples."""
        return 1

    @property
    def comparison(self) -> str:
        """What of the rewards tells siblings apart: a key of ADVANTAGES."""
        return "centred"

    @property
    def training_pages(self) -> PageSource | None:
        """The pages that samples are drawn of; None where the algorithm opens its pages itself."""
        return None


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


class Grpo(Algorithm):
    """Shao et al. 2024 (arXiv 2402.03300) and its variants: groups of samples, scored, each against its siblings."""

    name = "grpo"
    on_policy = True

    pages: PageSource
    """The pages to learn from."""
    steps: Positive
    """Optimiser updates."""
    pages_per_step: Positive = 8
    """Pages whose groups teach something, in one rollout."""
    samples_per_page: int = Field(default=8, ge=2)
    """Siblings in a group."""
    minibatches: Positive = 1
    """Optimiser updates per rollout; more than one makes the ratio differ from 1."""
    advantage: Annotated[str, KeyOf(ADVANTAGES)] = "group_std"
    """How rewards become advantages (`ocr_rl/objectives/advantages.py`)."""
    surrogate: Annotated[str, KeyOf(SURROGATES)] = "clip"
    """What stands for the advantage (`ocr_rl/objectives/losses.py`); cispo keeps a gradient for every token."""
    ratio: Annotated[str, KeyOf(RATIOS)] = "token"
    """Of what the ratio to the old policy is taken: each token, the whole sample, or its geometric mean (GSPO)."""
    aggregation: Annotated[str, KeyOf(AGGREGATIONS)] = "sample_mean"
    """What a token counts in the loss (`ocr_rl/objectives/aggregation.py`): GRPO's, DAPO's or Dr. GRPO's choice."""
    epsilon: float | None = Field(default=None, gt=0)
    """The ratio is clipped below 1 - epsilon; by default 0.2, for geometric ratios GSPO's 0.0003."""
    epsilon_high: float | None = Field(default=None, gt=0)
    """The ratio is clipped above 1 + epsilon_high; by default epsilon, for geometric ratios GSPO's 0.0004."""
    delta: float | None = Field(default=None, gt=1)
    """Two-sided clip: the largest ratio that counts for a bad sample; by default unbounded."""
    beta: float = Field(default=0.0, ge=0)
    """Weight of the KL to the starting policy; 0: none."""
    kl: Annotated[str, KeyOf(KL)] = "k3"
    """The estimator of that KL."""
    importance_level: Annotated[str, KeyOf(IMPORTANCE)] = "token"
    """Truncated importance correction between sampler and learner: per token, or one a sample (geometric mean)."""
    importance_cap: float = Field(default=2.0, gt=0)
    """The largest importance weight that counts."""
    flip: Share = 0.0
    """Share of groups whose advantages are turned upside down: label noise, for studies."""
    refills: Natural = 1
    """How many more rollouts a step may ask for to replace groups without signal."""
    rest: Natural = 0
    """A page without signal is passed over for one of its turns, then two, four, at most so many; 0: never."""
    mask_unfinished: bool = False
    """Leave samples that hit max_tokens out of the loss; not beside `eos`, which would then push none of them down."""

    @model_validator(mode="after")
    def _one_bound(self) -> Grpo:
        if self.surrogate == "cispo" and self.delta is not None:
            raise ValueError("delta is for the clipped surrogate; cispo bounds every ratio by epsilon_high")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """How far below and above 1 the ratio may go.

        A geometric mean moves far less than a token's ratio, so that 0.2 would never clip it: GSPO's own bounds are
        3e-4 and 4e-4 (Zheng et al. 2025, arXiv 2507.18071, section 5.1).
        """
        low, high = (3e-4, 4e-4) if self.ratio == "geometric" else (0.2, 0.2)
        if self.epsilon is not None:
            low = high = self.epsilon
        return low, self.epsilon_high or high

    @property
    def total_steps(self) -> int:
        return self.steps

    @property
    def needs_reference(self) -> bool:
        return self.beta > 0

    @property
    def group_size(self) -> int:
        return self.samples_per_page

    @property
    def comparison(self) -> str:
        return self.advantage

    @property
    def training_pages(self) -> PageSource:
        return self.pages


class Rounds(Algorithm):
    """Samples of the policy are drawn before the first step of a round, then learnt from without sampling again."""

    pages: PageSource
    """The pages to learn from."""
    steps: Positive
    """Optimiser updates over all rounds."""
    rounds: Positive = 1
    """1: offline, once. More: fresh samples of the policy as it is then; steps must divide by it."""
    pages_per_round: Positive = 800
    """Pages whose samples are drawn before a round."""
    pages_per_step: Positive = 8
    """Pages of one update."""
    samples_per_page: int = Field(default=8, ge=2)
    """Samples of a page, of which the best (and the worst) is kept."""

    @model_validator(mode="after")
    def _whole(self) -> Rounds:
        if self.steps % self.rounds:
            raise ValueError(f"steps ({self.steps}) must divide by rounds ({self.rounds})")
        return self

    @property
    def total_steps(self) -> int:
        return self.steps

    @property
    def group_size(self) -> int:
        return self.samples_per_page

    @property
    def training_pages(self) -> PageSource:
        return self.pages


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


ALGORITHMS: Mapping[str, type[Algorithm]] = {section.name: section for section in (Sft, Grpo, Dpo, BestOfN)}
