"""A run directory after a kill: whole checkpoints only, no metrics of steps that will be done again, no mixed runs."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from ocr_rl import run as run_module
from ocr_rl.config import load_recipe
from ocr_rl.contract import UserError
from ocr_rl.run import HASHES, Run, by_step, damage, environment, read_jsonl, write_atomically

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


def test_a_started_run_tells_its_recipe_and_its_versions(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "6")  # as torchrun sets it
    run.start(CONFIG, resume=False)
    assert json.loads((run.folder / "config.json").read_text()) == {"seed": 0, "optim": {"betas": [0.9, 0.98]}}
    assert json.loads((run.folder / "env.json").read_text())["python"] == environment()["python"]
    assert environment()["processes"] == 6


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


def test_a_run_of_another_version_is_named_as_such(run: Run) -> None:
    run.start({**CONFIG, "grpo": None, "dpo": {"steps": 1}}, resume=False)
    with pytest.raises(UserError, match=r"an earlier version of this program.*had other sections \(dpo\)"):
        Run(run.folder).start({**CONFIG, "grpo": {"steps": 1}}, resume=True)


def test_keys_that_have_come_since_do_not_keep_a_run_from_going_on(tmp_path: Path) -> None:
    recipe = load_recipe("nano_grpo").model_dump(mode="json")
    begun = json.loads(json.dumps(recipe))
    for section, key in (("policy", "reference"), ("sampling", "page_limit")):
        del begun[section][key]  # as before these were there
    (tmp_path / "config.json").write_text(json.dumps(begun))
    Run(tmp_path).claim(recipe, resume=True)
    (tmp_path / "config.json").write_text(json.dumps({**begun, "seed": 7}))
    with pytest.raises(UserError, match="the run began with another recipe"):
        Run(tmp_path).claim(recipe, resume=True)


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
    assert [path.name for path in run.checkpoints()[0].iterdir() if path.suffix != ".json"] == ["model"]


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


def test_a_million_comes_after_all_that_is_less(run: Run) -> None:
    for step in (999_998, 1_000_000, 999_999):
        save(run, step)
    assert steps(run) == [999_998, 999_999, 1_000_000]
    run.prune(keep=1)
    assert steps(run) == [1_000_000]


def test_what_a_run_keeps_by_step_comes_in_the_order_of_the_steps(tmp_path: Path) -> None:
    for name in ("1000000", "999999", "000002", "000003.part", "notes"):
        (tmp_path / "eval" / name).mkdir(parents=True)
    (tmp_path / "eval/1000000/new.jsonl").touch()
    (tmp_path / "eval/000002/new.jsonl").touch()
    assert list(by_step(tmp_path / "eval")) == [2, 999_999, 1_000_000]
    assert list(by_step(tmp_path / "eval", "new.jsonl")) == [2, 1_000_000]
    for name in ("1000000.jsonl", "999999.jsonl", "notes.jsonl"):
        (tmp_path / name).touch()
    assert [path.name for path in by_step(tmp_path).values()] == ["999999.jsonl", "1000000.jsonl"]
    assert by_step(tmp_path / "nothing") == {}


def test_the_best_is_kept_beside_the_last_and_leftovers_go(run: Run) -> None:
    for step in (10, 20, 30, 40):
        save(run, step)
    (run.folder / "ckpt" / "000050.part").mkdir()
    run.set_aside(run.checkpoints()[2])
    run.prune(1, best=10)
    assert steps(run) == [10, 40]
    assert {path.name for path in (run.folder / "ckpt").iterdir()} == {"000010", "000030.damaged", "000040"}


@pytest.mark.parametrize("harm", ["cut", "missing", "no hashes", "half the hashes"])
def test_a_damaged_checkpoint_is_told_from_a_whole_one(run: Run, harm: str) -> None:
    save(run, 10)
    (folder,) = run.checkpoints()
    assert damage(folder) == ""
    match harm:
        case "cut":
            (folder / "model" / "weights").write_text("weight")
        case "missing":
            (folder / "model" / "weights").unlink()
        case "no hashes":
            (folder / HASHES).unlink()
        case _:
            (folder / HASHES).write_text('{"model/we')
    assert damage(folder).startswith(f"it has no {HASHES}" if "hashes" in harm else "model/weights is ")


@pytest.mark.parametrize("moment", range(7))
def test_trap_17_there_is_a_whole_checkpoint_whenever_the_kill_comes(
    run: Run, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Saved again under its own name, the only one there is, and killed before each change of the folder's names."""
    save(run, 10, "old")
    calls: list[str] = []

    def killed_at(real):
        def call(*args, **kwargs):
            if len(calls) == moment:
                raise KeyboardInterrupt
            calls.append(real.__name__)
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(run_module.os, "replace", killed_at(os.replace))
        patch.setattr(run_module.shutil, "rmtree", killed_at(shutil.rmtree))
        with pytest.raises(KeyboardInterrupt):
            save(run, 10, "new")
            raise KeyboardInterrupt  # it was over before the kill
    (found,) = run.checkpoints()
    assert damage(found) == ""
    assert (found / "model" / "weights").read_text() in ("old", "new")
    save(run, 10, "newer")
    assert [path.name for path in (run.folder / "ckpt").iterdir() if path.suffix != ".part"] == ["000010"]
    assert (run.checkpoints()[0] / "model" / "weights").read_text() == "newer"


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), ValueError("I/O error: No space left on device (os error 28)")],
)
def test_a_full_disk_is_one_sentence_and_the_last_checkpoint_stays(run: Run, error: Exception) -> None:
    save(run, 10)
    said = "the disk is full; make room and go on with --resume, from step 10"
    with pytest.raises(UserError, match=said), run.checkpoint(20) as folder:
        (folder / "half").write_text("half")
        raise error
    assert [path.name for path in (run.folder / "ckpt").iterdir()] == ["000010"]
    assert damage(run.checkpoints()[0]) == ""


