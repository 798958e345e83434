"""A whole recipe: one policy, one algorithm, the rewards that score its samples, and the pages it is evaluated on."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator, Field, JsonValue, Tag, model_serializer, model_validator

from ocr_rl.config.algorithm import Algorithm
from ocr_rl.config.algorithms import ALGORITHMS, Dpo, Sft
from ocr_rl.config.base import Positive, Section
from ocr_rl.config.on_policy import OnPolicy, Ppo
from ocr_rl.config.sections import Evaluation, Optim, Policy, Sampling, Scoring
from ocr_rl.config.tripwires import Tripwire, Tripwires
from ocr_rl.track import Tracker

LEARNED = "reward_model:"  # begins the name of a reward that is a reward model's folder


class RewardChoice(Section):
    """A reward that counts, with its weight."""

    name: str
    """An installed plug-in (`ocr-rl plugins`), "my_file.py:MyReward", or "reward_model:FOLDER" (a learned one)."""
    weight: float = Field(default=1.0, gt=0)
    """Of the weighted mean over the rewards that apply to a page."""
    options: dict[str, JsonValue] = {}
    """The plug-in's own options."""
    by_part: bool = False
    """With advantage "gdpo": normalise each part by itself (the test types of pass_rate, with its weights, floors)."""


class Gate(Section):
    """A reward that adds nothing: below its bound the others count as 0."""

    name: str
    """As of a reward."""
    at_least: float = Field(gt=0, le=1)
    """The least value with which the other rewards of a transcript count."""
    holds: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The rewards that it holds back, where not all of them ("formulas count only if the page parses")."""
    options: dict[str, JsonValue] = {}
    """The plug-in's own options."""


class _Chosen(dict[str, Any]):
    """The keys of an algorithm's section, with the section's name."""

    def __init__(self, name: str, keys: dict[str, Any]) -> None:
        super().__init__(keys)
        self.name = name


if TYPE_CHECKING:
    AnyAlgorithm = Algorithm
else:
    AnyAlgorithm = Annotated[
        reduce(or_, (Annotated[section, Tag(name)] for name, section in ALGORITHMS.items())),
        Discriminator(lambda given: getattr(given, "name", None)),
    ]


