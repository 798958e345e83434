"""A recipe becomes a run: the wiring of pages, policy, sampler, rewards, algorithm and loop. `ocr-rl train`."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from ocr_rl import config
from ocr_rl.contract import Page, Transcript, UserError
from ocr_rl.evaluate.audit import require_honest
from ocr_rl.evaluate.figures import summary
from ocr_rl.evaluate.report import write_report
from ocr_rl.evaluate.results import PageResult, judge_page, read_rows, write_rows
from ocr_rl.evaluate.transcribe import transcribe
from ocr_rl.learn import ranks
from ocr_rl.learn.algos.grpo import grpo
from ocr_rl.learn.algos.rounds import best_of_n, dpo, read_preferences
from ocr_rl.learn.algos.sft import reference_rows, require_lessons, sft
from ocr_rl.learn.fit import Evaluate, fit, resume
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.memory import memory_plan, require_memory
from ocr_rl.learn.model import model_folder
from ocr_rl.learn.probe import looks, page_gain, require_eyes
from ocr_rl.learn.step import Step
from ocr_rl.pages.images import image_of
from ocr_rl.pages.raster import PageError
from ocr_rl.pages.source import open_pages
from ocr_rl.policy import open_sampler, policy_prompter, policy_settings
from ocr_rl.rollout.flow import Group
from ocr_rl.rollout.graders import Graders, weighted
from ocr_rl.rollout.prompt import Prompter, PromptTooLong
from ocr_rl.rollout.sampler.base import Sampler
from ocr_rl.rollout.scoring import FaultBudget, GradedGroup, graded, require_rewards
from ocr_rl.rollout.settings import PromptSettings
from ocr_rl.rollout.watch import falls
from ocr_rl.run import Run, environment
from ocr_rl.track import open_trackers

OpenPages = Callable[[config.PageSource], list[Page]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lent:
    """What a study lends to each of its runs: an open sampler for policies of their shape, and a folder of pages."""

    sampler: Sampler
    pages: Path


def train(
    recipe: config.Recipe, out: Path, *, go_on: bool = False, until: int | None = None, lent: Lent | None = None
) -> Path:
    """Train as the recipe says, below `out`; returns the folder of the trained policy.

    With `until`, only to that step, as an interruption would: a checkpoint on the way, and no report.

    Who lends something reports on many runs at once: no report is written here then, and SFT is evaluated by its
    transcripts, as the others are.
    """
    run = Run(out)
    run.claim(recipe.model_dump(mode="json"), resume=go_on)
    with closing(open_graders(recipe, run)) as graders:
        return _trained(recipe, run, graders, go_on, until, lent)


def follow(recipe: config.Recipe) -> None:
    """What the other processes of `torchrun` do: their share of each update of the first one, until that one ends."""

    def open_learner(start_model: str) -> Learner:
        settings = policy_settings(recipe.policy, start_model)
        return _learner(recipe, start_model, settings, policy_prompter(recipe.policy, start_model, settings))

    ranks.follow(open_learner)


def require_ranks(recipe: config.Recipe) -> None:
    """UserError for what only a single process can do."""
    if ranks.world() > 1 and recipe.sft is None and recipe.sampling.engine == "vllm":
        raise UserError(
            'sampling.engine: "vllm" runs inside the process of the learner, which shares its weights with others '
            'here; set sampling.engine = "transformers", or start without torchrun.'
        )


def _trained(
    recipe: config.Recipe, run: Run, graders: Graders, go_on: bool, until: int | None, lent: Lent | None
) -> Path:
    require_ranks(recipe)
    if until is not None and not 1 <= until < recipe.steps:
        raise UserError(f"--until must be a step before the last one (1 to {recipe.steps - 1}), got {until}.")
    begin = partial(run.start, recipe.model_dump(mode="json"), resume=go_on)  # once everything has been opened
    pages = partial(open_pages, root=lent.pages if lent else run.folder / "pages")
    start_model = _start_model(recipe, run)
    settings = policy_settings(recipe.policy, start_model)
    prompter = policy_prompter(recipe.policy, start_model, settings)
    require_lengths(recipe, prompter)
    plan = memory_plan(recipe, start_model)
    print(plan.to_text())
    require_memory(plan)
    training_pages = _taught(recipe, pages, prompter, graders)
    held_out = evaluation_pages(recipe, pages)
    ranks.tell("open_learner", start_model)
    learner = _learner(recipe, start_model, settings, prompter)
    done, state = resume(learner, run) if go_on else (0, {})
    if until is not None and done >= until:
        raise UserError(f"--until: {run.folder} is at step {done} already; its checkpoints are {run.folder / 'ckpt'}.")
    run.trackers = open_trackers(recipe.track, run.folder, recipe.model_dump(mode="json"), done)
    loop = partial(
        fit,
        total=recipe.steps,
        until=until,
        save_every=recipe.save_every,
        keep=recipe.keep,
        state=state,
        tripwires=recipe.watched,
    )
    every = recipe.evaluation.every if recipe.evaluation else 0
    if recipe.sft is not None:
        lessons = recipe.sft
        evaluate = (
            _evaluation(recipe, held_out, learner, lent.sampler, run)
            if lent
            else _probe(recipe.sft, held_out, learner, prompter)
        )
        steps = lambda state: sft(lessons, recipe.seed, learner.policy, pages, prompter)  # noqa: E731
        begin()
        if evaluate and lent and done == 0:
            evaluate(0)
        return loop(steps, learner, run, evaluate_every=every, evaluate=evaluate)
    sampler = lent.sampler if lent else open_sampler(recipe.sampling, start_model, prompter, recipe.policy)
    try:
        evaluate = _evaluation(recipe, held_out, learner, sampler, run)
        steps = partial(_sampling_steps, recipe, training_pages, graders, learner, sampler, run)
        probe = None
        if recipe.grpo is not None:
            require_eyes(learner, sampler, training_pages)
            probe = partial(page_gain, learner)
        begin()
        if evaluate and done == 0:
            evaluate(0)
        trained = loop(steps, learner, run, probe=probe, evaluate_every=every or recipe.steps, evaluate=evaluate)
    finally:
        if lent is None:
            sampler.close()
    if lent is None and until is None:
        for name, shown in held_out.items():
            report_run(run, name, shown, recipe, longest_px=prompter.longest_px, device=str(learner.device))
    return trained


def evaluate_policy(
    sampler: Sampler,
    prompter: Prompter,
    pages: Sequence[Page],
    *,
    max_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[PageResult]:
    """One graded transcript per page (greedy unless a temperature is given), by the strict reading that rewards use."""
    rows = []
    for page, found in transcribe(
        pages, sampler, prompter, max_tokens=max_tokens, temperature=temperature, seed=seed, label="evaluating"
    ):
        if not isinstance(found, Transcript):
            raise UserError(f"{found}; take the page out of the evaluation pages.")
        rows.append(judge_page(page, found, "strict"))
    return rows


def report_run(
    run: Run, name: str, pages: Sequence[Page], recipe: config.Recipe, *, longest_px: int, device: str
) -> None:
    """report.html, report.md and report.json of an evaluation set: before against after, with the learning curves."""
    evals = sorted((run.folder / "eval").glob(f"*/{name}.jsonl"))
    env = environment()
    worse = "; ".join(map(str, falls(run.metrics())))
    write_report(
        run.folder / "report" / name,
        title=f"Training run {run.folder.name}: {name} pages",
        candidates={"before": read_rows(evals[0]), "after": read_rows(evals[-1])},
        pages={page.id: page for page in pages},
        images=partial(image_of, longest_px=longest_px),
        curves={run.folder.name: run.metrics()},
        notes={
            "seed": str(recipe.seed),
            "device": f"{device}, {env['cores']} cores",
            "date": env["date"],
            "reading": "strict",
            **({"falling test types": worse} if worse else {}),
            "versions": ", ".join(f"{name} {version}" for name, version in env["packages"].items()),
        },
    )


def _learner(recipe: config.Recipe, start_model: str, settings: PromptSettings, prompter: Prompter) -> Learner:
    reference = recipe.grpo is not None and recipe.grpo.beta > 0
    return Learner(
        start_model,
        prompter,
        settings,
        recipe.policy,
        recipe.optim,
        steps=recipe.steps,
        reference=reference,
        seed=recipe.seed,
    )


def _start_model(recipe: config.Recipe, run: Run) -> str:
    if recipe.policy.path is not None:
        return model_folder(recipe.policy.path)
    from ocr_rl.learn.nano import new_nano

    folder = run.folder / f"start-seed{recipe.seed}"
    if not folder.exists():
        aside = folder.with_name(folder.name + ".part")  # so that a half-written policy cannot look whole
        shutil.rmtree(aside, ignore_errors=True)
        new_nano(aside, recipe.seed)
        os.replace(aside, folder)
    return str(folder)


def require_lengths(recipe: config.Recipe, prompter: Prompter) -> None:
    """UserError where a page and its transcript may be longer than what the engine is opened for."""
    if recipe.sft is not None or recipe.sampling.engine == "transformers":
        return
    prompt = _longest_prompt(prompter)
    prompt = min(prompt, prompter.max_prompt_tokens or prompt)
    asked = {"sampling.max_tokens": recipe.sampling.max_tokens}
    if recipe.evaluation is not None:
        asked["evaluation.max_tokens"] = recipe.evaluation.max_tokens
    for name, tokens in asked.items():
        if prompt + tokens > recipe.sampling.max_model_len:
            raise UserError(
                f"{name} is {tokens} and a prompt has up to {prompt} tokens, more than sampling.max_model_len "
                f"({recipe.sampling.max_model_len}) together: raise it, or lower {name} or policy.max_prompt_tokens."
            )


def _longest_prompt(prompter: Prompter) -> int:
    """Tokens of a square page's prompt: no page has more."""
    side = prompter.longest_px
    return len(prompter.expand(prompter.num_image_tokens(Image.new("1", (side, side)))))


