"""Full pages: two printers of one tree, and tests that are true of the page and false of one with another fact."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pypdfium2 as pdfium
import pytest

from ocr_rl.pages.synth.make import make_document
from ocr_rl.pages.synth.sheets import formula, prose
from ocr_rl.pages.synth.sheets.make import SHEET_KINDS, SheetDocument, make
from ocr_rl.pages.synth.sheets.printers import to_front_matter, to_markdown
from ocr_rl.pages.synth.sheets.sheet_tests import sheet_tests
from ocr_rl.pages.synth.sheets.tree import Cell, Grid, Heading, Look, Mark, Math, Para, Sheet, Text, parts_of, placed
from ocr_rl.pages.synth.typeset import compiled
from ocr_rl.text.checks import load_check, prepare
from ocr_rl.text.math_render import render

LOOK = Look(width=612, height=792, margin=60, font="Libertinus Serif", size=10)


@pytest.fixture(scope="module")
def documents() -> dict[str, SheetDocument]:
    return {kind: make(kind, Random(f"t/{kind}"), 2, "a.pdf") for kind in SHEET_KINDS}


@pytest.mark.parametrize("kind", SHEET_KINDS)
def test_a_document_depends_on_its_arguments_alone(kind: str) -> None:
    assert make_document(kind, 3, 1, 2) == make_document(kind, 3, 1, 2)
    if kind != "blank":
        assert make_document(kind, 3, 1, 1).references != make_document(kind, 3, 2, 1).references


@pytest.mark.parametrize("kind", SHEET_KINDS)
def test_every_test_is_true_and_fails_where_its_fact_is_another(documents: dict[str, SheetDocument], kind: str) -> None:
    document = documents[kind]
    assert document.facts
    for fact in document.facts:
        check = load_check(fact.test)
        right, wrong = to_markdown(document.sheets[check.page - 1]), to_markdown(fact.wrong())
        assert check.run(prepare(right), "strict").passed, fact.test
        # The compatible reading counts markup, so that a limit on what is seen is none for it.
        assert "max_length" in fact.test or check.run(prepare(right), "compatible").passed, fact.test
        assert not check.run(prepare(wrong), "strict").passed, fact.test


def test_all_eight_types_are_mined() -> None:
    documents = [make("mixed", Random(k), 1, "a.pdf") for k in range(40)]
    types = {fact.test["type"] for document in documents for fact in document.facts}
    assert types == {"present", "absent", "order", "table", "math", "baseline", "format", "footnote"}


@pytest.mark.parametrize("kind", sorted(set(SHEET_KINDS) - {"blank", "mixed"}))
def test_the_words_of_the_reference_stand_on_the_page(documents: dict[str, SheetDocument], kind: str) -> None:
    document = documents[kind]
    with pdfium.PdfDocument(document.pdf) as opened:
        shown = "".join(opened[0].get_textpage().get_text_range().split()).replace("\ufffe", "")
    pieces = [word for text in parts_of(document.sheets[0].body, Text) for word in text.text.split()]
    # Ligatures, hyphenation and Thai's combining marks come out of a text layer differently.
    num_shown = sum(piece in shown for piece in pieces)
    assert num_shown >= (0.6 if document.sheets[0].look.language in ("th", "ja") else 0.85) * len(pieces)


def test_formulas_can_be_typeset_and_rendered() -> None:
    rng = Random(4)
    trees = [formula.display(rng) for _ in range(60)] + [formula.inline(rng) for _ in range(40)]
    for tree in trees:
        assert render(formula.to_latex(tree)) is not None, formula.to_latex(tree)
    _, pages = compiled("\n\n".join(f"$ {formula.to_typst(tree)} $" for tree in trees))
    assert pages >= 1


def test_another_symbol_is_one_symbol() -> None:
    rng = Random(5)
    for _ in range(50):
        drawn = formula.display(rng)
        other = formula.with_another_symbol(drawn, rng)
        if other is not None:
            pairs = zip(formula.leaves(drawn), formula.leaves(other), strict=True)
            assert sum(a != b for a, b in pairs) == 1


def test_a_spanning_cell_stands_at_all_its_places() -> None:
    cell = lambda text, **spans: Cell(text=Text(text=text), **spans)
    grid = Grid(rows=((cell("a", rows=2), cell("b", cols=2)), (cell("c"), cell("d"))), columns=3, look="ruled")
    words = {place: held.text.text for place, held in placed(grid).items()}
    assert words == {(0, 0): "a", (1, 0): "a", (0, 1): "b", (0, 2): "b", (1, 1): "c", (1, 2): "d"}
    assert '<td rowspan="2">a</td><td colspan="2">b</td>' in to_markdown(Sheet(blocks=(grid,), look=LOOK))


def page(*blocks, **more) -> Sheet:
    return Sheet(blocks=blocks, look=LOOK, **more)


def types_of(sheet: Sheet, seed: int = 0) -> set[str]:
    return {fact.test["type"] for fact in sheet_tests(sheet, pdf="a.pdf", number=1, rng=Random(seed))}


def test_what_stands_twice_or_nearly_twice_gives_no_test() -> None:
    twice = page(
        Para(runs=(Text(text="The eastern quay wall was inspected in May"),)),
        Para(runs=(Text(text="The eastern quay wall was inspected in Mai"),)),
    )
    for seed in range(20):
        assert not types_of(twice, seed) & {"present", "order"}


@pytest.mark.parametrize("kind", sorted(set(SHEET_KINDS) - {"blank"}))
def test_no_block_can_be_left_out_for_free(documents: dict[str, SheetDocument], kind: str) -> None:
    document = documents[kind]
    checks = [check for check in (load_check(fact.test) for fact in document.facts) if check.page == 1]
    sheet = document.sheets[0]
    free = 0
    for k in range(len(sheet.blocks)):
        rest = prepare(to_markdown(replace(sheet, blocks=sheet.blocks[:k] + sheet.blocks[k + 1 :])))
        free += all(check.run(rest, "strict").passed for check in checks)
    assert free <= 1 + 0.05 * len(sheet.blocks)  # a heading whose words nearly stand elsewhere cannot be asked for


def test_cells_of_a_table_are_asked_once_each() -> None:
    cells = [[Cell(text=Text(text=f"cell {r}/{c}"), head=r == 0) for c in range(5)] for r in range(12)]
    sheet = page(Grid(rows=tuple(map(tuple, cells)), columns=5, look="ruled"))
    tests = [fact.test for fact in sheet_tests(sheet, pdf="a.pdf", number=1, rng=Random(1))]
    asked = {value for test in tests if test["type"] == "table" for value in test.values() if value != "table"}
    assert {cell.text.text for row in cells for cell in row} <= asked
    assert sum(test["type"] == "table" for test in tests) <= 40


def test_a_heading_that_is_the_running_header_gives_no_test() -> None:
    sheet = page(Heading(text=Text(text="Annual report of Torvik"), level=1), header=("Annual report of Torvik", ""))
    assert types_of(sheet) == {"baseline"}


def test_a_footnote_is_printed_at_its_mark_and_at_the_end() -> None:
    mark = Mark(number=4, note=(Text(text="So the clerk."),))
    sheet = page(Para(runs=(Text(text="The levy rose."), mark, Text(text="Nobody knew."))))
    assert to_markdown(sheet) == "The levy rose.[^4] Nobody knew.\n\n[^4]: So the clerk."


def test_a_square_metre_is_no_footnote_marker() -> None:
    mark = Mark(number=2, note=(Text(text="So the clerk."),))
    levy, field = (Text(text="The levy rose for the third time."), Text(text="The field has 54.8 m² of clay."))
    assert "footnote" in types_of(page(Para(runs=(levy, mark))))
    assert "footnote" not in types_of(page(Para(runs=(levy, mark, field))))


def test_math_has_its_delimiters_and_its_number() -> None:
    drawn = formula.Node("frac", (formula.Leaf("x", "x"), formula.Leaf("2", "2")))
    assert to_markdown(page(Math(formula=drawn, number="3"))) == r"\[ \frac{x}{2} \tag{3} \]"


def test_front_matter_tells_how_a_page_lies() -> None:
    sheet = page(Heading(text=Text(text="Torvik"), level=1))
    turned = replace(sheet, look=replace(LOOK, rotated=90, language="de"))
    assert to_front_matter(sheet).is_rotation_valid
    front = to_front_matter(turned)
    assert (front.is_rotation_valid, front.rotation_correction, front.primary_language) == (False, 90, "de")
    assert to_front_matter(page()).primary_language is None


@pytest.mark.parametrize("language", prose.LANGUAGES)
def test_every_language_has_its_letters(language: str) -> None:
    # Typst is told not to fall back, so a letter that the typeface lacks leaves a box or nothing in the text layer.
    text = prose.foreign(Random(1), language, 30)
    look = replace(LOOK, font=prose.LANGUAGES[language][1] or "Libertinus Serif", language=language)
    from ocr_rl.pages.synth.sheets.printers import to_typst

    pdf, _ = compiled(to_typst([Sheet(blocks=(Para(runs=(Text(text=text),)),), look=look)]))
    with pdfium.PdfDocument(pdf) as document:
        shown = set(document[0].get_textpage().get_text_range())
    missing = set(text) - shown - set(" ﬁﬂ")
    assert len(missing) <= 0.1 * len(set(text)), missing
