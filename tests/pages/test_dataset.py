"""Dataset folders: what is loaded, what is named as a fault, and what never leaves the folder."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
import pytest

from ocr_rl.contract import Transcript, UserError
from ocr_rl.pages import check_lines as lines_module
from ocr_rl.pages.dataset import check_dataset, load_dataset, write_tests
from ocr_rl.rewards.front_matter import FrontMatterReward

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "olmocr_bench" / "sample_data"


def make_pdf(path: Path, num_pages: int = 1, width_pt: float = 100) -> Path:
    """Blank pages; the width tells documents apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = pdfium.PdfDocument.new()
    for _ in range(num_pages):
        document.new_page(width_pt, 100)
    document.save(path)
    document.close()
    return path


def a_test(id: str, pdf: str = "a.pdf", page: Any = 1, **fields: Any) -> dict[str, Any]:
    return {"pdf": pdf, "page": page, "id": id, "type": "present", "text": "hello world"} | fields


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """a.pdf and b.pdf of one page, sub/long.pdf of three; tests in one.jsonl."""
    for k, (name, num_pages) in enumerate([("a", 1), ("b", 1), ("sub/long", 3)]):
        make_pdf(tmp_path / "pdfs" / f"{name}.pdf", num_pages, width_pt=100 + k)
    write_tests(tmp_path / "one.jsonl", [a_test("a1"), a_test("l2", "sub/long.pdf", 2), a_test("a2")])
    return tmp_path


def add(folder: Path, *lines: str | bytes, name: str = "bad.jsonl") -> Path:
    path = folder / name
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines))
    return path


def faults(folder: Path) -> list[str]:
    """The faults, with paths relative to the folder; loading stops at the first of them."""
    sentences = [str(fault) for fault in check_dataset(folder)]
    if sentences:
        with pytest.raises(UserError) as caught:
            load_dataset(folder)
        assert str(caught.value).startswith(sentences[0])
    return [fault.removeprefix(f"{folder}/") for fault in sentences]


# --- loading ----------------------------------------------------------------------------------------------------------


def test_pages_with_tests_or_a_reference_and_page_1_of_the_others(folder: Path) -> None:
    pdfs = folder / "pdfs"
    (pdfs / "a.md").write_text("hello world\n", encoding="utf-8")
    (pdfs / "sub" / "long_pg3.md").write_text("---\nprimary_language: en\n---\nthird\n", encoding="utf-8")
    add(folder, json.dumps(a_test("a3")), "", name="two.jsonl")
    assert faults(folder) == []
    pages = load_dataset(folder)
    digits = {name: hashlib.sha256((pdfs / name).read_bytes()).hexdigest()[:8] for name in ("a.pdf", "sub/long.pdf")}
    shown = [(str(page.pdf.relative_to(pdfs)), page.number, page.reference, sorted(page.tags)) for page in pages]
    assert shown == [
        ("a.pdf", 1, "hello world\n", ["one", "two"]),
        ("b.pdf", 1, None, []),
        ("sub/long.pdf", 2, None, ["one"]),
        ("sub/long.pdf", 3, "third\n", []),
    ]
    assert [[check.id for check in page.checks] for page in pages] == [["a1", "a2", "a3"], [], ["l2"], []]
    assert pages[0].id == f"{digits['a.pdf']}:p1"
    assert pages[3].id == f"{digits['sub/long.pdf']}:p3"
    assert [page.id for page in load_dataset(folder)] == [page.id for page in pages]


def test_front_matter_of_a_reference_tells_what_is_true_of_the_page(folder: Path) -> None:
    block = "---\r\nprimary_language: en\r\nis_rotation_valid: False\r\nrotation_correction: 90\r\n"
    block += "is_table: False\r\nis_diagram: False\r\n---\r\n"
    (folder / "pdfs" / "a.md").write_bytes(block.encode() + b"hello world")
    (page,) = [page for page in load_dataset(folder) if "rotation_correction=90" in page.tags]
    assert page.reference == "hello world"
    turned_by = lambda turn: Transcript(
        raw=block.replace("\r", "").replace("90", turn), body="", finish="stop", num_tokens=1
    )
    right, wrong = FrontMatterReward()(page, [turned_by("90"), turned_by("0")])
    assert (right.value, wrong.value) == (1.0, 0.9)


def test_copies_of_a_document_keep_ids_of_their_own(folder: Path) -> None:
    (folder / "pdfs" / "z.pdf").write_bytes((folder / "pdfs" / "a.pdf").read_bytes())
    first, *_, last = [page.id for page in load_dataset(folder)]
    assert last == first.replace(":", "-2:")


def test_a_numbered_name_belongs_to_the_pdf_of_that_name_first(folder: Path) -> None:
    make_pdf(folder / "pdfs" / "sub" / "long_pg2.pdf", width_pt=50)
    (folder / "pdfs" / "sub" / "long_pg2.md").write_text("whose?", encoding="utf-8")
    references = {(page.pdf.name, page.number): page.reference for page in load_dataset(folder)}
    assert references["long_pg2.pdf", 1] == "whose?"
    assert references["long.pdf", 2] is None


