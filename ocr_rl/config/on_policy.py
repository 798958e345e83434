"""GRPO and PPO: their settings. What they share stands once, so that what tells them apart can be read."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ocr_rl.config.algorithm import OwnSamples
from ocr_rl.config.base import KeyOf, Natural, Positive, Section, Share
from ocr_rl.objectives.advantages import ADVANTAGES
from ocr_rl.objectives.aggregation import AGGREGATIONS
from ocr_rl.objectives.losses import IMPORTANCE, KL, RATIOS, SURROGATES


class OnPolicy(OwnSamples):
    """Samples of the policy as it is now, scored and learnt from at once; the clipped loss is one for all of these."""

    on_policy = True

    pages_per_step: Positive = 8
    """Pages of one rollout (of GRPO those whose groups teach something)."""
    minibatches: Positive = 1
    """Optimiser updates per rollout; more than one makes the ratio differ from 1."""
    surrogate: Annotated[str, KeyOf(SURROGATES)] = "clip"
    """What stands for the advantage (`ocr_rl/objectives/losses.py`); cispo keeps a gradient for every token."""
    ratio: Annotated[str, KeyOf(RATIOS)] = "token"
    """Of what the ratio to the old policy is taken: each token, the whole sample, or its geometric mean (GSPO)."""
    aggregation: Annotated[str, KeyOf(AGGREGATIONS)] = "sample_mean"
    """What a token counts in the loss (`ocr_rl/objectives/aggregation.py`): GRPO's, DAPO's or Dr. GRPO's choice."""
    epsilon: float | None = Field(default=None, gt=0)
    """The ratio is clipped below 1 - epsilon; by default 0.2, for geometric ratios, which 0.2 never clips, 0.0003."""
    epsilon_high: float | None = Field(default=None, gt=0)
    """The ratio is clipped above 1 + epsilon_high; by default epsilon, for geometric ratios GSPO's 0.0004."""
    delta: float | None = Field(default=None, gt=1)
    """Two-sided clip: the largest ratio that counts for a bad sample; by default unbounded."""
    beta: float = Field(default=0.0, ge=0)
    """Weight of the KL to the starting policy; 0: none."""
    kl: Annotated[str, KeyOf(KL)] = "k3"
    """The estimator of that KL."""
    importance_level: Annotated[str, KeyOf(IMPORTANCE)] = "token"
    """Truncated importance correction between sampler and learner: per token, one a sample (geometric mean), or none;
    the ratio is then taken to the sampler's own probabilities."""
    importance_cap: float = Field(default=2.0, gt=0)
    """The largest importance weight that counts."""
    importance_mask: tuple[float, float] | None = None
    """As in [0.2, 5.0]: leave out tokens (samples, by importance_level) whose weight lies outside; by default none."""
    ahead: Literal[0, 1] = 0
    """1: the next rollout is sampled while the learner updates, with the weights before that (docs/training.md)."""
    mask_unfinished: bool = False
    """Leave samples that hit max_tokens out of the loss; not beside `eos`, which would then push none of them down."""

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if self.surrogate == "cispo" and self.delta is not None:
            raise ValueError("delta is for the clipped surrogate; cispo bounds every ratio by epsilon_high")
        return self

    @model_validator(mode="after")
    def _around_one(self) -> Self:
        if self.importance_mask is not None and self.importance_level == "none":
            raise ValueError('importance_mask is of importance weights, and importance_level = "none" has none')
        if self.importance_mask is not None and not 0 <= self.importance_mask[0] < 1 < self.importance_mask[1]:
            raise ValueError(f"importance_mask must have 1 inside, as in [0.2, 5.0], got {list(self.importance_mask)}")
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
    def updates(self) -> int:
        """Optimiser updates per rollout, at most."""
        return self.minibatches

    @property
    def beta_of_loss(self) -> float:
        """Weight of the KL in the loss."""
        return self.beta

    @property
    def needs_reference(self) -> bool:
        return self.beta > 0