def test_a_full_disk_stops_the_metrics_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(UserError, match="the disk is full; .* from the start"):
        run.log({"step": 1})
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match="the disk is full"):
        run.log_groups(1, [{"page": "ab:p1"}])


def test_another_error_than_a_full_disk_stays_what_it_is(run: Run) -> None:
    with pytest.raises(RuntimeError, match="unexpected pos"), run.checkpoint(20):
        raise RuntimeError("unexpected pos")  # what torch says of a full disk too, and this one is not


def test_tripwires_may_change_when_a_run_goes_on_and_nothing_else(run: Run) -> None:
    run.start(CONFIG | {"tripwires": {"roll_backs": 3}}, resume=False)
    Run(run.folder).start(CONFIG | {"tripwires": {"roll_backs": 0}}, resume=True)
    assert json.loads((run.folder / "config.json").read_text())["tripwires"] == {"roll_backs": 0}


def test_a_note_is_kept_in_the_row_of_the_step_that_a_run_goes_back_to(run: Run) -> None:
    for step in range(1, 5):
        run.log({"step": step})
    run.forget_after(2, rolled_back=[{"from": 4}])
    assert run.metrics() == [{"step": 1}, {"step": 2, "rolled_back": [{"from": 4}]}]


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
        with pytest.raises(UserError, match="cannot be written .*; give another --out"):
            Run(folder)


def test_going_on_where_nothing_was_begun_begins(tmp_path: Path) -> None:
    """A study asks every run to go on; a folder in which nothing stands yet is not somebody else's for that."""
    run = Run(tmp_path / "new")
    run.claim({"seed": 0}, resume=True)
    run.forget_after(0)
    run.start({"seed": 0}, resume=True)
    run.log({"step": 1})
    run.forget_after(0)
    assert run.metrics() == [] and (run.folder / "config.json").exists()
