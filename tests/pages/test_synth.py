"""Synthetic pages: the same bytes for the same seed, and tests that tell a true transcript from a damaged one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np
import pypdfium2 as pdfium
import pytest
from PIL import Image

from ocr_rl.config import Folder, Typeset
from ocr_rl.contract import UserError
from ocr_rl.pages.dataset import check_dataset, load_dataset
from ocr_rl.pages.raster import render_bytes
from ocr_rl.pages.source import open_pages
from ocr_rl.pages.synth import looks, words
from ocr_rl.pages.synth.compose import KINDS, SEEN_FONTS, UNSEEN_FONTS, in_other_words
from ocr_rl.pages.synth.document import Heading, Paragraph, Run, Source, Style, Table, to_markdown, to_typst
from ocr_rl.pages.synth.make import Document, Looks, make_dataset, make_document
from ocr_rl.pages.synth.mine import mine
from ocr_rl.pages.synth.sheets.make import SHEET_KINDS
from ocr_rl.pages.synth.typeset import fits, typeset
from ocr_rl.text.checks import judge, load_check

# Pages of each kind, enough that every kind of block comes up; a scanned page takes ten times as long as others.
PAGES = {kind: {"nano": 60, "notice": 8, "report": 8}.get(kind, 40) for kind in KINDS}
STYLE = Style(width=224, height=168, margin=8, font="DejaVu Sans", size=12, leading=0.5)
PAGE = Source(
    blocks=(
        Heading(text="Annual account"),
        Paragraph(runs=(Run(text="Nina Berg", bold=True), Run(text="paid $12.50 for the garden."))),
        Table(rows=(("Item", "Cost"), ("spade", "7 & 8"), ("rake", "41"))),
    ),
    style=STYLE,
    header="Town of Hill",
    footer="17",
)


@pytest.fixture(scope="module")
def documents() -> dict[str, Document]:
    return {kind: make_document(kind, 11, 0, pages) for kind, pages in PAGES.items()}


def of_page(document: Document, number: int) -> list[dict]:
    return [test for test in document.tests if test["page"] == number]


def passed(tests: list[dict], text: str, reading) -> list[bool]:
    return [verdict.passed for verdict in judge([load_check(test) for test in tests], text, reading)]


# --- the printers -----------------------------------------------------------------------------------------------------


def test_a_page_as_markdown() -> None:
    assert to_markdown(PAGE) == (
        "# Annual account\n\n"
        "**Nina Berg** paid $12.50 for the garden.\n\n"
        "<table>\n<tr><th>Item</th><th>Cost</th></tr>\n<tr><td>spade</td><td>7 &amp; 8</td></tr>\n"
        "<tr><td>rake</td><td>41</td></tr>\n</table>"
    )


@pytest.mark.parametrize(
    "text", ['say "yes" \\ no', "#let x = 1", "$a_b$ *c* _d_ `e`", "// not a comment", "@ref <tag> ~"]
)
def test_any_text_reaches_the_page_as_it_is(text: str) -> None:
    source = Source(
        blocks=(Paragraph(runs=(Run(text=text),)), Paragraph(runs=(Run(text=text, bold=True),))), style=STYLE
    )
    with pdfium.PdfDocument(typeset([source])) as document:
        shown = document[0].get_textpage().get_text_bounded()
    assert "".join(shown.split()) == 2 * "".join(text.split())


def test_a_page_that_does_not_fit_is_noticed() -> None:
    many = Source(blocks=(PAGE.blocks[1],) * 40, style=STYLE)
    assert fits(PAGE)
    assert not fits(many)
    with pytest.raises(OverflowError, match="2 pages came out as"):
        typeset([PAGE, many])


def test_header_and_footer_stand_on_the_page_and_not_in_the_reference() -> None:
    with pdfium.PdfDocument(typeset([PAGE])) as document:
        shown = document[0].get_textpage().get_text_bounded()
    for edge in ("Town of Hill", "17"):
        assert edge in shown
        assert edge not in to_markdown(PAGE)


@pytest.mark.parametrize("font", [*SEEN_FONTS, *UNSEEN_FONTS])
def test_every_typeface_is_there(font: str) -> None:
    # Typst is told not to fall back, so a missing typeface leaves the page without letters.
    style = Style(width=224, height=60, margin=8, font=font, size=14, leading=0.5)
    with pdfium.PdfDocument(typeset([Source(blocks=(Heading(text="Quartz 59"),), style=style)])) as document:
        assert document[0].get_textpage().get_text_bounded() == "Quartz 59"


# --- the same again ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_document_depends_on_kind_seed_and_index_alone(kind: str) -> None:
    first = make_document(kind, 1, 2, 2)
    assert make_document(kind, 1, 2, 2) == first
    for other in (make_document(kind, 2, 2, 2), make_document(kind, 1, 3, 2)):
        assert other.references != first.references
        assert other.pdf != first.pdf


@pytest.mark.parametrize("kind", KINDS)
def test_no_clock_time_stands_in_a_pdf(kind: str) -> None:
    # Page ids come from the file's bytes; with a date in it, the same seed would give other ids a second later.
    pdf = make_document(kind, 1, 0, 1).pdf
    assert not re.search(rb"CreationDate|ModDate|CreateDate|ModifyDate", pdf)


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


# --- the tests of a page ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reading", ["strict", "compatible"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_page_passes_its_own_tests(documents: dict[str, Document], kind: str, reading) -> None:
    document = documents[kind]
    for number, reference in enumerate(document.references, 1):
        tests = of_page(document, number)
        verdicts = judge([load_check(test) for test in tests], reference, reading)
        failed = [(test, verdict.why) for test, verdict in zip(tests, verdicts, strict=True) if not verdict.passed]
        assert not failed


def swapped_halves(text: str) -> str:
    blocks = text.split("\n\n")
    return "\n\n".join(blocks[len(blocks) // 2 :] + blocks[: len(blocks) // 2])


def other_digits(text: str) -> str:
    return re.sub(r"\d", lambda digit: str((int(digit[0]) + 3) % 10), text)


# What is done to the text, the type of test that must notice, and on what share of the pages at least: order tests
# pick two snippets and table tests two cells, so a damage can miss them on single pages.
DAMAGES: dict[str, tuple[Callable[[str], str], str, float]] = {
    "nothing written": (lambda text: "", "baseline", 1.0),
    "reversed": (lambda text: text[::-1], "present", 1.0),
    "every third letter": (lambda text: re.sub(r"(\w\w)\w", r"\1", text), "present", 1.0),
    "halves swapped": (swapped_halves, "order", 0.2),
    "a tail that repeats": (lambda text: text + " so" * 50, "baseline", 1.0),
    "Chinese at the end": (lambda text: text + " 结束", "baseline", 1.0),
    "tables as lines": (lambda text: re.sub(r"</?(table|tr|th|td)>", " ", text), "table", 1.0),
    "other digits": (other_digits, "table", 0.7),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", ["nano", "notice", "report"])
def test_a_damaged_reference_fails(documents: dict[str, Document], kind: str, damage: str) -> None:
    spoil, type_, share = DAMAGES[damage]
    noticed = []
    for number, reference in enumerate(documents[kind].references, 1):
        tests = [test for test in of_page(documents[kind], number) if test["type"] == type_]
        if tests and reference and spoil(reference) != reference:
            noticed.append(not all(passed(tests, spoil(reference), "strict")))
    assert noticed, "no page has such a test"
    assert sum(noticed) >= share * len(noticed), f"{sum(noticed)} of {len(noticed)} pages noticed"


@pytest.mark.parametrize("kind", ["nano", "notice", "report"])
def test_a_running_header_in_the_transcript_fails_the_absent_test(documents: dict[str, Document], kind: str) -> None:
    document = documents[kind]
    absent = [test for test in document.tests if test["type"] == "absent"]
    assert absent
    for test in absent:
        reference = document.references[test["page"] - 1]
        assert passed([test], f"{test['text']}\n\n{reference}", "strict") == [False]


@pytest.mark.parametrize(
    ("kind", "types"),
    [
        ("lines", {"present", "order", "baseline"}),
        ("nano", {"present", "absent", "order", "table", "math", "format", "baseline"}),
        ("notice", {"present", "absent", "order", "table", "format", "baseline"}),
        ("report", {"present", "absent", "order", "table", "format", "baseline"}),
    ],
)
def test_tests_of_every_type_are_mined(documents: dict[str, Document], kind: str, types: set[str]) -> None:
    assert {test["type"] for test in documents[kind].tests} == types
    ids = [test["id"] for test in documents[kind].tests]
    assert len(set(ids)) == len(ids)


def mined(source: Source, seed: int = 0) -> list[dict]:
    return mine(source, pdf="a.pdf", number=4, rng=Random(seed))


def test_a_page_is_mined_in_order_with_ids_of_its_own() -> None:
    tests = mined(PAGE)
    assert [test["id"] for test in tests][-1] == "a_p4_baseline2"
    assert {(test["pdf"], test["page"]) for test in tests} == {("a.pdf", 4)}
    assert [test["text"] for test in tests if test["type"] == "absent"] == ["Town of Hill"]  # "17" is too short
    assert {test["cell"] for test in tests if test["type"] == "table"} == {"7 & 8", "41"}


def test_a_snippet_that_stands_twice_gives_no_test() -> None:
    twice = Paragraph(runs=(Run(text="the same words again"),))
    assert {test["type"] for test in mined(Source(blocks=(twice, twice), style=STYLE))} == {"baseline"}


def test_a_running_header_that_is_part_of_the_text_gives_no_test() -> None:
    source = Source(blocks=(Heading(text="Town of hill and dale"),), style=STYLE, header="Town of Hill")
    assert "absent" not in {test["type"] for test in mined(source)}


def test_a_blank_page_must_stay_blank() -> None:
    blank = Source(blocks=(), style=STYLE, header="Town of Hill")
    tests = mined(blank)
    assert [(test["type"], test.get("max_length")) for test in tests] == [("absent", None), ("baseline", 0)]
    for reading in ("strict", "compatible"):
        assert passed(tests, to_markdown(blank), reading) == [True, True]
        assert passed(tests, "Town of Hill", reading) == [False, False]


def test_a_page_of_punctuation_has_no_baseline_test() -> None:
    assert mined(Source(blocks=(Paragraph(runs=(Run(text="?!"),)),), style=STYLE)) == []


def test_blank_pages_come_up() -> None:
    rng = Random(0)
    share = sum(not KINDS["nano"](rng).blocks for _ in range(2000)) / 2000
    assert 0.015 < share < 0.05  # drawn with probability 0.03


# --- kinds ------------------------------------------------------------------------------------------------------------


def test_kinds_keep_to_their_shape() -> None:
    rng = Random(1)
    for _ in range(200):
        assert 1 <= len(to_markdown(KINDS["chars"](rng))) <= 8
        assert len(KINDS["line"](rng).blocks) == 1
        assert len(KINDS["lines"](rng).blocks) in (2, 3, 4, 5)
        assert KINDS["notice"](rng).style.font in UNSEEN_FONTS
        for kind in set(KINDS) - {"notice"}:
            assert KINDS[kind](rng).style.font in SEEN_FONTS


@pytest.mark.parametrize("kind", ["chars", "line", "lines"])
def test_a_lesson_has_something_to_read(documents: dict[str, Document], kind: str) -> None:
    # What does not fit is left out from the end; of a page with one line nothing would be left.
    references = documents[kind].references
    assert sum(not reference for reference in references) <= 0.05 * len(references)


def test_cells_of_a_table_are_distinct() -> None:
    rng = Random(2)
    tables = [block for _ in range(100) for block in KINDS["nano"](rng).blocks if isinstance(block, Table)]
    assert tables
    for table in tables:
        cells = [cell for row in table.rows for cell in row]
        assert len(set(cells)) == len(cells)


def test_words_are_as_long_as_asked() -> None:
    rng = Random(3)
    assert all(len(words.word(rng, 5)) <= 5 for _ in range(200))
    assert all(2 <= len(words.gibberish(rng, 2, 7)) <= 7 for _ in range(200))


def test_a_page_in_other_words_is_the_same_page_in_other_words() -> None:
    known = {word.lower() for word in (*words.WORDS, *words.FIRST_NAMES, *words.LAST_NAMES)}
    written = lambda text: set(re.findall(r"\b[a-z]{2,}\b", text.lower()))
    source = in_other_words(PAGE, "latin", Random(0))
    assert written(to_markdown(PAGE)) & known
    said = to_markdown(source) + (source.header or "")
    assert len(written(said)) > 9 and not (written(said) - {"table", "tr", "th", "td"}) & known
    assert [type(block) for block in source.blocks] == [type(block) for block in PAGE.blocks]
    assert "$12.50" in said and "7 &amp; 8" in said and source.footer == "17"
    assert re.match(r"# [A-Z][a-z]+ [a-z]+\n", said)  # capitals stay where they were


def test_about_half_of_the_words_are_invented_and_all_of_about_their_length() -> None:
    text = " ".join(words.WORDS)
    pairs = list(zip(text.split(), words.in_other_words(text, "invented", Random(0)).split(), strict=True))
    assert all(abs(len(before) - len(after)) <= 1 for before, after in pairs)
    new = [after for before, after in pairs if before != after]
    assert 0.4 < len(new) / len(pairs) < 0.6
    assert sum(word in words.WORDS for word in new) < 0.1 * len(new)  # what is invented is hardly ever a word


@pytest.mark.parametrize("which", ["invented", "latin"])
def test_pages_in_other_words_pass_their_own_tests(which: Literal["invented", "latin"]) -> None:
    document = make_document("nano", 11, 0, 20, Looks(words=which))
    for number, text in enumerate(document.references, 1):
        assert all(passed(of_page(document, number), text, "strict"))


def test_a_notice_holds_only_a_scanned_image(documents: dict[str, Document]) -> None:
    with pdfium.PdfDocument(documents["notice"].pdf) as scan, pdfium.PdfDocument(documents["nano"].pdf) as typed:
        assert len(scan) == PAGES["notice"]
        assert scan[0].get_textpage().get_text_bounded() == ""
        assert typed[0].get_textpage().get_text_bounded() != ""
        assert scan[0].get_size() == typed[0].get_size() == (280, 224)


def test_a_third_of_the_embedded_policys_documents_is_lightly_scanned() -> None:
    pdfs = [make_document("nano", 5, index, 1).pdf for index in range(30)]
    scans = sum(not pdfium.PdfDocument(pdf)[0].get_textpage().get_text_bounded() for pdf in pdfs)
    assert 4 <= scans <= 16


def test_a_scan_is_seeded_and_changes_nothing_at_strength_0() -> None:
    image = render_bytes(typeset([PAGE]), 1, 224)
    scans = [np.asarray(looks.scan(image, np.random.default_rng(seed))) for seed in (1, 1, 2)]
    assert np.array_equal(scans[0], scans[1])
    assert not np.array_equal(scans[0], scans[2])
    assert np.array_equal(np.asarray(looks.scan(image, np.random.default_rng(1), 0)), np.asarray(image))
    drift = np.abs(scans[0].astype(float) - np.asarray(image, float)).mean()
    assert 1 < drift < 60  # visible, and still the same page


def test_an_image_pdf_keeps_size_and_pages() -> None:
    pdf = looks.image_pdf([Image.new("RGB", (448, 336), "white"), Image.new("RGB", (448, 336), "black")], 144)
    with pdfium.PdfDocument(pdf) as document:
        assert [page.get_size() for page in document] == [(224, 168), (224, 168)]
    assert np.asarray(render_bytes(pdf, 2, 64)).max() < 10


# --- datasets ---------------------------------------------------------------------------------------------------------


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
    made = make_dataset("line", n=2, seed=5, out=tmp_path)
    assert next(made) == 1
    assert not list(tmp_path.glob("*.jsonl"))
    assert [*made] == [2]
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


def test_typst_source_has_one_page_each() -> None:
    assert to_typst([PAGE, PAGE]).count("#page(") == 2


def test_a_half_written_folder_of_a_recipe_is_written_again(tmp_path: Path) -> None:
    from ocr_rl.config import Typeset
    from ocr_rl.pages.source import open_pages

    source = Typeset(synth="nano", n=3, seed=5, pages_per_document=2)
    pages = open_pages(source, tmp_path)
    (written,) = tmp_path.glob("*/nano.jsonl")
    tests = written.read_text()
    written.rename(written.with_suffix(".jsonl.part"))
    next((written.parent / "pdfs").glob("*_00001.*")).unlink()
    assert open_pages(source, tmp_path) == pages
    assert written.read_text() == tests
