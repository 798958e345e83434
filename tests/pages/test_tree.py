"""Names and links: one file is one file, whatever it is called, and nothing is missing unsaid."""

from __future__ import annotations

import json
import os
from pathlib import Path
from unicodedata import normalize

import pytest

from ocr_rl.cli import main
from ocr_rl.contract import UserError
from ocr_rl.evaluate.candidates import folder_answers
from ocr_rl.files import MAX_LINE
from ocr_rl.pages.dataset import check_dataset, load_dataset, write_tests
from ocr_rl.pages.export import render_folder
from ocr_rl.pages.folder import read_folder
from ocr_rl.pages.imported import import_folder
from ocr_rl.pages.mined import mine_folder
from ocr_rl.pages.preferences import read_preferences
from ocr_rl.pages.split import write_split
from ocr_rl.pages.tree import LEADS_OUT, name_among, tree
from tests.pages.folders import dataset, present, put
from tests.pages.pdfs import SEEN, block, pdf

NFC, NFD = (normalize(form, "café_été") for form in ("NFC", "NFD"))


def left_out(lines: tuple[str, ...], folder: Path) -> list[str]:
    return [line.replace(f"{folder}/", "") for line in lines]


# --- links ------------------------------------------------------------------------------------------------------------


def test_links_to_files_and_folders_are_followed_once(tmp_path: Path) -> None:
    own, other = tmp_path / "in", tmp_path / "elsewhere"
    put(own / "own.pdf", "This is the own document")
    put(other / "a.pdf", "This is the document a")
    put(other / "more" / "b.pdf", "This is the document b")
    (own / "alias.pdf").symlink_to("own.pdf")
    (own / "link.pdf").symlink_to(other / "a.pdf")
    (own / "linkdir").symlink_to(other / "more")
    (own / "again").symlink_to(other / "more")
    (own / "loop").symlink_to(own)
    (own / "gone.pdf").symlink_to("nowhere.pdf")
    harvest = mine_folder(own, tmp_path / "out", 0)
    assert sorted(path.name for path in (tmp_path / "out" / "pdfs").iterdir()) == ["b.pdf", "link.pdf", "own.pdf"]
    assert left_out(harvest.left_out, own) == [
        "gone.pdf: this is not a file",
        "loop: this link leads to a folder around itself",
        "alias.pdf: is own.pdf by another name",
    ]
    assert check_dataset(tmp_path / "out") == []