def test_a_path_may_be_written_with_a_detour(folder: Path) -> None:
    add(folder, json.dumps(a_test("a3", "./sub//long.pdf", 3)))
    assert [page.number for page in load_dataset(folder)] == [1, 1, 2, 3]


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "this is not JSON"),
        ('{"pdf": 3' + "0" * 5000 + "}", "this is not JSON that anybody would write"),
        ("[" * 100_000, "this is not JSON that anybody would write"),
        (b'{"pdf": "\xff"}', "the text is not UTF-8 (byte 10, perhaps it is Latin-1)"),
        ("[1]", "this is not a JSON object"),
        (json.dumps(a_test("x", pdf="")), 'the field "pdf" must name a file'),
        (json.dumps(a_test("x", page=0)), 'the field "page" must be a whole number from 1'),
        (json.dumps(a_test("x", page="1")), 'the field "page" must be a whole number from 1'),
        (json.dumps(a_test("x", page=True)), 'the field "page" must be a whole number from 1'),
        (json.dumps(a_test("x", page=2)), "there is no page 2, a.pdf has 1"),
        (json.dumps(a_test("x", pdf="c.pdf")), 'there is no "c.pdf" below pdfs/'),
        (json.dumps(a_test("x", pdf="../pdfs/a.pdf")), 'there is no "../pdfs/a.pdf" below pdfs/'),
        (json.dumps(a_test("x", pdf="/etc/passwd")), 'there is no "/etc/passwd" below pdfs/'),
        (json.dumps(a_test("x", pdf="a.pdf\0")), "the text holds a NUL (written as \\u0000), take it out"),
        (json.dumps(a_test("x", pdf="a" * 5000)), "there is no "),
        (json.dumps(a_test("a2")), 'the id "a2" is taken by one.jsonl:3'),
        (json.dumps(a_test("x", type="presence")), ""),
        (json.dumps(a_test("x", colour="red")), ""),
        (json.dumps(a_test("x", type="format", format={})), ""),
        (json.dumps({"pdf": "a.pdf", "page": 1, "id": "x", "type": "present"}), ""),
    ],
)
def test_a_bad_line_is_named(folder: Path, line: str | bytes, message: str) -> None:
    add(folder, json.dumps(a_test("fine")), "  ", line, name="zzz.jsonl")
    (fault,) = faults(folder)
    assert fault.startswith(f"zzz.jsonl:3: {message}")
    assert fault.isprintable() and len(fault) < 600


def test_a_line_without_end_is_not_read(folder: Path) -> None:
    with (folder / "zzz.jsonl").open("wb") as file:
        file.truncate(2**33)  # a sparse file: it takes no room
    assert faults(folder) == ["zzz.jsonl: the file is no text, most of its beginning is NUL"]
    (folder / "zzz.jsonl").write_bytes(b"x" * (2**20 + 1) + b"\n" + json.dumps(a_test("after")).encode())
    says = "the line is longer than 1,048,576 characters, shorten it or take it out"
    assert faults(folder) == [f"zzz.jsonl:1: {says}"]  # and the line behind it is read
    (folder / "zzz.jsonl").write_bytes(b"x" * (2**26 + 2**21))
    assert faults(folder) == ["zzz.jsonl: a line is longer than 67,108,864 characters, write one JSON object a line"]


def test_every_fault_is_listed_in_order(folder: Path) -> None:
    (folder / "pdfs" / "text.pdf").write_text("no PDF", encoding="utf-8")
    add(folder, "{", json.dumps(a_test("t", "text.pdf", 7)), "}", name="aaa.jsonl")
    assert [fault.split(": ")[0] for fault in faults(folder)] == ["pdfs/text.pdf", "aaa.jsonl:1", "aaa.jsonl:3"]
    assert faults(folder)[0] == "pdfs/text.pdf: the file is not a PDF, PNG, JPEG, WebP or TIFF"


def test_folders_that_are_no_dataset(tmp_path: Path) -> None:
    none = tmp_path / "none"
    assert faults(none) == [f"{none}: there is no such folder"]
    assert faults(tmp_path) == ["pdfs: there is no such folder, a dataset keeps its PDFs there"]
    (tmp_path / "pdfs").mkdir()
    assert faults(tmp_path) == ["pdfs: there is no PDF, PNG, JPEG, WebP or TIFF in this folder"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("sub/long.md", b"", "the PDF has 3 pages, name this file long_pg<N>.md"),
        ("sub/long_pg4.md", b"", "there is no such page, the PDF has 3"),
        ("a.md", b"\xff", "the text is not UTF-8 (byte 1, perhaps it is Latin-1), save it as UTF-8"),
        ("a.md", b"x" * (2**22 + 1), "the file is longer than 4 MiB, shorten it"),
    ],
)
def test_a_bad_reference_is_named(folder: Path, name: str, content: bytes, message: str) -> None:
    (folder / "pdfs" / name).write_bytes(content)
    assert faults(folder) == [f"pdfs/{name}: {message}"]


