"""The table of arms, from runs whose figures are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.policy import credit
from ocr_rl.evaluate.results import CheckVerdict, PageResult, write_rows

PAGES = ("a:p1", "b:p1")


def row(page: str, passed: int) -> PageResult:
    checks = tuple(CheckVerdict(id=f"t{k}", type="present", passed=k < passed) for k in range(10))
    return PageResult(page=page, checks=checks, finish="stop", num_tokens=1, text="")


def write_run(folder: Path, passed: dict[int, int], tokens: int) -> None:
    """A run that is evaluated at some steps; each step generated as many tokens."""
    for step, number in passed.items():
        (folder / "eval" / f"{step:06d}").mkdir(parents=True)
        write_rows(folder / "eval" / f"{step:06d}" / "new.jsonl", [row(page, number) for page in PAGES])
    lines = [json.dumps({"step": step, "generated": tokens}) for step in range(1, max(passed) + 1)]
    (folder / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")


def test_gains_are_compared_after_as_many_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "plain" / "seed0", {0: 2, 20: 3, 40: 6}, tokens=100)
    write_run(tmp_path / "spans" / "seed0", {0: 2, 20: 6, 40: 8}, tokens=200)  # twice as many a step
    write_run(tmp_path / "plain" / "seed1", {0: 2, 20: 3, 40: 9}, tokens=100)
    write_run(tmp_path / "spans" / "seed1", {0: 2, 20: 9}, tokens=200)  # still on its way
    asked = ["--arms", "plain", "spans", "--seeds", "0", "1", "--steps", "40", "--only-table", "--out", str(tmp_path)]
    assert credit.main(asked) == 0
    out = capsys.readouterr().out
    assert out.startswith("## new, seed 0\n")
    lines = [line.split("|") for line in out.splitlines() if line.startswith("| ")]
    plain, spans = ([cell.strip().replace("\\", "") for cell in line[1:-1]] for line in lines[2:])
    assert plain == ["plain", "+10.0", "+40.0", "+40.0", "40 [40, 40]", "100%"]
    # Its 20th step is plain's 40th: 20 points after 2,000 tokens, 40 after 4,000.
    assert spans[1:3] == ["+20.0 (+10.0 [+10.0, +10.0])", "+40.0 (+0.0 [+0.0, +0.0])"]
    assert spans[3:] == ["+40.0", "40 [40, 40]", "200%"]


def test_the_step_at_which_a_gain_is_reached() -> None:
    grid = [0, 20, 40]
    assert credit._reached(np.array([0.0, 0.2, 0.4]), 0.3, grid) == pytest.approx(30.0)
    assert credit._reached(np.array([0.0, 0.5, 0.4]), 0.25, grid) == pytest.approx(10.0)
    assert credit._reached(np.array([0.0, 0.1, 0.2]), 0.3, grid) == float("inf")


def test_mined_arms_need_their_pages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        credit.main(["--arms", "mined"])
    assert "name them with --pages" in capsys.readouterr().err
