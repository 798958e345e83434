"""The runs that follow from a study: trials, arms, variations that test claims, and reward models that score others.

A claim's experiment is a variation of an arm. Everything here is pure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from ocr_rl import config
from ocr_rl.study.plan import REWARD_MODEL, START, Study, recipe_of, reward_model_recipe, start_recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """An arm with something changed, to test a claim."""

    name: str
    of: str
    set: tuple[str, ...] = ()
    both_bad: bool = False  # learn from pairs of two bad answers of the start alone
    reference: str | None = None  # the arm whose end is the reference, from the study's own start
    longer: int = 1  # times the updates, and the samples
    alone: str | None = None  # this reward instead of the study's, without gates
    colder: float | None = None  # sampling temperature, as a share of the study's
    flip: float = 0.0  # share of wrong labels in the pairs that the arm's reward model learns from
    needs: str | None = None  # the arm without which it tells nothing
    pairs_of: str | None = None  # the variation that learns from the same pairs, and draws them

    def mixed(self, study: Study) -> Study:
        """The study with the rewards of this variation."""
        if self.alone is not None:
            return study.model_copy(update={"rewards": (config.RewardChoice(name=self.alone),), "gates": ()})
        return study

    def settings(self, study: Study, algorithm: config.Algorithm) -> tuple[str, ...]:
        """`algorithm` is the arm's."""
        if self.colder is not None:
            return (*self.set, f"sampling.temperature={self.colder * study.temperature}")
        if self.longer > 1:
            steps = (f"{algorithm.name}.steps={self.longer * algorithm.total_steps}",)
            if isinstance(algorithm, config.Rounds):
                steps += (f"{algorithm.name}.rounds={self.longer * algorithm.rounds}",)
            return (*self.set, *steps)
        return self.set


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training run of the study; its folder is named after it."""

    arm: str
    seed: int
    recipe: config.Recipe
    trial: int | None = None
    variation: Variation | None = None
    scored_by: str | None = None  # the run whose reward model scores its samples
    trains: bool = True  # or reads the test pages with what all others begin from

    @property
    def name(self) -> str:
        if not self.trains:
            return START
        return f"{self.arm}-seed{self.seed}" if self.trial is None else f"{self.arm}-trial{self.trial}-{self.seed}"

    @property
    def is_tested(self) -> bool:
        """Whether it reads the test pages when it has ended: an arm, a variation of one, or the start."""
        return not self.trains or (self.trial is None and not self.arm.startswith((REWARD_MODEL, START)))


NOISE = (40,)  # per cent of labels
LONGER = 3  # times the budget
LAMBDA = 0.95  # of advantages that a critic has a say in; 1 is what really followed
VARIATIONS = (
    Variation(name="dpo_both_bad", of="dpo", both_bad=True),
    Variation(name="dpo_both_bad_turned", of="dpo", both_bad=True, set=("dpo.flip=1.0",), pairs_of="dpo_both_bad"),
    *(Variation(name=f"dpo_flip{share}", of="dpo", set=(f"dpo.flip={share / 100}",)) for share in NOISE),
    *(Variation(name=f"grpo_flip{share}", of="grpo", set=(f"grpo.flip={share / 100}",)) for share in NOISE),
    Variation(name="dpo_reference", of="dpo", reference="sft", needs="sft"),
    Variation(name="grpo_reference", of="grpo", reference="sft", needs="sft"),
    Variation(name="grpo_extremes", of="grpo", set=("grpo.advantage=extremes",)),
    Variation(name="grpo_order", of="grpo", set=("grpo.advantage=order",)),
    Variation(name="grpo_bleu", of="grpo", alone="bleu"),
    Variation(name="grpo_cool", of="grpo", colder=0.5),
    *(
        Variation(name=f"{of}_long", of=of, longer=LONGER, needs="grpo_spans")
        for of in ("grpo", "grpo_spans", "dpo_iterative")
    ),
    *(Variation(name=f"rlhf_flip{share}", of="rlhf", flip=share / 100) for share in NOISE),
    Variation(name="ppo_lambda", of="ppo", set=(f"ppo.gae_lambda={LAMBDA}",)),
)


def digest(job: Job) -> str:
    """Of all that makes a run what it is, but for code: what two studies' runs of one name must share."""
    varied = job.variation
    what = [job.recipe.model_dump_json(exclude_defaults=True), job.scored_by]
    what += [str(varied.both_bad), varied.reference] if varied else []
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def needs(study: Study, job: Job) -> list[str]:
    """The runs whose models it takes."""
    names = [start_name(study)] if study.start and job.name != start_name(study) else []
    names += [job.scored_by] if job.scored_by else []
    if job.variation is not None:
        names += [f"{arm}-seed{job.seed}" for arm in (job.variation.reference, job.variation.pairs_of) if arm]
    return names


