"""The command line: wrong input is one sentence and exit code 2, and nothing is lost."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ocr_rl.cli import main
from ocr_rl.pages.dataset import load_dataset
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


@pytest.mark.parametrize(
    ("body", "said"), [("raise KeyError('boom')", "KeyError"), ("return []", "0 scores for 1 transcripts")]
)
def test_score_names_a_reward_that_fails(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], body: str, said: str
) -> None:
    (tmp_path / "bad.py").write_text(
        "from dataclasses import dataclass\n"
        "@dataclass(frozen=True)\n"
        "class Boom:\n"
        f"    def __call__(self, page, group):\n        {body}\n"
    )
    reference = next((dataset / "pdfs").glob("*.md"))
    sentence = refused(capsys, "score", str(reference), "--data", str(dataset), "--reward", f"{tmp_path}/bad.py:Boom")
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


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["transcribe", "x.pdf", "--longest-px", "0"], "from 1 to 8192, got '0'"),
        (["transcribe", "x.pdf", "--longest-px", "99999"], "from 1 to 8192, got '99999'"),
        (["pages", "render", "x.pdf", "--out", "png", "--longest-px", "8193"], "from 1 to 8192"),
        (["pages", "render", "x.pdf", "--out", "png", "--workers", "0"], "of at least 1, got '0'"),
        (["pages", "synth", "--out", "x", "--workers", "two"], "of at least 1, got 'two'"),
        (["pages", "synth", "--out", "x", "--pages-per-document", "0"], "of at least 1, got '0'"),
        (["pages", "synth", "--out", "x", "--n", "-5"], "of at least 1, got '-5'"),
        (["pages", "synth", "--out", "x", "--scan", "-1"], "from 0 to 4, got '-1'"),
        (["pages", "synth", "--out", "x", "--scan", "nan"], "from 0 to 4, got 'nan'"),
        (["bench", "x", "--workers", "0"], "of at least 1, got '0'"),
    ],
)
def test_a_number_out_of_range_is_named(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {argv[-2]}: must be a" in sentence
    assert said in sentence


def test_the_ranges_are_those_of_the_layers_below() -> None:
    from ocr_rl import cli
    from ocr_rl.config import Typeset
    from ocr_rl.pages.raster import MAX_PX

    assert cli.MAX_PX == MAX_PX
    assert Typeset(synth="nano", scan=cli.MAX_SCAN)
    with pytest.raises(ValueError, match="less than or equal"):
        Typeset(synth="nano", scan=cli.MAX_SCAN + 0.1)


@pytest.mark.parametrize("verb", ["train", "synth", "bench"])
def test_an_out_that_is_a_file_is_named(
    verb: str, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "answers").mkdir()
    argv = {
        "train": ["train", "nano_grpo"],
        "synth": ["pages", "synth", "--n", "1", "--kind", "nano"],
        "bench": ["bench", str(dataset), "--candidate", str(tmp_path / "answers"), "--missing", "fail"],
    }[verb]
    assert f"{tmp_path / 'file'}" in refused(capsys, *argv, "--out", str(tmp_path / "file"))
    assert f"{tmp_path / 'file'}" in refused(capsys, *argv, "--out", str(tmp_path / "file" / "below"))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "argv", [["train", "nano_grpo"], ["demo"], ["transcribe", "x.pdf"], ["doctor", "--parity", "m"]]
)
def test_without_torch_the_extra_is_named(
    argv: list[str],
    dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [each for each in sys.modules if each.startswith("ocr_rl.learn") or each == "torch"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("ocr_rl.train", "ocr_rl.policy", "ocr_rl.evaluate.transcribe_files", "ocr_rl.doctor"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "x.pdf").write_bytes(next((dataset / "pdfs").glob("*.pdf")).read_bytes())
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, *argv)
    assert "torch is not installed" in said
    assert "ocr-rl[cpu]" in said


def test_an_import_that_is_our_own_fault_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    from ocr_rl import plugins

    def broken(group: str) -> None:
        raise ModuleNotFoundError("No module named 'ocr_rl.nothere'", name="ocr_rl.nothere")

    monkeypatch.setattr(plugins, "names", broken)
    with pytest.raises(ModuleNotFoundError):
        main(["plugins"])


def test_synth_does_not_write_into_a_dataset(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
    argv = ["pages", "synth", "--kind", "nano", "--n", "2", "--workers", "1", "--out"]
    assert "already holds a dataset" in refused(capsys, *argv, str(dataset))
    assert {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()} == before
    (tmp_path / "own" / "pdfs").mkdir(parents=True)
    assert main([*argv, str(tmp_path / "own")]) == 0
    (tmp_path / "own" / "nano.jsonl").unlink()  # cut off before its last act
    capsys.readouterr()
    assert "already holds a dataset" in refused(capsys, *argv, str(tmp_path / "own"), "--seed", "1")
    assert "already holds a dataset" in refused(capsys, *argv, str(tmp_path / "own"), "--pages-per-document", "2")
    assert main([*argv, str(tmp_path / "own")]) == 0
    assert (tmp_path / "own" / "nano.jsonl").exists()


def test_score_reads_saved_groups(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert "has no page ffffffff:p9" in refused(capsys, *argv)


@pytest.mark.parametrize(
    ("argv", "doing", "said"),
    [
        (["train", "nano_grpo"], "ocr_rl.train.train", "the same command with --resume goes on"),
        (["demo"], "ocr_rl.train.train", "the same command with --resume goes on"),
        (["bench", "x"], "ocr_rl.evaluate.bench.bench", "the same command goes on"),
        (["pages", "synth", "--out", "x"], "ocr_rl.pages.synth.make.write_dataset", "give a new folder with --out"),
        (["pages", "mine", "x", "--out", "y"], "ocr_rl.pages.mined.mine_folder", "give a new folder with --out"),
        (["pages", "import", "x", "--out", "y"], "ocr_rl.pages.mined.import_folder", "give a new folder with --out"),
        (
            ["pages", "split", "x", "--part", "a=0.5", "--out", "y"],
            "ocr_rl.pages.split.write_split",
            "give a new folder with --out",
        ),
        (["pages", "check", "x"], "ocr_rl.pages.dataset.check_dataset", "the same command begins from the start"),
    ],
)
def test_an_interrupted_verb_says_what_goes_on(
    argv: list[str], doing: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if doing.startswith("ocr_rl.train"):
        pytest.importorskip("torch", reason="torch is not installed")

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(doing, interrupt)
    assert main(argv) == 130
    found = capsys.readouterr().err.strip()
    assert found.startswith("ocr-rl: interrupted; ") and found.endswith(said)
