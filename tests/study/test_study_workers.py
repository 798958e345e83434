"""Who does which of a study's runs, and when: what is left, what waits for what, what rows of elsewhere are."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from ocr_rl.config import Recipe
from ocr_rl.contract import UserError
from ocr_rl.run import Run
from ocr_rl.study import run as study_run
from ocr_rl.study import workers
from ocr_rl.study.folder import Folder as StudyFolder
from ocr_rl.study.jobs import jobs_after_choice, main_jobs
from ocr_rl.study.plan import load_study
from ocr_rl.study.workers import Queue, left_of
from tests.study.on_disk import write_study


def test_what_is_left_is_what_has_not_ended_and_the_models_that_it_needs(nano_dir: Path, tmp_path: Path) -> None:
    study = load_study(str(write_study(tmp_path / "s.toml", nano_dir, variations=True)))
    folder, jobs = StudyFolder(tmp_path / "out"), jobs_after_choice(study, {})
    for job in jobs:
        if job.trains:
            folder.run(job.name).mkdir(parents=True)
            (folder.run(job.name) / "done.json").write_text(json.dumps({"model": f"runs/{job.name}/model"}))
        folder.test(job.name).parent.mkdir(parents=True, exist_ok=True)
        folder.test(job.name).write_text("")
    assert left_of(jobs, study, folder) == []  # all rows are there, no model is, and nobody needs one
    folder.test("dpo_reference-seed0").unlink()
    assert [job.name for job in left_of(jobs, study, folder)] == ["sft-seed0", "dpo_reference-seed0"]
    (folder.run("sft-seed0") / "model").mkdir()
    assert [job.name for job in left_of(jobs, study, folder)] == ["dpo_reference-seed0"]


def test_a_job_waits_for_what_it_needs_and_goes_on_when_that_failed(nano_dir: Path, tmp_path: Path) -> None:
    study = load_study(str(write_study(tmp_path / "s.toml", nano_dir, variations=True)))
    folder = StudyFolder(tmp_path)
    jobs = [job for job in jobs_after_choice(study, {}) if job.name in ("sft-seed0", "dpo_reference-seed0")]

    def queue(until: float) -> Queue:
        return Queue(jobs, study, folder, until, threading.Lock(), [False] * len(jobs))

    assert list(queue(0.0)) == []  # too late to begin anything
    taken = iter(queue(time.monotonic() + 60))
    assert next(taken).name == "sft-seed0"
    folder.failed("sft-seed0").parent.mkdir()
    threading.Timer(0.7, folder.failed("sft-seed0").write_text, ["it is sick"]).start()
    began = time.monotonic()
    assert next(taken).name == "dpo_reference-seed0" and time.monotonic() > began + 0.6
    assert list(taken) == []


@pytest.mark.parametrize("begun_here", [False, True])
def test_rows_of_a_run_that_was_cut_elsewhere_are_no_run(
    nano_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun_here: bool
) -> None:
    """A report packs those too, as of one that failed; a run that was cut here goes on."""
    study = load_study(str(write_study(tmp_path / "s.toml", nano_dir, variations=False)))
    folder, job = StudyFolder(tmp_path / "out"), main_jobs(study, {})[0]
    run = folder.run(job.name)
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text('{"step": 1}\n')
    if begun_here:
        (run / "config.json").write_text(json.dumps(job.recipe.model_dump(mode="json")))

    def train(recipe: Recipe, out: Path, **_: Any) -> Path:
        Run(out).claim(recipe.model_dump(mode="json"), resume=True)
        assert (out / "metrics.jsonl").exists() == begun_here
        (out / "model").mkdir(parents=True)
        return out / "model"

    monkeypatch.setattr(study_run, "train", train)
    study_run._train(job, study, folder, None, None)  # type: ignore[arg-type]
    assert folder.holds_model(job.name)


@pytest.mark.parametrize("done", ["{}", "[]", '{"model": "/"}', '{"model": "../.."}', '{"model": 7}', "{"])
def test_a_run_that_names_no_model_of_the_study_has_none(tmp_path: Path, done: str) -> None:
    """Rows may be anybody's."""
    folder = StudyFolder(tmp_path / "out")
    folder.run("sft-seed0").mkdir(parents=True)
    (folder.run("sft-seed0") / "done.json").write_text(done)
    assert not folder.holds_model("sft-seed0")
    with pytest.raises(UserError, match="done.json"):
        folder.model("sft-seed0")


def test_a_worker_whose_parent_is_gone_already_ends_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has read torch for seconds before it looks; who is its parent by then is not who began it."""
    ended = threading.Event()
    monkeypatch.setattr(workers.os, "_exit", lambda code: ended.set())
    monkeypatch.setattr(workers.os, "dup2", lambda *_: None)
    monkeypatch.setattr(workers.os, "sched_setaffinity", lambda *_: None)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    study = SimpleNamespace(workers=1)
    queue: Any = Queue((), study, StudyFolder(tmp_path), 0.0, None, ())  # type: ignore[arg-type]
    workers._worker(lambda *_: None, queue, 0, gone.pid)
    assert ended.wait(30)
