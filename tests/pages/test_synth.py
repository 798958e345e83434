"""Small synthetic pages: the printers, the same bytes for the same seed, and what the kinds hold."""

from __future__ import annotations

import re
from random import Random
from typing import Literal

import numpy as np
import pypdfium2 as pdfium
import pytest
from PIL import Image

from ocr_rl.pages.raster import render_bytes
from ocr_rl.pages.synth import looks, words
from ocr_rl.pages.synth.compose import KINDS, SEEN_FONTS, UNSEEN_FONTS, in_other_words
from ocr_rl.pages.synth.document import Heading, Paragraph, Run, Source, Style, Table, to_markdown, to_typst
from ocr_rl.pages.synth.make import Document, Looks, make_document
from ocr_rl.pages.synth.typeset import fits, typeset
from tests.pages.small_pages import PAGE, PAGES, STYLE, document_of, of_page, passed


@pytest.fixture(scope="module")
def documents() -> dict[str, Document]:
    return {kind: document_of(kind) for kind in PAGES}


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


def test_typst_source_has_one_page_each() -> None:
    assert to_typst([PAGE, PAGE]).count("#page(") == 2


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
    usual = {word.lower() for word in (*words.WORDS, *words.FIRST_NAMES, *words.LAST_NAMES)}
    written = lambda text: set(re.findall(r"\b[a-z]{2,}\b", text.lower()))
    source = in_other_words(PAGE, "latin", Random(0))
    assert written(to_markdown(PAGE)) & usual
    markdown = to_markdown(source) + (source.header or "")
    assert len(written(markdown)) > 9 and not (written(markdown) - {"table", "tr", "th", "td"}) & usual
    assert [type(block) for block in source.blocks] == [type(block) for block in PAGE.blocks]
    assert "$12.50" in markdown and "7 &amp; 8" in markdown and source.footer == "17"
    assert re.match(r"# [A-Z][a-z]+ [a-z]+\n", markdown)  # capitals stay where they were


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
