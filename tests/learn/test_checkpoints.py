"""Checkpoints: damaged, on a full disk, the best of them; and killed runs that end as uninterrupted ones."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from ocr_rl.contract import UserError
from ocr_rl.learn.algos.dpo import dpo
from ocr_rl.learn.algos.setting import Setting
from ocr_rl.learn.algos.sft import sft
from ocr_rl.learn.checkpoints import best, resume
from ocr_rl.learn.fit import Plan, fit
from ocr_rl.learn.step import Step
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.run import HASHES, Run
from tests.fakes import FakeSampler
from tests.learn.conftest import MakeLearner, sampling_setting
from tests.learn.test_fit import Pages, run_fit, steps_of
from tests.learn.test_rounds import settings
from tests.learn.test_sft import lessons


@pytest.fixture
def trained(make_learner: MakeLearner, rows: list[Row], tmp_path: Path) -> Run:
    """Six steps with a checkpoint after each second one."""
    run = Run(tmp_path / "run")
    run_fit(Pages(rows, make_learner(), 6), run)
    return run


@pytest.mark.parametrize("name", ["optim.pt", "state.json", "model/model.safetensors", HASHES])
def test_trap_17_a_damaged_checkpoint_is_named_and_the_one_before_it_read(
    trained: Run, make_learner: MakeLearner, rows: list[Row], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = trained.checkpoints()[-1] / name
    path.write_bytes(path.read_bytes()[:-40])
    learner = make_learner()
    assert resume(learner, trained) == (4, {"drawn": 4})
    assert learner.policy == 4
    assert [row["step"] for row in trained.metrics()] == [1, 2, 3, 4]
    (line,) = capsys.readouterr().out.splitlines()
    assert "000006 is damaged" in line and name in line and line.endswith("is skipped: going on from step 4.")
    assert steps_of(trained) == ["000002", "000004"]  # the damaged one is not counted among those to keep
    run_fit(Pages(rows, learner, 6), trained, state={"drawn": 4}, keep=1)
    assert steps_of(trained) == ["000006"]


def test_a_run_without_a_whole_checkpoint_says_so_and_leaves_all_as_it_is(
    trained: Run, make_learner: MakeLearner
) -> None:
    for path in trained.checkpoints():
        (path / "optim.pt").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"000006 is damaged \(optim\.pt is not what was saved\), and no older"):
        resume(make_learner(), trained)
    assert steps_of(trained) == ["000002", "000004", "000006"]
    assert len(trained.metrics()) == 6


def test_a_full_disk_stops_the_run_with_the_last_checkpoint_whole(
    make_learner: MakeLearner, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, run = make_learner(), Run(tmp_path)
    save_state = learner.save_state

    def full(path: Path) -> None:
        if learner.policy == 4:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save_state(path)

    monkeypatch.setattr(learner, "save_state", full)
    with pytest.raises(UserError, match="the disk is full; make room and go on with --resume, from step 2"):
        run_fit(Pages(rows, learner, 6), run)
    assert resume(make_learner(), run)[0] == 2


def test_the_best_checkpoint_is_kept_beside_the_last(
    make_learner: MakeLearner, rows: list[Row], tmp_path: Path
) -> None:
    run, pages = Run(tmp_path), Pages(rows, make_learner(), 8)
    rates = {2: 0.3, 3: 0.9, 4: 0.6, 6: 0.6, 8: 0.1}  # that of step 3 was not saved
    evaluate = lambda step: {"eval_pass_rate": rates[step]} if step in rates else {}
    run_fit(pages, run, keep=1, evaluate_every=1, evaluate=evaluate)
    assert steps_of(run) == ["000004", "000008"]
    assert best(run.metrics(), run) == 4


# --- killed runs ------------------------------------------------------------------------------------------------------


def train(learner, run: Run, open_pages, *, stop_after: int | None = None) -> Path:
    """Five steps of SFT that save every second one; `stop_after` steps the process is killed."""
    done, _ = resume(learner, run)
    setting = Setting(seed=0, learner=learner, open_pages=open_pages, folder=run.folder)

    def steps() -> Iterator[Step]:
        for number, step in enumerate(sft(lessons(3, 2), setting, {}), done):
            if number == stop_after:
                raise KeyboardInterrupt
            yield step

    evaluate = lambda step: {"eval_pass_rate": step / 10}
    plan = Plan(total=5, save_every=2, keep=1, evaluate_every=2, evaluate=evaluate)
    return fit(lambda state: steps(), learner, run, plan)


def test_trap_17_a_killed_run_ends_as_an_uninterrupted_one(
    open_pages, make_learner: MakeLearner, tmp_path: Path
) -> None:
    whole, killed = Run(tmp_path / "whole"), Run(tmp_path / "killed")
    folder = train(make_learner(warmup=5), whole, open_pages)
    assert folder == whole.folder / "ckpt" / "000005" / "model"
    with pytest.raises(KeyboardInterrupt):
        train(make_learner(warmup=5), killed, open_pages, stop_after=3)
    assert [row["step"] for row in killed.metrics()] == [1, 2, 3]
    assert [path.name for path in killed.checkpoints()] == ["000002"]
    again = train(make_learner(warmup=5), killed, open_pages)
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    keep = ("step", "loss", "nll", "lr", "stage", "eval_pass_rate")
    figures = lambda run: [{name: row[name] for name in keep if name in row} for row in run.metrics()]
    assert figures(killed) == figures(whole)
    assert [row.get("eval_pass_rate") for row in whole.metrics()] == [None, 0.2, None, 0.4, 0.5]
    assert [path.name for path in killed.checkpoints()] == ["000005"]  # the last, and the best
    assert train(make_learner(), killed, open_pages) == again  # nothing left to do


def test_a_killed_dpo_run_ends_as_an_uninterrupted_one(
    tiny_pages, prompter: Prompter, make_learner: MakeLearner, tmp_path: Path
) -> None:
    def train(run: Run, stop_after: int | None = None) -> Path:
        learner = make_learner(lr=1e-3)
        sampler = FakeSampler(prompter, lambda page, k: ("good", "b", "ok")[k])
        done, _ = resume(learner, run)

        def steps():
            for step in dpo(settings(rounds=2), sampling_setting(tiny_pages, sampler, learner, run.folder), {}):
                if learner.policy == stop_after:
                    raise KeyboardInterrupt
                yield step

        assert done == learner.policy
        return fit(lambda state: steps(), learner, run, Plan(total=4, save_every=1, keep=1))

    whole = train(Run(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        train(Run(tmp_path / "killed"), stop_after=3)
    again = train(Run(tmp_path / "killed"))
    assert (again / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
