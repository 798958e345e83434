"""What depends on the machine's typefaces is named: letters that are drawn as nothing do not go unsaid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocr_rl.cli import main
from ocr_rl.doctor import examine
from ocr_rl.pages import scripts, typefaces
from ocr_rl.pages.raster import render_bytes, size_faults
from ocr_rl.pages.scripts import drawn_scripts
from ocr_rl.pages.typefaces import Borrowed, surveyed
from tests.pages.pdfs import SEEN, block, pdf

PRIVATE = "NobodysTypeface"  # PDFium draws its Latin letters with a typeface of its own, and no others


def page_in(font: str, content: str) -> bytes:
    return pdf(content).replace(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>", font.encode())


def a_font(name: str, *letters: str) -> str:
    """A typeface that is not in the file; "a", "b" and so on stand for the letters, by their code in hex."""
    differences = " ".join(f"/uni{letter}" for letter in letters)
    widths = " ".join(["600"] * 256)
    descriptor = (
        f"<</Type/FontDescriptor/FontName/{name}/Flags 32/FontBBox[0 0 999 999]/Ascent 800/Descent -200/StemV 80>>"
    )
    encoding = f"<</Type/Encoding/BaseEncoding/WinAnsiEncoding/Differences[97 {differences}]>>"
    head = f"/Type/Font/Subtype/TrueType/BaseFont/{name}/FirstChar 0/LastChar 255/Widths[{widths}]"
    return f"<<{head}/FontDescriptor {descriptor}" + (f"/Encoding {encoding}>>" if letters else ">>")


def drawn_in(name: str, letter: str) -> bool:
    """Whether this machine draws a letter in a typeface."""
    return (
        render_bytes(page_in(a_font(name, letter), block("a")), 1, 792).convert("L").tobytes().count(b"\xff")
        < 792 * 612
    )


def of(tmp_path: Path, data: bytes) -> list[Borrowed]:
    (tmp_path / "x.pdf").write_bytes(data)
    pages = list(surveyed([(tmp_path / "x.pdf", [1])]))
    assert all(isinstance(page, Borrowed) for page in pages)
    return [page for page in pages if isinstance(page, Borrowed)]


def test_a_page_in_the_standard_typefaces_depends_on_no_machine(tmp_path: Path) -> None:
    assert of(tmp_path, pdf(block(*SEEN))) == []
    assert of(tmp_path, page_in(a_font("Arial,Bold"), block(*SEEN))) == []
    assert of(tmp_path, page_in(a_font("ABCDEF+TimesNewRomanPS-BoldMT"), block(*SEEN))) == []


def test_a_page_in_another_typeface_is_named_though_all_its_letters_are_drawn(tmp_path: Path) -> None:
    (page,) = of(tmp_path, page_in(a_font(PRIVATE), block(*SEEN)))
    assert (page.absent, page.lent, page.unseen) == ((PRIVATE,), (), "")
    assert str(page) == f"asks for {PRIVATE}, which neither the file nor this machine has"


@pytest.mark.parametrize("name", [PRIVATE, "Helvetica"])
def test_letters_that_are_drawn_as_nothing_are_named_and_no_others(name: str, tmp_path: Path) -> None:
    font = a_font(name, "1980", "0041", "A840", "0042")  # New Tai Lue and Phags-pa between two that all have
    (page,) = of(tmp_path, page_in(font, block("abcd", "dcba", "ZZ")))
    assert page.unseen == "\u1980\ua840"
    assert str(page).endswith("2 different characters are drawn as nothing (\u1980\ua840)")


def test_letters_of_eastern_europe_in_a_standard_typeface_are_looked_at(tmp_path: Path) -> None:
    pages = of(tmp_path, page_in(a_font("Helvetica", "015F", "00E9", "2013"), block("abc")))
    assert [page.unseen for page in pages] == ([] if drawn_in("Helvetica", "015F") else ["\u015f"])


def test_letters_that_are_hidden_on_purpose_are_not_missed(tmp_path: Path) -> None:
    font = a_font("Helvetica", "1980", "0041")
    assert of(tmp_path, page_in(font, block("ab", mode=3))) == []


def test_letters_within_a_form_are_looked_at(tmp_path: Path) -> None:
    data = pdf("q 1 0 0 1 30 0 cm /X1 Do Q", xobject=block("aaa"))
    data = data.replace(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>", a_font(PRIVATE, "1980").encode())
    (page,) = of(tmp_path, data)
    assert (page.absent, page.unseen) == ((PRIVATE,), "\u1980")


def test_check_notes_such_pages_and_finds_no_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pdfs").mkdir()
    (tmp_path / "pdfs" / "a.pdf").write_bytes(page_in(a_font(PRIVATE, "1980"), block("aaa ZZ")))
    (tmp_path / "pdfs" / "b.pdf").write_bytes(pdf(block(*SEEN)))
    test = {"pdf": "b.pdf", "page": 1, "id": "x", "type": "present", "text": "harbour"}
    (tmp_path / "t.jsonl").write_text(json.dumps(test), encoding="utf-8")
    assert main(["pages", "check", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    note, summary = out.splitlines()
    assert note.startswith(f"note: {tmp_path / 'pdfs' / 'a.pdf'}: page 1: asks for {PRIVATE}, which neither")
    assert summary == "2 pages, 1 tests, no fault" and err == ""


def test_doctor_says_in_which_scripts_letters_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = drawn_scripts()
    assert drawn["Latin"] and {"Greek", "Cyrillic", "Arabic", "Hebrew", "Devanagari", "Thai", "Japanese"} <= set(drawn)
    monkeypatch.setattr(scripts, "drawn_scripts", lambda: {"Latin": True, "Thai": False, "Korean": False})
    (finding,) = [finding for finding in examine() if finding.name == "typefaces"]
    assert finding.value.startswith("without a typeface in the file, letters are drawn in Latin; not in Thai, Korean:")
    assert finding.remedy == ""


def test_no_typeface_has_a_letter_for_no_character(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "_LETTERS", {"Latin": "0041", "None": "0378"})
    monkeypatch.setattr(scripts, "_COLLECTIONS", {"None here": ("GB1", "UniGB-UCS2-H", "0378")})
    assert drawn_scripts() == {"Latin": True, "None": False, "None here": False}


def test_a_page_with_more_objects_than_anybody_draws_is_looked_at_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(of(tmp_path, page_in(a_font(PRIVATE), "0 0 9 9 re f " + block("after the first")))) == 1
    monkeypatch.setattr(typefaces, "MAX_OBJECTS", 1)
    assert typefaces._of_file((tmp_path / "x.pdf", [1])) == []


def test_what_cannot_be_drawn_is_refused_as_render_refuses_it(tmp_path: Path) -> None:
    (tmp_path / "wide.pdf").write_bytes(pdf(block(*SEEN), box="0 0 20000 20000"))
    (tmp_path / "torn.pdf").write_bytes(pdf(block(*SEEN))[:200])
    pages = [(tmp_path / "wide.pdf", [1, 2]), (tmp_path / "torn.pdf", [1])]
    assert [str(page) for page in surveyed(pages)] == [str(error) for error in size_faults(pages)]
    assert len(list(surveyed(pages))) == 3
