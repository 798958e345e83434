"""`ocr-rl card`: every figure stands in the run's files, and what is not there is not said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocr_rl.cli import main
from ocr_rl.config import load_recipe
from ocr_rl.evaluate.card import card
from ocr_rl.evaluate.results import write_rows
from tests.evaluate.rows import row


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "my_run"
    recipe = load_recipe("nano_grpo", ["policy.path=someone/a-model"])
    (folder / "ckpt/000002/model").mkdir(parents=True)
    (folder / "ckpt/000002/model/ocr_rl.json").write_text(
        json.dumps({"longest_px": 640, "instruction": "Read ```this```."})
    )
    (folder / "config.json").write_text(json.dumps(recipe.model_dump(mode="json")))
    metrics = [{"step": step, "tokens": 1000 * step, "update_s": 1800.0} for step in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in metrics))
    for step, passed in (("000000", [True, False, False, False]), ("000002", [True] * 4), ("000003", [False] * 4)):
        (folder / "eval" / step).mkdir(parents=True)
        write_rows(folder / "eval" / step / "new.jsonl", [row("aaaaaaaa:p1", passed)])
    return folder


def test_the_figures_are_those_of_the_weights(run: Path) -> None:
    target = card(run)
    assert target == run / "ckpt/000002/model/README.md"
    text = target.read_text()
    assert "# my_run" in text and "after 2 steps, which learnt from 3,000 tokens in 1.0 hours" in text
    assert "### new: 1 pages, 4 unit tests" in text
    before, after = (next(line for line in text.splitlines() if line.startswith(f"| after {n} steps")) for n in (0, 2))
    assert "25.0" in before and "100.0" in after and "after 3 steps" not in text
    assert "### old" not in text  # the run did not keep results of it
    assert "- gate `repetition`, at least 0.7" in text


HUB = "hub/models--someone--a-model/snapshots/abc"
STARTS = [
    ("someone/a-model", "someone/a-model"),  # the hub's cache has it
    ("allenai/olmOCR-2-7B-1025", "allenai/olmOCR-2-7B-1025"),  # a known model
    (f"/elsewhere/{HUB}", "someone/a-model"),
    ("runs/sft", None),  # as a hub name is written, and perhaps a folder where the run began
    ("data/nano", None),
    ("someone/a model", None),
    ("./a/b", None),
    ("nano", None),
]


@pytest.mark.parametrize(("path", "hub"), STARTS)
def test_the_head_names_a_start_that_is_certainly_on_a_hub(
    run: Path, path: str, hub: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    (tmp_path / HUB).mkdir(parents=True)
    (tmp_path / HUB / "config.json").write_text("{}")
    refs = tmp_path / "hub/models--someone--a-model/refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    _with(run, ["policy", "path"], path)
    text = card(run).read_text()
    head = text.split("---\n")[1]
    assert (f'base_model: "{hub}"\n' in head) if hub else ("base_model" not in head)
    assert ("the hub name of the model that it began from" in text) == (hub is None)
    assert "library_name: transformers" in head and "license" not in head


@pytest.mark.parametrize(
    "written", ['{"commits": {"some/start": "0123abc"}}', '{"commits": []}', "{}", "not JSON", None]
)
def test_a_start_with_a_commit_is_on_a_hub(run: Path, written: str | None) -> None:
    _with(run, ["policy", "path"], "some/start")
    if written is not None:
        (run / "pages.json").write_text(written)
    text, known = card(run).read_text(), bool(written and "0123abc" in written)
    assert ('base_model: "some/start"' in text) == known
    assert ("from `some/start` at commit 0123abc, seed" in text) == known


def test_an_instruction_cannot_leave_its_block(run: Path) -> None:
    text = card(run).read_text()
    assert "````\nRead ```this```.\n````" in text and "640 px" in text


def test_a_run_without_evaluation_says_so(run: Path, tmp_path: Path) -> None:
    for path in sorted((run / "eval").glob("*/*.jsonl")):
        path.unlink()
    assert "The run was not evaluated." in card(run, tmp_path / "card.md").read_text()


def test_a_card_of_a_persons_stays(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "ckpt/000002/model/README.md").write_text("mine")
    assert main(["card", str(run)]) == 2
    assert "README.md: is there already" in capsys.readouterr().err


def _with(run: Path, place: list[str | int], value: object) -> None:
    """Set a field of the run's recipe."""
    recipe = json.loads((run / "config.json").read_text())
    *above, last = place
    here = recipe
    for key in above:
        here = here[key]
    here[last] = value
    (run / "config.json").write_text(json.dumps(recipe))


