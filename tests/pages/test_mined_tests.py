"""Tests that are mined from transcripts and text layers: they hold, and they cover the page."""

from __future__ import annotations

from random import Random

import pytest

from ocr_rl.pages.layer_tests import _runs, layer_tests
from ocr_rl.pages.mined_tests import markdown_tests
from ocr_rl.pages.reading_order import Line
from ocr_rl.pages.synth.make import make_document
from ocr_rl.pages.text_layer import Layer
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
    assert [run for run in _runs(row) if len(run) > 1] == []
    prose = "Where the value 𝑥 stands for all that they owed"
    close = tuple((60.0 * k, 0.0, 60.0 * k + 58, 8.0) for k in range(10))
    line = Line(text=prose, left=0, bottom=0, right=600, top=8, words=close)
    assert list(_runs(line)) == [["Where", "the", "value"], ["stands", "for", "all", "that", "they", "owed"]]


def test_a_foreign_name_is_no_fault_of_an_english_page() -> None:
    words = tuple((72.0 + 40 * k, 500.0, 108.0 + 40 * k, 510.0) for k in range(12))
    text = "The committee thanked Mr 北 for the many years of his work"
    line = Line(text=text, left=72, bottom=500, right=540, top=510, words=words)
    tests = layer_tests(Layer(number=1, lines=(line,), height=792), "a.pdf", Random(0))
    (baseline,) = [test for test in tests if test["type"] == "baseline" and "max_length" not in test]
    assert baseline["check_disallowed_characters"] is False