def require_short(pages: Sequence[Page], prompter: Prompter) -> None:
    """UserError naming the first page whose prompt is longer than policy.max_prompt_tokens, and how many are.

    Nothing is cut to fit. Pages that cannot be drawn do not count here: each costs itself alone when it is asked for.
    """
    if prompter.max_prompt_tokens is None or _longest_prompt(prompter) <= prompter.max_prompt_tokens:
        return  # nothing need be drawn to know
    long = []
    for page in tqdm(pages, desc="measuring prompts", unit="page", leave=False):
        try:
            prompter.prompt(page)
        except PromptTooLong as error:
            long.append(error)
        except PageError:
            continue
    if long:
        raise UserError(f"{long[0]} ({len(long)} of {len(pages)} pages); or take such pages out of the dataset.")


def open_graders(recipe: config.Recipe, run: Run) -> Graders:
    """The recipe's rewards in worker processes (which start when something is to be graded)."""
    return Graders(
        choices=recipe.rewards,
        rewards=weighted(recipe.rewards, timeout_s=recipe.scoring.timeout_s),
        workers=recipe.scoring.workers,
        timeout_s=recipe.scoring.timeout_s,
        faults=run.folder / "faults",
    )


def _taught(recipe: config.Recipe, pages: OpenPages, prompter: Prompter, graders: Graders) -> list[Page]:
    """Pages of the algorithms that learn from their own samples; UserError where the rewards do not fit them."""
    if recipe.sft is not None:  # its pages are opened stage by stage
        require_lessons(recipe.sft, pages)
        return []
    cfg = recipe.grpo or recipe.dpo or recipe.best_of_n
    assert cfg is not None
    training_pages = pages(cfg.pages)
    if isinstance(cfg, config.Dpo) and cfg.preferences is not None:
        read_preferences(cfg.preferences, training_pages, prompter)  # somebody has judged already: no reward is asked
        return training_pages
    require_short(training_pages, prompter)
    require_rewards(training_pages, graders.grade)
    if recipe.scoring.audit:
        require_honest(training_pages, graders, recipe.samples_per_page, recipe.seed, recipe.advantage)
    return training_pages


