"""Unit tests of small synthetic pages tell a true transcript from a damaged one."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

import pytest

from ocr_rl.pages.synth.compose import KINDS
from ocr_rl.pages.synth.document import Display, Heading, Paragraph, Run, Source, Table, to_markdown
from ocr_rl.pages.synth.make import Document
from ocr_rl.pages.synth.source_tests import source_tests
from ocr_rl.text.checks import judge, load_check
from tests.pages.small_pages import PAGE, PAGES, STYLE, document_of, of_page, passed


@pytest.fixture(scope="module")
def documents() -> dict[str, Document]:
    return {kind: document_of(kind) for kind in PAGES}


@pytest.mark.parametrize("reading", ["strict", "compatible"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_page_passes_its_own_tests(documents: dict[str, Document], kind: str, reading) -> None:
    document = documents[kind]
    for number, reference in enumerate(document.references, 1):
        # The compatible reading counts markup, so that a limit on what is seen is none for it.
        tests = [test for test in of_page(document, number) if reading == "strict" or "max_length" not in test]
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
    return source_tests(source, pdf="a.pdf", number=4, rng=Random(seed))


def test_a_page_is_mined_in_order_with_ids_of_its_own() -> None:
    tests = mined(PAGE)
    assert [test["id"] for test in tests if test["type"] == "baseline"] == ["a_p4_baseline1", "a_p4_baseline2"]
    assert {(test["pdf"], test["page"]) for test in tests} == {("a.pdf", 4)}
    assert [test["text"] for test in tests if test["type"] == "absent"] == ["Town of Hill"]  # "17" is too short
    assert {test["cell"] for test in tests if test["type"] == "table"} == {"7 & 8", "41", "Item"}


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


def test_a_page_of_punctuation_has_only_its_text_and_a_limit() -> None:
    tests = mined(Source(blocks=(Paragraph(runs=(Run(text="?!"),)),), style=STYLE))
    assert [(test["type"], test.get("text"), test.get("max_length")) for test in tests] == [
        ("baseline", None, 5),
        ("present", "?!", None),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_word_cell_and_formula_is_asked_for(kind: str) -> None:
    for seed in range(30):
        source = KINDS[kind](Random(seed))
        text = to_markdown(source).replace("**", "")
        tests = mined(source)
        asked = {
            test["type"]: {value for t in tests if t["type"] == test["type"] for value in t.values()} for test in tests
        }
        for block in source.blocks:
            if isinstance(block, Table):
                assert {cell for row in block.rows for cell in row} <= asked["table"]
            elif isinstance(block, Display):
                assert block.latex in asked["math"]
            elif text.count(block.text) == 1 and kind not in ("chars", "line", "lines"):  # these draw Markdown's marks
                pieces = [piece for piece in asked["present"] if isinstance(piece, str) and piece in block.text]
                assert all(any(word in piece for piece in pieces) for word in block.text.split())


def test_no_two_tests_of_a_page_are_equal() -> None:
    for kind in KINDS:
        for seed in range(30):
            tests = [
                {key: value for key, value in test.items() if key != "id"} for test in mined(KINDS[kind](Random(seed)))
            ]
            assert all(test not in tests[:k] for k, test in enumerate(tests))


@pytest.mark.parametrize("kind", ["nano", "notice", "report"])
def test_no_block_can_be_left_out_for_free(documents: dict[str, Document], kind: str) -> None:
    for number, reference in enumerate(documents[kind].references, 1):
        blocks = reference.split("\n\n") if reference else []
        for k in range(len(blocks)):
            rest = "\n\n".join(blocks[:k] + blocks[k + 1 :])
            assert not all(passed(of_page(documents[kind], number), rest, "strict")), blocks[k]


def test_blank_pages_come_up() -> None:
    rng = Random(0)
    share = sum(not KINDS["nano"](rng).blocks for _ in range(2000)) / 2000
    assert 0.015 < share < 0.05  # drawn with probability 0.03
