"""What a study's folder holds, read again: rows of the test pages, learning curves, and what each run cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ocr_rl.contract import Page
from ocr_rl.evaluate.figures import summary
from ocr_rl.evaluate.results import PageResult, read_rows
from ocr_rl.evaluate.stats import Interval
from ocr_rl.pages.source import open_pages
from ocr_rl.run import by_step, read_json, read_jsonl
from ocr_rl.study.findings import Measured, Noise, PerPage, contrast, noise_of, noise_of_runs, per_page
from ocr_rl.study.folder import Folder, choose, trial_scores
from ocr_rl.study.jobs import (
    Job,
    claim_jobs,
    jobs_after_choice,
    jobs_before_choice,
    main_jobs,
    reward_model_jobs,
)
from ocr_rl.study.plan import Study

# Seconds of a step's line. Those of a rollout stand beside its tokens.
_EVERY_STEP = ("update_s", "pages_s")
_ROLLOUT = ("sync_s", "rollout_s", "score_s", "annotate_s")
_ALL = (*_ROLLOUT, *_EVERY_STEP)
PHASES = {
    "sampling": ("sync_s", "rollout_s"),
    "scoring": ("score_s",),
    "annotating": ("annotate_s",),
    "learning": _EVERY_STEP,
}


Of = Callable[[PageResult], float | None]


def pass_rate(row: PageResult) -> float | None:
    return row.pass_rate


def bleu(row: PageResult) -> float | None:
    return row.bleu


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A run at one of its evaluations, or where a round of samples was drawn and nothing was learnt of it yet."""

    step: int
    tokens: int  # generated so far
    seconds: float  # of sampling, scoring and learning so far
    pass_rate: float  # on the validation pages


class Cost(NamedTuple):
    """Of a whole run; evaluation is nobody's cost."""

    tokens: int  # generated
    seconds: float  # of sampling, scoring and learning


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    study: Study
    chosen: Mapping[str, int]
    trials: Mapping[tuple[str, int], float]  # validation pass rate at the end, by arm and trial
    pages: Mapping[str, Page]  # the test pages
    start: Sequence[PageResult]
    samples: Sequence[PageResult]  # of the start, several a page
    rows: Mapping[str, Sequence[PageResult]]  # of the test pages, by run
    siblings: Mapping[str, Sequence[PageResult]]  # samples of the validation pages after training, by run
    metrics: Mapping[str, Sequence[Mapping[str, Any]]]  # by run; of those that learnt a reward model too
    curves: Mapping[str, Sequence[Point]]  # by run
    choices: Mapping[str, Mapping[str, Any]]  # what pairs were chosen by, by run
    planned: int  # runs, trials and reward models among them
    ended: int
    failed: Mapping[str, str]  # reason, by run
    scorers: Mapping[str, str]  # the run whose reward model scored its samples, by run
    evaluations: Mapping[str, Mapping[int, PerPage]]  # validation pass rates by step, of runs that had such a scorer
    peaks: Mapping[str, float]  # memory, GiB, by run

    def runs(self, arm: str, seeds: Sequence[int] | None = None) -> list[Sequence[PageResult]]:
        """Rows of an arm's runs that ended, at these seeds."""
        wanted = [f"{arm}-seed{seed}" for seed in (self.study.seeds if seeds is None else seeds)]
        return [self.rows[name] for name in wanted if name in self.rows]

    def of(self, arm: str) -> list[PageResult]:
        return [row for rows in self.runs(arm) for row in rows]

    def curves_of(self, arm: str) -> list[Sequence[Point]]:
        return [self.curves[name] for seed in self.study.seeds if (name := f"{arm}-seed{seed}") in self.curves]

    def began(self, of: Of = pass_rate) -> Measured:
        return Measured(pages=per_page(self.start, of))

    def measured(self, arm: str, seeds: Sequence[int] | None = None, of: Of = pass_rate) -> Measured | None:
        """Of an arm at these seeds (all, unless given); None where no run ended, or no page has the figure."""
        runs = self.runs(arm, seeds)
        pages = per_page([row for rows in runs for row in rows], of)
        if not pages:
            return None

        def pooled() -> Noise:
            return noise_of([[per_page(rows, of) for rows in self.runs(name)] for name in self.study.arms])

        noise = noise_of_runs([per_page(rows, of) for rows in runs], pooled)
        return Measured(pages=pages, runs=len(runs), noise=noise)

    def gain(self, arm: str, pages: Collection[str]) -> Interval | None:
        """Over the start, in the pass rate on these pages; runs are as far apart as they are there."""

        def there(row: PageResult) -> float | None:
            return row.pass_rate if row.page in pages else None

        measured = self.measured(arm, of=there)
        return contrast((1, measured), (-1, self.began(there))) if measured else None

    def ended_arms(self) -> dict[str, Measured]:
        """By their names, those of which a run has ended."""
        return {arm: measured for arm in self.study.arms if (measured := self.measured(arm)) is not None}