def evaluation_pages(recipe: config.Recipe, pages: OpenPages) -> dict[str, list[Page]]:
    """Held-out pages by set; SFT is probed on the references of the first set alone."""
    if recipe.evaluation is None:
        return {}
    if recipe.sft is None:
        return {name: pages(source) for name, source in recipe.evaluation.sets.items()}
    name, source = next(iter(recipe.evaluation.sets.items()))
    known = [page for page in pages(source) if page.reference is not None]
    if not known:
        raise UserError(
            f"evaluation.sets.{name}: no page has a reference transcript to be probed with; name pages that have one, "
            "or leave out [evaluation]."
        )
    return {name: known}


def _probe(
    cfg: config.Sft, held_out: Mapping[str, Sequence[Page]], learner: Learner, prompter: Prompter
) -> Evaluate | None:
    if not held_out:
        return None
    try:
        asked = [(page, prompter.prompt(page)) for page in next(iter(held_out.values()))]
    except PageError as error:
        raise UserError(f"{error}; take the page out of the evaluation pages.") from None
    rows = reference_rows(asked, prompter, front_matter=cfg.stages[-1].front_matter)
    return lambda step: looks(learner, rows)


def _sampling_steps(
    recipe: config.Recipe,
    pages: Sequence[Page],
    graders: Graders,
    learner: Learner,
    sampler: Sampler,
    run: Run,
    state: Mapping[str, Any],
) -> Iterator[Step]:
    """The steps of the algorithms that learn from their own samples."""
    budget = FaultBudget()

    def grade_all(groups: Sequence[Group]) -> list[GradedGroup]:
        return list(graded(groups, graders.grade, budget))

    if recipe.grpo is not None:
        return grpo(recipe.grpo, recipe.sampling, recipe.seed, state, pages, sampler, learner, grade_all)
    rest = (recipe.sampling, recipe.seed, pages, sampler, learner, grade_all, run.folder / "pairs")
    if recipe.dpo is not None:
        return dpo(recipe.dpo, *rest)
    assert recipe.best_of_n is not None
    return best_of_n(recipe.best_of_n, *rest)


def _evaluation(
    recipe: config.Recipe, sets: Mapping[str, Sequence[Page]], learner: Learner, sampler: Sampler, run: Run
) -> Evaluate | None:
    """Greedy transcripts of every set, graded rows on disk; the figures are those of the first set."""
    if recipe.evaluation is None:
        return None
    max_tokens = recipe.evaluation.max_tokens

    def evaluate(step: int) -> dict[str, float]:
        started = time.perf_counter()
        sampler.load(learner.weights(), learner.policy)
        folder = run.folder / "eval" / f"{step:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        graded = {}
        for name, held_out in sets.items():
            graded[name] = evaluate_policy(sampler, learner.prompter, held_out, max_tokens=max_tokens)
            write_rows(folder / f"{name}.jsonl", graded[name])
        figures = summary(next(iter(graded.values())), draws=200).metrics
        shown = {f"eval_{name}": figures[name].mean for name in ("pass_rate", "cer") if name in figures}
        return {**shown, "eval_s": time.perf_counter() - started}

    return evaluate
