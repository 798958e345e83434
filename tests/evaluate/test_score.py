"""`ocr-rl score`: which page a transcript is of, and groups and faults that a run saved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pypdfium2 as pdfium
import pytest

from ocr_rl.cli import main
from ocr_rl.config import Scoring
from ocr_rl.contract import UserError
from ocr_rl.evaluate import score
from ocr_rl.evaluate.candidates import folder_answers
from ocr_rl.evaluate.score import score_file
from ocr_rl.pages.dataset import load_dataset
from tests.packages import install
from tests.pages.pdfs import SEEN, block, pdf
from tests.pages.pictures import encoded, page


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """pdfs/a/x.pdf and pdfs/b/x.pdf, whose references say where they are; pdfs/my_repeat.pdf of two pages."""
    for name, width, text in (("a/x", 100, "of the first"), ("b/x", 101, "of the second"), ("my_repeat", 102, "")):
        path = tmp_path / "data" / "pdfs" / f"{name}.pdf"
        path.parent.mkdir(parents=True, exist_ok=True)
        document = pdfium.PdfDocument.new()
        for _ in range(1 if text else 2):
            document.new_page(width, 100)
        document.save(path)
        (path.with_suffix(".md") if text else path.with_name("my_repeat_pg2.md")).write_text(text or "page two")
    return tmp_path / "data"


def values_of(lines: Sequence[str], reward: str) -> list[str]:
    return [line.split(f"{reward}: ")[1].split()[0] for line in lines if f"{reward}: " in line]


def test_the_page_is_the_one_of_that_path(data: Path) -> None:
    file = data / "pdfs" / "b" / "x.md"
    assert values_of(list(score_file(file, data, ["cer"], page="b/x.pdf:1")), "cer") == ["1.000"]
    assert values_of(list(score_file(file, data, ["cer"], page="a/x.pdf:1")), "cer") != ["1.000"]
    with pytest.raises(UserError, match="has 2 pages"):
        list(score_file(file, data, ["cer"], page="x.pdf:1"))
    with pytest.raises(UserError, match="has no page"):
        list(score_file(file, data, ["cer"], page="nowhere/x.pdf:1"))


def test_a_name_that_holds_repeat_is_still_a_name(data: Path) -> None:
    file = data / "pdfs" / "my_repeat_pg2.md"
    assert values_of(list(score_file(file, data, ["cer"], page=None)), "cer") == ["1.000"]


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("\ufeffpage two".encode(), None),
        ("page two".encode("utf-16"), None),
        ("page two ü".encode("latin-1"), "the text is not UTF-8 (byte 10, perhaps it is Latin-1), save it as UTF-8"),
        ("page two".encode("utf-16-be"), "the text is UTF-16 without a byte order mark, save it as UTF-8"),
        (b"page\0two", "the text holds a NUL (character 5), take it out"),
        (b"x" * (2**22 + 1), "the file is longer than 4 MiB, shorten it"),
    ],
)
def test_a_transcript_is_read_the_same_by_score_and_bench(
    data: Path, tmp_path: Path, written: bytes, why: str | None
) -> None:
    file = tmp_path / "answers" / "my_repeat_pg2_repeat1.md"
    file.parent.mkdir()
    file.write_bytes(written)
    pages = [page for page in load_dataset(data) if page.number == 2]
    if why is None:
        assert values_of(list(score_file(file, data, ["cer"], page=None)), "cer") == ["1.000"]
        (answer,) = folder_answers(file.parent, pages, data / "pdfs", "error")
        assert answer.attempts[0].transcript.body == "page two"
        return
    for verb in (
        lambda: list(score_file(file, data, ["cer"], page=None)),
        lambda: folder_answers(file.parent, pages, data / "pdfs", "error"),
    ):
        with pytest.raises(UserError) as refusal:
            verb()
        assert str(refusal.value) == f"{file}: {why}."


def test_groups_are_read_whatever_their_mark_and_line_ends(data: Path, tmp_path: Path) -> None:
    page = load_dataset(data)[0]
    line = json.dumps({"page": page.id, "samples": [sample("of the first"), sample("half \ud800")]})
    for number, text in enumerate((f"\ufeff{line}\r\n\r\n", f"\n{line}\r")):
        (file := tmp_path / f"{number}.jsonl").write_bytes(text.encode("utf-8"))
        assert values_of(list(score_file(file, data, ["cer"], page=None)), "cer")[0] == "1.000"
    file.write_bytes(line.encode("utf-16-le"))
    with pytest.raises(UserError, match=r"1.jsonl: the text is UTF-16 without a byte order mark, save it as UTF-8\.$"):
        list(score_file(file, data, ["cer"], page=None))


def saved(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def sample(text: str) -> dict:
    return {"text": text, "finish": "stop", "tokens": 3}


def test_groups_of_two_steps_stay_two_groups(data: Path, tmp_path: Path) -> None:
    page = load_dataset(data)[0].id
    group = {"page": page, "samples": [sample("alpha\u2028beta"), sample("gamma")]}
    lines = list(score_file(saved(tmp_path / "g.jsonl", group, group), data, ["medoid"], page=None))
    assert sum("2 samples" in line for line in lines) == 2
    assert values_of(lines, "medoid") == ["1.000", "0.000"] * 2


def test_a_fault_is_asked_again_with_its_own_options(data: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from dataclasses import dataclass\n"
        "from ocr_rl.contract import Score\n\n\n"
        "@dataclass(frozen=True)\n"
        "class Bad:\n"
        "    bad: bool = False\n\n"
        "    def __call__(self, page, group):\n"
        "        if self.bad:\n"
        "            raise ValueError('as it did then')\n"
        "        return [Score(value=1.0)] * len(group)\n"
    )
    row = {"page": load_dataset(data)[0].id, "samples": [sample("text")]}
    for bad in (True, False):
        fault = {"reward": f"{plugin}:Bad", "options": {"bad": bad}, "reason": ""}
        file = saved(tmp_path / "f.jsonl", {**row, "fault": fault})
        if bad:
            with pytest.raises(UserError, match="as it did then"):
                list(score_file(file, data, None, page=None))
        else:
            assert any("Bad: 1.000" in line for line in score_file(file, data, None, page=None))


HOSTILE = Path(__file__).parents[1] / "rollout" / "hostile.py"
FAULTS = {
    "Hangs": "it took longer than 2 s",
    "EatsMemory": "GiB of memory",
    "Exits": "it crashed its process",
    "Leaves": "SystemExit: 3",
    "Raises": "KeyError: 'no such table'",
    "NotANumber": "a value that is not a number",
    "TooFew": "0 scores for 1 transcripts",
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_reward_that_fails_is_one_sentence(
    name: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "Hangs":
        monkeypatch.setattr(score, "HOW", Scoring(timeout_s=2))
    (tmp_path / "my_repeat_pg2.md").write_text("poison")
    saved(tmp_path / "g.jsonl", {"page": load_dataset(data)[0].id, "samples": [sample("poison")]})
    for file in ("my_repeat_pg2.md", "g.jsonl"):
        argv = ["score", str(tmp_path / file), "--data", str(data), "--reward", f"{HOSTILE}:{name}"]
        assert main(argv) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"ocr-rl: Reward {HOSTILE}:{name} failed on page ")
        assert FAULTS[name] in line


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import time; time.sleep(1000)", "it took longer than 2 s"),
        ("import os; os._exit(0)", "it crashed its process"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
    ],
)
def test_a_file_that_fails_when_it_is_imported_is_one_sentence(
    code: str, reason: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "HOW", Scoring(timeout_s=2))
    (tmp_path / "bad.py").write_text(code)
    with pytest.raises(UserError, match=reason):
        list(score_file(data / "pdfs" / "my_repeat_pg2.md", data, [f"{tmp_path / 'bad.py'}:Bad"], page=None))


def test_of_all_installed_rewards_one_that_fails_stops_no_other(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hostile.py").write_text(HOSTILE.read_text().replace("poison", "page two"))
    (tmp_path / "leaves.py").write_text("raise SystemExit(0)")
    install(
        tmp_path, "their-rewards", {"aa_call": "hostile:Exits", "aa_exit": "leaves:Mine", "aa_none": "no_such:Mine"}
    )
    monkeypatch.syspath_prepend(tmp_path)
    lines = list(score_file(data / "pdfs" / "my_repeat_pg2.md", data, None, page=None))
    assert values_of(lines, "aa_call") == values_of(lines, "aa_exit") == values_of(lines, "aa_none") == ["fault"]
    assert values_of(lines, "cer") == ["1.000"]


def test_a_group_without_samples_is_the_files_fault(data: Path, tmp_path: Path) -> None:
    file = saved(tmp_path / "g.jsonl", {"page": load_dataset(data)[0].id, "samples": []})
    with pytest.raises(UserError, match=r"g.jsonl:1: is no group of samples \(it has none\)"):
        list(score_file(file, data, ["cer"], page=None))


def test_a_file_without_a_group_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no group"):
        list(score_file(saved(tmp_path / "none.jsonl"), data, None, page=None))
    (tmp_path / "deep.jsonl").write_text("[" * 200_000)
    with pytest.raises(UserError, match="deep.jsonl:1: this is not JSON that anybody would write"):
        list(score_file(tmp_path / "deep.jsonl", data, None, page=None))


def test_a_page_is_known_by_every_name_of_its_document_and_by_its_id(data: Path) -> None:
    (data / "pdfs" / "alias.pdf").symlink_to("my_repeat.pdf")
    (data / "pdfs" / "a" / "twin.pdf").symlink_to("../b/x.pdf")
    (data / "pdfs" / "photo.png").write_bytes(encoded(page(), "PNG"))
    pages = load_dataset(data)
    first, second, repeat, photo = pages
    for wanted in ("alias.pdf:2", "./alias.pdf:2", "pdfs/my_repeat.pdf:2", repeat.id):
        assert score._page(pages, wanted, data, any_ending=False) is repeat
    for wanted in ("a/twin.pdf:1", "twin.pdf:1", "b/x.pdf:1"):
        assert score._page(pages, wanted, data, any_ending=False) is second
    for file, meant in (("alias_pg2_repeat1.md", repeat), ("twin.md", second), ("photo.md", photo)):
        assert score._page(pages, score._named(Path(file)), data, any_ending=True) is meant
    for wanted in ("photo.pdf:1", "nowhere/alias.pdf:2", "alias.pdf:1"):
        with pytest.raises(UserError, match=f"has no page '{wanted}'"):
            score._page(pages, wanted, data, any_ending=False)
    assert first.pdf.parent.name == "a"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (pdf(block(*SEEN)), "a PDF"),
        (encoded(page(), "PNG"), "a PNG picture"),
        (encoded(page(), "JPEG"), "a JPEG picture"),
        (b"PK\x03\x04\x14\0\0\0\x08\0" + bytes(18) + b"[Content_Types].xml" + bytes(300) + b"word/", "a Word document"),
    ],
)
@pytest.mark.parametrize("ending", [".md", ".jsonl"])
def test_what_is_no_text_is_refused_by_its_kind(
    content: bytes, kind: str, ending: str, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / f"my_repeat_pg2{ending}"
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"the file is {kind}.*, and a text file is wanted"):
        list(score_file(file, data, None, page=None))
