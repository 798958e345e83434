"""How a run looks at held-out pages: by greedy transcripts, or by the likelihood of references; and its report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TypeVar

from ocr_rl import config
from ocr_rl.contract import Page, Transcript, UserError
from ocr_rl.evaluate import floors
from ocr_rl.evaluate.calibration import Calibration, calibration, reliability_plot
from ocr_rl.evaluate.figures import summary
from ocr_rl.evaluate.report import write_report
from ocr_rl.evaluate.results import PageResult, judge_page, read_rows, write_rows
from ocr_rl.evaluate.transcribe import transcribe
from ocr_rl.learn.algos.pairs import Prompted, pair_rows, with_prompts
from ocr_rl.learn.algos.reward_model import held_out_pairs
from ocr_rl.learn.algos.setting import OpenPages
from ocr_rl.learn.algos.sft import reference_rows
from ocr_rl.learn.fit import Evaluate
from ocr_rl.learn.learned_reward import RewardLearner
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.probe import looks
from ocr_rl.learn.undrawn import Undrawn
from ocr_rl.pages.images import image_of
from ocr_rl.pages.raster import PageError
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import Sampler
from ocr_rl.rollout.watch import falls
from ocr_rl.run import Run, by_step, environment, write_atomically

Answer = TypeVar("Answer")
HeldOut = Mapping[str, Sequence[Page]]  # pages by the name of their set; the first set is the one that curves show


def held_out_pages(recipe: config.Recipe, open_pages: OpenPages) -> dict[str, Sequence[Page]]:
    """Held-out pages by set; SFT is probed on the references of the first set alone."""
    if recipe.evaluation is None:
        return {}
    if recipe.algorithm.samples:
        return {name: open_pages(source) for name, source in recipe.evaluation.sets.items()}
    name, source = next(iter(recipe.evaluation.sets.items()))
    with_reference = [page for page in open_pages(source) if page.reference is not None]
    if not with_reference:
        raise UserError(
            f"evaluation.sets.{name}: no page has a reference transcript to be probed with; name pages that have one, "
            "or leave out [evaluation]."
        )
    return {name: with_reference}


def by_transcripts(held_out: HeldOut, max_tokens: int, learner: Learner, sampler: Sampler, run: Run) -> Evaluate | None:
    """Greedy transcripts of every set, judged rows on disk; the figures are those of the first set."""
    if not held_out:
        return None

    def evaluate(step: int) -> dict[str, float]:
        started = time.perf_counter()
        sampler.load(learner.weights(), learner.policy)
        folder = run.folder / "eval" / f"{step:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        results = {}
        for name, pages in held_out.items():
            results[name] = evaluate_policy(sampler, learner.prompter, pages, max_tokens=max_tokens)
            write_rows(folder / f"{name}.jsonl", results[name])
            if step == 0 and (line := floor_warning(name, pages, results[name])):
                print(line)
        figures = summary(next(iter(results.values())), draws=200).metrics
        shown = {f"eval_{name}": figures[name].mean for name in ("pass_rate", "cer") if name in figures}
        return {**shown, "eval_s": time.perf_counter() - started}

    return evaluate


def floor_warning(name: str, pages: Sequence[Page], results: Sequence[PageResult]) -> str:
    """A sentence where the policy that a run starts from reads none of the held-out pages, else ""."""
    level = floors.judged_here(pages, results, "strict")
    if level is None or not floors.stands(summary(results, metrics=level.metrics, draws=10)):
        return ""
    return (
        f"! The starting policy reads none of the {name} pages: it passes fewer than {floors.READS:.0%} of the tests "
        "that need reading. Rewards alone hardly teach it then; begin with SFT on such pages, or a policy that reads."
    )


def by_likelihood(algorithm: config.Algorithm, held_out: HeldOut, learner: Learner) -> Evaluate | None:
    """How likely the references of the first set are with their own page, a blank one and another one."""
    if not held_out:
        return None
    assert isinstance(algorithm, config.Sft)
    first = next(iter(held_out.values()))
    prompted = _of_held_out(lambda: [(page, learner.prompter.prompt(page)) for page in first])
    rows = reference_rows(prompted, learner.prompter, front_matter=algorithm.stages[-1].front_matter)
    return lambda step: _of_held_out(lambda: looks(learner, rows))


def _of_held_out(ask: Callable[[], Answer]) -> Answer:
    """UserError where a page cannot be asked for or drawn: of fewer pages a figure would be another one."""
    try:
        return ask()
    except (PageError, Undrawn) as error:
        raise UserError(f"{error}; take the page out of the evaluation pages.") from None


def by_pairs(learner: RewardLearner, pages: Sequence[Page], run: Run) -> Evaluate:
    """How right a reward model is on the run's held-out pairs; `report/reward_model` has the last answer.

    Their mean score is its `centre`: the pairs are the start's own transcripts (or somebody's of its pages).
    """
    learner.anchors = lambda: pair_rows(held_out_prompted(learner, pages, run))

    def evaluate(step: int) -> dict[str, float]:
        started = time.perf_counter()
        prompted = held_out_prompted(learner, pages, run)
        scores = _of_held_out(lambda: learner.scores(pair_rows(prompted)))
        learner.centred_on(scores)
        gaps = [high - low for high, low in zip(scores[::2], scores[1::2], strict=True)]
        result = calibration([(pair.page_id, gap) for (pair, _), gap in zip(prompted, gaps, strict=True)])
        write_calibration(run.folder / "report" / "reward_model", result, step)
        figures = {"eval_accuracy": result.accuracy.mean, "eval_nll": result.nll, "eval_ece": result.ece}
        return {**figures, "eval_s": time.perf_counter() - started}

    return evaluate


def held_out_prompted(learner: RewardLearner, pages: Sequence[Page], run: Run) -> Prompted:
    return with_prompts(held_out_pairs(run.folder), pages, learner.prompter, {})


def write_calibration(folder: Path, result: Calibration, step: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "reliability.png").write_bytes(reliability_plot(result))
    write_atomically(folder / "report.json", json.dumps({"step": step, **asdict(result)}, indent=1))


def evaluate_policy(
    sampler: Sampler,
    prompter: Prompter,
    pages: Sequence[Page],
    *,
    max_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[PageResult]:
    """One judged transcript per page (greedy unless a temperature is given), by the strict reading that rewards use."""
    results = []
    for page, transcript in transcribe(
        pages, sampler, prompter, max_tokens=max_tokens, temperature=temperature, seed=seed, label="evaluating"
    ):
        if not isinstance(transcript, Transcript):
            raise UserError(f"{transcript}; take the page out of the evaluation pages.")
        results.append(judge_page(page, transcript, "strict"))
    return results


def report_run(run: Run, name: str, pages: Sequence[Page], *, seed: int, longest_px: int, device: str) -> None:
    """report.html, report.md and report.json of an evaluation set: before against after, with the learning curves."""
    evals = list(by_step(run.folder / "eval", f"{name}.jsonl").values())
    env = environment()
    worse = "; ".join(map(str, falls(run.metrics())))
    before, after = read_rows(evals[0]), read_rows(evals[-1])
    write_report(
        run.folder / "report" / name,
        title=f"Training run {run.folder.name}: {name} pages",
        candidates={"before": before, "after": after},
        pages={page.id: page for page in pages},
        images=partial(image_of, longest_px=longest_px),
        curves={run.folder.name: run.metrics()},
        floors=floors.judged_here(pages, after, "strict"),
        notes={
            "seed": str(seed),
            "device": f"{device}, {env['cores']} cores",
            "date": env["date"],
            "reading": "strict",
            **({"falling test types": worse} if worse else {}),
            "versions": ", ".join(f"{name} {version}" for name, version in env["packages"].items()),
        },
    )
