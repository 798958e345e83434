"""The verbs: what they print, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ocr_rl.cli import main
from ocr_rl.pages.dataset import load_dataset


def with_line(dataset: Path, folder: Path, line: str) -> Path:
    (folder / "pdfs").mkdir(parents=True)
    for pdf in (dataset / "pdfs").iterdir():
        (folder / "pdfs" / pdf.name).write_bytes(pdf.read_bytes())
    (folder / "tests.jsonl").write_text((dataset / "nano.jsonl").read_text() + line + "\n")
    return folder


def test_a_sound_dataset_passes(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pages", "check", str(dataset)]) == 0
    assert "3 pages" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"pdf": "x', "JSON"),
        (json.dumps({"pdf": "nano_1_00000.pdf", "page": 1, "id": "t", "type": "presnt", "text": "x"}), "presnt"),
        (json.dumps({"pdf": "nothere.pdf", "page": 1, "id": "t", "type": "present", "text": "x"}), "nothere.pdf"),
    ],
)
def test_pages_check_names_file_and_line(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, expected: str
) -> None:
    broken = with_line(dataset, tmp_path / "broken", line)
    number = len((broken / "tests.jsonl").read_text().splitlines())
    assert main(["pages", "check", str(broken)]) == 2
    said = capsys.readouterr().out
    assert f"tests.jsonl:{number}:" in said
    assert expected in said


def test_the_embedded_policy_is_found_or_said_to_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ocr_rl.contract import UserError
    from ocr_rl.models import load

    monkeypatch.setattr(load, "files", lambda package: tmp_path / "ocr_rl")
    with pytest.raises(UserError, match="make nano"):
        load.model_folder("nano")
    (tmp_path / "data" / "nano").mkdir(parents=True)
    (tmp_path / "data" / "nano" / "config.json").write_text("{}")
    assert load.model_folder("nano") == str(tmp_path / "data" / "nano")


def test_render_names_what_it_refuses_and_goes_on(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.pdf"
    broken.write_text("no PDF")
    good = next((dataset / "pdfs").glob("*.pdf"))
    argv = ["pages", "render", str(broken), str(good), "--out", str(tmp_path / "png"), "--longest-px", "224"]
    assert main([*argv, "--workers", "1"]) == 1
    said = capsys.readouterr()
    assert "broken.pdf" in said.err
    assert len(list((tmp_path / "png").glob("*.png"))) == 1


def test_score_says_why(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: Callable[..., str]
) -> None:
    reference = next((dataset / "pdfs").glob("*.md"))
    assert main(["score", str(reference), "--data", str(dataset), "--reward", "pass_rate"]) == 0
    assert capsys.readouterr().out.startswith("pass_rate: 1.000")
    assert "pass_rate" in refused("score", str(reference), "--data", str(dataset), "--reward", "pas_rate")


def test_a_reward_from_a_file(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\n"
        "from ocr_rl.contract import Score, per_transcript\n"
        "@dataclass(frozen=True)\n"
        "class Short:\n"
        "    @per_transcript\n"
        "    def __call__(self, page, transcript):\n"
        "        return Score(value=1 / (1 + len(transcript.body)))\n"
    )
    reference = next(path for path in (dataset / "pdfs").glob("*.md") if path.stat().st_size > 20)
    argv = ["score", str(reference), "--data", str(dataset), "--reward", f"{tmp_path / 'mine.py'}:Short"]
    assert main(argv) == 0
    assert "Short: 0.0" in capsys.readouterr().out


def test_plugins_lists_the_rewards(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("pass_rate", "bleu", "diff_ratio", "front_matter", "eos"))


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    assert "engine: vllm" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("body", "said"), [("raise KeyError('boom')", "KeyError"), ("return []", "0 scores for 1 transcripts")]
)
def test_score_names_a_reward_that_fails(
    dataset: Path, tmp_path: Path, refused: Callable[..., str], body: str, said: str
) -> None:
    (tmp_path / "bad.py").write_text(
        "from dataclasses import dataclass\n"
        "@dataclass(frozen=True)\n"
        "class Boom:\n"
        f"    def __call__(self, page, group):\n        {body}\n"
    )
    reference = next((dataset / "pdfs").glob("*.md"))
    sentence = refused("score", str(reference), "--data", str(dataset), "--reward", f"{tmp_path}/bad.py:Boom")
    assert "bad.py:Boom failed on page" in sentence
    assert said in sentence


def test_score_says_that_a_reward_does_not_apply(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare" / "pdfs"
    bare.mkdir(parents=True)
    pdf = next((dataset / "pdfs").glob("*.pdf"))
    (bare / "x.pdf").write_bytes(pdf.read_bytes())
    (tmp_path / "x.md").write_text("hello")
    assert main(["score", str(tmp_path / "x.md"), "--data", str(bare.parent), "--reward", "bleu"]) == 0
    assert capsys.readouterr().out == "bleu: does not apply  (the page has no reference)\n"


def test_score_reads_saved_groups(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: Callable[..., str]
) -> None:
    page = next(page for page in load_dataset(dataset) if page.reference)
    samples = [{"text": text, "finish": "stop", "tokens": 3} for text in (page.reference, "x")]
    groups = tmp_path / "000001.jsonl"
    groups.write_text(json.dumps({"page": page.id, "best": {}, "worst": {}, "samples": samples}) + "\n")
    argv = ["score", str(groups), "--data", str(dataset), "--reward", "cer", "--reward", "medoid"]
    assert main(argv) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == f"{page.id} ({page.pdf.name}, page {page.number}), 2 samples"
    assert [line.split("  (")[0] for line in lines[:2]] == ["  0  cer: 1.000", "  0  medoid: 1.000"]
    assert lines[2].startswith("  1  cer: 0.0")
    groups.write_text(json.dumps({"page": "ffffffff:p9", "samples": samples}) + "\n")
    assert "has no page ffffffff:p9" in refused(*argv)
