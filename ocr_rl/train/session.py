"""A session: everything that a run's algorithm works with, opened in order and closed again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.learn import ranks
from ocr_rl.learn.adapter_critic import AdapterCritic
from ocr_rl.learn.algos import STEPS
from ocr_rl.learn.algos.setting import PpoSetting, SamplingSetting, Setting
from ocr_rl.learn.checkpoints import resume
from ocr_rl.learn.fit import Plan
from ocr_rl.learn.learned_reward import LearnedReward, RewardLearner, files_of, require_reward_model
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.memory import memory_plan, require_memory
from ocr_rl.learn.network import Reads
from ocr_rl.learn.probe import gains, require_eyes
from ocr_rl.learn.step import Step
from ocr_rl.models.load import commit_of, model_folder, sampling_dtype, use_dtype, weight_files
from ocr_rl.pages.bound import BoundSources
from ocr_rl.policy import open_learning_origin, open_origin, open_sampler
from ocr_rl.rollout.collect import Score
from ocr_rl.rollout.crediting import open_credit
from ocr_rl.rollout.flow import Group
from ocr_rl.rollout.page_limits import page_limits
from ocr_rl.rollout.prompt import Origin
from ocr_rl.rollout.reward_pool import RewardPool, weighted
from ocr_rl.rollout.sampler.base import Sampler
from ocr_rl.rollout.scoring import FaultBudget, ScoredGroup, score_groups
from ocr_rl.run import Run
from ocr_rl.track import open_trackers
from ocr_rl.train.checks import checked_pages, require_lengths
from ocr_rl.train.evaluation import HeldOut, by_likelihood, by_pairs, by_transcripts, held_out_pages


@dataclass(frozen=True, slots=True, kw_only=True)
class Lent:
    """What a study lends to each of its runs: an open sampler for policies of their shape, and a folder of pages."""

    sampler: Sampler
    pages: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A run with everything open that its algorithm works with."""

    algorithm: config.Algorithm
    setting: Setting
    held_out: HeldOut
    plan: Plan
    sources: BoundSources
    state: Mapping[str, Any]  # where the algorithm goes on
    evaluates_start: bool
    critic: Learner | None = None  # with weights of its own

    def steps(self, state: Mapping[str, Any]) -> Iterator[Step]:
        """The algorithm's steps from a state on."""
        return STEPS[type(self.algorithm)](self.algorithm, self.setting, state)

    def evaluate_start(self) -> None:
        """Evaluate the policy before its first update, unless the run goes on from a later one."""
        if self.plan.evaluate and self.evaluates_start and self.setting.learner.policy == 0:
            self.plan.evaluate(0)


@contextmanager
def open_session(
    recipe: config.Recipe, run: Run, *, go_on: bool, until: int | None, lent: Lent | None
) -> Iterator[Session]:
    """Open pages, learner and sampler, the cheap and the doubtful first; UserError where one of them does not fit."""
    with ExitStack() as stack:
        sources = bound_sources(recipe, run, lent, go_on=go_on)
        written, recipe = recipe, with_engines_dtype(with_folders(recipe, sources))
        pool = stack.enter_context(closing(open_pool(recipe, run)))
        origin = open_learning_origin(recipe, _start_model(recipe, run))
        credit = open_credit(recipe, pool.rewards, origin.prompter.processor.tokenizer)
        if credit is not None:
            stack.enter_context(closing(credit))
        require_lengths(recipe, origin.prompter)
        memory = memory_plan(recipe, origin.path)
        print(memory.to_text())
        require_memory(memory)
        hold_weights(recipe, sources)
        pages = checked_pages(recipe, sources, origin.prompter, pool)
        held_out = held_out_pages(recipe, sources)
        ranks.tell("", "open", "policy", recipe, origin.path)
        learner = _policy(recipe, origin)
        critic = _critic(recipe, origin, learner)
        done, state = resume(learner, run, critic) if go_on else (0, {})
        if until is not None and done >= until:
            checkpoints = run.folder / "ckpt"
            raise UserError(f"--until: {run.folder} is at step {done} already; its checkpoints are {checkpoints}.")
        run.trackers = open_trackers(recipe.track, run.folder, written.model_dump(mode="json"), done)
        shared: dict[str, Any] = {
            "seed": recipe.seed,
            "learner": learner,
            "open_pages": sources,
            "folder": run.folder,
            "pages": pages,
        }
        setting = Setting(**shared)
        sampler = lent.sampler if lent else None
        if recipe.algorithm.samples:
            if sampler is None and recipe.needs_sampler:
                sampler = stack.enter_context(closing(open_sampler(recipe.sampling, origin, recipe.policy)))
            if sampler is not None:
                limits = page_limits(
                    recipe.sampling,
                    run.folder,
                    pages,
                    origin.prompter,
                    begun=sources.begun,
                    workers=recipe.scoring.workers,
                )
                shared |= {"sampler": sampler, "score": scorer(pool), "sampling": recipe.sampling, "credit": credit}
                shared["page_limits"] = limits
                if isinstance(recipe.algorithm, config.Ppo):
                    setting = PpoSetting(**shared, critic=critic or learner)
                else:
                    setting = SamplingSetting(**shared)
            if recipe.algorithm.on_policy and sampler is not None:
                require_eyes(learner, sampler, pages)
        plan = _plan(recipe, run, setting, held_out, sampler, until=until)
        if isinstance(setting, SamplingSetting):
            setting = replace(setting, pauses=plan.pauses)
        yield Session(
            algorithm=recipe.algorithm,
            setting=setting,
            critic=critic,
            held_out=held_out,
            plan=plan,
            sources=sources,
            state=state,
            evaluates_start=sampler is not None and not isinstance(learner, RewardLearner),
        )


