"""Synthetic datasets: whole once their tests are written, and the same bytes for the same seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocr_rl.config import Folder, Typeset
from ocr_rl.contract import UserError
from ocr_rl.pages.dataset import check_dataset, load_dataset
from ocr_rl.pages.source import open_pages
from ocr_rl.pages.synth.make import make_dataset, make_document
from ocr_rl.pages.synth.sheets.make import SHEET_KINDS


def test_writing_a_dataset_again_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        assert [*make_dataset("nano", n=5, seed=3, out=tmp_path / name, pages_per_document=2, workers=workers)] == [
            2,
            4,
            5,
        ]
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert [str(path) for path in files if path.suffix != ".md"] == [
        "nano.jsonl",
        "pdfs/nano_3_00000.pdf",
        "pdfs/nano_3_00001.pdf",
        "pdfs/nano_3_00002.pdf",
    ]
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes(), path


@pytest.mark.parametrize(("kind", "per_document"), [("nano", 1), ("line", 3), ("notice", 2)])
def test_a_written_dataset_is_a_clean_dataset(tmp_path: Path, kind: str, per_document: int) -> None:
    document_pages = [*make_dataset(kind, n=4, seed=5, out=tmp_path, pages_per_document=per_document)]
    assert document_pages[-1] == 4
    assert check_dataset(tmp_path) == []
    pages = load_dataset(tmp_path)
    assert len({page.id for page in pages}) == 4
    assert all(page.reference is not None and page.checks for page in pages)
    expected = make_document(kind, 5, 0, per_document)
    assert [page.reference for page in pages][:per_document] == list(expected.references)


def test_a_dataset_in_the_making_has_no_tests_file(tmp_path: Path) -> None:
    progress = make_dataset("line", n=2, seed=5, out=tmp_path)
    assert next(progress) == 1
    assert not list(tmp_path.glob("*.jsonl"))
    assert [*progress] == [2]
    lines = (tmp_path / "line.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["pdf"] for line in lines} == {"line_5_00000.pdf", "line_5_00001.pdf"}


def test_a_page_source_is_made_once_and_read_again(tmp_path: Path) -> None:
    source = Typeset(synth="line", n=4, seed=6, pages_per_document=2)
    pages = open_pages(source, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pdf")}
    assert open_pages(source, tmp_path) == pages
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pdf")} == times
    some = open_pages(source.model_copy(update={"limit": 3}), tmp_path)
    assert len(some) == 3
    assert {page.id for page in some} < {page.id for page in pages}
    assert open_pages(Folder(dir=next(tmp_path.iterdir())), tmp_path) == pages


def test_pages_in_other_words_have_a_folder_of_their_own(tmp_path: Path) -> None:
    source = Typeset(synth="line", n=12, seed=6)
    texts = [
        tuple(page.reference for page in open_pages(source.model_copy(update={"words": which}), tmp_path))
        for which in (None, "invented", "latin", None)
    ]
    assert texts[0] == texts[3]
    assert len(set(texts)) == 3


def test_sheets_choose_their_own_words(tmp_path: Path) -> None:
    kind = next(iter(SHEET_KINDS))
    with pytest.raises(UserError, match="words"):
        open_pages(Typeset(synth=kind, n=1, words="latin"), tmp_path)


def test_an_unknown_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no kind 'nanno' of synthetic page; known are chars, line"):
        open_pages(Typeset(synth="nanno"), tmp_path)


def test_a_half_written_folder_of_a_recipe_is_written_again(tmp_path: Path) -> None:
    source = Typeset(synth="nano", n=3, seed=5, pages_per_document=2)
    pages = open_pages(source, tmp_path)
    (written,) = tmp_path.glob("*/nano.jsonl")
    tests = written.read_text()
    written.rename(written.with_suffix(".jsonl.part"))
    next((written.parent / "pdfs").glob("*_00001.*")).unlink()
    assert open_pages(source, tmp_path) == pages
    assert written.read_text() == tests
