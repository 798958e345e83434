"""From files to rows and files: every page once, whatever is killed on the way; what is made of the rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
import pytest

from ocr_rl.cli import main
from ocr_rl.contract import UserError
from ocr_rl.evaluate.chat import Endpoint
from ocr_rl.evaluate.readers import AtEndpoint, at_endpoint, extra_fields
from ocr_rl.models.settings import PromptSettings
from ocr_rl.text.front_matter import FrontMatter
from ocr_rl.transcription import fallback, made
from ocr_rl.transcription.job import Wanted, transcribe_files
from ocr_rl.transcription.rows import Rows
from tests.pages.pdfs import block
from tests.pages.pdfs import pdf as text_pdf
from tests.transcription.fake_chat import FakeChat, completion, image_of

Pdf = Callable[..., Path]
FRONT = FrontMatter(
    primary_language="en", is_rotation_valid=True, rotation_correction=0, is_table=False, is_diagram=False
).to_text()


def reader(fake: FakeChat, **how: Any) -> AtEndpoint:
    endpoint = Endpoint(url=fake.url, model="fake", deadline_s=5.0, in_flight=2, **how)
    return AtEndpoint(endpoint=endpoint, settings=PromptSettings(longest_px=64, instruction="", max_tokens=9))


def rows_in(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "pages.jsonl").read_text().splitlines()]


def test_a_row_holds_all_that_is_known_of_its_page(fake: FakeChat, pdf: Pdf, tmp_path: Path) -> None:
    fake.write = lambda body: completion(FRONT + "hello", "stop" if body["temperature"] else "length")
    assert transcribe_files([pdf("a.pdf", 1)], reader(fake), tmp_path / "out") == []
    (row,) = rows_in(tmp_path / "out")
    assert row["text"] == "hello" and row["front_matter"]["primary_language"] == "en"
    assert [(a["temperature"], a["finish"], a["raw"]) for a in row["attempts"]] == [
        (0.0, "length", FRONT + "hello"),
        (0.2, "stop", FRONT + "hello"),
    ]
    named = {name: row[name] for name in ("page", "pages", "source", "finish", "tokens", "prompt_tokens", "model")}
    assert named == dict(page=1, pages=1, source="model", finish="stop", tokens=14, prompt_tokens=40, model="fake")
    assert row["longest_px"] == 64 and row["seconds"] > 0 and len(row["sha256"]) == 64


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """After so many rows the next is cut through and the process ends."""

    def after(count: int) -> None:
        append = Rows.append

        def cut(self: Rows, document: Any, row: dict[str, Any]) -> None:
            nonlocal count
            if count == 0:
                with self.path.open("ab") as file:
                    file.write(json.dumps(row).encode()[:40])
                monkeypatch.setattr(Rows, "append", append)
                raise Killed
            count -= 1
            append(self, document, row)

        monkeypatch.setattr(Rows, "append", cut)

    yield after


def test_killed_at_any_row_every_page_is_there_once_with_the_same_text(
    fake: FakeChat, pdf: Pdf, tmp_path: Path, killed: Callable[[int], None]
) -> None:
    pdfs, out = [pdf("a.pdf", 3), pdf("b.pdf", 2)], tmp_path / "out"
    transcribe_files(pdfs, reader(fake), tmp_path / "whole")
    whole = {(row["pdf"], row["page"]): row["text"] for row in rows_in(tmp_path / "whole")}
    for count in (0, 2, 1):
        killed(count)
        with pytest.raises(Killed):
            transcribe_files(pdfs, reader(fake), out)
    fake.asked.clear()
    assert transcribe_files(pdfs, reader(fake), out) == []
    # 3 of the 5 were there. Counted by page: a question that the killed call had sent may reach the server only now.
    assert len(set(map(image_of, fake.asked))) == 2
    assert len(rows_in(out)) == 5 and {(row["pdf"], row["page"]): row["text"] for row in rows_in(out)} == whole
    for name in ("a.md", "b.md"):
        assert (out / name).read_text() == (tmp_path / "whole" / name).read_text()
    fake.asked.clear()
    transcribe_files([*pdfs, pdf("c.pdf", 1)], reader(fake), out)  # what came later alone is read
    assert len(fake.asked) == 1 and (out / "c.md").exists()


def test_a_job_goes_on_with_its_own_settings_alone(fake: FakeChat, pdf: Pdf, tmp_path: Path) -> None:
    transcribe_files([pdf("a.pdf", 1)], reader(fake), tmp_path / "out")
    with pytest.raises(UserError, match="was begun with extra"):
        transcribe_files([pdf("a.pdf", 1)], reader(fake, extra={"top_k": 1}), tmp_path / "out")
    with pytest.raises(UserError, match="was begun with seed 0, which is now 1"):
        transcribe_files([pdf("a.pdf", 1)], replace(reader(fake), seed=1), tmp_path / "out")


def test_two_jobs_do_not_write_into_one_folder(tmp_path: Path) -> None:
    with Rows(tmp_path), pytest.raises(UserError, match="another job is writing there"):
        Rows(tmp_path)


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "pages.jsonl").write_text("{}\n")
    with Rows(tmp_path) as rows, pytest.raises(UserError, match=r"pages\.jsonl, line 1: is no row"):
        rows.find([])


def test_a_page_without_an_answer_is_named_and_asked_about_again(fake: FakeChat, pdf: Pdf, tmp_path: Path) -> None:
    out, path = tmp_path / "out", pdf("a.pdf", 2)
    fake.faults = ["", "400"]
    (error,) = transcribe_files([path], reader(fake), out)
    (line,) = map(json.loads, (out / "failed.jsonl").read_text().splitlines())
    assert line == {"pdf": str(path), "page": error.number, "reason": error.reason} and "400" in error.reason
    assert transcribe_files([path], reader(fake), out) == []
    assert len(rows_in(out)) == 2 and not (out / "failed.jsonl").exists()


def test_markdown_has_marks_where_they_are_wanted(fake: FakeChat, pdf: Pdf, tmp_path: Path) -> None:
    fake.write = lambda body: completion("text")
    transcribe_files([pdf("a.pdf", 2)], reader(fake), tmp_path / "out", Wanted(page_marks=True))
    assert (tmp_path / "out/a.md").read_text() == "<!-- page 1 -->\n\ntext\n\n<!-- page 2 -->\n\ntext\n"


def test_dolma_says_where_each_page_lies(fake: FakeChat, pdf: Pdf, tmp_path: Path) -> None:
    wanted = Wanted(formats=("dolma",))
    transcribe_files([pdf("a.pdf", 2), pdf("b.pdf", 1)], reader(fake), tmp_path / "out", wanted)
    first, second = map(json.loads, (tmp_path / "out/dolma.jsonl").read_text().splitlines())
    texts = {row["page"]: row["text"] for row in rows_in(tmp_path / "out") if row["pdf"].endswith("a.pdf")}
    spans = first["attributes"]["pdf_page_numbers"]
    assert [first["text"][start:end] for start, end, _ in spans] == [texts[n] + "\n" for _, _, n in spans]
    assert first["metadata"]["pdf-total-pages"] == 2 and second["metadata"]["total-output-tokens"] == 7
    assert not (tmp_path / "out/a.md").exists()


def test_a_searchable_pdf_is_made_of_the_rows_later_too(
    fake: FakeChat, pdf: Pdf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made, "Pool", HerePool)
    fake.write = lambda body: completion("# Some *text*")
    path = pdf("a.pdf", 2)
    transcribe_files([path], reader(fake), tmp_path / "out")
    fake.asked.clear()
    assert transcribe_files([path], reader(fake), tmp_path / "out", Wanted(formats=("pdf",))) == []
    document = pdfium.PdfDocument(tmp_path / "out/a.pdf")
    assert [page.get_textpage().get_text_bounded().split() for page in document] == [["Some", "text"]] * 2
    document.close()
    assert not fake.asked


def test_the_text_layer_stands_in_by_choice_and_is_marked(
    fake: FakeChat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fallback, "Pool", HerePool)
    path = tmp_path / "a.pdf"
    path.write_bytes(text_pdf(block("The layer says hello")))
    fake.write = lambda body: completion("for ever", "length")
    transcribe_files([path], reader(fake), tmp_path / "without")
    assert rows_in(tmp_path / "without")[0]["text"] == "for ever"
    transcribe_files([path], reader(fake), tmp_path / "with", Wanted(fallback=True))
    (row,) = rows_in(tmp_path / "with")
    assert (row["text"], row["source"], row["reason"]) == ("The layer says hello", "text-layer", "no transcript ended")
    fake.faults = ["400"]
    transcribe_files([path], reader(fake), tmp_path / "refused", Wanted(fallback=True))
    (row,) = rows_in(tmp_path / "refused")
    assert row["source"] == "text-layer" and "400" in row["reason"] and row["attempts"] == []


class HerePool:
    def __init__(self, function: Callable[[Any], Any], **_: object) -> None:
        self.function = function

    def run(self, jobs: list[Any]) -> list[tuple[Any, Any]]:
        return [(job, self.function(job)) for job in jobs]

    def close(self) -> None: ...

    def __enter__(self) -> HerePool:
        return self

    def __exit__(self, *_: object) -> None: ...


def test_the_command_prints_or_writes_and_says_what_is_wrong(
    fake: FakeChat, pdf: Pdf, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.write = lambda body: completion("some text")
    path = pdf("a.pdf", 1)
    (tmp_path / "names.txt").write_text(f"{path}\n\n{tmp_path}/in/*.pdf\n")
    assert main(["transcribe", str(tmp_path / "names.txt"), "--endpoint", fake.url]) == 0
    assert capsys.readouterr().out == "some text\n\n"
    monkeypatch.setenv("MY_KEY", "sk-secret")
    out = str(tmp_path / "out")
    argv = ["transcribe", f"@{tmp_path}/names.txt", "--endpoint", fake.url, "--key-env", "MY_KEY", "--out", out]
    assert main([*argv, "--extra", "top_k=1", "--max-tokens", "5"]) == 0
    assert fake.keys[-1] == "Bearer sk-secret" and fake.asked[-1]["max_tokens"] == 5
    assert not [file for file in Path(out).rglob("*") if b"sk-secret" in file.read_bytes()]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--endpoint nowhere", "--endpoint nowhere: is no address"),
        ("--endpoint http://127.0.0.1:9", "cannot be reached"),
        ("--extra top_k=1", "--extra is for --endpoint"),
        ("--format dolma", "--format is for --out"),
        ("--format docx --out out", "--format docx: is not one of markdown, pages, dolma, pdf"),
        ("--fallback tesseract", "'tesseract' is not"),
        ("--endpoint http://127.0.0.1:9 --deadline 0", "deadline"),
    ],
)
def test_wrong_words_are_one_sentence(
    words: str, says: str, pdf: Pdf, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["transcribe", str(pdf("a.pdf", 1)), "--backend", "transformers", *words.split()]) == 2
    sentence = capsys.readouterr().err.strip()
    assert says in sentence and "\n" not in sentence


def test_a_served_policy_is_asked_as_its_folder_says(fake: FakeChat, tmp_path: Path) -> None:
    (tmp_path / "ocr_rl.json").write_text('{"longest_px": 77, "instruction": "Look.", "max_tokens": 8}')
    fake.cards = [{"id": "mine", "root": str(tmp_path)}]
    settings = at_endpoint(fake.url, model=None).settings
    assert (settings.longest_px, settings.instruction, settings.max_tokens) == (77, "Look.", 8)
    fake.cards = [{"id": "allenai/olmOCR-2-7B-1025"}]
    assert at_endpoint(fake.url, model=None).settings.max_tokens == 8000


@pytest.mark.parametrize("word", ["top_k", "=1", "messages=[]", "a=NaN", "a=1e999", "a=\udcff"])
def test_a_field_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(UserError, match="--extra"):
        extra_fields([word])


def test_fields_are_json_or_text() -> None:
    assert extra_fields(["a=1", "b=x", 'c={"d": true}']) == {"a": 1, "b": "x", "c": {"d": True}}
