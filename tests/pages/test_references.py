"""References beside a document: one rule for every verb, and every name of a document counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocr_rl.contract import UserError
from ocr_rl.evaluate.candidates import folder_answers
from ocr_rl.pages.dataset import load_dataset, write_tests
from ocr_rl.pages.folder import read_folder
from ocr_rl.pages.imported import import_folder
from ocr_rl.pages.mined import mine_folder
from ocr_rl.pages.preferences import read_preferences
from ocr_rl.pages.split import write_split
from tests.pages.folders import dataset, present
from tests.pages.pdfs import SEEN, block, pdf


def test_what_stands_beside_a_link_is_taken_by_every_verb(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", "a.pdf", "sub/b.pdf", "sub/two.pdf")
    (folder / "pdfs" / "sub" / "two.pdf").write_bytes(pdf(block(*SEEN), block(*SEEN, "on page two")))
    for name, target in (("alias.pdf", "sub/b.pdf"), ("other.pdf", "sub/two.pdf")):
        (folder / "pdfs" / name).symlink_to(target)
    text = "\n\n".join(SEEN)
    for name in ("alias.md", "other_pg2.md"):
        (folder / "pdfs" / name).write_text(text, encoding="utf-8")
    (folder / "pdfs" / "sub" / "b.md").symlink_to("../alias.md")  # one text under two names
    write_tests(folder / "t.jsonl", [present("alias.pdf", "1"), present("a.pdf", "2")])

    def kept(*folders: Path) -> dict[tuple[str, int], bool]:
        pages = [page for folder in folders for page in load_dataset(folder)]
        return {(page.pdf.name, page.number): page.reference == text for page in pages}

    _split(folder, tmp_path / "parts")
    parts = [tmp_path / "parts" / name for name in "ab"]
    assert kept(*parts) == {("a.pdf", 1): False, ("b.pdf", 1): True, ("two.pdf", 2): True}
    mine_folder(folder / "pdfs", tmp_path / "mined", 0)
    assert kept(tmp_path / "mined") == {("a.pdf", 1): False, ("b.pdf", 1): True, ("two.pdf", 2): True}
    import_folder(folder, tmp_path / "bench", 0)
    assert kept(tmp_path / "bench") == kept(*parts)
    pages = load_dataset(folder)
    (tmp_path / "pairs.jsonl").write_text(
        json.dumps({"pdf": "alias.pdf", "page": 1, "chosen": "a", "rejected": "b"}), encoding="utf-8"
    )
    assert read_preferences(tmp_path / "pairs.jsonl", pages)[0].page_id == pages[1].id
    (tmp_path / "answers").mkdir()
    (tmp_path / "answers" / "alias_pg1_repeat1.md").write_text("words", encoding="utf-8")
    assert not folder_answers(tmp_path / "answers", [pages[1]], folder / "pdfs", "error")[0].error


def test_two_texts_for_one_page_are_named(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", "b.pdf", "c.pdf")
    (folder / "pdfs" / "alias.pdf").symlink_to("b.pdf")
    for name in ("alias.md", "b.md"):
        (folder / "pdfs" / name).write_text("\n\n".join(SEEN) + name, encoding="utf-8")
    (fault,) = read_folder(folder).faults
    assert fault.file.name == "b.md" and fault.message == "this page has another reference already"
    assert f"{fault.file}: {fault.message}" in import_folder(folder / "pdfs", tmp_path / "out", 0).left_out


def test_a_reference_that_would_get_another_pdfs_name_is_named(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", "x_pg1.pdf", "c.pdf")
    (folder / "pdfs" / "x.pdf").write_bytes(pdf(block(*SEEN), block(*SEEN)))
    (folder / "pdfs" / "y.pdf").symlink_to("x.pdf")
    (folder / "pdfs" / "y_pg1.md").write_text("\n\n".join(SEEN), encoding="utf-8")
    write_tests(folder / "t.jsonl", [present("c.pdf")])
    why = "y_pg1.md: as the reference of x.pdf it would be named as that of x_pg1.pdf, rename that one"
    with pytest.raises(UserError, match=why):
        _split(folder, tmp_path / "parts")
    assert not (tmp_path / "parts").exists()
    assert any(line.endswith(why) for line in import_folder(folder, tmp_path / "out", 0).left_out)


def _split(folder: Path, out: Path) -> None:
    """Two parts by the first seed for which none is empty."""
    for seed in range(40):
        try:
            write_split(folder, {"a": 0.5, "b": 0.5}, seed, out)
            return
        except UserError as error:
            if "no document falls into" not in str(error):
                raise
