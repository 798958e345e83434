"""Wrong input is one sentence and exit code 2, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ocr_rl.cli import bench, main
from ocr_rl.cli.document import verbs


def test_missing_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pages", "check", str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().out


def test_unknown_recipe(refused: Callable[..., str]) -> None:
    assert "nano_grpo" in refused("train", "nano_grop")


def test_unknown_recipe_key(refused: Callable[..., str], tmp_path: Path) -> None:
    said = refused("train", "nano_grpo", "--set", "grpo.step=3", "--out", str(tmp_path / "run"))
    assert "grpo.step" in said
    assert "steps" in said
    assert not (tmp_path / "run").exists()


def test_unknown_kind(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "report" in refused("pages", "synth", "--kind", "reprot", "--out", str(tmp_path / "x"))


def test_a_model_folder_without_a_processor(dataset: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    pdf = str(next((dataset / "pdfs").glob("*.pdf")))
    assert "processor" in refused("transcribe", pdf, "--model", str(tmp_path / "model"))


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
def test_a_number_out_of_range_is_named(argv: list[str], said: str, refused: Callable[..., str]) -> None:
    sentence = refused(*argv)
    assert f"'{argv[-2]}': must be a" in sentence
    assert said in sentence
    assert f"see ocr-rl {argv[0]}" in sentence


def test_the_ranges_are_those_of_the_layers_below() -> None:
    from ocr_rl.cli import options
    from ocr_rl.config import Typeset
    from ocr_rl.pages.raster import MAX_PX

    assert options.MAX_PX == MAX_PX
    assert Typeset(synth="nano", scan=options.MAX_SCAN)
    with pytest.raises(ValueError, match="less than or equal"):
        Typeset(synth="nano", scan=options.MAX_SCAN + 0.1)


@pytest.mark.parametrize("verb", ["train", "synth", "bench"])
def test_an_out_that_is_a_file_is_named(verb: str, dataset: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "answers").mkdir()
    argv = {
        "train": ["train", "nano_grpo"],
        "synth": ["pages", "synth", "--n", "1", "--kind", "nano"],
        "bench": ["bench", str(dataset), "--candidate", str(tmp_path / "answers"), "--missing", "fail"],
    }[verb]
    assert f"{tmp_path / 'file'}" in refused(*argv, "--out", str(tmp_path / "file"))
    assert f"{tmp_path / 'file'}" in refused(*argv, "--out", str(tmp_path / "file" / "below"))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "argv", [["train", "nano_grpo"], ["demo"], ["transcribe", "x.pdf"], ["doctor", "--parity", "m"]]
)
def test_without_torch_the_extra_is_named(argv: list[str], dataset: Path, tmp_path: Path) -> None:
    """In a process of its own: modules that are imported again would not be those that other tests have."""
    (tmp_path / "x.pdf").write_bytes(next((dataset / "pdfs").glob("*.pdf")).read_bytes())
    code = "import sys; sys.modules['torch'] = None; from ocr_rl.cli import main; sys.exit(main(sys.argv[1:]))"
    ended = subprocess.run([sys.executable, "-c", code, *argv], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "torch is not installed" in ended.stderr
    assert "ocr-rl[cpu]" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_import_that_is_our_own_fault_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    from ocr_rl import plugins

    def broken(group: str) -> None:
        raise ModuleNotFoundError("No module named 'ocr_rl.nothere'", name="ocr_rl.nothere")

    monkeypatch.setattr(plugins, "names", broken)
    with pytest.raises(ModuleNotFoundError):
        main(["plugins"])


@pytest.mark.parametrize(
    ("argv", "doing", "said"),
    [
        (["train", "nano_grpo"], "ocr_rl.train.train", "the same command with --resume goes on"),
        (["demo"], "ocr_rl.train.train", "the same command with --resume goes on"),
        (["bench", "x", "--candidate", "x"], "ocr_rl.evaluate.bench.bench", "the same command goes on"),
        (["pages", "synth", "--out", "x"], "ocr_rl.pages.synth.make.write_dataset", "give a new folder with --out"),
        (["pages", "mine", "x", "--out", "y"], "ocr_rl.pages.mined.mine_folder", "give a new folder with --out"),
        (["pages", "import", "x", "--out", "y"], "ocr_rl.pages.imported.import_folder", "give a new folder with --out"),
        (
            ["pages", "split", "x", "--part", "a=0.5", "--out", "y"],
            "ocr_rl.pages.split.write_split",
            "give a new folder with --out",
        ),
        (["pages", "check", "x"], "ocr_rl.pages.dataset.survey", "the same command begins from the start"),
    ],
)
def test_an_interrupted_verb_says_what_goes_on(
    argv: list[str],
    doing: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "x" / "pdfs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    if doing.startswith("ocr_rl.train"):
        pytest.importorskip("torch", reason="torch is not installed")

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(doing, interrupt)
    assert main(argv) == 130
    found = capsys.readouterr().err.strip()
    assert found.startswith("ocr-rl: interrupted; ") and found.endswith(said)


def test_synth_does_not_write_into_a_dataset(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: Callable[..., str]
) -> None:
    before = {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
    argv = ["pages", "synth", "--kind", "nano", "--n", "2", "--workers", "1", "--out"]
    assert "already holds a dataset" in refused(*argv, str(dataset))
    assert {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()} == before
    (tmp_path / "own" / "pdfs").mkdir(parents=True)
    assert main([*argv, str(tmp_path / "own")]) == 0
    (tmp_path / "own" / "nano.jsonl").unlink()  # cut off before its last act
    capsys.readouterr()
    assert "already holds a dataset" in refused(*argv, str(tmp_path / "own"), "--seed", "1")
    assert "already holds a dataset" in refused(*argv, str(tmp_path / "own"), "--pages-per-document", "2")
    assert main([*argv, str(tmp_path / "own")]) == 0
    assert (tmp_path / "own" / "nano.jsonl").exists()


NOT_OF_SUITES = {
    "limit": "1",
    "tag": "a",
    "file": "a.jsonl",
    "type": "table",
    "backend": "vllm",  # the default, given: it would be read as little
    "preset": "x",
    "instruction": "x",
    "reading": "strict",
    "repeats": "2",
    "temperature": "0.5",
    "missing": "error",
    "front-matter": "strip",
    "cluster": "document",
    "workers": "1",
}


def test_an_option_that_suites_do_not_read_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    options = {param.opts[0][2:] for param in dict(verbs())["ocr-rl bench"].params if param.opts[0].startswith("--")}
    of_suites = {"candidate", "suite", "out", "engine", "model", "endpoint"}  # the last three are refused apart
    assert options - of_suites - {"help"} == set(NOT_OF_SUITES)
    words = ["bench", str(tmp_path), "--suite", "dp-bench", "--candidate", str(tmp_path)]
    for name, value in NOT_OF_SUITES.items():
        sentence = refused(*words, f"--{name}", value)
        assert f"--suite does not read --{name}, because" in sentence and "leave that out" in sentence
    assert "--limit, --type, because" in refused(*words, "--type", "table", "--limit", "1")
    assert "reference.json" in refused(*words)  # none was given: what is refused is the folder


@pytest.mark.parametrize(
    ("text", "name"), [(".", "here"), ("../here/", "here"), ("x=.", "x"), ("link", "link"), ("/", "")]
)
def test_a_candidate_without_a_name_has_its_folders(
    text: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here/link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path / "here")
    assert bench._name(text) == name