def _plan(
    recipe: config.Recipe,
    run: Run,
    setting: Setting,
    held_out: HeldOut,
    sampler: Sampler | None,
    *,
    until: int | None,
) -> Plan:
    """When this run saves and evaluates; with a sampler it is evaluated by transcripts, and at its end in any case."""
    total, every = recipe.algorithm.total_steps, recipe.evaluation.every if recipe.evaluation else 0
    if isinstance(setting.learner, RewardLearner):
        evaluate, every = by_pairs(setting.learner, setting.pages, run), recipe.save_every
    elif sampler is None:  # SFT, or somebody's preferences without held-out pages
        evaluate = by_likelihood(recipe.algorithm, held_out, setting.learner)
    else:
        max_tokens = recipe.evaluation.max_tokens if recipe.evaluation else 1
        evaluate = by_transcripts(held_out, max_tokens, setting.learner, sampler, run)
        every = every or (total if recipe.algorithm.samples else 0)
    return Plan(
        total=total,
        until=until,
        save_every=recipe.save_every,
        keep=recipe.keep,
        evaluate_every=every,
        tripwires=recipe.watched,
        probe=partial(gains, setting.learner) if recipe.algorithm.on_policy else None,
        evaluate=evaluate,
    )


def bound_sources(recipe: config.Recipe, run: Run, lent: Lent | None, *, go_on: bool) -> BoundSources:
    """What opens the recipe's pages; its files (pairs, and rewards of one's own) are held to what they were at once."""
    begun = go_on and (run.folder / "config.json").exists()
    sources = BoundSources(run.folder, lent.pages if lent else run.folder / "pages", begun=begun)
    if sources.late:
        print(f"{run.folder}: began before its pages were written down; it is bound to those that are there now.")
    if isinstance(recipe.algorithm, config.Dpo | config.RewardModel) and recipe.algorithm.preferences is not None:
        sources.hold(recipe.algorithm.preferences)
    for folder in recipe.learned:
        require_reward_model(folder)
        for file in files_of(folder):
            sources.hold(file)
    for choice in recipe.mix:
        if (place := choice.name.rpartition(":")[0]).endswith(".py"):
            sources.hold(Path(place))
    return sources


def with_folders(recipe: config.Recipe, sources: BoundSources) -> config.Recipe:
    """The recipe with the folders of its models, for every rank: of a hub name, that of the commit it began with."""

    def folder(name: str | None) -> str | None:
        if name is None:
            return None
        found = model_folder(name, sources.commits.get(name))
        if found != name and (commit := commit_of(found)) is not None:
            sources.commits.setdefault(name, commit)
        return found

    policy, algorithm = recipe.policy, recipe.algorithm
    policy = policy.model_copy(update={"path": folder(policy.path), "reference": folder(policy.reference)})
    if isinstance(algorithm, config.Ppo):
        critic = algorithm.critic.model_copy(update={"path": folder(algorithm.critic.path)})
        algorithm = algorithm.model_copy(update={"critic": critic})
    return recipe.model_copy(update={"policy": policy, "algorithm": algorithm})


def with_engines_dtype(recipe: config.Recipe) -> config.Recipe:
    """The recipe that says in what its engine computes on this machine: tripwires and the memory plan go by it."""
    dtype = sampling_dtype(recipe.sampling, recipe.policy)
    return recipe.model_copy(update={"sampling": recipe.sampling.model_copy(update={"dtype": dtype})})


