"""What lies in a study's folder: its plan, pages and runs, and which trials were chosen.

OUT/ study.json · pages/ · runs/<arm>-seed<N>/ · again/<run>/ · pairs/ · test/<run>.jsonl · failed/<run>.txt ·
     worker<k>.log
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ocr_rl import config, outputs
from ocr_rl.contract import UserError
from ocr_rl.models.load import model_folder, weight_files
from ocr_rl.pages.bound import BoundSources
from ocr_rl.pages.raster import file_sha
from ocr_rl.policy import open_learning_origin
from ocr_rl.run import environment, read_json, read_jsonl, write_atomically
from ocr_rl.study.jobs import Job, main_jobs, tuning_jobs
from ocr_rl.study.plan import Study


@dataclass(frozen=True, slots=True)
class Folder:
    """Where a study keeps its things."""

    root: Path

    @property
    def pages(self) -> Path:
        return self.root / "pages"

    def run(self, name: str) -> Path:
        return self.root / "runs" / name

    def again(self, name: str) -> Path:
        """Where a run is trained once more for its model alone; its rows are those of another machine, and stay so."""
        return self.root / "again" / name

    def model(self, name: str) -> Path:
        """The policy that a run ended with. Raises UserError for a run that did not end."""
        models = [self._model(run) for run in (self.run(name), self.again(name)) if (run / "done.json").exists()]
        if not models:
            raise UserError(f"the run {name}, which this one needs, did not end")
        return next((model for model in models if model.exists()), models[0])

    def _model(self, run: Path) -> Path:
        done = run / "done.json"
        model = read_json(done).get("model")  # perhaps of rows that somebody else has packed
        if not isinstance(model, str) or not (self.root / model).resolve().is_relative_to(self.root.resolve()):
            raise UserError(f"{done}: names no model of this study; remove {run} to have it trained anew.")
        return self.root / model

    def holds_model(self, name: str) -> bool:
        """Whether the run ended here; of one that ended on another machine there are rows alone."""
        try:
            return Path(self.model(name)).exists()
        except UserError:
            return False

    def has_ended(self, job: Job) -> bool:
        trained = not job.trains or (self.run(job.name) / "done.json").exists()
        return trained and (not job.is_tested or self.test(job.name).exists())

    def test(self, name: str) -> Path:
        return self.root / "test" / f"{name}.jsonl"

    def failed(self, name: str) -> Path:
        return self.root / "failed" / f"{name}.txt"


def claim(study: Study, folder: Folder, start: str) -> None:
    """Raises UserError where the folder holds another study, or one that began with other weights."""
    path = folder.root / "study.json"
    outputs.refuse_others(folder.root, path.name, ("pages", "runs", "again", "pairs", "test", "failed", "report"))
    if not path.exists():
        plan = json.loads(study.model_dump_json(exclude_unset=True))
        with outputs.writing(folder.root):
            write_atomically(path, json.dumps({"study": plan, "start": start, "env": environment()}, indent=1))
    begun = read_json(path)
    if _plan_of(begun) != study:
        raise UserError(f"{path}: this folder holds another study; go on with that one, or give another --out.")
    if begun.get("start") != start:
        raise UserError(
            f"{path}: this study began with other weights of the policy than those that are there now; put those back, "
            "or give another --out."
        )


def _plan_of(begun: dict[str, Any]) -> Study | None:
    """The plan that a study began with, whatever keys have come since; None where it is none today."""
    try:
        return Study.model_validate(begun.get("study"))
    except ValidationError:
        return None


def bind(folder: Folder, used: Sequence[config.PageSource]) -> None:
    """Typeset these pages once, and hold the study to them."""
    sources = BoundSources(folder.root, folder.pages, begun=True)
    for source in used:
        sources(source)
    sources.keep()


def choose(study: Study, folder: Folder) -> dict[str, int]:
    """The trial with the best pass rate on the validation pages at its end, by arm; the first of equals."""
    best: dict[str, tuple[float, int]] = {}
    for (arm, trial), score in trial_scores(study, folder).items():
        if score > best.get(arm, (-1.0, 0))[0]:
            best[arm] = (score, trial)
    return {arm: trial for arm, (_, trial) in best.items()}


def trial_scores(study: Study, folder: Folder) -> dict[tuple[str, int], float]:
    """By arm and trial: the pass rate at the end, mean over the tuning seeds; of those that ended at every seed."""
    by_trial: dict[tuple[str, int], list[float]] = {}
    for job in tuning_jobs(study):
        assert job.trial is not None
        rates = [
            row["eval_pass_rate"]
            for row in read_jsonl(folder.run(job.name) / "metrics.jsonl")
            if "eval_pass_rate" in row
        ]
        if (folder.run(job.name) / "done.json").exists() and rates:
            by_trial.setdefault((job.arm, job.trial), []).append(rates[-1])
    wanted = len(study.tuning_seeds)
    return {trial: sum(rates) / wanted for trial, rates in by_trial.items() if len(rates) == wanted}


def read_environment(out: Path) -> dict[str, Any]:
    """Where and when the study began."""
    return json.loads((out / "study.json").read_text(encoding="utf-8"))["env"]


def longest_px_of(study: Study) -> int:
    """Of the page images that the policy sees."""
    recipe = main_jobs(study, {})[0].recipe
    assert recipe.policy.path is not None
    return open_learning_origin(recipe, model_folder(recipe.policy.path)).settings.longest_px


def fingerprint(study: Study) -> str:
    """Of the start's weights: a study goes on over days, and its arms must have had one start."""
    recipe = main_jobs(study, {})[0].recipe
    assert recipe.policy.path is not None
    return " ".join(map(file_sha, weight_files(model_folder(recipe.policy.path))))