def test_two_references_for_one_page(folder: Path) -> None:
    for name in ("a.md", "a_pg1.md", "readme.md"):
        (folder / "pdfs" / name).write_text("hello world", encoding="utf-8")
    assert faults(folder) == ["pdfs/a_pg1.md: this page has another reference already"]


def test_a_reference_must_pass_its_own_tests(folder: Path) -> None:
    add(folder, json.dumps(a_test("a3", type="absent")), json.dumps(a_test("a4", text="nowhere in it")), name="x.jsonl")
    (folder / "pdfs" / "a.md").write_text("hello world", encoding="utf-8")
    sentences = [str(fault).removeprefix(f"{folder}/") for fault in check_dataset(folder)]
    assert [fault.split(" (")[0] for fault in sentences] == [
        'x.jsonl:1: the page\'s own reference fails the test "a3"',
        'x.jsonl:2: the page\'s own reference fails the test "a4"',
    ]
    assert load_dataset(folder)[0].reference == "hello world"  # the gold check is no bar to loading


def test_a_test_that_cannot_be_run_is_a_fault(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        id, type = "broken", "present"

        def run(self, prepared: object, reading: str) -> object:
            raise IndexError("oh")

    monkeypatch.setattr(lines_module, "load_check", lambda test: Broken())
    add(folder, json.dumps(a_test("any")), name="one.jsonl")
    (folder / "pdfs" / "a.md").write_text("x", encoding="utf-8")
    (fault,) = check_dataset(folder)
    assert fault.message == 'the test "broken" cannot be run (IndexError: oh)'


# --- untrusted folders ------------------------------------------------------------------------------------------------


def test_nothing_outside_the_folder_is_read(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    secret = make_pdf(outside / "secret.pdf")
    (outside / "secret.jsonl").write_text("secret", encoding="utf-8")
    (folder / "pdfs" / "link.pdf").symlink_to(secret)
    (folder / "pdfs" / "a.md").symlink_to(outside / "secret.jsonl")
    (folder / "pdfs" / "dir").symlink_to(outside)
    (folder / "link.jsonl").symlink_to(outside / "secret.jsonl")
    names = ["pdfs/a.md", "pdfs/link.pdf", "link.jsonl"]
    assert faults(folder) == [f"{name}: this link leads out of the dataset's folder, copy the file" for name in names]


def test_links_within_the_folder_are_fine(folder: Path) -> None:
    (folder / "pdfs" / "c.pdf").symlink_to("b.pdf")
    add(folder, json.dumps(a_test("c1", "c.pdf")))
    assert faults(folder) == []


def test_pipes_and_loops_do_not_hang(folder: Path) -> None:
    os.mkfifo(folder / "pdfs" / "pipe.pdf")
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "pdfs" / "loop.pdf").symlink_to("loop.pdf")
    names = ["pdfs/loop.pdf", "pdfs/pipe.pdf", "pipe.jsonl"]
    assert faults(folder) == [f"{name}: this is not a file" for name in names]


def test_faults_are_one_printable_line(folder: Path) -> None:
    add(folder, json.dumps(a_test("x", pdf="\x1b[31m\n\ud800")), name="zzz.jsonl")
    (fault,) = faults(folder)
    assert fault.isprintable()
    fault.encode()


# --- files ----------------------------------------------------------------------------------------------------------


def test_tests_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "tests.jsonl"
    write_tests(path, [a_test("é"), a_test("b")])
    before = path.read_text(encoding="utf-8")
    assert [json.loads(line)["id"] for line in before.splitlines()] == ["é", "b"]
    with pytest.raises(TypeError):
        write_tests(path, [a_test("c"), {"pdf": object()}])
    assert path.read_text(encoding="utf-8") == before
    assert list(tmp_path.iterdir()) == [path]


# --- real data --------------------------------------------------------------------------------------------------------


def test_a_page_that_cannot_be_drawn_is_a_fault_where_it_is_used(folder: Path) -> None:
    make_pdf(folder / "pdfs" / "huge.pdf", num_pages=2, width_pt=40_000)
    add(folder, json.dumps(a_test("h2", "huge.pdf", 2)), name="two.jsonl")
    assert [str(fault) for fault in check_dataset(folder)] == [
        f"{folder / 'pdfs' / 'huge.pdf'}: page 2: the page is absurdly large (556 x 1 inches)"
    ]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared collection of real PDFs is not beside the checkout")
def test_the_public_sample_loads_without_a_fault() -> None:
    assert check_dataset(SHARED) == []
    pages = load_dataset(SHARED)
    lines = [line for file in SHARED.glob("*.jsonl") for line in file.read_text("utf-8").splitlines() if line.strip()]
    assert sum(len(page.checks) for page in pages) == len(lines)
    assert {page.pdf for page in pages} == set((SHARED / "pdfs").rglob("*.pdf"))
    assert [page.number for page in pages if page.pdf.name == "mattsnotes.pdf"] == [1, 2, 3]
    assert len({page.id for page in pages}) == len(pages)
