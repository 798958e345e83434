"""A whole small study on a random policy, killed and gone on with; and the arithmetic that its verdicts rest on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from ocr_rl.cli import main
from ocr_rl.config import Folder, Recipe, Rounds, Typeset
from ocr_rl.config.on_policy import OnPolicy
from ocr_rl.contract import Page, UserError
from ocr_rl.evaluate.stats import Interval
from ocr_rl.pages.raster import ImageRef
from ocr_rl.pages.synth.make import write_dataset
from ocr_rl.rollout.compare import upside_down
from ocr_rl.rollout.flow import ComparedGroup, Group, Prompt, Sample
from ocr_rl.run import Run
from ocr_rl.study import run as study_run
from ocr_rl.study import workers
from ocr_rl.study.findings import Measured, Noise, contrast, contrast_p, noise_of, verdict_of
from ocr_rl.study.folder import Folder as StudyFolder
from ocr_rl.study.folder import choose, trial_scores
from ocr_rl.study.jobs import VARIATIONS, claim_jobs, jobs_after_choice, main_jobs, start_jobs, tuning_jobs
from ocr_rl.study.pairs import both_bad
from ocr_rl.study.plan import load_study
from ocr_rl.study.results import Point, at_seconds
from ocr_rl.study.rows import pack
from ocr_rl.study.tables import who_leads
from ocr_rl.study.workers import Queue, left_of

STUDY = """
seeds = [0, 1]
pages = {{ synth = "notice", n = 16, seed = 11, pages_per_document = 16 }}
validation = {{ synth = "notice", n = 3, seed = 12, pages_per_document = 3 }}
test = {{ synth = "notice", n = 9, seed = 13, pages_per_document = 9 }}
samples = 10
variations = {variations}
rewards = [{{ name = "diff_ratio" }}] # a random policy passes no test

[base]
save_every = 1
keep = 1
scoring = {{ workers = 1, audit = false }}
policy = {{ path = "{policy}", longest_px = 112, instruction = "", max_tokens = 24 }}
optim = {{ lr = 1e-3 }}
sampling = {{ engine = "transformers", max_tokens = 24 }}
evaluation = {{ every = 1, max_tokens = 24 }}
tripwires = {{ page_gain = {{ then = "warn" }} }} # nor does it look at the page

[algorithms]
sft = {{ steps = 2, pages_per_step = 2 }}
best_of_n = {{ steps = 2, pages_per_round = 4, pages_per_step = 2, samples_per_page = 4 }}
dpo = {{ steps = 2, pages_per_round = 16, pages_per_step = 2, samples_per_page = 4 }}
grpo = {{ steps = 2, pages_per_step = 2, samples_per_page = 8 }}

