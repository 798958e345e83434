"""`ocr-rl sample` and `ocr-rl report`: files that the other verbs read, and wrong input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocr_rl.cli import main
from ocr_rl.config import load_recipe
from ocr_rl.contract import Transcript
from ocr_rl.evaluate.groups import read_groups
from ocr_rl.evaluate.results import judge_page, write_rows
from ocr_rl.pages.source import open_pages


def test_samples_are_groups_that_score_and_audit_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "data", tmp_path / "groups.jsonl"
    assert main(["pages", "synth", "--kind", "nano", "--n", "3", "--out", str(data)]) == 0
    argv = ["sample", str(data), "--pages", "2", "--n", "2", "--backend", "transformers", "--out", str(out)]
    assert main(argv) == 0
    groups = read_groups(out)
    assert [len(group.samples) for group in groups] == [2, 2]
    assert all(sample.raw.strip() for group in groups for sample in group.samples)
    capsys.readouterr()
    assert main(["score", str(out), "--data", str(data), "--reward", "pass_rate"]) == 0
    assert capsys.readouterr().out.count("pass_rate:") == 4


def run_of(folder: Path, texts: dict[str, str]) -> Path:
    """A finished run as `train` leaves it, its evaluation's transcripts made up."""
    recipe = load_recipe("nano_grpo", ["evaluation.sets.new.n=3", "evaluation.sets.old.n=3"])
    assert recipe.evaluation is not None
    (folder / "pages").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(recipe.model_dump(mode="json")))
    (folder / "metrics.jsonl").write_text('{"step": 1, "reward": 0.5}\n{"step": 2, "reward": 0.6}\n')
    for name, source in recipe.evaluation.sets.items():
        pages = open_pages(source, folder / "pages")
        for step, text in texts.items():
            (folder / "eval" / step).mkdir(parents=True, exist_ok=True)
            bodies = [text or (page.reference or "") for page in pages]
            transcripts = [Transcript(raw=body, body=body, finish="stop", num_tokens=9) for body in bodies]
            rows = [judge_page(page, one, "strict") for page, one in zip(pages, transcripts, strict=True)]
            write_rows(folder / "eval" / step / f"{name}.jsonl", rows)
    return folder


def test_one_report_over_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = run_of(tmp_path / "good", {"000000": "x", "000002": ""})
    poor = run_of(tmp_path / "poor", {"000000": "x", "000002": "y"})
    assert main(["report", str(good), str(poor), "--out", str(tmp_path / "out")]) == 0
    markdown = (tmp_path / "out" / "new" / "report.md").read_text()
    assert "| good" in markdown and "| poor" in markdown and "| before" in markdown
    assert (tmp_path / "out" / "old" / "report.html").exists()
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "give a folder that `ocr-rl train` wrote" in capsys.readouterr().err