def start_name(study: Study) -> str:
    """Of the run that makes the start, where there is one."""
    return f"{START}-seed{study.seeds[0]}"


def jobs_before_choice(study: Study) -> list[Job]:
    """All that must end before the trials can choose."""
    models = [job for job in reward_model_jobs(study) if job.seed in study.tuning_seeds]
    return [*start_jobs(study), *models, *tuning_jobs(study)]


def jobs_after_choice(study: Study, chosen: Mapping[str, int]) -> list[Job]:
    """Seed by seed: what has ended when a sitting ends is a study of fewer seeds. The start first, which all need."""
    models = [job for job in reward_model_jobs(study) if job.seed in study.seeds]
    begun = Job(arm=START, seed=study.seeds[0], recipe=main_jobs(study, chosen)[0].recipe, trains=False)
    every = [*models, *main_jobs(study, chosen), *claim_jobs(study, chosen)]
    return [*start_jobs(study), begun, *sorted(every, key=lambda job: study.seeds.index(job.seed))]


def start_jobs(study: Study) -> list[Job]:
    """The run that makes the start of all others, where the study asks for one."""
    return [Job(arm=START, seed=study.seeds[0], recipe=start_recipe(study))] if study.start else []


def reward_model_jobs(study: Study) -> list[Job]:
    """What the runs scored by a reward model wait for: one a seed, and those that learn from wrong labels too."""
    if not study.learns_rewards:
        return []
    tuning = study.tuning_seeds if tuning_jobs(study) else ()
    flips = dict.fromkeys((job.variation.flip, job.seed) for job in claim_jobs(study, {}) if job.variation)
    wanted = [*((0.0, seed) for seed in (*tuning, *study.seeds)), *((flip, seed) for flip, seed in flips if flip)]
    return [
        Job(arm=_reward_model(flip), seed=seed, recipe=reward_model_recipe(study, seed, flip)) for flip, seed in wanted
    ]


def tuning_jobs(study: Study) -> list[Job]:
    """None where there is nothing to choose from."""
    return [
        Job(
            arm=name,
            seed=seed,
            trial=k,
            recipe=recipe_of(study, name, seed, trial),
            scored_by=_scorer(study, name, seed),
        )
        for seed in study.tuning_seeds
        for name, arm in study.arms.items()
        if len(arm.trials) > 1
        for k, trial in enumerate(arm.trials)
    ]


def main_jobs(study: Study, chosen: Mapping[str, int]) -> list[Job]:
    """`chosen`: the trial that was best, by arm."""
    return [
        Job(
            arm=name,
            seed=seed,
            recipe=recipe_of(study, name, seed, _chosen(study, name, chosen)),
            scored_by=_scorer(study, name, seed),
        )
        for seed in study.seeds
        for name in study.arms
    ]


def claim_jobs(study: Study, chosen: Mapping[str, int]) -> list[Job]:
    """The variations of the arms that there are."""
    if not study.variations:
        return []
    return [
        _varied(study, variation, seed, _chosen(study, variation.of, chosen))
        for seed in study.claim_seeds
        for variation in VARIATIONS
        if _applies(variation, study)
    ]


def _applies(variation: Variation, study: Study) -> bool:
    arm = study.arms.get(variation.of)
    if arm is None or (variation.flip and arm.scored_by != REWARD_MODEL):
        return False
    if variation.reference is not None:  # without one to begin with another one is nothing
        algorithm = recipe_of(study, variation.of, study.seeds[0], ()).algorithm
        if not (algorithm.needs_reference or isinstance(algorithm, config.Dpo)):
            return False
    return variation.needs in (None, *study.arms)


def _varied(study: Study, variation: Variation, seed: int, chosen: tuple[str, ...]) -> Job:
    algorithm = recipe_of(study, variation.of, seed, chosen).algorithm
    settings = (*chosen, *variation.settings(study, algorithm))
    return Job(
        arm=variation.name,
        seed=seed,
        variation=variation,
        recipe=recipe_of(variation.mixed(study), variation.of, seed, settings),
        scored_by=_scorer(study, variation.of, seed, variation.flip),
    )


def _scorer(study: Study, arm: str, seed: int, flip: float = 0.0) -> str | None:
    """The run whose reward model scores this arm's samples."""
    return f"{_reward_model(flip)}-seed{seed}" if study.arms[arm].scored_by == REWARD_MODEL else None


def _reward_model(flip: float) -> str:
    return f"{REWARD_MODEL}_flip{round(100 * flip)}" if flip else REWARD_MODEL


def _chosen(study: Study, arm: str, chosen: Mapping[str, int]) -> tuple[str, ...]:
    return study.arms[arm].trials[chosen.get(arm, 0)]
