"""What a study is: arms that share everything but how they learn, and the runs that follow from them.

One start, one set of pages, the same rewards and the same held-out pages for every arm, written down once; an arm adds
an algorithm and its settings. A claim's experiment is a variation of an arm. Everything here is pure.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from ocr_rl import config
from ocr_rl.config.base import KeyOf
from ocr_rl.contract import UserError

AlgorithmName = Annotated[str, KeyOf(config.ALGORITHMS)]
PairChoice = Literal["both_bad", "quartile1", "quartile2", "quartile3", "quartile4", "random_quarter"]
TUNING_SEED = 1000


class Arm(config.Section):
    algorithm: AlgorithmName
    """The section of a recipe that this arm learns by."""
    set: tuple[str, ...] = ()
    """Settings of this arm, as `ocr-rl train --set` takes them."""
    trials: tuple[tuple[str, ...], ...] = ((),)
    """Settings to choose from on the validation pages; every arm has as many."""


class Study(config.Section):
    seeds: tuple[int, ...] = Field(min_length=1)
    claim_seeds: tuple[int, ...] = (0,)
    """Seeds of the variations, out of `seeds`: each is compared with its arm at the same seed."""
    pages: config.PageSource
    validation: config.PageSource
    """Looked at while training: learning curves, and the choice between trials."""
    test: config.PageSource
    """Opened once, when every run has ended."""
    samples: int = Field(default=16, ge=2)
    """Samples of the start per test page: what it can write already."""
    rewards: tuple[config.RewardChoice, ...] = Field(min_length=1)
    """What scores samples, in every arm."""
    gates: tuple[config.Gate, ...] = ()
    """What holds rewards back, in every arm."""
    base: dict[str, Any]
    """A recipe without algorithm, seed and evaluation pages."""
    algorithms: dict[AlgorithmName, dict[str, Any]]
    """Sections of a recipe without pages; of sft, one stage."""
    arms: dict[str, Arm] = Field(min_length=1)
    variations: bool = True
    """Run the experiments of the claims too."""
    workers: config.Positive = 1
    """Processes side by side, each on its share of the cores."""

    @property
    def temperature(self) -> float:
        return float(self.base.get("sampling", {}).get("temperature", config.Sampling().temperature))

    @property
    def group_size(self) -> int:
        """Samples a page of the GRPO arm."""
        return int(
            self.algorithms.get("grpo", {}).get(
                "samples_per_page", config.Grpo.model_fields["samples_per_page"].default
            )
        )

    @model_validator(mode="after")
    def _equal(self) -> Study:
        config.require_distinct(self.rewards, self.gates)
        if lost := [name for name, arm in self.arms.items() if arm.algorithm not in self.algorithms]:
            raise ValueError(f"arms.{lost[0]}: there is no section algorithms.{self.arms[lost[0]].algorithm}")
        if len({len(arm.trials) for arm in self.arms.values()}) > 1:
            raise ValueError("arms must have equal numbers of trials, or the comparison is not on equal terms")
        if odd := set(self.claim_seeds) - set(self.seeds):
            raise ValueError(f"claim_seeds holds {min(odd)}, which is none of seeds")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """An arm with something changed, to test a claim."""

    name: str
    of: str
    set: tuple[str, ...] = ()
    pairs: PairChoice | None = None  # learn from these of the arm's own pairs alone
    late: bool = False  # start from where the SFT arm ended
    samples: int | None = None  # samples a page, with so many more pages that the tokens stay the same
    beside: str | None = None  # one more reward, of weight 1
    alone: str | None = None  # this reward instead of the study's, without gates
    colder: float | None = None  # sampling temperature, as a share of the study's

    def mixed(self, study: Study) -> Study:
        """The study with the rewards of this variation."""
        if self.alone is not None:
            return study.model_copy(update={"rewards": (config.RewardChoice(name=self.alone),), "gates": ()})
        if self.beside is not None:
            return study.model_copy(update={"rewards": (*study.rewards, config.RewardChoice(name=self.beside))})
        return study

    def settings(self, study: Study) -> tuple[str, ...]:
        if self.colder is not None:
            return (*self.set, f"sampling.temperature={self.colder * study.temperature}")
        if self.samples is None:
            return self.set
        section = config.Grpo.model_validate({"pages": study.pages, **study.algorithms["grpo"]})
        pages = section.pages_per_step * section.samples_per_page // self.samples
        return (*self.set, f"grpo.samples_per_page={self.samples}", f"grpo.pages_per_step={pages}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training run of the study; its folder is named after it."""

    arm: str
    seed: int
    recipe: config.Recipe
    trial: int | None = None
    variation: Variation | None = None

    @property
    def name(self) -> str:
        return f"{self.arm}-seed{self.seed}" if self.trial is None else f"{self.arm}-trial{self.trial}"