class Recipe(Section):
    """A training run in one file. The section of an algorithm ([grpo], …) says how the policy learns."""

    seed: int = 0
    """Of pages' order, samples and adapters; the same seed on the same machine gives the same run."""
    policy: Policy
    """The model that learns."""
    algorithm: AnyAlgorithm
    """In TOML the section is named after the algorithm."""
    rewards: tuple[RewardChoice, ...] = ()
    """What the policy's own samples are scored by, as [[rewards]]."""
    gates: tuple[Gate, ...] = ()
    """Rewards that hold others back, as [[gates]]."""
    optim: Optim = Optim()
    """The optimiser."""
    sampling: Sampling = Sampling()
    """How transcripts are sampled."""
    scoring: Scoring = Scoring()
    """How rewards are asked."""
    evaluation: Evaluation | None = None
    """Held-out pages; by default none."""
    tripwires: Tripwires = Tripwires()
    """Bounds on the run's figures."""
    track: tuple[Tracker, ...] = ()
    """Where metrics go besides metrics.jsonl."""
    save_every: Positive = 100
    """Steps between checkpoints."""
    keep: Positive = 2
    """How many checkpoints are kept: the latest, and the one with the best evaluation, if any was evaluated."""

    @model_validator(mode="before")
    @classmethod
    def _choose(cls, given: Any) -> Any:
        """The one section that is an algorithm's becomes `algorithm`."""
        if not isinstance(given, dict):
            return given
        if isinstance(given.get("algorithm"), Algorithm):  # made in Python, not read from a file
            return given
        if "algorithm" in given:
            raise ValueError(f"the algorithm's section is named after it: write [{next(iter(ALGORITHMS))}] or another")
        chosen = [name for name in ALGORITHMS if given.get(name) is not None]
        if len(chosen) != 1:
            *first, last = (f"[{name}]" for name in ALGORITHMS)
            raise ValueError(f"give exactly one of the sections {', '.join(first)} and {last}")
        (name,) = chosen
        if not isinstance(given[name], dict):
            raise ValueError(f"{name} is a section: write [{name}] and its keys below it")
        shared = {key: value for key, value in given.items() if key not in ALGORITHMS}
        return {**shared, "algorithm": _Chosen(name, given[name])}

    @model_serializer(mode="wrap")
    def _name(self, handler: Any) -> dict[str, Any]:
        data = handler(self)
        return {self.algorithm.name if key == "algorithm" else key: value for key, value in data.items()}

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        name = self.algorithm.name
        if not self.algorithm.on_policy and "roll_back" in self.tripwires.actions:
            able = " and ".join(f"[{name}]" for name, section in ALGORITHMS.items() if section.on_policy)
            raise ValueError(f"tripwires: roll_back is for {able}, elsewhere a step has its pages; use warn or stop")
        if not self.algorithm.samples and (self.rewards or self.gates):
            raise ValueError(f"[{name}] learns from references and asks no reward: leave out [[rewards]] and [[gates]]")
        if self.algorithm.learns_from_rewards and not self.rewards:
            raise ValueError(f"[{name}] learns from rewards: name one as [[rewards]]; gates alone teach nothing")
        if self.policy.reference is not None and not (
            self.algorithm.needs_reference or isinstance(self.algorithm, Dpo)
        ):
            raise ValueError(f"policy.reference: [{name}] measures nothing from a reference here: leave it out")
        if not self.algorithm.writes and self.evaluation is not None:
            raise ValueError(f"[{name}] writes nothing and is measured on held-out pairs: leave out [evaluation]")
        if isinstance(self.algorithm, Ppo) and self.algorithm.critic.kind == "adapter" and not self.policy.lora_rank:
            raise ValueError(
                'ppo.critic.kind = "adapter" is a second adapter beside the policy\'s: set policy.lora_rank'
            )
        require_distinct(self.rewards, self.gates)
        if isinstance(self.algorithm, OnPolicy) and self.algorithm.mask_unfinished:
            require_no_eos(self.rewards, self.gates)
        return self

    @property
    def learned(self) -> list[str]:
        """Folders of the reward models that score the policy's own samples."""
        return [choice.name.removeprefix(LEARNED) for choice in self.mix if choice.name.startswith(LEARNED)]

    @property
    def mix(self) -> tuple[RewardChoice | Gate, ...]:
        """What scores the policy's own samples; nothing for SFT and for somebody's preferences."""
        return (*self.rewards, *self.gates) if self.algorithm.learns_from_rewards else ()

    @property
    def needs_sampler(self) -> bool:
        """Whether an engine is opened: for samples to learn from, or for transcripts of held-out pages."""
        return self.algorithm.samples and (self.algorithm.learns_from_rewards or self.evaluation is not None)

    @property
    def wants_front_matter(self) -> bool:
        """Whether olmOCR's front matter is rewarded or taught."""
        taught = isinstance(self.algorithm, Sft) and any(stage.front_matter for stage in self.algorithm.stages)
        return taught or any(choice.name == "front_matter" for choice in self.mix)

    @property
    def watched(self) -> Tripwires:
        """The tripwires, with the bound of `gap_max` that goes with the dtypes; SFT is meant to lower the entropy."""
        sampled = self.sampling.dtype or "float32"
        exact = self.policy.dtype == sampled == "float32" and not self.policy.autocast
        own: dict[str, Tripwire] = {}
        if self.tripwires.gap_max is None and exact:
            own["gap_max"] = Tripwire(above=0.01, steps=1, then="stop")
        entropy, usual = self.tripwires.entropy, Tripwires().entropy
        if self.algorithm.lowers_entropy and (entropy.above, entropy.below) == (usual.above, usual.below):
            own["entropy"] = entropy.model_copy(update={"below": None})
        return self.tripwires.model_copy(update=own)


def require_no_eos(rewards: tuple[RewardChoice, ...], gates: tuple[Gate, ...]) -> None:
    """ValueError where the end of a transcript is paid for while the samples without one are left out of the loss."""
    if any(choice.name == "eos" for choice in (*rewards, *gates)):
        raise ValueError(
            "mask_unfinished leaves samples without an end out of the loss, so eos pushes none of them down: "
            "leave out mask_unfinished (run-ons are then taught to end) or eos"
        )


def require_distinct(rewards: tuple[RewardChoice, ...], gates: tuple[Gate, ...]) -> None:
    """ValueError for a name that stands twice (scores are kept by name), or a gate that holds what is not there."""
    names = [choice.name for choice in (*rewards, *gates)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"rewards: {twice!r} is named twice; name it once, with its weight, or as a gate")
    counted = {choice.name for choice in rewards}
    if lost := next((name for gate in gates for name in gate.holds or () if name not in counted), None):
        raise ValueError(f"gates: holds names {lost!r}, which is none of the rewards of this recipe")
