"""Pages of two sets that share a document or text are found, and no others; a manifest says what made a folder."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ocr_rl.cli import main
from ocr_rl.contract import Page
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.pages.overlap import overlaps
from ocr_rl.pages.split import split
from ocr_rl.pages.synth.make import write_dataset


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("made") / "book"
    write_dataset("book", n=12, seed=1, out=out, pages_per_document=3)
    return out


def test_other_pages_do_not_overlap(book: Path, tmp_path: Path) -> None:
    write_dataset("book", n=12, seed=2, out=tmp_path / "other", pages_per_document=3)
    assert overlaps(load_dataset(book), load_dataset(tmp_path / "other")) == []
    parts = split(load_dataset(book), {"train": 0.5, "test": 0.5}, seed=0)
    assert parts["train"] and parts["test"] and overlaps(parts["train"], parts["test"]) == []


def test_a_split_is_written_as_datasets_without_overlap(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = ["--part", "train=0.5", "--part", "test=0.5", "--out", str(tmp_path / "parts")]
    assert main(["pages", "split", str(book), *parts]) == 0
    train, test = (load_dataset(tmp_path / "parts" / name) for name in ("train", "test"))
    whole = load_dataset(book)
    assert {page.id for page in (*train, *test)} == {page.id for page in whole}
    by_id = {page.id: page for page in whole}
    for page in (*train, *test):
        same = by_id[page.id]
        assert (page.reference, [check.id for check in page.checks]) == (
            same.reference,
            [check.id for check in same.checks],
        )
    assert overlaps(train, test) == []
    capsys.readouterr()
    assert main(["pages", "split", str(book), *parts]) == 2  # nothing is written over
    assert "is there already" in capsys.readouterr().err
    assert main(["pages", "split", str(book), "--part", "train=0.5", "--out", str(tmp_path / "x")]) == 2
    assert "must sum to 1" in capsys.readouterr().err
    for part in ("train=nan", "train=2", "train", "../x=0.5"):
        assert main(["pages", "split", str(book), "--part", part, "--out", str(tmp_path / "x")]) == 2
    small = ["--part", "train=0.999999", "--part", "test=0.000001", "--out", str(tmp_path / "x")]
    assert main(["pages", "split", str(book), *small]) == 2
    assert "no document falls into 'test'" in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_a_copy_of_a_file_is_found_under_another_name(book: Path, tmp_path: Path) -> None:
    pages = load_dataset(book)
    copy = tmp_path / "x.pdf"
    shutil.copyfile(pages[0].pdf, copy)
    other = Page(id="x:p1", pdf=copy, number=pages[0].number)
    by_page = {overlap.page.id: overlap for overlap in overlaps(pages, [other])}
    assert set(by_page) == {page.id for page in pages if page.pdf == pages[0].pdf}  # its other pages too
    assert by_page[pages[0].id].share == 1.0
    assert "the same file" in str(by_page[pages[0].id])


def test_other_pages_of_a_copied_file_are_found_once_each(book: Path, tmp_path: Path) -> None:
    first, *rest = [page for page in load_dataset(book) if page.pdf == load_dataset(book)[0].pdf]
    copy = tmp_path / "x.pdf"
    shutil.copyfile(first.pdf, copy)
    others = [Page(id=f"x:p{page.number}", pdf=copy, number=page.number) for page in rest]
    (overlap,) = overlaps([first], others)
    assert overlap.share == 1.0
    assert str(overlap) == f"{first.pdf}, page {first.number} = {copy}, page {rest[0].number} (the same file)"


def test_the_same_text_in_another_file_is_found(book: Path, tmp_path: Path) -> None:
    pages = load_dataset(book)
    other = tmp_path / "x.pdf"
    other.write_bytes(b"another file")
    text = pages[4].reference or ""
    half = replace(pages[4], id="x:p1", pdf=other, reference=text[: int(0.7 * len(text))] + " and so on")
    (overlap,) = overlaps(pages, [half])
    assert overlap.page == pages[4]
    assert overlap.share > 0.9  # of the shorter one


def test_a_page_without_reference_is_known_by_its_text_layer(book: Path, tmp_path: Path) -> None:
    pages = load_dataset(book)
    padded = tmp_path / "padded.pdf"
    padded.write_bytes(pages[0].pdf.read_bytes() + b"\n% another hash\n")
    bare = Page(id="x:p1", pdf=padded, number=1)
    shared = overlaps(pages, [bare])
    assert [overlap.page.id for overlap in shared] == [next(page.id for page in pages if page.number == 1)]


def test_the_verb_says_what_two_folders_share(book: Path, tmp_path: Path, capsys) -> None:
    write_dataset("book", n=3, seed=2, out=tmp_path / "other", pages_per_document=3)
    assert main(["pages", "overlap", str(book), str(tmp_path / "other")]) == 0
    assert main(["pages", "overlap", str(book), str(book)]) == 1
    assert main(["pages", "overlap", str(book), str(tmp_path / "other"), str(book)]) == 1  # any two of them
    assert "12 of 12 pages" in capsys.readouterr().out


def test_a_manifest_names_seed_versions_and_hashes(book: Path) -> None:
    manifest = json.loads((book / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["made_by"]["kind"], manifest["made_by"]["seed"], manifest["made_by"]["n"]) == ("book", 1, 12)
    assert set(manifest["versions"]) >= {"typst", "pypdfium2", "ocr-rl"}
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((book / name).read_bytes()).hexdigest() == digest
    assert len(manifest["files"]) == 1 + 4 + 12  # tests, PDFs, references


def test_many_pages_with_one_text_and_a_table_against_its_text_layer(book: Path) -> None:
    page = load_dataset(book)[0]
    words = " ".join(f"word{k}" for k in range(18))
    copies = [replace(page, id=f"c{k}", pdf=page.pdf.with_name("none.pdf"), reference=words) for k in range(60)]
    single = replace(page, id="one", reference=words)
    other_file = [replace(copy, number=99) for copy in copies]
    shutil.copyfile(page.pdf, page.pdf.with_name("none.pdf"))
    try:
        assert len(overlaps([single], other_file)) == 60
        cells = [f"cell {k} says {k * k}" for k in range(200)]
        table = replace(
            single, reference="<table>" + "".join(f"<tr><td>{cell}</td></tr>" for cell in cells) + "</table>"
        )
        page.pdf.with_name("none.pdf").write_bytes(b"another file")
        plain = replace(other_file[0], reference="\n".join(cells))
        assert len(overlaps([table], [plain])) == 1
    finally:
        page.pdf.with_name("none.pdf").unlink()


def test_scripts_without_spaces_are_compared_by_the_letter(tmp_path: Path) -> None:
    def page(name: str, text: str) -> Page:
        pdf = tmp_path / f"{name}.pdf"
        pdf.write_bytes(name.encode())
        return Page(id=name, pdf=pdf, number=1, reference=text)

    for first, end in ((0x4E00, 40), (0x3041, 20), (0x0E01, 20)):  # Han, kana, Thai
        text = "".join(chr(first + (7 * k) % 40) for k in range(60))
        other = "".join(chr(first + (11 * k + 3) % 40) for k in range(60))
        (overlap,) = overlaps([page("a", text)], [page("b", text[:end] + "x"), page("c", other)])
        assert (overlap.other.id, overlap.share > 0.9) == ("b", True)


def test_text_that_stands_on_many_pages_is_found_and_hides_nothing(tmp_path: Path) -> None:
    def page(name: str, text: str) -> Page:
        pdf = tmp_path / f"{name}.pdf"
        pdf.write_bytes(name.encode())
        return Page(id=name, pdf=pdf, number=1, reference=text)

    words = lambda what, n: " ".join(f"{what}{k}" for k in range(n))
    single = page("one", words("word", 40))
    shared = overlaps([single], [page(f"c{k}", f"{words('word', 40)} copy {k}") for k in range(60)])
    assert len(shared) == 50 and all(overlap.share == 1.0 for overlap in shared)
    forms = [page(f"f{k}", f"{words('print', 60)} {words(f'filled{k}in', 40)}") for k in range(100)]
    copied = replace(forms[99], id="copied", pdf=single.pdf, reference=f"{forms[99].reference} by hand")
    assert [overlap.other.id for overlap in overlaps([copied], forms, least=0.9)] == ["f99"]
