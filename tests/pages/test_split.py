"""Splits: documents are dealt out whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from ocr_rl.cli import main
from ocr_rl.contract import Page, UserError
from ocr_rl.pages.split import split, write_split


def _pages(num_documents: int, num_pages: int = 2) -> list[Page]:
    return [
        Page(id=f"{k:08x}:p{number}", pdf=Path(f"{k}.pdf"), number=number)
        for k in range(num_documents)
        for number in range(1, num_pages + 1)
    ]


def _documents(pages: list[Page]) -> set[str]:
    return {page.id.split(":")[0] for page in pages}


def test_a_document_stays_in_one_part_whatever_else_is_there() -> None:
    shares = {"train": 0.8, "validation": 0.0, "test": 0.2}
    few, many = split(_pages(100), shares, seed=1), split(_pages(1000), shares, seed=1)
    assert sum(map(len, many.values())) == 2000 and not many["validation"]
    assert not _documents(many["train"]) & _documents(many["test"])
    assert _documents(few["test"]) == {document for document in _documents(many["test"]) if int(document, 16) < 100}
    assert 160 <= len(_documents(many["test"])) <= 240  # 200 expected, standard deviation 13
    assert _documents(split(_pages(1000), shares, seed=2)["test"]) != _documents(many["test"])
    assert [page.id for page in few["train"]] == [p.id for p in _pages(100) if p.id[:8] in _documents(few["train"])]


def test_a_copy_goes_where_its_original_goes() -> None:
    original = _pages(50, 1)
    copies = [Page(id=page.id.replace(":", "-2:"), pdf=page.pdf, number=1) for page in original]
    for part in split(original + copies, {"a": 0.5, "b": 0.5}, seed=0).values():
        assert len(part) == 2 * len({page.id[:8] for page in part})


@pytest.mark.parametrize("fractions", [{"a": 0.5}, {"a": 1.5, "b": -0.5}, {}])
def test_fractions_must_sum_to_one(fractions: Mapping[str, float]) -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        split([], fractions, seed=0)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("a", "A"), "'A' and 'a' are one folder on some systems"),
        (("stra\u00dfe", "STRASSE"), "are one folder on some systems"),
        (("\u00e9", "e\u0301"), "are one folder on some systems"),
        (("a", "a"), "'a' is named twice"),
        (("a", "Con"), "no folder can be called 'Con' on Windows"),
        (("com1", "b"), "no folder can be called 'com1' on Windows"),
    ],
)
def test_parts_that_are_no_two_folders_everywhere_are_refused(
    names: tuple[str, str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data" / "pdfs").mkdir(parents=True)
    parts = [word for name in names for word in ("--part", f"{name}=0.5")]
    if all(name.isascii() for name in names):
        assert main(["pages", "split", str(tmp_path / "data"), *parts, "--out", str(tmp_path / "out")]) == 2
        assert why in capsys.readouterr().err
    if len(set(names)) == 2:
        with pytest.raises(UserError, match=re.escape(why)):
            write_split(tmp_path / "data", dict.fromkeys(names, 0.5), 0, tmp_path / "out")
    assert not (tmp_path / "out").exists()
