"""A run directory after a kill: whole checkpoints only, no metrics of steps that will be done again, no mixed runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocr_rl.contract import UserError
from ocr_rl.run import Run, environment, read_jsonl, write_atomically

CONFIG = {"seed": 0, "optim": {"betas": (0.9, 0.98)}}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run")


def save(run: Run, step: int, text: str = "weights") -> None:
    with run.checkpoint(step) as folder:
        (folder / "model").mkdir()
        (folder / "model" / "weights").write_text(text)


def steps(run: Run) -> list[int]:
    return [int(path.name) for path in run.checkpoints()]


def test_a_started_run_tells_its_recipe_and_its_versions(run: Run) -> None:
    run.start(CONFIG, resume=False)
    assert json.loads((run.folder / "config.json").read_text()) == {"seed": 0, "optim": {"betas": [0.9, 0.98]}}
    assert json.loads((run.folder / "env.json").read_text())["python"] == environment()["python"]


def test_a_run_is_not_written_over(run: Run) -> None:
    run.start(CONFIG, resume=False)
    with pytest.raises(UserError, match="already holds a run: give --resume"):
        Run(run.folder).start(CONFIG, resume=False)


def test_a_run_goes_on_with_its_own_recipe_only(run: Run) -> None:
    run.start(CONFIG, resume=False)
    Run(run.folder).start(CONFIG, resume=True)
    with pytest.raises(UserError, match=r"config\.json: the run began with another recipe"):
        Run(run.folder).start({**CONFIG, "seed": 1}, resume=True)
    assert json.loads((run.folder / "config.json").read_text())["seed"] == 0


def test_resuming_a_run_that_never_started_starts_it(run: Run) -> None:
    run.start(CONFIG, resume=True)
    assert (run.folder / "config.json").exists()


def test_a_checkpoint_appears_whole_or_not_at_all(run: Run) -> None:
    with pytest.raises(RuntimeError), run.checkpoint(10) as folder:
        (folder / "half").write_text("half")
        assert run.checkpoints() == []
        raise RuntimeError("killed")
    assert run.checkpoints() == []
    save(run, 10)  # what the failed try left behind does not get into it
    assert [path.name for path in run.checkpoints()[0].iterdir()] == ["model"]


def test_a_checkpoint_saved_again_replaces_the_old_one(run: Run) -> None:
    save(run, 10, "old")
    with pytest.raises(RuntimeError), run.checkpoint(10):
        raise RuntimeError("killed")
    assert (run.checkpoints()[0] / "model" / "weights").read_text() == "old"
    save(run, 10, "new")
    assert (run.checkpoints()[0] / "model" / "weights").read_text() == "new"


def test_checkpoints_come_in_order_and_the_last_are_kept(run: Run) -> None:
    for step in (100, 20, 1000):
        save(run, step)
    assert steps(run) == [20, 100, 1000]
    run.prune(2)
    assert steps(run) == [100, 1000]
    run.prune(5)
    assert steps(run) == [100, 1000]


def test_metrics_of_steps_after_the_checkpoint_are_forgotten(run: Run) -> None:
    for step in range(1, 6):
        run.log({"step": step, "loss": 1 / step})
    run.forget_after(3)
    assert run.metrics() == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}, {"step": 3, "loss": 1 / 3}]
    run.log({"step": 4})
    assert [row["step"] for row in run.metrics()] == [1, 2, 3, 4]


def test_forgetting_in_an_empty_run_does_no_harm(run: Run) -> None:
    run.forget_after(0)
    assert run.metrics() == []


@pytest.mark.parametrize("cut", ['{"step": 3, "lo', '{"step": 3}'])
def test_a_line_cut_off_by_a_kill_is_left_out_and_does_not_swallow_the_next(run: Run, cut: str) -> None:
    run.log({"step": 1})
    run.log({"step": 2})
    with (run.folder / "metrics.jsonl").open("a", encoding="utf-8") as lines:
        lines.write(cut)
    assert [row["step"] for row in run.metrics()] == [1, 2]
    run.forget_after(2)  # what a resumed run does first
    run.log({"step": 3})
    assert [row["step"] for row in run.metrics()] == [1, 2, 3]


def test_a_file_of_lines_that_is_absent_or_empty_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    assert read_jsonl(tmp_path / "empty.jsonl") == []
    assert read_jsonl(tmp_path / "absent.jsonl") == []


def test_a_character_cut_in_half_is_part_of_the_cut_line(tmp_path: Path) -> None:
    path = tmp_path / "groups.jsonl"
    path.write_bytes('{"text": "é"}\n{"text": "é'.encode()[:-1])
    assert read_jsonl(path) == [{"text": "é"}]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")  # half a character: cannot be written as UTF-8
    assert path.read_text() == "old"
    write_atomically(path, "new")
    assert path.read_text() == "new"


def test_groups_of_a_step_are_readable_lines(run: Run) -> None:
    run.log_groups(7, [{"page": "ab:p1", "best": {"text": "naïve"}}, {"page": "ab:p2"}])
    run.log_groups(8, [])
    assert "naïve" in (run.folder / "groups" / "000007.jsonl").read_text(encoding="utf-8")
    assert [path.name for path in (run.folder / "groups").iterdir()] == ["000007.jsonl"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match="no run can be kept there .*; give another --out"):
            Run(folder)
