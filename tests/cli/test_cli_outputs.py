"""What each verb does where something stands at its output already. A run knows its own files; a person's stay."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ocr_rl import outputs
from ocr_rl.cli import main
from ocr_rl.contract import Transcript, UserError
from ocr_rl.evaluate import readers
from ocr_rl.evaluate.transcribe import Attempt

Refused = Callable[..., str]
OURS = "is not, or no longer, what ocr-rl wrote there"


@pytest.fixture
def data(dataset: Path, tmp_path: Path) -> Path:
    """A copy that a test may write to: PDFs with references of a person's."""
    shutil.copytree(dataset, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stands for the policy of transcribe; what it is to write."""
    texts = ["first"]

    @contextmanager
    def opened(self: readers.InProcess) -> Iterator[readers.Ask]:
        transcript = Transcript(raw=texts[0], body=texts[0], finish="stop", num_tokens=1)
        attempt = Attempt(transcript=transcript, temperature=0.0, rotation=0)
        yield lambda pages: ((page, [attempt]) for page in pages)

    monkeypatch.setattr(readers.InProcess, "opened", opened)
    return texts


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_transcribe_leaves_references_alone(data: Path, reader: list[str], refused: Refused) -> None:
    pdf = sorted((data / "pdfs").glob("*.pdf"))[0]
    before = files(data)
    sentence = refused("transcribe", str(pdf), "--out", str(data / "pdfs"), "--backend", "transformers")
    assert f"{pdf.stem}.md" in sentence and OURS in sentence
    assert files(data) == before


def test_transcribe_knows_its_own_files(data: Path, tmp_path: Path, reader: list[str], refused: Refused) -> None:
    pdfs = [str(path) for path in sorted((data / "pdfs").glob("*.pdf"))]
    out = tmp_path / "out"
    argv = ["transcribe", *pdfs, "--out", str(out), "--backend", "transformers"]
    assert main(argv) == 0
    reader[0] = "second"
    assert main(argv) == 0
    own = sorted(out.glob("*.md"))
    assert [path.read_text() for path in own] == ["first\n"] * 3  # a job that is done is not begun again
    (out / "pages.jsonl").unlink()
    assert main(argv) == 0
    assert [path.read_text() for path in own] == ["second\n"] * 3
    own[1].write_text("corrected")
    reader[0] = "third"
    assert own[1].name in refused(*argv)
    assert [path.read_text() for path in own] == ["second\n", "corrected", "second\n"]


def test_render_leaves_images_alone(data: Path, tmp_path: Path, refused: Refused) -> None:
    pdfs = [str(path) for path in sorted((data / "pdfs").glob("*.pdf"))]
    out = tmp_path / "out"
    argv = ["pages", "render", *pdfs, "--out", str(out), "--longest-px", "64", "--workers", "1"]
    assert main(argv) == 0
    assert main([*argv[:-3], "32", *argv[-2:]]) == 0  # its own, of another size
    last = sorted(out.glob("*.png"))[-1]
    last.write_bytes(b"a person's")
    before = files(out)
    assert last.name in refused(*argv)
    assert files(out) == before


def test_names_that_one_file_system_holds_for_one_are_two(data: Path, tmp_path: Path) -> None:
    pdf = sorted((data / "pdfs").glob("*.pdf"))[0]
    for name in ("Für.pdf", "Fu\u0308r.pdf", "FÜR.pdf"):
        shutil.copyfile(pdf, tmp_path / name)
    argv = ["pages", "render", *map(str, sorted(tmp_path.glob("*.pdf"))), "--out", str(tmp_path / "out")]
    assert main([*argv, "--longest-px", "32"]) == 0
    drawn = "".join(sorted(path.name[-10:] for path in (tmp_path / "out").glob("*.png")))
    assert drawn.startswith("-2_pg1.png-3_pg1.png")


@pytest.mark.parametrize(
    "argv",
    [
        "sample data --out file",
        "pages show data --out file.png",
        "report run --out .",
        "bench data --candidate empty --out .",
        "rewards audit nano_grpo --data data --out .",
        "recipes new --from nano_grpo --pages data --out file",
        "soup run run --data data --out file",
        "rewards new my_word --out .",
        "pages synth --kind nano --n 1 --out synth",
        "pages mine data --out .",
        "pages import data --out .",
        "pages export data --out file",
        "pages split data --part a=0.5 --part b=0.5 --out .",
        "train nano_grpo --out trained",
        "demo --out trained",
        "study small --out trained",
        "bench data --candidate empty --out benched",
    ],
)
def test_what_stands_there_stays(
    argv: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "run", "a", "my-word", "synth", "trained/report", "benched/candidates", "pages"):
        Path(folder).mkdir(parents=True)
    config = '{"seed": 0, "evaluation": {"sets": {"pages": {"dir": "data"}}}}'
    Path("run/config.json").write_text(config)
    own = ["file", "file.png", "report.json", "report.md", "report.html", "audit.md", "pages/report.md"]
    for name in (*own, "synth/manifest.json", "trained/report/notes.md", "benched/floors.jsonl"):
        Path(name).write_text("a person's, without a line's end")
    before = files(tmp_path)
    refused(*argv.split())
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    "argv",
    [
        "sample data --out {}",
        "pages show data --out {}.png",
        "report run --out {}",
        "bench data --candidate empty --missing fail --out {}",
        "rewards audit nano_grpo --data data --out {}",
        "rewards new my_word --out {}",
        "recipes new --from nano_grpo --pages data --out {}",
        "pages synth --kind nano --n 1 --out {}",
        "pages mine data --out {}",
        "pages import data --out {}",
        "pages export data --out {}",
        "pages split data --part a=0.5 --part b=0.5 --out {}",
        "pages render data --out {}",
        "transcribe data --backend transformers --out {}",
        "train nano_grpo --out {}",
        "study small --out {}",
    ],
)
def test_a_place_where_nothing_can_be_written_is_named_as_its_user_named_it(
    argv: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "run"):
        Path(folder).mkdir()
    Path("run/config.json").write_text("{}")
    for name in ("file", "file.png"):
        Path(name).write_text("a person's")
    for place in ("file", "file/below"):
        sentence = refused(*argv.format(place).split())
        assert sentence.startswith(f"ocr-rl: {place}") and "give another --out." in sentence
        assert ".part" not in sentence and str(tmp_path) not in sentence


def test_what_the_system_says_against_an_output_names_the_users_path_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.chdir(tmp_path)

    def full(path: str, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(outputs.os, "replace", full)
    monkeypatch.setattr(outputs.os, "rename", full)
    assert refused("rewards", "new", "my_word", "--out", "new") == (
        "ocr-rl: new/my-word: cannot be written (No space left on device); give another --out."
    )
    assert not list(Path("new").iterdir())
    with pytest.raises(UserError, match="^a.md: cannot be written \\(No space left on device\\); give another --out"):
        outputs.write(Path("a.md"), "text")
    with pytest.raises(OSError, match="gone.pdf"), outputs.writing(tmp_path / "out"):
        Path("gone.pdf").read_bytes()  # an input keeps its own name


def test_what_stands_there_as_a_link_stays(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("nothing")
    Path("link.png").symlink_to("nothing")
    for argv in (
        "sample data --out link",
        "pages show data --out link.png",
        "recipes new --from nano_grpo --pages data --out link",
        "soup data data --data data --out link",
    ):
        assert "link" in refused(*argv.split())
    assert not Path("nothing").exists()


def test_a_contact_sheet_is_made_again_and_is_a_picture(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["pages", "show", "data", "--cell-px", "64"]) == 0
    assert "is a .png or .jpg file" in refused("pages", "show", "data", "--out", "sheet.pdf")


def test_a_reference_corrected_by_hand_keeps_synth_out(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in data.iterdir():
        if path.is_file():
            path.unlink()  # as a call that was cut off leaves it
    corrected = sorted((data / "pdfs").glob("*.md"))[-1]
    corrected.write_text("by hand")
    argv = ["pages", "synth", "--kind", "nano", "--n", "3", "--seed", "1", "--workers", "1", "--out", str(data)]
    assert main(argv) == 2
    assert f"{corrected.name}: is there already and holds something else" in capsys.readouterr().err
    assert corrected.read_text() == "by hand"
    corrected.unlink()
    assert main(argv) == 0


def test_an_average_takes_nothing_away_that_lies_beside_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    from ocr_rl.evaluate import soup
    from ocr_rl.learn import soup as of_weights

    (tmp_path / "mean.part").mkdir()
    (tmp_path / "mean.part" / "notes.txt").write_text("a person's")
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(of_weights, "average", lambda _, folder: folder.mkdir())
    monkeypatch.setattr(soup, "pass_rate", lambda model, *_: float("part" in model))
    soup.soup([tmp_path, tmp_path], tmp_path / "mean", data, engine="transformers")
    assert (tmp_path / "mean.part" / "notes.txt").read_text() == "a person's"
    assert (tmp_path / "mean").is_dir()