def read_results(study: Study, out: Path) -> Results:
    folder = Folder(out.resolve())
    chosen = choose(study, folder)
    jobs = (*main_jobs(study, chosen), *claim_jobs(study, chosen))
    ended = [job for job in jobs if folder.test(job.name).exists()]
    every = {job.name: job for job in (*jobs_before_choice(study), *jobs_after_choice(study, chosen))}
    learned = [job for job in reward_model_jobs(study) if (folder.run(job.name) / "done.json").exists()]
    return Results(
        study=study,
        chosen=chosen,
        trials=trial_scores(study, folder),
        pages={page.id: page for page in open_pages(study.test, folder.pages)},
        start=read_rows(folder.test("start")),
        samples=read_rows(folder.test("start-samples")),
        rows={job.name: read_rows(folder.test(job.name)) for job in ended},
        siblings={
            name: read_rows(path)
            for name in ("start", *(job.name for job in ended))
            if (path := folder.test(f"{name}-siblings")).exists()
        },
        metrics={job.name: _metrics(job.name, folder) for job in (*ended, *learned)},
        curves={job.name: _curve(job, folder) for job in ended},
        choices={
            path.name.removesuffix(".why.json"): json.loads(path.read_text())
            for path in folder.root.glob("pairs/*.why.json")
        },
        planned=len(every),
        ended=sum(map(folder.has_ended, every.values())),
        failed={
            path.stem: path.read_text(encoding="utf-8").strip() for path in sorted(folder.root.glob("failed/*.txt"))
        },
        scorers={job.name: job.scored_by for job in ended if job.scored_by},
        evaluations={job.name: _evaluations(folder.run(job.name)) for job in ended if job.scored_by},
        peaks={
            job.name: done["peak_gib"]
            for job in ended
            if (path := folder.run(job.name) / "done.json").exists() and "peak_gib" in (done := read_json(path))
        },
    )


def cost_of(rows: Sequence[Mapping[str, Any]]) -> Cost:
    """From a run's metrics."""
    return Cost(tokens=sum(row.get("generated", 0) for row in rows), seconds=sum(map(_seconds, rows)))


def phases_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds of a whole run by what they were spent on, from its metrics."""
    return {phase: sum(_seconds(row, names) for row in rows) for phase, names in PHASES.items()}


def _metrics(name: str, folder: Folder) -> list[dict[str, Any]]:
    return read_jsonl(folder.run(name) / "metrics.jsonl")


def _evaluations(run: Path) -> dict[int, PerPage]:
    return {step: per_page(read_rows(path)) for step, path in by_step(run / "eval", "validation.jsonl").items()}


def _seconds(row: Mapping[str, Any], names: Sequence[str] = _ALL) -> float:
    """A step's processor seconds, shared out as those by the clock are; rows of before `cpu_s` have the clock alone."""
    drawn = "generated" in row or "round" in row
    clock = {name: row.get(name, 0.0) for name in _ALL if drawn or name in _EVERY_STEP}
    in_all = sum(clock.values())
    return sum(clock.get(name, 0.0) for name in names) * (row["cpu_s"] / in_all if "cpu_s" in row and in_all else 1.0)


def _curve(job: Job, folder: Folder) -> list[Point]:
    """A reward model is charged to each run that it scores, before its first step."""
    run = folder.run(job.name)
    if not (run / "done.json").exists():
        return []
    began = _pass_rate(read_rows(run / "eval" / "000000" / "validation.jsonl"))
    points = [Point(step=0, tokens=0, seconds=0.0, pass_rate=began)]
    tokens, seconds = cost_of(_metrics(job.scored_by, folder)) if job.scored_by else (0, 0.0)
    if job.scored_by:
        points.append(Point(step=0, tokens=tokens, seconds=seconds, pass_rate=began))
    for row in _metrics(job.name, folder):
        tokens += row.get("generated", 0)
        seconds += _seconds(row, _ROLLOUT)
        if "generated" in row and "round" in row:
            points.append(Point(step=row["step"] - 1, tokens=tokens, seconds=seconds, pass_rate=points[-1].pass_rate))
        seconds += _seconds(row, _EVERY_STEP)
        if "eval_pass_rate" in row:
            points.append(Point(step=row["step"], tokens=tokens, seconds=seconds, pass_rate=row["eval_pass_rate"]))
    return points


def _pass_rate(rows: Sequence[PageResult]) -> float:
    return summary(rows, draws=2).metrics["pass_rate"].mean


def peak_of(results: Results, arm: str) -> str:
    """The mean over seeds, GiB; empty where it is not known."""
    names = [f"{arm}-seed{seed}" for seed in results.study.seeds]
    peaks = [results.peaks[name] for name in names if name in results.peaks]
    return f"{np.mean(peaks):.2f}" if peaks else ""


def at_seconds(curve: Sequence[Point], seconds: float) -> float:
    """The validation pass rate when so many seconds were spent, between two evaluations in proportion."""
    return float(np.interp(seconds, [p.seconds for p in curve], [p.pass_rate for p in curve]))