def test_a_folder_of_links_alone_is_a_folder_of_pdfs(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.pdf").symlink_to(put(tmp_path / "elsewhere" / "a.pdf"))
    assert mine_folder(tmp_path / "in", tmp_path / "out", 0).pages == 1


def test_a_folder_whose_only_pdf_cannot_be_taken_says_why(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.pdf").symlink_to("a.pdf")
    with pytest.raises(
        UserError, match=r"there is no PDF, PNG, JPEG, WebP or TIFF in this folder \(.*a.pdf: this is not a file\)"
    ):
        mine_folder(tmp_path / "in", tmp_path / "out", 0)


def test_loops_of_links_end(tmp_path: Path) -> None:
    put(tmp_path / "a" / "x.pdf")
    (tmp_path / "a" / "to_b").symlink_to(tmp_path / "b")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "to_a").symlink_to(tmp_path / "a")
    assert list(tree(tmp_path, (".pdf",)).files) == ["a/x.pdf"]
    assert list(tree(tmp_path / "a", (".pdf",)).files) == ["x.pdf"]


def test_in_a_dataset_a_link_within_is_one_more_name_and_a_link_out_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = dataset(tmp_path / "set", "a.pdf", "b.pdf")
    (folder / "pdfs" / "alias.pdf").symlink_to("b.pdf")
    (folder / "pdfs" / "alias.md").write_text(f"{SEEN[0]}", encoding="utf-8")
    put(folder / "kept" / "c.pdf")
    (folder / "pdfs" / "kept").symlink_to("../kept")
    (folder / "pdfs" / "out").symlink_to(put(tmp_path / "elsewhere" / "d.pdf").parent)
    write_tests(folder / "t.jsonl", [present("alias.pdf", "1"), present("b.pdf", "2"), present("kept/c.pdf", "3")])
    assert check_dataset(folder) == []
    pages = load_dataset(folder)
    assert [page.pdf.name for page in pages] == ["a.pdf", "b.pdf", "c.pdf"]
    assert [[check.id for check in page.checks] for page in pages] == [[], ["1", "2"], ["3"]]
    assert pages[1].reference == SEEN[0]
    assert [str(note) for note in read_folder(folder).notes] == [f"{folder / 'pdfs' / 'out'}: {LEADS_OUT}"]
    assert main(["pages", "check", str(folder)]) == 0
    assert f"note: {folder / 'pdfs' / 'out'}: {LEADS_OUT}\n" in capsys.readouterr().out


def test_import_reads_nothing_outside_a_dataset_and_names_it(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", "a.pdf")
    (folder / "pdfs" / "b.pdf").symlink_to(put(tmp_path / "b.pdf"))
    (tmp_path / "secret.md").write_text("secret", encoding="utf-8")
    (folder / "pdfs" / "a.md").symlink_to(tmp_path / "secret.md")
    write_tests(folder / "t.jsonl", [present("a.pdf")])
    harvest = import_folder(folder, tmp_path / "out", 0)
    assert left_out(harvest.left_out, folder) == [f"pdfs/a.md: {LEADS_OUT}", f"pdfs/b.pdf: {LEADS_OUT}"]
    assert [path.name for path in (tmp_path / "out" / "pdfs").iterdir()] == ["a.pdf"]


# --- accents ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("on_disk", "written"), [(NFD, NFC), (NFC, NFD)])
def test_names_are_one_however_accents_are_encoded(on_disk: str, written: str, tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", f"{on_disk}.pdf", "plain.pdf")
    (folder / "pdfs" / f"{written}.md").write_text(SEEN[0], encoding="utf-8")
    write_tests(folder / "t.jsonl", [present(f"{written}.pdf"), present("plain.pdf", "y")])
    assert check_dataset(folder) == []
    pages = {normalize("NFC", page.pdf.stem): page for page in load_dataset(folder)}
    assert pages[NFC].reference == SEEN[0] and [check.id for check in pages[NFC].checks] == ["x"]
    put(folder / "pdfs" / "more.pdf", "One more document")
    write_split(folder, {"a": 0.5, "b": 0.5}, 1, tmp_path / "parts")
    (folder / "pdfs" / "more.pdf").unlink()
    parts = [page for name in "ab" for page in load_dataset(tmp_path / "parts" / name)]
    assert sorted(check.id for page in parts for check in page.checks) == ["x", "y"]
    harvest = import_folder(folder, tmp_path / "imported", 0)
    assert (harvest.pages, harvest.tests, harvest.left_out) == (2, 2, ())
    assert {path.name for path in (tmp_path / "imported" / "pdfs").iterdir()} == {
        f"{NFC}.pdf",
        f"{NFC}.md",
        "plain.pdf",
    }
    assert check_dataset(tmp_path / "imported") == []
    (tmp_path / "pairs.jsonl").write_text(
        json.dumps({"pdf": f"{written}.pdf", "page": 1, "chosen": "a", "rejected": "b"}), encoding="utf-8"
    )
    assert read_preferences(tmp_path / "pairs.jsonl", list(pages.values()))[0].page_id == pages[NFC].id
    (tmp_path / "answers").mkdir()
    (tmp_path / "answers" / f"{written}_pg1_repeat1.md").write_text("words", encoding="utf-8")
    assert not folder_answers(tmp_path / "answers", [pages[NFC]], folder / "pdfs", "error")[0].error


@pytest.mark.parametrize(("on_disk", "written"), [(NFD, NFC), (NFC, NFD)])
def test_mine_and_import_pair_a_transcript_however_accents_are_encoded(
    on_disk: str, written: str, tmp_path: Path
) -> None:
    own = put(tmp_path / "in" / f"{on_disk}.pdf").parent
    (own / f"{written}.md").write_text("\n\n".join(SEEN), encoding="utf-8")
    for verb in (mine_folder, import_folder):
        harvest = verb(own, tmp_path / verb.__name__, 0)
        assert (harvest.pages, harvest.left_out) == (1, ())
        (page,) = load_dataset(tmp_path / verb.__name__)
        assert page.reference == "\n\n".join(SEEN) and page.pdf.stem == NFC


def test_two_files_that_differ_in_the_encoding_of_accents_alone_are_a_fault_with_both_names(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", f"{NFC}.pdf", f"{NFD}.pdf")
    (fault,) = check_dataset(folder)
    assert "differ in the encoding of accents alone, rename one of them" in str(fault)
    assert NFC in str(fault) and NFD in str(fault)
    harvest = mine_folder(folder, tmp_path / "out", 0)
    assert harvest.pages == 1 and "encoding of accents" in harvest.left_out[0]


# --- how names are written --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written", ["sub/a.pdf", "./sub/a.pdf", "sub//a.pdf", "sub\\a.pdf", "pdfs/sub/a.pdf", "pdfs\\sub\\a.pdf"]
)
def test_a_path_means_what_its_writer_means(written: str, tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", "sub/a.pdf")
    write_tests(folder / "T.JSONL", [present(written)])
    assert check_dataset(folder) == [] and len(load_dataset(folder)[0].checks) == 1
    harvest = import_folder(folder, tmp_path / "out", 0)
    assert (harvest.tests, harvest.left_out) == (1, ())
    assert load_dataset(tmp_path / "out")[0].checks[0].pdf == "sub/a.pdf"  # type: ignore[attr-defined]


@pytest.mark.parametrize("written", ["../a.pdf", "/a.pdf", "a", "", "pdfs", "b.pdf", "..\\a.pdf", "pdfs/../a.pdf"])
def test_a_path_that_means_no_file_of_the_folder_names_none(written: str) -> None:
    assert name_among(written, ("a.pdf", "sub/a.pdf")) is None


def test_the_name_itself_comes_before_what_else_it_may_mean() -> None:
    assert name_among("pdfs/a.pdf", ("a.pdf", "pdfs/a.pdf")) == "pdfs/a.pdf"
    assert name_among("sub\\a.pdf", ("sub\\a.pdf", "sub/a.pdf")) == "sub\\a.pdf"


def test_suffixes_in_capitals_are_suffixes(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", "A.PDF")
    write_tests(folder / "T.JSONL", [present("A.PDF")])
    assert len(load_dataset(folder)[0].checks) == 1
    assert import_folder(folder, tmp_path / "out", 0).tests == 1
    write_split(dataset(folder, "b.pdf", "c.pdf", "A.PDF"), {"a": 0.5, "b": 0.5}, 0, tmp_path / "parts")
    assert sum(len(page.checks) for name in "ab" for page in load_dataset(tmp_path / "parts" / name)) == 1


# --- what systems leave behind, and what they cannot write ------------------------------------------------------------


def test_what_macos_leaves_beside_files_is_skipped(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", "a.pdf")
    write_tests(folder / "t.jsonl", [present("a.pdf")])
    litter = [folder / "pdfs" / "._a.pdf", folder / "._t.jsonl", folder / "pdfs" / "__MACOSX" / "b.pdf"]
    for path in (*litter, folder / "pdfs" / ".DS_Store", folder / "pdfs" / "._a.md"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")
    assert check_dataset(folder) == []
    assert import_folder(folder, tmp_path / "imported", 0).left_out == ()
    assert mine_folder(folder / "pdfs", tmp_path / "mined", 0).left_out == ()


def test_a_file_whose_name_is_too_long_costs_itself_alone(tmp_path: Path) -> None:
    long = put(tmp_path / "in" / f"{'x' * 251}.pdf")
    short = put(tmp_path / "in" / "ok.pdf")
    again = put(tmp_path / "in" / "sub" / f"{'x' * 251}.pdf", "A second file of that name")
    written, refused = render_folder([long, short], tmp_path / "o")
    assert [path.name for path in written] == ["ok_pg1.png"]
    assert [(error.pdf, error.reason.split(":")[0]) for error in refused] == [(long, "its name is too long")]
    harvest = mine_folder(tmp_path / "in", tmp_path / "out", 0)
    assert harvest.pages == 2
    assert [line.split(": ")[:2] for line in harvest.left_out] == [[str(long), "its name is too long"]]
    assert {path.name for path in (tmp_path / "out" / "pdfs").iterdir()} == {again.name, "ok.pdf"}


# --- what mine and import write, check accepts ------------------------------------------------------------------------


def test_a_test_too_long_to_be_read_is_left_out_by_name(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", "a.pdf")
    long = present("a.pdf", "long") | {"note": "n" * MAX_LINE}
    write_tests(folder / "t.jsonl", [long, present("a.pdf", "short")])
    (tmp_path / "out").mkdir()
    harvest = import_folder(folder, tmp_path / "out", 0)
    assert harvest.tests == 1 and left_out(harvest.left_out, folder) == [
        "t.jsonl:1: the line is longer than 1,048,576 characters, shorten it or take it out"
    ]
    assert check_dataset(tmp_path / "out") == []


def test_folders_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "in" / "a.pdf")
    put(tmp_path / "in" / "shut" / "b.pdf")
    scandir = os.scandir

    def refusing(path: Path) -> object:
        if path.name == "shut":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert left_out(mine_folder(tmp_path / "in", tmp_path / "out", 0).left_out, tmp_path / "in") == [
        "shut: the folder cannot be read (Permission denied)"
    ]


@pytest.mark.parametrize("verb", [mine_folder, import_folder])
def test_a_whole_documents_transcript_is_no_pages_however_accents_are_encoded(verb, tmp_path: Path) -> None:
    two = tmp_path / "in" / f"{NFC}.pdf"
    two.parent.mkdir()
    two.write_bytes(pdf(block(*SEEN), block(*SEEN)))
    (two.parent / f"{NFD}.md").write_text("\n\n".join(SEEN), encoding="utf-8")
    harvest = verb(two.parent, tmp_path / "out", 0)
    assert not list((tmp_path / "out").rglob("*.md"))
    assert any("the PDF has 2 pages, name this file " in line for line in harvest.left_out)


def test_a_folders_name_that_is_no_utf8_is_named_and_refused(tmp_path: Path) -> None:
    os.makedirs(os.fsencode(tmp_path / "in") + b"/d\xe9")
    put(tmp_path / "in" / "ok.pdf")
    with open(os.fsencode(tmp_path / "in") + b"/d\xe9/x.pdf", "wb") as file:
        file.write(pdf(block(*SEEN)))
    with pytest.raises(UserError, match="name is not UTF-8"):
        mine_folder(tmp_path / "in", tmp_path / "out", 0)
