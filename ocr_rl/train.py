"""A recipe becomes a run: the wiring of pages, policy, sampler, rewards, algorithm and loop. `ocr-rl train`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from ocr_rl import config
from ocr_rl.contract import Page, Transcript, UserError
from ocr_rl.evaluate.grade import Graded, grade, read_rows, summary, write_rows
from ocr_rl.evaluate.report import write_report
from ocr_rl.evaluate.transcribe import transcribe
from ocr_rl.learn.algos.grpo import grpo
from ocr_rl.learn.algos.sft import reference_rows, sft
from ocr_rl.learn.fit import Evaluate, fit, resume
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.model import model_folder
from ocr_rl.learn.probe import looks
from ocr_rl.learn.step import Step
from ocr_rl.pages.raster import ImageRef, cached_render
from ocr_rl.pages.source import open_pages
from ocr_rl.plugins import load_reward
from ocr_rl.policy import open_sampler, policy_prompter, policy_settings
from ocr_rl.rollout.advantage import with_advantages
from ocr_rl.rollout.flow import Group, ScoredGroup
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import Sampler
from ocr_rl.rollout.scoring import FaultBudget, WeightedReward, require_rewards, score
from ocr_rl.run import Run, environment

OpenPages = Callable[[config.PageSource], list[Page]]


def train(recipe: config.Recipe, out: Path, *, go_on: bool = False) -> Path:
    """Train as the recipe says, below `out`; returns the folder of the trained policy."""
    run = Run(out)
    begin = partial(run.start, recipe.model_dump(mode="json"), resume=go_on)  # once everything has been opened
    run.claim(recipe.model_dump(mode="json"), resume=go_on)
    pages = partial(open_pages, root=out / "pages")
    start_model = _start_model(recipe, run)
    settings = policy_settings(recipe.policy, start_model)
    prompter = policy_prompter(recipe.policy, start_model, settings)
    beta = recipe.grpo.beta if recipe.grpo else 0.0
    learner = Learner(
        start_model, prompter, settings, recipe.policy, recipe.optim, steps=recipe.steps, reference=beta > 0
    )
    done, state = resume(learner, run) if go_on else (0, {})
    loop = partial(fit, total=recipe.steps, save_every=recipe.save_every, keep=recipe.keep)
    every = recipe.evaluation.every if recipe.evaluation else 0
    if recipe.sft is not None:
        steps, evaluate = _sft(recipe, pages, learner, prompter, done)
        begin()
        return loop(steps, learner, run, evaluate_every=every, evaluate=evaluate)
    sampler = open_sampler(recipe.sampling, start_model, prompter, recipe.policy)
    try:
        evaluate = _evaluation(recipe, pages, learner, sampler, run)
        steps = _grpo(recipe, pages, learner, sampler, state)
        begin()
        if evaluate and done == 0:
            evaluate(0)
        trained = loop(steps, learner, run, evaluate_every=every or recipe.steps, evaluate=evaluate)
    finally:
        sampler.close()
    for name, source in (recipe.evaluation.sets if recipe.evaluation else {}).items():
        report_run(run, name, pages(source), recipe, longest_px=prompter.longest_px, device=str(learner.device))
    return trained


def evaluate_policy(
    sampler: Sampler,
    prompter: Prompter,
    pages: Sequence[Page],
    *,
    max_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[Graded]:
    """One graded transcript per page (greedy unless a temperature is given), by the strict reading that rewards use."""
    rows = []
    for page, found in transcribe(
        pages, sampler, prompter, max_tokens=max_tokens, temperature=temperature, seed=seed, label="evaluating"
    ):
        if not isinstance(found, Transcript):
            raise UserError(f"{found}; take the page out of the evaluation pages.")
        rows.append(grade(page, found, "strict"))
    return rows


def report_run(
    run: Run, name: str, pages: Sequence[Page], recipe: config.Recipe, *, longest_px: int, device: str
) -> None:
    """report.html, report.md and report.json of an evaluation set: before against after, with the learning curves."""
    evals = sorted((run.folder / "eval").glob(f"*/{name}.jsonl"))
    env = environment()
    write_report(
        run.folder / "report" / name,
        title=f"Training run {run.folder.name}: {name} pages",
        candidates={"before": read_rows(evals[0]), "after": read_rows(evals[-1])},
        pages={page.id: page for page in pages},
        images=partial(_page_image, longest_px=longest_px),
        curves={run.folder.name: run.metrics()},
        notes={
            "seed": str(recipe.seed),
            "device": f"{device}, {env['cores']} cores",
            "date": env["date"],
            "reading": "strict",
            "versions": ", ".join(f"{name} {version}" for name, version in env["packages"].items()),
        },
    )


def _page_image(page: Page, longest_px: int) -> Image.Image:
    return cached_render(ImageRef(pdf=page.pdf, number=page.number, longest_px=longest_px))


def _start_model(recipe: config.Recipe, run: Run) -> str:
    if recipe.policy.path is not None:
        return model_folder(recipe.policy.path)
    from ocr_rl.learn.nano import new_nano

    folder = run.folder / "start"
    if not (folder / "config.json").exists():
        new_nano(folder, recipe.seed)
    return str(folder)


def _sft(
    recipe: config.Recipe, pages: OpenPages, learner: Learner, prompter: Prompter, done: int
) -> tuple[Iterator[Step], Evaluate | None]:
    assert recipe.sft is not None
    evaluate = None
    if recipe.evaluation:
        held_out = pages(recipe.evaluation.first)
        rows = reference_rows(held_out, prompter, front_matter=recipe.sft.stages[-1].front_matter)
        evaluate = lambda step: looks(learner, rows)
    return sft(recipe.sft, recipe.seed, done, pages, prompter), evaluate


def _grpo(
    recipe: config.Recipe, pages: OpenPages, learner: Learner, sampler: Sampler, state: Mapping[str, Any]
) -> Iterator[Step]:
    assert recipe.grpo is not None
    cfg = recipe.grpo
    rewards = [
        WeightedReward(name=choice.name, reward=load_reward(choice.name, choice.options), weight=choice.weight)
        for choice in cfg.rewards
    ]
    training_pages = pages(cfg.pages)
    require_rewards(training_pages, rewards)
    budget = FaultBudget()

    def scored(groups: Sequence[Group]) -> list[ScoredGroup]:
        return with_advantages(list(score(groups, rewards, budget)), cfg.advantage)

    return grpo(cfg, recipe.sampling, recipe.seed, state, training_pages, sampler, learner, scored)


def _evaluation(
    recipe: config.Recipe, pages: OpenPages, learner: Learner, sampler: Sampler, run: Run
) -> Evaluate | None:
    """Greedy transcripts of every set, graded rows on disk; the figures are those of the first set."""
    if recipe.evaluation is None:
        return None
    sets, max_tokens = (
        {name: pages(source) for name, source in recipe.evaluation.sets.items()},
        recipe.evaluation.max_tokens,
    )

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