BAD_FIELDS: list[tuple[list[str | int], object, str]] = [
    (["policy"], [1], "policy: Input should be a valid dictionary; put back"),
    (["policy", "path"], 3, "policy.path: Input should be"),
    (["seed"], True, "seed: Input should be"),
    (["evaluation"], [1], "evaluation: Input should be"),
    (["evaluation", "sets"], [1], "evaluation.sets: Input should be"),
    (["rewards"], ["a"], "rewards.0: Input should be"),
    (["rewards", 0, "weight"], "x", "rewards.0.weight: Input should be"),
    (["gates"], [{"name": "a"}], "gates.0.at_least: Field required"),
]


@pytest.mark.parametrize(("place", "value", "sentence"), BAD_FIELDS)
def test_a_field_that_no_run_writes_is_named(
    run: Path, place: list[str | int], value: object, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _with(run, place, value)
    assert main(["card", str(run)]) == 2
    assert f"config.json: {sentence}" in capsys.readouterr().err


BAD_FILES = [
    ("config.json", "{", "config.json: is no file of a run any more"),
    ("metrics.jsonl", '{"step": "x"}\n', "metrics.jsonl, row 1: step: Input should be"),
    ("metrics.jsonl", '{"step": 1, "tokens": "x"}\n', "metrics.jsonl, row 1: tokens: Input should be"),
    ("metrics.jsonl", '{"step": 1}\n{"step": 2, "tokens": NaN}\n', "metrics.jsonl, row 2: tokens: Input should be"),
    ("metrics.jsonl", '{"step": 1, "update_s": 1e400}\n', "metrics.jsonl, row 1: update_s: Input should be"),
    ("metrics.jsonl", '{"step": 1, "tokens": 1' + "0" * 400 + "}\n", "metrics.jsonl, row 1: tokens: Input should be"),
    ("eval/000002/new.jsonl", "", "eval/000002/new.jsonl: holds no page results"),
    ("eval/000000/new.jsonl", "\n", "eval/000000/new.jsonl: holds no page results"),
    ("eval/000002/new.jsonl", '{"a": 1}\n', "eval/000002/new.jsonl, line 1: not a row of page results"),
]


@pytest.mark.parametrize(("file", "content", "sentence"), BAD_FILES)
def test_a_damaged_file_is_named(
    run: Path, file: str, content: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / file).write_text(content)
    assert main(["card", str(run)]) == 2
    assert sentence in capsys.readouterr().err
    assert not (run / "ckpt/000002/model/README.md").exists()


def test_a_figure_that_is_none_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = run / "eval/000002/new.jsonl"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"cer": "x"}) + "\n")
    assert main(["card", str(run)]) == 2
    assert f"{file}: holds figures that are none" in capsys.readouterr().err


def test_before_and_after_stand_on_the_same_pages(run: Path) -> None:
    """By hand: p1 fails before and passes after, p2 stands before alone, p3 has another number of tests after."""
    before = [row("aaaaaaaa:p1", [False]), row("aaaaaaaa:p2", [True]), row("aaaaaaaa:p3", [True])]
    write_rows(run / "eval/000000/new.jsonl", before)
    write_rows(run / "eval/000002/new.jsonl", [row("aaaaaaaa:p1", [True]), row("aaaaaaaa:p3", [True, True])])
    text = card(run).read_text()
    assert "### new: 1 pages, 1 unit tests" in text and "Left out: 2 pages that only one of the two evaluations" in text
    before, after = (next(line for line in text.splitlines() if line.startswith(f"| after {n} steps")) for n in (0, 2))
    assert before.split("|")[2].strip() == "0.0 (0.0\u20130.0)" and "100.0 (100.0" in after.split("|")[2]


def test_evaluations_without_a_page_in_common_are_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(run / "eval/000002/new.jsonl", [row("aaaaaaaa:p2", [True] * 4)])
    assert main(["card", str(run)]) == 2
    assert "eval/000002/new.jsonl: has no page with the tests that" in capsys.readouterr().err


def test_a_run_without_metrics_says_so(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    assert "after 2 steps; how many tokens and hours they took is not known" in card(run).read_text()


def test_the_last_step_is_the_largest_number(run: Path) -> None:
    for step in ("999999", "1000000"):
        (run / "ckpt" / step / "model").mkdir(parents=True)
        (run / "eval" / step).mkdir()
        write_rows(run / "eval" / step / "new.jsonl", [row("aaaaaaaa:p1", [True, True, True, step == "1000000"])])
    text = card(run, run / "card.md").read_text()
    assert "weights after 1,000,000 steps" in text
    assert "100.0" in next(line for line in text.splitlines() if line.startswith("| after 1,000,000 steps"))


def test_random_weights_are_no_model_called_none(run: Path) -> None:
    _with(run, ["policy", "path"], None)
    text = card(run).read_text()
    assert "from random weights, seed" in text and "base_model:" not in text