NOISE = (10, 20, 30)  # per cent of labels
FEWER = 4  # samples a page
VARIATIONS = (
    Variation(name="dpo_both_bad", of="dpo", pairs="both_bad"),
    *(Variation(name=f"dpo_flip{share}", of="dpo", set=(f"dpo.flip={share / 100}",)) for share in NOISE),
    *(Variation(name=f"grpo_flip{share}", of="grpo", set=(f"grpo.flip={share / 100}",)) for share in NOISE),
    Variation(name="dpo_late", of="dpo", late=True),
    Variation(name="grpo_late", of="grpo", late=True),
    Variation(name="dpo_quartile1", of="dpo", pairs="quartile1"),
    Variation(name="dpo_quartile2", of="dpo", pairs="quartile2"),
    Variation(name="dpo_quartile3", of="dpo", pairs="quartile3"),
    Variation(name="dpo_quartile4", of="dpo", pairs="quartile4"),
    Variation(name="dpo_random_quarter", of="dpo", pairs="random_quarter"),
    Variation(name="dpo_two_rewards", of="dpo", beside="bleu"),
    Variation(name="grpo_two_rewards", of="grpo", beside="bleu"),
    Variation(name="grpo_bleu", of="grpo", alone="bleu"),
    Variation(name="grpo_cool", of="grpo", colder=0.5),
    Variation(name="grpo_small_groups", of="grpo", samples=FEWER),
)


def load_study(name: str) -> Study:
    """A study by file path or by the name of a shipped one. Raises UserError with the field and the way out."""
    folder = Path(str(files("ocr_rl.study")))
    path = Path(name)
    if not path.suffix and not path.exists():
        path = folder / f"{name}.toml"
        if not path.exists():
            raise UserError(f"No study named {name!r}: shipped are {', '.join(_shipped(folder))}; or give a file.")
    data = config.read_toml(path, "Study ")
    try:
        study = Study.model_validate(data)
    except ValidationError as error:
        raise UserError(f"Study {path}: {config.explain(error, Study)}") from None
    for name, arm in study.arms.items():
        for trial in arm.trials:
            recipe_of(study, name, 0, trial)  # each is a whole recipe, or says what it lacks
    return study


def _shipped(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.toml"))


def tuning_jobs(study: Study) -> list[Job]:
    """None where there is nothing to choose from."""
    return [
        Job(arm=name, seed=TUNING_SEED, trial=k, recipe=recipe_of(study, name, TUNING_SEED, trial))
        for name, arm in study.arms.items()
        if len(arm.trials) > 1
        for k, trial in enumerate(arm.trials)
    ]


def main_jobs(study: Study, chosen: Mapping[str, int]) -> list[Job]:
    """`chosen`: the trial that was best, by arm."""
    return [
        Job(arm=name, seed=seed, recipe=recipe_of(study, name, seed, _chosen(study, name, chosen)))
        for seed in study.seeds
        for name in study.arms
    ]


def claim_jobs(study: Study, chosen: Mapping[str, int]) -> list[Job]:
    """The variations of the arms that there are."""
    if not study.variations:
        return []
    return [
        Job(
            arm=variation.name,
            seed=seed,
            variation=variation,
            recipe=recipe_of(
                variation.mixed(study),
                variation.of,
                seed,
                (*_chosen(study, variation.of, chosen), *variation.settings(study)),
            ),
        )
        for seed in study.claim_seeds
        for variation in VARIATIONS
        if variation.of in study.arms and (not variation.late or "sft" in study.arms)
    ]


def _chosen(study: Study, arm: str, chosen: Mapping[str, int]) -> tuple[str, ...]:
    return study.arms[arm].trials[chosen.get(arm, 0)]


def recipe_of(study: Study, name: str, seed: int, more: Sequence[str]) -> config.Recipe:
    """The arm's whole recipe. Raises UserError where it is none."""
    arm = study.arms[name]
    data = copy.deepcopy(study.base)
    section = copy.deepcopy(study.algorithms[arm.algorithm])
    pages = study.pages.model_dump(exclude_unset=True)
    if arm.algorithm == "sft":
        data["sft"] = {"stages": [{**section, "pages": pages}]}
    else:
        data[arm.algorithm] = {**section, "pages": pages}
        data["rewards"] = [choice.model_dump(exclude_unset=True) for choice in study.rewards]
        data["gates"] = [gate.model_dump(exclude_unset=True) for gate in study.gates]
    data["seed"] = seed
    data["evaluation"] = {
        **data.get("evaluation", {}),
        "sets": {"validation": study.validation.model_dump(exclude_unset=True)},
    }
    return config.parse_recipe(data, [*arm.set, *more], f"of the arm {name}")
