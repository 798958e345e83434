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


def test_the_head_names_a_start_on_a_hub_and_no_licence(run: Path) -> None:
    head = card(run).read_text().split("---\n")[1]
    assert 'base_model: "someone/a-model"' in head and "library_name: transformers" in head
    assert "license" not in head


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