[arms]
sft = {{ algorithm = "sft", trials = [[], ["optim.lr=1e-4"]] }}
dpo = {{ algorithm = "dpo", trials = [[], ["optim.lr=1e-4"]] }}
grpo = {{ algorithm = "grpo", trials = [[], ["optim.lr=1e-4"]] }}
"""


def write_study(path: Path, policy: Path, *, variations: bool) -> Path:
    path.write_text(STUDY.format(policy=policy, variations=str(variations).lower()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def whole(nano_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "whole"
    path = write_study(out.with_suffix(".toml"), nano_dir, variations=True)
    assert main(["study", str(path), "--out", str(out)]) == 0
    return out


@pytest.mark.slow
def test_every_arm_and_claim_is_run_and_reported(whole: Path) -> None:
    names = {f"{job.arm}-seed0" for job in claim_jobs(load_study(str(whole.with_suffix(".toml"))), {})}
    failed = {path.stem for path in (whole / "failed").glob("*")}
    ran = {path.stem for path in (whole / "test").glob("*")}
    arms = {f"{a}-seed{s}" for a in ("sft", "dpo", "grpo") for s in (0, 1)}
    siblings = {f"{name}-siblings" for name in ("start", *arms)}
    assert ran | failed == {"start", "start-samples", *names, *arms, *siblings}
    assert failed <= {"dpo_both_bad-seed0", "dpo_both_bad_turned-seed0"}
    for path in (whole / "failed").glob("*"):
        assert path.read_text().strip()
    text = (whole / "report" / "study.md").read_text(encoding="utf-8")
    assert text.count("## ") >= 10
    assert "tokens generated" in text
    html = (whole / "report" / "report.html").read_text(encoding="utf-8")
    assert html.count("data:image/png;base64") >= 2
    assert "<script src" not in html


@pytest.mark.slow
def test_the_ledger_charges_sampling_and_forgets_nothing(whole: Path) -> None:
    curves = [json.loads(line) for line in (whole / "report" / "curves.jsonl").read_text().splitlines()]
    tokens = {row["run"]: row["tokens"] for row in curves}  # the last of each
    assert tokens["sft-seed0"] == 0
    assert tokens["dpo-seed0"] > 0  # its pairs were drawn too
    steps = [json.loads(line) for line in (whole / "runs" / "grpo-seed0" / "metrics.jsonl").read_text().splitlines()]
    assert tokens["grpo-seed0"] == sum(row["generated"] for row in steps)
    assert all(row["seconds"] > 0 for row in curves if row["step"])


@pytest.mark.slow
def test_a_report_is_rebuilt_from_its_rows_to_the_byte(whole: Path, tmp_path: Path) -> None:
    rows, again = whole / "report" / "study_rows.tar.xz", tmp_path / "again"
    plan = str(whole.with_suffix(".toml"))
    assert main(["study", plan, "--out", str(again), "--rows", str(rows)]) == 0
    for name in ("study.md", "rows.jsonl", "curves.jsonl", "study_rows.tar.xz"):
        assert (again / "report" / name).read_bytes() == (whole / "report" / name).read_bytes(), name
    assert not list(again.glob("runs/*/ckpt"))


@pytest.mark.slow
def test_a_study_goes_on_from_its_rows_on_another_machine(whole: Path, tmp_path: Path) -> None:
    """What ended stays as it was read; models that what is left needs, and which are in no rows, are learnt again."""
    plan, here, there = str(whole.with_suffix(".toml")), tmp_path / "here", tmp_path / "there"
    cut = StudyFolder(here)
    shutil.copytree(whole, here, ignore=shutil.ignore_patterns("report", "pages*"))
    lost = ("grpo-seed1", "dpo_reference-seed0", "dpo_both_bad_turned-seed0")
    for name in lost:
        shutil.rmtree(cut.run(name), ignore_errors=True)
        cut.test(name).unlink(missing_ok=True)
    (tmp_path / "rows.tar.xz").write_bytes(pack(cut))
    assert main(["study", plan, "--out", str(there), "--rows", str(tmp_path / "rows.tar.xz")]) == 0
    before, after = (ended_of(folder / "report" / "study.md") for folder in (there, whole))
    assert before == after - sum((whole / "test" / f"{name}.jsonl").exists() for name in lost) < after
    assert main(["study", plan, "--out", str(there)]) == 0
    assert ended_of(there / "report" / "study.md") == after
    assert (there / "report" / "rows.jsonl").read_text() == (whole / "report" / "rows.jsonl").read_text()
    for name in ("runs/sft-seed0/metrics.jsonl", "runs/sft-seed0/done.json"):
        assert (there / name).read_bytes() == (whole / name).read_bytes(), (
            "its figures are of the machine that it ran on"
        )
    trained = {path.parent.parent.name for path in there.glob("runs/*/ckpt/*")}
    assert {"grpo-seed1", "dpo_reference-seed0"} <= trained <= {*lost, "dpo_both_bad-seed0"}
    again = {path.parent.parent.name for path in there.glob("again/*/ckpt/*")}
    assert {"sft-seed0"} <= again <= {"sft-seed0", "dpo_both_bad-seed0"}  # nothing that nobody needs


def ended_of(report: Path) -> int:
    (line,) = (line for line in report.read_text(encoding="utf-8").splitlines() if line.startswith("- runs: "))
    return int(line.split()[2])


@pytest.mark.slow
def test_a_sitting_of_no_hours_begins_nothing_and_leaves_its_rows(
    nano_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write_study(tmp_path / "study.toml", nano_dir, variations=False), tmp_path / "out"
    assert main(["study", str(path), "--out", str(out), "--hours", "0"]) == 0
    assert "no arm has ended yet" in capsys.readouterr().out
    again = ["study", str(path), "--out", str(tmp_path / "again"), "--rows", str(out / "report" / "study_rows.tar.xz")]
    assert main(again) == 0 and not list(out.glob("runs/*"))


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


@pytest.mark.slow
def test_another_study_does_not_go_on_in_its_folder(
    whole: Path, nano_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_study(whole.parent / "other.toml", nano_dir, variations=False)
    assert main(["study", str(other), "--out", str(whole)]) == 2
    assert "another study" in capsys.readouterr().err


@pytest.mark.slow
def test_a_study_whose_start_has_changed_does_not_go_on(
    whole: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocr_rl.study.run.fingerprint", lambda study: "other weights")
    assert main(["study", str(whole.with_suffix(".toml")), "--out", str(whole)]) == 2
    assert "other weights of the policy" in capsys.readouterr().err


def test_a_study_does_not_go_on_with_other_pages(
    nano_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_study(str(write_study(tmp_path / "s.toml", nano_dir, variations=False)))
    data = write_folder(tmp_path / "data")
    study = study.model_copy(update={"pages": data, "validation": data, "test": data})
    monkeypatch.setattr(study_run, "side_by_side", lambda *_: None)  # no run is trained here
    study_run.run_study(study, tmp_path / "out")
    study_run.run_study(study, tmp_path / "out")
    next((data.dir / "pdfs").glob("*.md")).write_text("another text", encoding="utf-8")
    with pytest.raises(UserError, match=r"out began, a reference of .*\.pdf changed; put back what was there, or give"):
        study_run.run_study(study, tmp_path / "out")


def write_folder(folder: Path) -> Folder:
    write_dataset("nano", n=2, seed=1, out=folder, pages_per_document=1)
    return Folder(dir=folder)


def test_a_longer_run_has_as_many_times_the_updates_and_the_samples() -> None:
    study = load_study("full")
    arms = {job.arm: job.recipe.algorithm for job in main_jobs(study, {})}
    longer = {job.arm: job.recipe.algorithm for job in claim_jobs(study, {}) if job.arm.endswith("_long")}
    assert set(longer) == {"grpo_long", "grpo_spans_long", "dpo_iterative_long"}
    for name, algorithm in longer.items():
        plain = arms[name.removesuffix("_long")]
        assert algorithm.total_steps == 3 * plain.total_steps
        if isinstance(algorithm, Rounds) and isinstance(plain, Rounds):
            assert algorithm.rounds == 3 * plain.rounds and algorithm.pages_per_round == plain.pages_per_round


def test_a_start_is_made_once_and_every_run_begins_from_it(nano_dir: Path, tmp_path: Path) -> None:
    path = write_study(tmp_path / "s.toml", nano_dir, variations=True)
    begun = 'start = { steps = 3, pages = { synth = "notice", n = 2, seed = 5 } }'
    path.write_text(path.read_text().replace("samples = 10", f"samples = 10\n{begun}"))
    study, folder = load_study(str(path)), StudyFolder(tmp_path / "out")
    (start,) = start_jobs(study)
    assert start.name == "start-seed0" and start.recipe.algorithm.total_steps == 3
    assert start.recipe.policy.path == str(nano_dir)
    assert start.recipe.algorithm.stages[0].pages.seed == 5  # type: ignore[attr-defined]  # no arm's pages
    for name in ("start-seed0", "sft-seed0"):
        folder.run(name).mkdir(parents=True)
        (folder.run(name) / "done.json").write_text(json.dumps({"model": f"models/{name}"}))
    for job in (*tuning_jobs(study), *main_jobs(study, {}), *claim_jobs(study, {})):
        if job.variation is None or not job.variation.both_bad:
            policy = study_run._prepared(job, study, folder, None, None).policy  # type: ignore[arg-type]
            held = job.variation is not None and job.variation.reference == "sft"
            assert policy.path == str(folder.root / "models" / "start-seed0")
            assert policy.reference == (str(folder.root / "models" / "sft-seed0") if held else None)
    assert study_run._start_of(study, folder, start.recipe) == str(folder.root / "models" / "start-seed0")


def test_a_trial_is_worth_the_mean_over_the_tuning_seeds(nano_dir: Path, tmp_path: Path) -> None:
    study = load_study(str(write_study(tmp_path / "s.toml", nano_dir, variations=False)))
    study = study.model_copy(update={"tuning_seeds": (1000, 1001)})
    folder = StudyFolder(tmp_path / "out")
    rates = {("sft", 0): (0.5, 0.5), ("sft", 1): (0.9, 0.2), ("dpo", 0): (0.1, 0.2), ("dpo", 1): (0.1, 0.3)}
    for job in tuning_jobs(study):
        if (job.arm, job.trial) in rates:
            folder.run(job.name).mkdir(parents=True)
            rate = rates[job.arm, job.trial][job.seed - 1000]
            (folder.run(job.name) / "metrics.jsonl").write_text(json.dumps({"step": 1, "eval_pass_rate": rate}) + "\n")
            (folder.run(job.name) / "done.json").write_text("{}")
    assert trial_scores(study, folder) == pytest.approx(
        {("sft", 0): 0.5, ("sft", 1): 0.55, ("dpo", 0): 0.15, ("dpo", 1): 0.2}
    )
    assert choose(study, folder) == {"sft": 1, "dpo": 1}
    (folder.run("dpo-trial1-1001") / "done.json").unlink()  # a trial that did not end at every seed is none
    assert choose(study, folder) == {"sft": 1, "dpo": 0}


@pytest.mark.slow
def test_killed_and_gone_on_gives_the_rows_of_one_that_was_left_alone(
    nano_dir: Path, whole: Path, tmp_path: Path
) -> None:
    path, out = write_study(tmp_path / "study.toml", nano_dir, variations=False), tmp_path / "killed"
    argv = [sys.executable, "-m", "ocr_rl.cli", "study", str(path), "--out", str(out)]
    trial, pairs, arm = "sft-trial0-1000/ckpt/000001", "dpo-seed0/pairs/round_000.json", "grpo-seed1/ckpt/000001"
    for marks in (f"runs/{trial}", f"runs/{pairs}", f"runs/{arm}"):
        study = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not (out / marks).exists():
            assert study.poll() is None
            time.sleep(0.02)
        os.kill(study.pid, signal.SIGKILL)
        study.wait()
        time.sleep(1.5)  # its worker notices
    assert main(argv[3:]) == 0
    arms = [f"{arm}-seed{seed}" for arm in ("sft", "dpo", "grpo") for seed in (0, 1)]
    for name in ("start", "start-samples", *arms):
        assert (out / "test" / f"{name}.jsonl").read_bytes() == (whole / "test" / f"{name}.jsonl").read_bytes(), name


def test_shipped_studies_are_whole_and_on_equal_terms() -> None:
    for name in ("small", "full"):
        study = load_study(name)
        assert len(study.seeds) >= 3
        assert isinstance(study.test, Typeset) and study.test.n >= 100
        arms = {"sft", "best_of_n", "dpo", "dpo_iterative", "dpo_tuned", "grpo"}
        # The small one has 40 minutes.
        arms |= {"ppo", "rlhf", "grpo_rm", "grpo_spans"} if name == "full" else set()
        assert {job.arm for job in main_jobs(study, {})} == arms
        wanted = {variation.name for variation in VARIATIONS if {variation.of, variation.needs or "sft"} <= arms}
        assert {job.arm for job in claim_jobs(study, {})} == wanted
        trials = [job.arm for job in tuning_jobs(study)]
        assert len({trials.count(arm) for arm in study.arms}) == 1
        algorithms = {job.arm: job.recipe.algorithm for job in main_jobs(study, {})}
        sampled = {
            arm: algorithm.total_steps * algorithm.pages_per_step * algorithm.group_size
            for arm, algorithm in algorithms.items()
            if isinstance(algorithm, OnPolicy)
        } | {
            arm: rounds.rounds * rounds.pages_per_round * rounds.samples_per_page
            for arm, rounds in algorithms.items()
            if isinstance(rounds, Rounds)
        }
        assert len(set(sampled.values())) == 1, sampled  # as many samples each, those for a reward model left out


def test_wrong_studies_are_refused_in_one_sentence(nano_dir: Path, tmp_path: Path) -> None:
    path = write_study(tmp_path / "study.toml", nano_dir, variations=False)
    text = path.read_text()
    for was, now, said in (
        (
            'sft = { algorithm = "sft", trials = [[], ["optim.lr=1e-4"]] }',
            'sft = { algorithm = "sft" }',
            "equal numbers of trials",
        ),
        ("samples = 10", "sample = 10", "unknown key sample: did you mean samples?"),
        ("seeds = [0, 1]", "seeds = [0, 1]\nclaim_seeds = [4]", "none of seeds"),
        ("seeds = [0, 1]", "seeds = [0, 1]\ntuning_seeds = [1]", "tuning_seeds holds 1, which is one of seeds"),
        ("optim = { lr = 1e-3 }", "optim = { lr = -1 }", "optim.lr"),
    ):
        assert was in text
        path.write_text(text.replace(was, now))
        with pytest.raises(UserError, match=said.replace("?", r"\?")):
            load_study(str(path))
    with pytest.raises(UserError, match="shipped are full, small"):
        load_study("smal")


def test_verdicts_are_read_off_the_interval() -> None:
    def interval(low: float, high: float) -> Interval:
        return Interval(mean=(low + high) / 2, low=low, high=high, clusters=9)

    assert verdict_of(interval(0.001, 0.2)) == "supported"
    assert verdict_of(interval(-0.2, -0.001)) == "not supported"
    assert verdict_of(interval(-0.02, 0.029)) == "not supported"  # an effect that matters is excluded
    assert verdict_of(interval(0.001, 0.02)) == "supported"  # a small one is one
    assert verdict_of(interval(-0.02, 0.031)) == "undecided with this budget"
    assert verdict_of(interval(-0.05, 0.2)) == "undecided with this budget"


def test_who_leads_is_read_off_holms_p_and_the_interval() -> None:
    def lead(low: float, high: float) -> Interval:
        return Interval(mean=(low + high) / 2, low=low, high=high, clusters=9)

    assert who_leads(lead(0.01, 0.05), 0.04) == "GRPO ahead"
    assert who_leads(lead(-0.05, -0.01), 0.04) == "GRPO behind"
    assert who_leads(lead(0.01, 0.05), 0.06) == "undecided"  # Holm's p has the say
    assert who_leads(lead(-0.02, 0.02), 0.9) == "alike"
    assert who_leads(lead(-0.02, 0.04), 0.5) == "undecided"


def test_a_reference_is_changed_only_where_there_is_one(nano_dir: Path, tmp_path: Path) -> None:
    path = write_study(tmp_path / "s.toml", nano_dir, variations=True)
    names = {job.arm for job in claim_jobs(load_study(str(path)), {})}
    assert "dpo_reference" in names and "grpo_reference" not in names  # GRPO's beta is 0
    path.write_text(path.read_text().replace("samples_per_page = 8 }", "samples_per_page = 8, beta = 0.1 }"))
    assert "grpo_reference" in {job.arm for job in claim_jobs(load_study(str(path)), {})}


def test_p_agrees_with_the_interval() -> None:
    pages = {f"p{k}": Random(k).gauss(0.5, 0.2) for k in range(60)}
    for shift in (0.0, 0.01, 0.02, 0.03, 0.05):
        noise = Noise(sd=0.02, freedom=12)
        other = Measured(pages={p: v + shift for p, v in pages.items()}, runs=3, noise=noise)
        terms = (1, other), (-1, Measured(pages=pages, runs=3, noise=noise))
        found, p = contrast(*terms), contrast_p(*terms)
        assert (p < 0.05) == (found.low > 0 or found.high < 0), (shift, p)
    assert contrast_p(*terms) < 0.02 and contrast_p((1, other), (-1, other)) > 0.9


def test_a_contrast_is_paired_by_page() -> None:
    base = Measured(pages={f"p{k}": Random(k).random() for k in range(40)})
    shifted = Measured(pages={page: value + 0.1 for page, value in base.pages.items()})
    found = contrast((1, shifted), (-1, base))
    assert found.low == pytest.approx(0.1)
    assert found.high == pytest.approx(0.1)  # what pages have in common cancels
    twice = contrast((1, shifted), (-1, base), (-1, shifted), (1, base))
    assert twice.mean == pytest.approx(0.0)


def test_a_contrast_knows_that_runs_differ_by_their_seed() -> None:
    pages = {f"p{k}": 0.5 for k in range(40)}
    start = Measured(pages=pages)
    noise = Noise(sd=0.02, freedom=12)
    halves = []
    for runs in (1, 4):
        found = contrast((1, Measured(pages=pages, runs=runs, noise=noise)), (-1, start))
        assert found.mean == 0
        halves.append((found.high - found.low) / 2)
    # Student's t of 12 degrees of freedom; pages that are alike add nothing.
    assert halves[0] == pytest.approx(2.18 * 0.02, rel=0.1)
    assert halves[1] == pytest.approx(halves[0] / 2, rel=0.1)


def test_noise_is_pooled_over_the_runs_of_arms() -> None:
    def run(mean: float) -> dict[str, float]:
        return {"a": mean - 0.1, "b": mean + 0.1}

    # Deviations from the arm's mean: 0.1, -0.1 and 0.2, 0, -0.2: squares 0.1 over 1 + 2 degrees of freedom.
    found = noise_of([[run(0.6), run(0.4)], [run(0.7), run(0.5), run(0.3)], [run(0.9)]])
    assert found == Noise(sd=pytest.approx((0.1 / 3) ** 0.5), freedom=3)  # type: ignore[arg-type]
    assert noise_of([[run(0.5)]]) == Noise()


def compared(k: int) -> ComparedGroup:
    page = Page(id=f"d{k}:p1", pdf=Path("d.pdf"), number=1)
    prompt = Prompt(
        page_id=page.id, image=ImageRef(pdf=page.pdf, number=1, longest_px=9), token_ids=(), expanded_ids=()
    )
    group = Group(page=page, prompt=prompt, samples=(), temperature=1.0, banned_ids=())
    return ComparedGroup(group=group, scores={}, rewards=(0.0, 1.0), advantages=(-1.0, 1.0))


def test_a_pair_of_two_bad_answers_is_bad_on_both_sides() -> None:
    def group(*rewards: float) -> ComparedGroup:
        samples = tuple(
            Sample(token_ids=(k,), logprobs=(0.0,), text="", finish="stop", policy=0) for k in range(len(rewards))
        )
        return replace(compared(0), group=replace(compared(0).group, samples=samples), rewards=rewards)

    pair = both_bad(group(0.9, 0.2, 0.4, 0.1, 0.5))
    assert pair is not None and (pair.chosen_ids, pair.rejected_ids) == ((2,), (3,))
    assert (pair.chosen_reward, pair.rejected_reward) == (0.4, 0.1)
    assert both_bad(group(0.9, 0.5, 0.2)) is None  # one bad answer is no pair
    assert both_bad(group(0.9, 0.2, 0.2)) is None  # nor are two that are equally bad
    assert both_bad(group(0.9, 0.8)) is None


def test_flipped_groups_are_as_many_as_asked_and_the_same_each_time() -> None:
    flips = [upside_down(compared(k), 0.3, "0/8").advantages == (1.0, -1.0) for k in range(1000)]
    assert 250 < sum(flips) < 350
    assert flips == [upside_down(compared(k), 0.3, "0/8").advantages == (1.0, -1.0) for k in range(1000)]
    assert not any(upside_down(compared(k), 0.0, "0/8").advantages == (1.0, -1.0) for k in range(50))


def test_equal_seconds_reads_between_evaluations() -> None:
    curve = [Point(step=s, tokens=0, seconds=10.0 * s, pass_rate=0.1 * s) for s in range(3)]
    assert at_seconds(curve, 15.0) == pytest.approx(0.15)
    assert at_seconds(curve, 99.0) == pytest.approx(0.2)