def hold_weights(recipe: config.Recipe, sources: BoundSources) -> None:
    """Hold the weights of its models' folders to what they were; a commit of the hub is what it was.

    The start of an adapter, or a reference, is in no checkpoint. UserError where one has changed.
    """
    critic = recipe.algorithm.critic.path if isinstance(recipe.algorithm, config.Ppo) else None
    for folder in filter(None, dict.fromkeys((recipe.policy.path, recipe.policy.reference, critic))):
        if commit_of(folder) is None:
            for file in weight_files(folder):
                sources.hold(file)


def follow() -> None:
    """What the other processes of `torchrun` do: their share of each update of the first one, until that one ends."""
    ranks.follow(lambda which, recipe, path: _OPEN[which](recipe, open_learning_origin(recipe, path)))


def _policy(recipe: config.Recipe, origin: Origin) -> Learner:
    algorithm = recipe.algorithm
    shared: dict[str, Any] = {"steps": algorithm.total_steps, "seed": recipe.seed}
    if isinstance(algorithm, config.RewardModel):
        return RewardLearner(origin, recipe.policy, recipe.optim, **shared, reference=False, reads=Reads.SCALARS)
    kind = algorithm.critic.kind if isinstance(algorithm, config.Ppo) else None
    return Learner(
        origin,
        recipe.policy,
        recipe.optim,
        **shared,
        reference=algorithm.needs_reference or recipe.policy.reference is not None,
        reads=Reads.WORDS | Reads.SCALARS if kind == "head" else Reads.WORDS,
        stop_gradient=isinstance(algorithm, config.Ppo) and kind == "head" and algorithm.critic.stop_gradient,
        critic_adapter=kind == "adapter",
    )


def _critic(recipe: config.Recipe, origin: Origin, policy: Learner | None = None) -> Learner | None:
    """A critic with weights of its own, where the recipe asks for one; it reads the policy's prompts.

    Of a reward model it takes the trunk: a head that says a score in nats would be wrong of a return in [0, 1].
    """
    algorithm = recipe.algorithm
    if not isinstance(algorithm, config.Ppo) or algorithm.critic.kind == "head":
        return None
    cfg = algorithm.critic
    optim = recipe.optim if cfg.lr is None else recipe.optim.model_copy(update={"lr": cfg.lr})
    if cfg.kind == "adapter":
        assert policy is not None  # `require_ranks`: there is one process
        return AdapterCritic(policy, optim)
    ranks.tell("", "open", "critic", recipe, origin.path)
    start = origin if cfg.path is None else replace(origin, path=cfg.path)
    return Learner(
        start,
        recipe.policy,
        optim,
        steps=algorithm.total_steps,
        reference=False,
        seed=recipe.seed,
        name="critic",
        reads=Reads.SCALARS,
    )


_OPEN = {"policy": _policy, "critic": _critic}


def _start_model(recipe: config.Recipe, run: Run) -> str:
    if recipe.policy.path is not None:
        return recipe.policy.path
    from ocr_rl.models.fresh import new_policy

    assert recipe.policy.fresh is not None  # config.Policy sees to it
    folder = run.folder / f"start-seed{recipe.seed}"
    if not folder.exists():
        aside = folder.with_name(folder.name + ".part")  # so that a half-written policy cannot look whole
        shutil.rmtree(aside, ignore_errors=True)
        new_policy(aside, recipe.seed, recipe.policy.fresh)
        os.replace(aside, folder)
    return str(folder)


def open_pool(recipe: config.Recipe, run: Run) -> RewardPool:
    """The recipe's rewards in worker processes (which start when something is to be scored), learned ones here."""
    learned = {
        config.LEARNED + folder: open_learned_reward(folder, micro_tokens=recipe.optim.micro_tokens)
        for folder in recipe.learned
    }
    return RewardPool(
        choices=recipe.mix,
        rewards=weighted(recipe.mix, timeout_s=recipe.scoring.timeout_s, learned=learned),
        learned=learned,
        workers=recipe.scoring.workers,
        timeout_s=recipe.scoring.timeout_s,
        faults=run.folder / "faults",
    )


def open_learned_reward(folder: str, *, micro_tokens: int) -> LearnedReward:
    """The reward model of a folder. UserError where it is none."""
    require_reward_model(folder)
    policy = config.Policy(path=folder, dtype=use_dtype(folder))
    return LearnedReward(open_origin(policy, folder), policy, micro_tokens=micro_tokens)


def scorer(pool: RewardPool) -> Score:
    """Scores groups with a budget of faults that lasts for the whole run; whoever comes second waits.

    With a rollout ahead it is asked from two threads: by that rollout, and by who looks why those before it taught
    nothing. A pool takes one at a time: who is done first ends the workers that are busy.
    """
    budget, one_at_a_time = FaultBudget(), Lock()

    def scored(groups: Sequence[Group]) -> list[ScoredGroup]:
        with one_at_a_time:
            return list(score_groups(groups, pool.score_all, budget))

    return scored
