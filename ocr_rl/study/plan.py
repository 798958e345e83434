"""What a study is: arms that share everything but how they learn. The runs that follow from them: `jobs`.

One start, one set of pages, the same rewards and the same held-out pages for every arm, written down once; an arm adds
an algorithm and its settings. Everything here is pure.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from ocr_rl import config
from ocr_rl.config.base import KeyOf
from ocr_rl.contract import UserError

AlgorithmName = Annotated[str, KeyOf(config.ALGORITHMS)]
Scorer = Literal["rewards", "reward_model"]
REWARD_MODEL = "reward_model"  # the algorithm, and what the runs are called that learn by it
START = "start"  # the run that makes the start, where there is one


class Arm(config.Section):
    algorithm: AlgorithmName
    """The section of a recipe that this arm learns by."""
    scored_by: Scorer = "rewards"
    """reward_model: by one that was learnt from the start's samples at the same seed, alone, without gates."""
    set: tuple[str, ...] = ()
    """Settings of this arm, as `ocr-rl train --set` takes them."""
    trials: tuple[tuple[str, ...], ...] = ((),)
    """Settings to choose from on the validation pages; every arm has as many."""


class Start(config.Section):
    """A little SFT before everything: no arm reads these pages' references."""

    steps: config.Positive
    """Updates of `algorithms.sft`."""
    pages: config.PageSource


class Study(config.Section):
    seeds: tuple[int, ...] = Field(min_length=1)
    tuning_seeds: tuple[int, ...] = Field(default=(1000,), min_length=1)
    """Seeds of the trials, none of `seeds`: a trial's score is the mean over them."""
    claim_seeds: tuple[int, ...] = (0,)
    """Seeds of the variations, out of `seeds`: each is compared with its arm at the same seed."""
    pages: config.PageSource
    validation: config.PageSource
    """Looked at while training: learning curves, and the choice between trials."""
    test: config.PageSource
    """Opened once, when every run has ended."""
    start: Start | None = None
    """What makes the start of every arm out of the policy; by default the policy is the start."""
    samples: int = Field(default=16, ge=2)
    """Samples of the start per test page: what it can write already."""
    rewards: tuple[config.RewardChoice, ...] = Field(min_length=1)
    """What scores samples, in every arm."""
    gates: tuple[config.Gate, ...] = ()
    """What holds rewards back, in every arm."""
    base: dict[str, Any]
    """A recipe without algorithm, seed and evaluation pages."""
    algorithms: dict[AlgorithmName, dict[str, Any]]
    """Sections of a recipe without pages; of sft, one stage. That of reward_model is for the arms scored by one."""
    reward_model_set: tuple[str, ...] = ()
    """Settings of the runs that learn a reward model, as `ocr-rl train --set` takes them."""
    arms: dict[str, Arm] = Field(min_length=1)
    variations: bool = True
    """Run the experiments of the claims too."""
    workers: config.Positive = 1
    """Processes side by side, each on its share of the cores."""

    @property
    def learns_rewards(self) -> bool:
        """Whether an arm is scored by a reward model."""
        return any(arm.scored_by == REWARD_MODEL for arm in self.arms.values())

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
        for name, arm in self.arms.items():
            self._require_scorer(name, arm)
        if len({len(arm.trials) for arm in self.arms.values()}) > 1:
            raise ValueError("arms must have equal numbers of trials, or the comparison is not on equal terms")
        if odd := set(self.claim_seeds) - set(self.seeds):
            raise ValueError(f"claim_seeds holds {min(odd)}, which is none of seeds")
        if both := set(self.tuning_seeds) & set(self.seeds):
            raise ValueError(f"tuning_seeds holds {min(both)}, which is one of seeds: tune on others")
        if self.start is not None and "sft" not in self.algorithms:
            raise ValueError("start asks for SFT; write [algorithms.sft], or leave start out")
        return self

    def _require_scorer(self, name: str, arm: Arm) -> None:
        if arm.algorithm == REWARD_MODEL:
            raise ValueError(f"arms.{name}: a reward model writes nothing; name it by scored_by of an arm that does")
        if name.startswith(REWARD_MODEL):
            raise ValueError(f"arms.{name}: the runs that learn a reward model are called so; choose another name")
        if name.startswith(START):
            raise ValueError(f"arms.{name}: what all arms begin from is called so; choose another name")
        if arm.scored_by == REWARD_MODEL:
            if not config.ALGORITHMS[arm.algorithm].samples:
                raise ValueError(f"arms.{name}: {arm.algorithm} learns from references; leave out scored_by")
            if REWARD_MODEL not in self.algorithms:
                raise ValueError(f"arms.{name}: is scored by a reward model; write [algorithms.{REWARD_MODEL}]")


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
    if study.learns_rewards:
        reward_model_recipe(study, 0, 0.0)
    if study.start is not None:
        start_recipe(study)
    return study


def _shipped(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.toml"))


def recipe_of(study: Study, name: str, seed: int, more: Sequence[str]) -> config.Recipe:
    """The arm's whole recipe. Raises UserError where it is none.

    An arm scored by a reward model names one that is nowhere yet: which folder it is, is known when its run has ended.
    """
    arm = study.arms[name]
    data = _shared(study, seed)
    section = copy.deepcopy(study.algorithms[arm.algorithm])
    pages = study.pages.model_dump(exclude_unset=True)
    if arm.algorithm == "sft":
        data["sft"] = {"stages": [{**section, "pages": pages}]}
    else:
        data[arm.algorithm] = {**section, "pages": pages}
        data |= {"rewards": [{"name": config.LEARNED}]} if arm.scored_by == REWARD_MODEL else _mix(study)
    data["evaluation"] = {
        **data.get("evaluation", {}),
        "sets": {"validation": study.validation.model_dump(exclude_unset=True)},
    }
    return config.parse_recipe(data, [*arm.set, *more], f"of the arm {name}")


def start_recipe(study: Study) -> config.Recipe:
    """Of the run that makes the start. Raises UserError where it is no recipe."""
    assert study.start is not None
    data = _shared(study, study.seeds[0])
    data.pop("evaluation", None)
    stage = {**copy.deepcopy(study.algorithms["sft"]), "steps": study.start.steps}
    data["sft"] = {"stages": [{**stage, "pages": study.start.pages.model_dump(exclude_unset=True)}]}
    return config.parse_recipe(data, [], "of the start")


def reward_model_recipe(study: Study, seed: int, flip: float) -> config.Recipe:
    """Of the run whose model scores samples; it learns from pairs told apart by the study's rewards and gates.

    `flip` is the share of wrong labels. Raises UserError where it is no recipe.
    """
    data = _shared(study, seed)
    data.pop("evaluation", None)  # it writes nothing
    section = copy.deepcopy(study.algorithms[REWARD_MODEL])
    data |= {REWARD_MODEL: {**section, "pages": study.pages.model_dump(exclude_unset=True)}, **_mix(study)}
    more = (f"{REWARD_MODEL}.flip={flip}",) if flip else ()
    return config.parse_recipe(data, [*study.reward_model_set, *more], "of the reward model")


def _shared(study: Study, seed: int) -> dict[str, Any]:
    return {**copy.deepcopy(study.base), "seed": seed}


def _mix(study: Study) -> dict[str, Any]:
    return {
        "rewards": [choice.model_dump(exclude_unset=True) for choice in study.rewards],
        "gates": [gate.model_dump(exclude_unset=True) for gate in study.gates],
    }
