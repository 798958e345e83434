"""A whole small study on a random policy, killed and gone on with; which runs follow from a study."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from ocr_rl.cli import main
from ocr_rl.config import Folder, Rounds, Typeset
from ocr_rl.config.on_policy import OnPolicy
from ocr_rl.contract import Page, UserError
from ocr_rl.pages.raster import ImageRef
from ocr_rl.pages.synth.make import write_dataset
from ocr_rl.rollout.compare import upside_down
from ocr_rl.rollout.flow import ComparedGroup, Group, Prompt, Sample
from ocr_rl.study import run as study_run
from ocr_rl.study.folder import Folder as StudyFolder
from ocr_rl.study.folder import choose, trial_scores
from ocr_rl.study.jobs import VARIATIONS, claim_jobs, main_jobs, start_jobs, tuning_jobs
from ocr_rl.study.pairs import both_bad
from ocr_rl.study.plan import load_study
from ocr_rl.study.rows import pack
from tests.study.on_disk import write_study


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
    for name in ("small", "full", "second", "again"):
        study = load_study(name)
        assert len(study.seeds) >= 3
        assert isinstance(study.test, Typeset) and study.test.n >= 100
        arms = {"dpo", "dpo_iterative", "dpo_tuned", "grpo"}
        arms |= {"grpo_order"} if name == "again" else {"sft", "best_of_n"}
        # The small one has 40 minutes.
        arms |= {"ppo", "rlhf", "grpo_rm", "grpo_spans"} if name in ("full", "second") else set()
        assert {job.arm for job in main_jobs(study, {})} == arms
        wanted = {variation.name for variation in VARIATIONS if {variation.of, variation.needs or "sft"} <= arms}
        assert {job.arm for job in claim_jobs(study, {})} == (wanted if study.variations else set())
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
    with pytest.raises(UserError, match="shipped are again, full, second, small"):
        load_study("smal")


def test_a_reference_is_changed_only_where_there_is_one(nano_dir: Path, tmp_path: Path) -> None:
    path = write_study(tmp_path / "s.toml", nano_dir, variations=True)
    names = {job.arm for job in claim_jobs(load_study(str(path)), {})}
    assert "dpo_reference" in names and "grpo_reference" not in names  # GRPO's beta is 0
    path.write_text(path.read_text().replace("samples_per_page = 8 }", "samples_per_page = 8, beta = 0.1 }"))
    assert "grpo_reference" in {job.arm for job in claim_jobs(load_study(str(path)), {})}


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


def test_what_is_run_again_is_the_full_study_with_its_choices_on_new_dice() -> None:
    full, again = load_study("full"), load_study("again")
    own = {"seeds", "claim_seeds", "tuning_seeds", "test", "variations", "arms", "algorithms", "reward_model_set"}
    assert again.model_dump(exclude=own) == full.model_dump(exclude=own)
    assert not set(again.seeds) & set(full.seeds) and len(again.seeds) == 8
    assert isinstance(again.test, Typeset) and isinstance(full.test, Typeset)
    assert again.test == full.test.model_copy(update={"seed": again.test.seed}) != full.test
    assert all(full.algorithms[name] == algorithm for name, algorithm in again.algorithms.items())
    chosen = {"dpo": 0, "dpo_iterative": 1, "dpo_tuned": 0, "grpo": 2}  # docs/study_plan.md
    for name, trial in chosen.items():
        assert set(again.arms[name].set) == {*full.arms[name].set, *full.arms[name].trials[trial]}
    assert set(again.arms["grpo_order"].set) == {*again.arms["grpo"].set, "grpo.advantage=order"}
    assert again.arms.keys() == {*chosen, "grpo_order"}


def test_the_second_terrain_is_the_full_study_with_its_choices_elsewhere() -> None:
    """What it changes: start and pages, seeds, and no trials, for which the one that was chosen stands in each arm."""
    full, second = load_study("full"), load_study("second")
    own = {"seeds", "claim_seeds", "tuning_seeds", "pages", "validation", "test", "start", "variations", "arms"}
    assert second.model_dump(exclude=own) == full.model_dump(exclude=own)
    chosen = {"sft": 0, "best_of_n": 2, "dpo": 0, "grpo": 2, "ppo": 1, "grpo_spans": 1, "rlhf": 0, "grpo_rm": 0}
    chosen |= {"dpo_iterative": 1, "dpo_tuned": 0}  # docs/study_plan.md
    assert second.arms.keys() == full.arms.keys() == chosen.keys()
    for name, arm in second.arms.items():
        theirs = full.arms[name]
        assert (arm.algorithm, arm.scored_by, arm.trials) == (theirs.algorithm, theirs.scored_by, ((),))
        assert set(arm.set) == {*theirs.set, *theirs.trials[chosen[name]]}
    assert second.start is not None and set(second.seeds) <= set(full.seeds)
    sources = [(second.pages, full.pages), (second.validation, full.validation), (second.test, full.test)]
    for ours, theirs in sources:
        assert isinstance(ours, Typeset) and isinstance(theirs, Typeset) and ours.n == theirs.n
    every = [second.start.pages, *(ours for ours, _ in sources)]
    assert len({source.seed for source in every if isinstance(source, Typeset)}) == len(every) == 4
    looks = {(page.synth, page.words, page.fonts, page.scan) for page in every if isinstance(page, Typeset)}
    assert looks == {("nano", "latin", "unseen", 2.0)}
