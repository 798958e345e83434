"""One folder, several calls: nothing of an earlier document is written over, and no file is older than its rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ocr_rl.cli import main
from ocr_rl.contract import Page, Transcript, UserError
from ocr_rl.evaluate.chat import Endpoint
from ocr_rl.evaluate.readers import AtEndpoint
from ocr_rl.evaluate.transcribe import Attempt
from ocr_rl.models.settings import PromptSettings
from ocr_rl.pages.raster import PageError
from ocr_rl.transcription import fallback, job
from ocr_rl.transcription.job import Wanted, open_files, transcribe_files
from ocr_rl.transcription.ledger import Ledger, Opened, named
from tests.transcription.fake_chat import FakeChat, completion

Pdf = Callable[..., Path]


def reader(fake: FakeChat) -> AtEndpoint:
    endpoint = Endpoint(url=fake.url, model="fake", deadline_s=5.0, in_flight=1)
    return AtEndpoint(endpoint=endpoint, settings=PromptSettings(longest_px=64, instruction="", max_tokens=9))


def moved(path: Path, folder: str) -> Path:
    """The file as x.pdf in a folder of its own."""
    place = path.parent / folder / "x.pdf"
    place.parent.mkdir(exist_ok=True)
    return path.rename(place)


def test_later_documents_of_one_name_take_other_names(fake: FakeChat, pdf: Pdf, tmp_path: Path) -> None:
    first, second, out = moved(pdf("a.pdf", 2), "a"), moved(pdf("b.pdf", 1), "b"), tmp_path / "out"
    both = Wanted(formats=("markdown", "dolma"))
    transcribe_files([first], reader(fake), out, both)
    before = (out / "x.md").read_text()
    transcribe_files([second], reader(fake), out, both)
    assert (out / "x.md").read_text() == before != (out / "x-2.md").read_text()
    of_dolma = [json.loads(line)["metadata"]["Source-File"] for line in (out / "dolma.jsonl").read_text().splitlines()]
    assert of_dolma == [str(first), str(second)]
    files = {path.name: path.read_bytes() for path in out.glob("*.md")}
    fake.asked.clear()
    transcribe_files([second, first], reader(fake), out)
    assert not fake.asked and {path.name: path.read_bytes() for path in out.glob("*.md")} == files


def test_a_later_copy_has_ids_of_its_own(fake: FakeChat, pdf: Pdf, tmp_path: Path) -> None:
    first, out = moved(pdf("a.pdf", 1), "a"), tmp_path / "out"
    transcribe_files([first], reader(fake), out)
    second = first.parent.parent / "copy.pdf"
    second.write_bytes(first.read_bytes())
    transcribe_files([second], reader(fake), out)
    ids = [json.loads(line)["id"] for line in (out / "pages.jsonl").read_text().splitlines()]
    assert ids == [ids[0], ids[0].replace(":", "-2:")] and (out / "copy.md").exists()


def test_other_bytes_under_one_path_are_read_anew_and_old_rows_stay(fake: FakeChat, pdf: Pdf, tmp_path: Path) -> None:
    path, out = pdf("a.pdf", 1), tmp_path / "out"
    old_bytes = path.read_bytes()
    transcribe_files([path], reader(fake), out)
    old = (out / "a.md").read_text()
    path.write_bytes(pdf("other.pdf", 1).read_bytes())
    transcribe_files([path], reader(fake), out)
    assert (out / "a.md").read_text() != old and len((out / "pages.jsonl").read_text().splitlines()) == 2
    assert sorted(file.name for file in out.glob("*.md")) == ["a.md"]
    path.write_bytes(old_bytes)
    fake.asked.clear()
    transcribe_files([path], reader(fake), out)
    assert not fake.asked and (out / "a.md").read_text() == old


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def test_a_kill_before_a_file_is_made_again_leaves_no_old_one(
    fake: FakeChat, pdf: Pdf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = pdf("a.pdf", 2), tmp_path / "out"
    fake.faults = ["", "400"]
    transcribe_files([path], reader(fake), out)
    old = (out / "a.md").read_text()

    def kill(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(job, "write_document", kill)
        transcribe_files([path], reader(fake), out)
    fake.asked.clear()
    transcribe_files([path], reader(fake), out)
    assert not fake.asked and (out / "a.md").read_text().startswith(old.strip()) and (out / "a.md").read_text() != old


def test_pages_that_failed_stay_named_while_others_are_read(fake: FakeChat, pdf: Pdf, tmp_path: Path) -> None:
    first, second, out = pdf("a.pdf", 1), pdf("b.pdf", 1), tmp_path / "out"
    for path in (first, second):
        fake.faults = ["400"]
        transcribe_files([path], reader(fake), out)
    named = [json.loads(line)["pdf"] for line in (out / "failed.jsonl").read_text().splitlines()]
    assert named == [str(first), str(second)]
    transcribe_files([first], reader(fake), out)
    (line,) = map(json.loads, (out / "failed.jsonl").read_text().splitlines())
    assert line["pdf"] == str(second)


def test_page_marks_may_change(fake: FakeChat, pdf: Pdf, tmp_path: Path) -> None:
    path, out = pdf("a.pdf", 1), tmp_path / "out"
    transcribe_files([path], reader(fake), out)
    plain = (out / "a.md").read_text()
    transcribe_files([path], reader(fake), out, Wanted(page_marks=True))
    assert (out / "a.md").read_text() == f"<!-- page 1 -->\n\n{plain}"
    transcribe_files([path], reader(fake), out)
    assert (out / "a.md").read_text() == plain and len(fake.asked) == 1


def test_what_is_made_is_not_made_again(
    fake: FakeChat, pdf: Pdf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = pdf("a.pdf", 1), tmp_path / "out"
    transcribe_files([path], reader(fake), out)
    monkeypatch.setattr(job, "write_document", None)
    assert transcribe_files([path], reader(fake), out) == []


def test_names_go_by_path_bytes_and_order() -> None:
    def opened(place: str, sha: str = "0" * 64, pages: int = 1) -> Opened:
        return Opened(pdf=Path(place), sha256=sha, pages=pages)

    files = [opened("a/X.pdf"), opened("b/x.pdf"), opened("c/broken/x.pdf", pages=0), opened("d/x-2.pdf", "1" * 64)]
    documents = named(files)
    assert [(document.stem, document.id) for document in documents] == [
        ("X", "00000000"),
        ("x-2", "00000000-2"),
        ("x-2-2", "11111111"),
    ]
    assert named(files[:1], named(files[1:]))[0].stem == "X-2"  # no entry keeps the broken one's name
    many = named([opened(f"{number}/scan.pdf", f"{number:064}") for number in range(3000)])
    assert many[-1].stem == "scan-3000" and many[-1].id == "00000000-3000"


@pytest.mark.parametrize(("first", "second", "stem"), [("x", "x_pg1", "x_pg1-2"), ("X_pg1", "x", "x-2")])
def test_no_document_has_the_name_of_anothers_page(first: str, second: str, stem: str) -> None:
    files = [Opened(pdf=Path(f"{name}.pdf"), sha256=name, pages=1) for name in (first, second)]
    assert [document.stem for document in named(files)] == [first, stem]


def test_pages_are_files_of_their_own_where_they_ended(fake: FakeChat, pdf: Pdf, tmp_path: Path) -> None:
    answers = iter(["one", "two"])
    fake.write = lambda body: completion(next(answers, "for ever"), "stop" if len(fake.asked) < 3 else "length")
    path, out = pdf("a.pdf", 3), tmp_path / "in"  # beside the scans, where `pages mine` looks for them
    transcribe_files([path], reader(fake), out, Wanted(formats=("pages",), page_marks=True))
    files = {file.name: file.read_text() for file in out.glob("*.md")}
    assert files == {"a_pg1.md": "one\n", "a_pg2.md": "two\n"}
    (out / "a_pg1.md").write_text("corrected by hand")
    with pytest.raises(UserError, match=r"a_pg1\.md: is there already and is not, or no longer, what ocr-rl wrote"):
        transcribe_files([path], reader(fake), out, Wanted(formats=("pages",)))


@pytest.mark.parametrize("line", ["{}", "no JSON", '{"pdf": 1}', "[" * 100_000])
def test_a_line_that_is_none_is_one_sentence(line: str, tmp_path: Path) -> None:
    (tmp_path / "documents.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=r"documents\.jsonl.* give another --out"):
        Ledger(tmp_path)


def test_a_line_that_was_cut_is_written_again(pdf: Pdf, tmp_path: Path) -> None:
    files = open_files([pdf("a.pdf", 1), pdf("b.pdf", 1)])
    Ledger(tmp_path).enter(files.opened)
    path = tmp_path / "documents.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    Ledger(tmp_path).enter(files.opened)
    assert path.read_bytes() == whole


def test_the_command_opens_each_file_once(
    fake: FakeChat, pdf: Pdf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[Path] = []
    count = job.count_pages

    def counting(pdfs: object) -> object:
        for path, pages in count(pdfs):  # type: ignore[arg-type]
            counted.append(path)
            yield path, pages

    monkeypatch.setattr(job, "count_pages", counting)
    path = pdf("a.pdf", 1)
    assert main(["transcribe", str(path), str(path), "--endpoint", fake.url, "--out", str(tmp_path / "out")]) == 0
    assert counted == [path]


def test_pages_do_not_wait_for_another_pages_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first page's layer comes only after the others have passed."""
    from threading import Event

    passed = Event()

    class Slow:
        def text(self, page: Page) -> str:
            assert passed.wait(10)
            return "layer"

        def close(self) -> None: ...

    monkeypatch.setattr(fallback, "LayerTexts", Slow)
    pages = [Page(id=f"x:p{number}", pdf=tmp_path, number=number) for number in (1, 2, 3)]
    transcript = Transcript(raw="", body="", finish="stop", num_tokens=0)
    good = [Attempt(transcript=transcript, temperature=0.0, rotation=0)]

    def results():
        yield pages[0], PageError(tmp_path, 1, "no")
        yield pages[1], good
        yield pages[2], good
        passed.set()

    seen = [(page.number, text) for page, _, text in fallback.with_layers(results())]
    assert sorted(seen) == [(1, "layer"), (2, ""), (3, "")] and seen[0] == (2, "")


def test_a_server_that_writes_in_parts_is_read(fake: FakeChat, pdf: Pdf, tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "image"}, {"type": "text", "text": "two"}]
    fake.write = lambda body: completion(parts)
    transcribe_files([pdf("a.pdf", 1)], reader(fake), tmp_path / "out")
    assert (tmp_path / "out/a.md").read_text() == "one two\n"


@pytest.mark.parametrize("content", [None, "", []])
@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_a_model_that_thought_and_wrote_nothing_is_named_once(
    content: object, name: str, fake: FakeChat, pdf: Pdf, tmp_path: Path
) -> None:
    def write(body: dict) -> dict:
        answer = completion(content, "length")
        answer["choices"][0]["message"][name] = "Let me see"
        return answer

    fake.write = write
    (error,) = transcribe_files([pdf("a.pdf", 1)], reader(fake), tmp_path / "out")
    assert "thought for 7 tokens and wrote no text; raise --max-tokens" in error.reason and len(fake.asked) == 1


def test_an_empty_page_is_a_text(fake: FakeChat, pdf: Pdf, tmp_path: Path) -> None:
    fake.write = lambda body: completion("")
    assert transcribe_files([pdf("a.pdf", 1)], reader(fake), tmp_path / "out") == []
