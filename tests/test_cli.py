"""The command line: wrong input is one sentence and exit code 2, and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocr_rl.cli import main
from ocr_rl.pages.synth.make import make_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "nano"
    assert list(make_dataset("nano", n=3, seed=1, out=folder)) == [1, 2, 3]
    return folder


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Runs a command that must be refused; returns its one sentence."""
    assert main(argv) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("ocr-rl: ")
    assert "\n" not in said
    assert "Traceback" not in said
    return said


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


def test_missing_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pages", "check", str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().out


def test_unknown_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nano_grpo" in refused(capsys, "train", "nano_grop")


def test_unknown_recipe_key(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = refused(capsys, "train", "nano_grpo", "--set", "grpo.step=3", "--out", str(tmp_path / "run"))
    assert "grpo.step" in said
    assert "steps" in said
    assert not (tmp_path / "run").exists()


def test_unknown_kind(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "report" in refused(capsys, "pages", "synth", "--kind", "reprot", "--out", str(tmp_path / "x"))


def test_a_model_folder_without_a_processor(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    pdf = str(next((dataset / "pdfs").glob("*.pdf")))
    assert "processor" in refused(capsys, "transcribe", pdf, "--model", str(tmp_path / "model"))


def test_the_embedded_policy_is_found_or_said_to_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ocr_rl.contract import UserError
    from ocr_rl.learn import model

    monkeypatch.setattr(model, "files", lambda package: tmp_path / "ocr_rl")
    with pytest.raises(UserError, match="make nano"):
        model.model_folder("nano")
    (tmp_path / "data" / "nano").mkdir(parents=True)
    (tmp_path / "data" / "nano" / "config.json").write_text("{}")
    assert model.model_folder("nano") == str(tmp_path / "data" / "nano")


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


def test_score_says_why(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = next((dataset / "pdfs").glob("*.md"))
    assert main(["score", str(reference), "--data", str(dataset), "--reward", "pass_rate"]) == 0
    assert capsys.readouterr().out.startswith("pass_rate: 1.000")
    assert "pass_rate" in refused(capsys, "score", str(reference), "--data", str(dataset), "--reward", "pas_rate")


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
