"""A searchable PDF: every word of the transcript is found, and the page looks as before."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pypdfium2 as pdfium
import pytest
from PIL import Image, ImageDraw, ImageFont

from benchmarks.fidelity.searchable import likeness as similarity
from ocr_rl.pages.raster import ImageRef
from ocr_rl.pages.searchable import PageText, Searchable, bands, searchable, to_unicode
from ocr_rl.pages.visual import visual_order
from tests.pages.pdfs import SEEN, block, pdf

LINES = (
    "naïve “Größe” 北京 日本語テキスト",
    "𝔄𝔅 😀 e\u0301 ελληνικά Привет",
    "ภาษาไทย हिन्दी \\frac{a}{b} |x|",
    "السلام عليكم 123 مرحبا",
    "mixed שלום עולם words",
    "half \ud800 a pair",
)


def scan(path: Path, size: tuple[int, int] = (600, 800)) -> Path:
    image = Image.new("RGB", size, "white")
    for number in range(6):
        ImageDraw.Draw(image).text((50, 40 + 60 * number), f"Line number {number}", "black", ImageFont.load_default(30))
    image.save(path)
    return path


def made(source: Path, tmp_path: Path, **texts: PageText) -> Path:
    out = tmp_path / "made.pdf"
    out.write_bytes(searchable(Searchable(source=source, texts={int(name[1:]): text for name, text in texts.items()})))
    return out


def words_of(path: Path, number: int = 1) -> list[str]:
    document = pdfium.PdfDocument(path)
    text = document[number - 1].get_textpage().get_text_bounded()
    document.close()
    return text.split()


def likeness(first: Path, second: Path, number: int = 1) -> float:
    return similarity(*(ImageRef(pdf=path, number=number, longest_px=1288) for path in (first, second)))


def test_every_word_in_any_script_is_found_over_a_picture(tmp_path: Path) -> None:
    source = scan(tmp_path / "a.png")
    out = made(source, tmp_path, p1=PageText(lines=LINES))
    assert likeness(source, out) >= 0.99
    left_to_right = [LINES[k] for k in (0, 1, 2, 5)]
    assert {word.replace("\ud800", "\ufffd") for line in left_to_right for word in line.split()} <= set(words_of(out))
    if shutil.which("pdftotext") is None:  # the same with another reader, and words from right to left
        return
    text = subprocess.run(["pdftotext", "-enc", "UTF-8", out, "-"], capture_output=True, check=True).stdout.decode()
    words = "".join(" " if "\u202a" <= letter <= "\u202e" else letter for letter in text).split()
    assert {word.replace("\ud800", "\ufffd") for line in LINES for word in line.split()} <= set(words)


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_a_page_with_text_of_its_own_keeps_its_look_and_gets_the_one_text(tmp_path: Path, rotate: int) -> None:
    source = tmp_path / "a.pdf"
    source.write_bytes(pdf(block(*SEEN), box="10 20 622 812").replace(b"/MediaBox", b"/Rotate %d /MediaBox" % rotate))
    out = made(source, tmp_path, p1=PageText(lines=["other words"]))
    assert words_of(out) == ["other", "words"]
    assert likeness(source, out) >= 0.99


def test_a_page_that_nobody_read_stays_as_it_is(tmp_path: Path) -> None:
    source = tmp_path / "a.pdf"
    source.write_bytes(pdf(block(*SEEN), block(*SEEN)))
    out = made(source, tmp_path, p2=PageText(lines=["new"]))
    assert words_of(out, 1) == " ".join(SEEN).split() and words_of(out, 2) == ["new"]


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_lines_lie_over_their_ink_also_where_the_page_was_turned(tmp_path: Path, rotation: int) -> None:
    image = Image.new("L", (400, 600), 255)
    ImageDraw.Draw(image).rectangle((100, 50, 300, 80), fill=0)  # the one line, in the page as it was read
    image.rotate(rotation, expand=True).convert("RGB").save(tmp_path / "a.png")  # counter-clockwise: it lies turned
    out = made(tmp_path / "a.png", tmp_path, p1=PageText(lines=["line"], rotation=rotation))
    document = pdfium.PdfDocument(out)
    page = document[0]
    width, height = page.get_size()
    textpage = page.get_textpage()
    boxes = [textpage.get_charbox(k) for k in range(4)]
    document.close()
    scale = max(width, height) / 600
    place = {  # left, bottom, right, top of the ink on the page as it lies, in px from below
        0: (100, 520, 300, 550),
        90: (50, 100, 80, 300),
        180: (100, 50, 300, 80),
        270: (520, 100, 550, 300),
    }[rotation]
    around = (
        min(b[0] for b in boxes) / scale,
        min(b[1] for b in boxes) / scale,
        max(b[2] for b in boxes) / scale,
        max(b[3] for b in boxes) / scale,
    )
    assert all(low - 12 <= here for low, here in zip(place[:2], around[:2], strict=True))
    assert all(here <= high + 12 for high, here in zip(place[2:], around[2:], strict=True))


def test_bands_are_rows_of_ink_and_a_rule_is_none() -> None:
    image = Image.new("RGB", (100, 100), "white")
    for box in ((10, 10, 50, 19), (0, 30, 99, 31), (20, 40, 90, 49)):
        ImageDraw.Draw(image).rectangle(box, fill="black")
    assert bands(image) == [(10, 10, 51, 20), (20, 40, 91, 50)]
    assert bands(Image.new("RGB", (9, 7))) == [(0, 0, 9, 7)]


def test_a_page_without_words_and_one_with_too_many(tmp_path: Path) -> None:
    source = scan(tmp_path / "a.png")
    assert words_of(made(source, tmp_path, p1=PageText(lines=["", " "]))) == []
    many = [f"word{number}" for number in range(2000)]
    assert words_of(made(source, tmp_path, p1=PageText(lines=[" ".join(many)]))) == many


def test_what_codes_mean_is_said_in_blocks_of_a_hundred() -> None:
    table = to_unicode(["a", "😀", "\ud800", *map(chr, range(0x4E00, 0x4E00 + 150))])
    assert "<0001> <0061>" in table and "<0002> <D83DDE00>" in table and "<0003> <FFFD>" in table
    assert table.count("100 beginbfchar") == 1 and table.count("53 beginbfchar") == 1


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("plain words", "plain words"),
        ("אבג דהו", "והד גבא"),
        ("see אבג דהו now", "see והד גבא now"),
        ("אבג 12 דהו", "והד 12 גבא"),
        ("אב12", "12בא"),
    ],
)
def test_words_from_right_to_left_are_turned_round(line: str, seen: str) -> None:
    assert visual_order(line) == seen
