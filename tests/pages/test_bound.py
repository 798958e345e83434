"""A run goes on with the pages, tests, references and files that it began with, or says which of them changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ocr_rl.config import Folder
from ocr_rl.contract import UserError
from ocr_rl.pages.bound import BoundSources, fingerprint
from ocr_rl.pages.dataset import load_dataset, write_tests
from tests.pages.pdfs import block, pdf


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """a.pdf with two tests, sub/b.pdf of two pages with a reference of its second, c.pdf with nothing."""
    pdfs = tmp_path / "data" / "pdfs"
    (pdfs / "sub").mkdir(parents=True)
    (pdfs / "a.pdf").write_bytes(pdf(block("one")))
    (pdfs / "c.pdf").write_bytes(pdf(block("three")))
    (pdfs / "sub" / "b.pdf").write_bytes(pdf(block("two"), block("more")))
    (pdfs / "sub" / "b_pg2.md").write_text("more\n", encoding="utf-8")
    write_tests(tmp_path / "data" / "one.jsonl", [a_test("t1", "one"), a_test("t2", "two")])
    return tmp_path / "data"


def a_test(name: str, text: str) -> dict[str, object]:
    return {"pdf": "a.pdf", "page": 1, "id": name, "type": "absent", "text": text}


def begin(data: Path, run: Path) -> None:
    sources = BoundSources(run, run / "pages", begun=False)
    sources(Folder(dir=data))
    assert not run.exists()  # nothing is written by a run that does not begin
    sources.keep()


def again(data: Path, run: Path, **options: int) -> BoundSources:
    sources = BoundSources(run, run / "pages", begun=True)
    sources(Folder(dir=data, **options))
    return sources


def _gone(data: Path) -> None:
    (data / "pdfs" / "c.pdf").unlink()


def _new(data: Path) -> None:
    (data / "pdfs" / "d.pdf").write_bytes(pdf(block("four")))


def _replaced(data: Path) -> None:
    (data / "pdfs" / "c.pdf").write_bytes(pdf(block("another")))


def _test_changed(data: Path) -> None:
    write_tests(data / "one.jsonl", [a_test("t1", "one"), a_test("t2", "too")])


def _test_gone(data: Path) -> None:
    write_tests(data / "one.jsonl", [a_test("t1", "one")])


def _reference_changed(data: Path) -> None:
    (data / "pdfs" / "sub" / "b_pg2.md").write_text("less\n", encoding="utf-8")


def _reference_elsewhere(data: Path) -> None:
    (data / "pdfs" / "sub" / "b_pg2.md").rename(data / "pdfs" / "sub" / "b_pg1.md")


def _two_changes(data: Path) -> None:
    _gone(data)
    _test_changed(data)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_gone, "the document c.pdf is gone"),
        (_new, "the document d.pdf is new"),
        (_replaced, "the document c.pdf was replaced"),
        (_test_changed, "the tests of a.pdf changed"),
        (_test_gone, "the tests of a.pdf changed"),
        (_reference_changed, "a reference of sub/b.pdf changed"),
        (_reference_elsewhere, "other pages of sub/b.pdf have tests or a reference"),
        (_two_changes, "the document c.pdf is gone (and 1 more changes)"),
    ],
)
def test_a_run_does_not_go_on_after_a_change(
    data: Path, tmp_path: Path, change: Callable[[Path], None], says: str
) -> None:
    run = tmp_path / "run"
    begin(data, run)
    again(data, run)
    change(data)
    with pytest.raises(UserError) as refusal:
        again(data, run)
    assert str(refusal.value) == f"{data}: since {run} began, {says}; put back what was there, or give another --out."


def test_what_means_the_same_is_no_change(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    begin(data, run)
    lines = (data / "one.jsonl").read_text(encoding="utf-8")
    (data / "one.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.replace("\n", "\r\n\r\n").encode())
    (data / "pdfs" / "sub" / "b_pg2.md").write_bytes(b"more\r\n")
    (data / "pdfs" / "notes.md").write_text("belongs to no PDF", encoding="utf-8")
    (data / "pdfs" / "c.pdf").touch()
    again(data, run)


def test_a_source_that_is_opened_later_is_added(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    begin(data, run)
    assert len(json.loads((run / "pages.json").read_text(encoding="utf-8"))["sources"]) == 1
    again(data, run, limit=2)
    assert len(json.loads((run / "pages.json").read_text(encoding="utf-8"))["sources"]) == 2
    _two_changes(data)
    with pytest.raises(UserError, match="began, "):
        again(data, run, limit=2)


def test_a_run_that_began_before_there_was_a_list_is_bound_from_now_on(data: Path, tmp_path: Path) -> None:
    sources = again(data, tmp_path / "run")
    assert sources.late
    sources.keep()
    assert not again(data, tmp_path / "run").late
    _gone(data)
    with pytest.raises(UserError, match="c.pdf is gone"):
        again(data, tmp_path / "run")


def test_a_new_run_does_not_read_what_an_old_one_left(data: Path, tmp_path: Path) -> None:
    begin(data, tmp_path / "run")
    _gone(data)
    BoundSources(tmp_path / "run", tmp_path / "run" / "pages", begun=False)(Folder(dir=data))


def test_files_are_held_too_and_a_damaged_list_is_named(data: Path, tmp_path: Path) -> None:
    run, pairs = tmp_path / "run", tmp_path / "pairs.jsonl"
    pairs.write_text("{}", encoding="utf-8")
    sources = BoundSources(run, run / "pages", begun=False)
    sources.hold(pairs)
    sources.keep()
    BoundSources(run, run / "pages", begun=True).hold(pairs)
    pairs.write_text("{ }", encoding="utf-8")
    with pytest.raises(
        UserError, match=r"pairs.jsonl: since .*run began, the file changed; put back what was there, or"
    ):
        BoundSources(run, run / "pages", begun=True).hold(pairs)
    for damaged in ('{"sources": ', "[]", '{"sources": [], "files": {}}', "\ufffd\0"):
        (run / "pages.json").write_text(damaged, encoding="utf-8")
        with pytest.raises(
            UserError, match=r"pages.json: is no file of a run any more.*; put it back, or give another"
        ):
            BoundSources(run, run / "pages", begun=True)


def test_documents_of_one_name_below_several_folders_are_told_apart(tmp_path: Path) -> None:
    for year in ("2023", "2024"):
        place = tmp_path / "set" / "pdfs" / year / "pdfs" / "a.pdf"
        place.parent.mkdir(parents=True)
        place.write_bytes(pdf(block(f"Minutes of the year {year}")))
    known = fingerprint(load_dataset(tmp_path / "set"))
    assert set(known) == {"2023/pdfs/a.pdf", "2024/pdfs/a.pdf"}
