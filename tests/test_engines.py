"""Engines as plug-ins: what each needs, how one is added, and a page that breaks one."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from ocr_rl.contract import Page, UserError
from ocr_rl.evaluate.engines import open_engine, read_pages
from ocr_rl.pages.workers import Refusal
from ocr_rl.plugins import ENGINES, installed

MINE = '''
import os
from dataclasses import dataclass

@dataclass(frozen=True, slots=True, kw_only=True)
class Mine:
    """An engine in a few lines."""

    longest_px: int = 100
    word: str = "size"

    def version(self):
        return "Mine 1"

    def __call__(self, image, page):
        if page.number == 2:
            raise ValueError("no second pages")
        if page.number == 3:
            os._exit(1)
        assert page.reference is None and not page.checks
        return f"{self.word} {max(image.size)}"
'''


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """A scan: a picture of words, and no text layer."""
    pdf = tmp_path_factory.mktemp("scan") / "scan.pdf"
    image = Image.new("RGB", (1200, 600), "white")
    ImageDraw.Draw(image).text((80, 200), "Reading is easy", fill="black", font=ImageFont.load_default(size=90))
    image.save(pdf)
    return Page(id="0a:p1", pdf=pdf, number=1)


def read(spec: str, page: Page) -> str:
    ((_, text),) = read_pages(spec, [page], workers=1)
    assert isinstance(text, str), text
    return text


def test_three_engines_are_installed() -> None:
    found = {plugin.name: plugin for plugin in installed(ENGINES)}
    assert {"tesseract", "rapidocr", "text_layer"} <= set(found)
    assert found["tesseract"].options["languages"] == "'eng'"


def test_one_is_added_in_a_file_and_its_failures_are_its_own(tmp_path: Path, tiny_pages: list[Page]) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    spec = f"{tmp_path}/mine.py:Mine,word=side,longest_px=70"
    assert open_engine(spec).version() == "Mine 1"
    found = [
        (page.number, str(text), isinstance(text, Refusal)) for page, text in read_pages(spec, tiny_pages, workers=2)
    ]
    assert found == [
        (1, "side 70", False),
        (2, "ValueError: no second pages", True),
        (3, "it crashed its process", True),
        (4, "side 70", False),
    ]


def test_a_page_that_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.pdf").write_bytes(b"%PDF-1.4 and no more")
    ((_, text),) = read_pages("text_layer", [Page(id="0a:p1", pdf=tmp_path / "cut.pdf", number=1)], workers=1)
    assert isinstance(text, Refusal) and str(tmp_path) not in str(text)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tesserakt", "no plug-in 'tesserakt'"),
        ("tesseract,eng", "'eng' is no option; write NAME,option=value"),
        ("tesseract,lang=eng", "no option 'lang'"),
        ("text_layer,longest_px=wide", "option 'longest_px'"),
        ("pathlib:Path", "must be a frozen dataclass"),
    ],
)
def test_a_wrong_engine_is_one_sentence(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_engine(spec)


def test_what_is_not_installed_is_said_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="apt-get install tesseract-ocr"):
        open_engine("tesseract").version()


def test_the_text_layer_of_a_real_text_and_of_a_scan(tmp_path: Path, printed: Page) -> None:
    typst = pytest.importorskip("typst", reason="typst is not installed")
    (tmp_path / "t.typ").write_text("#set page(width: 6cm, height: 6cm)\nHello world\n#pagebreak()\nSecond page")
    typst.compile(str(tmp_path / "t.typ"), output=str(tmp_path / "t.pdf"))
    assert read("text_layer", Page(id="0a:p2", pdf=tmp_path / "t.pdf", number=2)).strip() == "Second page"
    assert read("text_layer", printed).strip() == ""


def test_tesseract_reads_a_scan_where_it_is_installed(printed: Page) -> None:
    if shutil.which("tesseract") is None:
        with pytest.raises(UserError, match="apt-get install tesseract-ocr"):
            open_engine("tesseract").version()
        return
    assert open_engine("tesseract").version().startswith("Tesseract")
    with pytest.raises(UserError, match="tesseract-ocr-xyz"):
        open_engine("tesseract,languages=xyz").version()
    assert read("tesseract", printed).strip() == "Reading is easy"


def test_rapidocr_reads_a_scan_where_it_is_installed(printed: Page) -> None:
    if find_spec("rapidocr") is None:
        with pytest.raises(UserError, match=r"pip install ocr-rl\[rapidocr\]"):
            open_engine("rapidocr").version()
        return
    assert open_engine("rapidocr").version().startswith("RapidOCR")
    assert read("rapidocr", printed).replace(" ", "") == "Readingiseasy"
