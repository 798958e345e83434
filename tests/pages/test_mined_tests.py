"""Tests that are mined from transcripts and text layers: they hold, and they cover the page."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest

from ocr_rl.pages.layer_cells import cells
from ocr_rl.pages.layer_tests import _runs, layer_tests
from ocr_rl.pages.mined_tests import markdown_tests
from ocr_rl.pages.reading_order import Line
from ocr_rl.pages.synth.make import make_document
from ocr_rl.pages.text_layer import Layer, layers
from ocr_rl.text.checks import load_check, prepare


@pytest.mark.parametrize("kind", ["paper", "office", "ledger", "exercises", "form", "references"])
def test_no_block_of_a_transcript_can_be_left_out_for_free(kind: str) -> None:
    reference = make_document(kind, 4, 1, 1).references[0]
    checks = [load_check(test) for test in markdown_tests(reference, "a.pdf", 1, Random(0))]
    assert all(check.run(prepare(reference), "strict").passed for check in checks)
    blocks = reference.split("\n\n")
    rests = (prepare("\n\n".join(blocks[:k] + blocks[k + 1 :])) for k in range(len(blocks)))
    free = sum(all(check.run(rest, "strict").passed for check in checks) for rest in rests)
    assert free <= 1 + 0.05 * len(blocks)  # text that nearly stands elsewhere, too, cannot be asked for


def test_a_transcript_gives_each_test_once_and_asks_for_cells_and_order() -> None:
    table = "| Name | Sum |\n|---|---|\n| Torvik | 45.10 |\n| Alness | 17.30 |"
    tests = markdown_tests(f"# The harbour\n\n{table}\n\nNobody came, and $a^2 = b$.", "a.pdf", 1, Random(0))
    asked = {value for test in tests if test["type"] == "table" for value in test.values()}
    assert {"Name", "Sum", "Torvik", "45.10", "Alness", "17.30"} <= asked
    assert [(test["before"], test["after"]) for test in tests if test["type"] == "order"] == [
        ("The harbour", "Name"),
        ("17.30", "Nobody came, and"),
    ]
    assert [test["math"] for test in tests if test["type"] == "math"] == ["a^2 = b"]


def test_what_a_layer_writes_between_cells_and_formulas_is_not_asked_for() -> None:
    words = ["Mosaic", "floor", "November", "September", "Domestic"]
    boxes = tuple((60.0 * k, 0.0, 60.0 * k + 46, 8.0) for k in range(5))
    row = Line(text=" ".join(words), left=0, bottom=0, right=286, top=8, words=boxes)
    assert [run for run, _ in _runs(row) if len(run) > 1] == []
    prose = "Where the value 𝑥 stands for all that they owed"
    close = tuple((60.0 * k, 0.0, 60.0 * k + 58, 8.0) for k in range(10))
    line = Line(text=prose, left=0, bottom=0, right=600, top=8, words=close)
    assert [run for run, _ in _runs(line)] == [
        ["Where", "the", "value"],
        ["stands", "for", "all", "that", "they", "owed"],
    ]


def test_a_foreign_name_is_no_fault_of_an_english_page() -> None:
    words = tuple((72.0 + 40 * k, 500.0, 108.0 + 40 * k, 510.0) for k in range(12))
    text = "The committee thanked Mr 北 for the many years of his work"
    line = Line(text=text, left=72, bottom=500, right=540, top=510, words=words)
    tests = layer_tests(Layer(number=1, lines=(line,), height=792), "a.pdf", Random(0))
    (baseline,) = [test for test in tests if test["type"] == "baseline" and "max_length" not in test]
    assert baseline["check_disallowed_characters"] is False


@pytest.mark.parametrize("kind", ["ledger", "office"])
def test_no_table_of_a_text_layer_can_be_left_out_for_free(kind: str, tmp_path: Path) -> None:
    document = make_document(kind, 0, 0, 1)
    (tmp_path / "a.pdf").write_bytes(document.pdf)
    (layer,) = layers(tmp_path / "a.pdf")
    checks = [load_check(test) for test in layer_tests(layer, "a.pdf", Random(0))]
    truth = document.references[0]
    assert all(check.run(prepare(truth), "strict").passed for check in checks)
    rest = prepare(re.sub("<table>.*?</table>", "", truth, flags=re.DOTALL))
    assert sum(check.run(rest, "strict").passed for check in checks) < 0.7 * len(checks)
    for table in re.findall("<table>.*?</table>", truth, flags=re.DOTALL):
        rest = prepare(truth.replace(table, ""))
        lost = sum(not check.run(rest, "strict").passed for check in checks)
        assert lost >= 0.5 * table.count("<tr>")


def _row(*texts: str, y: float, lefts: tuple[float, ...] = (72, 200, 300), raised: str = "") -> list[Line]:
    """A line for each cell; the words of a cell are 6 pt a letter, with 3 pt between them."""
    row = []
    for text, left in zip(texts, lefts, strict=False):
        boxes, at = [], left
        for word in text.split():
            boxes.append((at, y, at + 6.0 * len(word), y + 8))
            at += 6.0 * len(word) + 3
        odd = tuple(word == raised for word in text.split())
        right, words = boxes[-1][2], tuple(boxes)
        row.append(Line(text=text, left=left, bottom=y, right=right, top=y + 8, words=words, odd=odd))
    return row


def _cells(*rows: list[Line]) -> set[str]:
    lines = [line for row in rows for line in row]
    return set(cells(lines, " ".join(line.text for line in lines), 40, Random(0)))


def test_cells_are_plain_words_and_figures_that_stand_once() -> None:
    table = (
        _row("Harbour dues", "1,204.50", "(38.70)", y=500),
        _row("Fog signal", "$7,113", "12.04.2031", y=488),
        _row("Winter coal", "5.12", "12.04.2031", y=476),
        _row("Fog bell", "61.5%", "12.34", y=464, raised="12.34"),
    )
    asked_for = {"Harbour dues", "1,204.50", "38.70", "Fog signal", "7,113", "Winter coal", "5.12", "Fog bell", "61.5%"}
    assert _cells(*table) == asked_for
    assert _cells(*table[:2]) == set()  # two rows may be anything
    apart = [_row("Harbour dues", "1,204.50", y=700 - 90.0 * k) for k in range(4)]
    assert _cells(*apart) == set()


def test_prose_in_columns_and_the_ticks_of_charts_have_no_cells() -> None:
    prose = (
        ("Every keeper wrote down what ships", "while snow covered their nets and"),
        ("brought across after autumn gales", "lamps burned through longest nights"),
        ("because nobody trusted old charts", "until spring loosened harbour ice"),
    )
    columns = [_row(*words, y=500 - 12.0 * k, lefts=(72, 400)) for k, words in enumerate(prose)]
    assert _cells(*columns) == set()
    ticks = [_row(f"{k}150", f"{k}275", y=500 - 12.0 * k, lefts=(72, 400)) for k in range(1, 6)]
    assert _cells(*ticks) == set()


def test_a_page_that_is_a_table_alone_is_asked_for_its_cells() -> None:
    names = ("Torvik", "Alness", "Northport")
    rows = [_row(name, f"{k}7.30", y=500 - 12.0 * k) for k, name in enumerate(names, 1)]

    def asked(rows: list[list[Line]]) -> set[str]:
        layer = Layer(number=1, lines=tuple(line for row in rows for line in row), height=792)
        return {test["text"] for test in layer_tests(layer, "a.pdf", Random(0)) if test["type"] == "present"}

    assert asked(rows) == {*names, "17.30", "27.30", "37.30"}
    assert asked([_row("Tip", figure, y=500 - 12.0 * k) for k, figure in enumerate(("10", "200", "11"))]) == set()