class Grpo(OnPolicy):
    """Shao et al. 2024 (arXiv 2402.03300) and its variants: groups of samples, scored, each against its siblings."""

    name = "grpo"

    samples_per_page: int = Field(default=8, ge=2)
    """Siblings in a group."""
    advantage: Annotated[str, KeyOf(ADVANTAGES)] = "group_std"
    """How rewards become advantages (`ocr_rl/objectives/advantages.py`)."""
    credit: Literal["sample", "spans", "siblings"] = "sample"
    """Who gets a sample's advantage: all its tokens alike, those where its tests found their text, or those in which it
    differs from siblings of other reward. Its sum stays the same."""
    credit_share: Share = 1.0
    """Share of the advantage that is given so; the rest goes to all tokens alike."""
    flip: Share = 0.0
    """Share of groups whose advantages are turned upside down: label noise, for studies."""
    refills: Natural = 1
    """How many more rollouts a step may ask for to replace groups without signal."""
    rest: Natural = 0
    """A page without signal is passed over for one of its turns, then two, four, at most so many; 0: never."""

    @model_validator(mode="after")
    def _splits(self) -> Grpo:
        if self.credit == "spans" and self.advantage in ("gdpo", "order", "extremes"):
            raise ValueError(
                f'credit = "spans" splits what is one factor times the rewards, and {self.advantage} is not: set '
                'advantage = "group_std", or credit = "siblings"'
            )
        if self.credit != "sample" and self.ratio != "token" and self.surrogate == "clip":
            raise ValueError(
                f'credit = "{self.credit}" tells tokens apart, and ratio = "{self.ratio}" moves all tokens of a sample '
                'by the sum of their advantages, which credit keeps: set ratio = "token", or surrogate = "cispo"'
            )
        if self.credit == "sample" and self.credit_share != 1.0:
            raise ValueError('credit_share is for credit = "spans" and "siblings": set one of them, or leave it out')
        return self

    @property
    def comparison(self) -> str:
        return self.advantage


class Critic(Section):
    """What tells PPO how much reward is still to come, token by token."""

    kind: Literal["model", "adapter", "head"] = "model"
    """A network of its own, as large as the policy; a second adapter on its base; or one more layer on its trunk."""
    path: str | None = None
    """With kind "model": the folder it begins from, a reward model's or any of this shape; by default the policy's."""
    lr: float | None = Field(default=None, gt=0)
    """Its own highest learning rate, but for a head; by default the policy's. Its schedule is the policy's."""
    warmup: Natural = 0
    """Steps at the start in which the critic learns alone."""
    clip: float | None = Field(default=None, gt=0)
    """How far a value may move in a rollout's updates before that counts against it; by default as far as it will."""
    weight: float = Field(default=0.5, gt=0)
    """With kind "head": of the critic's loss beside the policy's."""
    stop_gradient: bool = True
    """With kind "head": the critic's loss moves the head alone, not the policy."""

    @model_validator(mode="after")
    def _of_kind(self) -> Critic:
        if self.kind != "model" and self.path is not None:
            raise ValueError('path is for kind = "model": any other critic has the policy\'s own base')
        if self.kind == "head" and self.lr is not None:
            raise ValueError("lr: a head moves by the policy's own rate; set critic.weight")
        if self.kind != "head" and (odd := self.changed("weight", "stop_gradient")):
            raise ValueError(f'{odd[0]} is for kind = "head": any other critic has a loss and weights of its own')
        if self.kind == "head" and self.warmup and not self.stop_gradient:
            raise ValueError("warmup leaves the policy where it is: set stop_gradient = true, or leave out warmup")
        return self


class Ppo(OnPolicy):
    """Schulman et al. 2017 (arXiv 1707.06347) as in RLHF (Ouyang et al. 2022, arXiv 2203.02155): a critic's values."""

    name = "ppo"

    samples_per_page: Positive = 1
    """Samples of a page; a critic needs no siblings."""
    epochs: Positive = 1
    """How often a rollout is learnt from; each time in `minibatches` updates."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    """Discount of what comes a token later."""
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    """1: what really followed is the judge; lower: the sooner the critic is."""
    whiten: bool = True
    """Advantages of a rollout's tokens get mean 0 and variance 1."""
    kl_in: Literal["reward", "loss"] = "reward"
    """Where beta times the KL to the starting policy goes: off each token's reward (RLHF), or into the loss (GRPO)."""
    critic: Critic = Critic()
    """The critic."""

    @model_validator(mode="after")
    def _moves(self) -> Ppo:
        if self.critic.warmup >= self.steps:
            raise ValueError(f"critic.warmup ({self.critic.warmup}) must be less than steps ({self.steps})")
        return self

    @property
    def updates(self) -> int:
        return self.epochs * self.minibatches

    @property
    def beta_of_loss(self) -> float:
        return self.beta if self.kl_in == "loss" else 0.0

    @property
    def beta_of_reward(self) -> float:
        """What is taken off each token's reward for a nat of log-ratio to the start."""
        return self.beta if self.kl_in == "reward" else 0.0
