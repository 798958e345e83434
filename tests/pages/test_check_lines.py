"""Test lines mean the same to `pages check`, `split` and `import`; a split is whole or is not there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ocr_rl.contract import UserError
from ocr_rl.pages import split as split_module
from ocr_rl.pages.dataset import check_dataset, load_dataset
from ocr_rl.pages.imported import import_folder
from ocr_rl.pages.split import write_split
from ocr_rl.text.text_checks import Present
from tests.pages.pdfs import block, pdf

HALVES = {"a": 0.5, "b": 0.5}
MARK = b"\xef\xbb\xbf"


def line_of(pdf: str, name: str, **more: Any) -> bytes:
    return json.dumps({"pdf": pdf, "page": 1, "id": name, "type": "present", "text": "red ship", **more}).encode()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four PDFs of one page; tests in a.jsonl, and in b.jsonl as two programs of Windows have written and joined it."""
    for k in range(4):
        path = tmp_path / "data" / "pdfs" / "sub" / f"d{k}.pdf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pdf(block(f"document {k}")))
    (tmp_path / "data" / "a.jsonl").write_bytes(line_of("sub/d0.pdf", "t0"))
    lines = [
        MARK + line_of("./sub//d1.pdf", "t1"),
        b"",
        MARK + line_of("sub/d2.pdf", "t2", text="x\u2028y"),
        MARK,
        b" ",
    ]
    (tmp_path / "data" / "b.jsonl").write_bytes(b"\r\n".join(lines))
    return tmp_path / "data"


def texts_of(*folders: Path) -> dict[str, tuple[str, str]]:
    """(name of the PDF, text) by id, of all pages of some datasets."""
    pages = [page for folder in folders for page in load_dataset(folder)]
    checks = [(page.pdf.name, check) for page in pages for check in page.checks]
    return {check.id: (name, check.text) for name, check in checks if isinstance(check, Present)}


def test_check_split_and_import_see_the_same_tests(data: Path, tmp_path: Path) -> None:
    assert check_dataset(data) == []
    expected = {"t0": ("d0.pdf", "red ship"), "t1": ("d1.pdf", "red ship"), "t2": ("d2.pdf", "x\u2028y")}
    assert texts_of(data) == expected
    write_split(data, HALVES, 1, tmp_path / "parts")
    assert texts_of(tmp_path / "parts" / "a", tmp_path / "parts" / "b") == expected
    harvest = import_folder(data, tmp_path / "imported", 0)
    assert texts_of(tmp_path / "imported") == expected
    assert harvest.tests == 3 and [line.rsplit("/", 1)[1] for line in harvest.left_out] == [
        "d3.pdf: no test and no transcript of it can be used"
    ]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "this is not JSON (Expecting property name enclosed in double quotes, column 2)"),
        (b'{"pdf": "\xe9"}', "the text is not UTF-8 (byte 10, perhaps it is Latin-1), save it as UTF-8"),
        (line_of("sub/d3.pdf", "t0"), 'the id "t0" is taken by a.jsonl:1'),
        (line_of("sub/d3.pdf", "t9", page=True), 'the field "page" must be a whole number from 1'),
        (line_of("sub/d3.pdf", "t9", page=3), "there is no page 3, sub/d3.pdf has 1"),
        (line_of("d3.pdf", "t9"), 'there is no "d3.pdf" below pdfs/'),
        (line_of("sub/d3.pdf", "t9", text="\ud800"), "the text holds half a character (a lone surrogate, as"),
        (line_of("sub/d3.pdf", "t9", colour="red"), "'colour' is not a field of a present test"),
        (line_of("sub/d3.pdf", "t9", text="x" * 2**20), "the line is longer than 1,048,576 characters"),
        (b"\0" + line_of("sub/d3.pdf", "t9"), "the text holds a NUL (character 1), take it out"),
    ],
)
def test_a_bad_line_is_called_the_same_everywhere(data: Path, tmp_path: Path, line: bytes, why: str) -> None:
    (data / "c.jsonl").write_bytes(line_of("sub/d3.pdf", "good") + b"\n" + line + b"\n")
    (fault,) = check_dataset(data)
    assert str(fault).startswith(f"{data}/c.jsonl:2: {why}")
    with pytest.raises(UserError) as refusal:
        write_split(data, HALVES, 1, tmp_path / "parts")
    assert str(refusal.value).startswith(str(fault)) and not (tmp_path / "parts").exists()
    harvest = import_folder(data, tmp_path / "imported", 0)
    assert harvest.left_out == (str(fault),) and harvest.tests == 4
    assert check_dataset(tmp_path / "imported") == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_reference_is_read_in_one_way(data: Path, tmp_path: Path, encoding: str) -> None:
    front = "---\r\nprimary_language: de\r\nis_rotation_valid: True\r\nrotation_correction: 0\r\nis_table: False\r\n"
    text = f"\ufeff{front}is_diagram: False\r\n---\r\nRed ship, Zürich\r\n" if encoding == "utf-8" else "red ship é\r"
    (data / "pdfs" / "sub" / "d0.md").write_bytes(text.encode(encoding))
    write_split(data, HALVES, 1, tmp_path / "parts")
    import_folder(data, tmp_path / "imported", 0)
    shown = "Red ship, Zürich\n" if encoding == "utf-8" else "red ship é\n"
    for folders in ([data], [tmp_path / "imported"], [tmp_path / "parts" / name for name in HALVES]):
        pages = [page for folder in folders for page in load_dataset(folder) if page.reference is not None]
        assert [page.reference for page in pages] == [shown]
        assert ("primary_language=de" in pages[0].tags) == (encoding == "utf-8")


def test_a_split_that_ends_early_leaves_nothing(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    calls: list[Path] = []

    def full(folder: Path, made_by: Mapping[str, Any]) -> None:
        calls.append(folder)
        if len(calls) == 2:
            raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr(split_module, "write_manifest", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        write_split(data, HALVES, 1, tmp_path / "new" / "parts")
    assert len(calls) == 2 and [path.name for path in tmp_path.iterdir()] == ["data"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("kept", encoding="utf-8")
    calls.clear()
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        write_split(data, HALVES, 1, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before
