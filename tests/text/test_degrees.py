"""How nearly a test is passed: 1 where it passes, less the further the transcript is from it."""

from __future__ import annotations

from typing import Any

import pytest

from ocr_rl.contract import Verdict
from ocr_rl.text.checks import judge, load_check
from ocr_rl.text.formulas import likeness

PLACE = {"pdf": "a.pdf", "page": 1, "id": "a"}
TABLE = "<table><tr><td>Year<td>Sold<tr><td>1999<td>4,310</table>"


def degree(test: dict[str, Any], text: str) -> float:
    (verdict,) = judge([load_check({**PLACE, **test})], text, "strict")
    assert (verdict.degree == 1.0) == verdict.passed
    return verdict.degree


PRESENT = {"type": "present", "text": "the quick brown fox jumps"}
ORDER = {"type": "order", "before": "the quick brown fox", "after": "a lazy sleeping dog"}
CELL = {"type": "table", "cell": "4,310", "left": "1999", "top_heading": "Sold"}
NOTE = {"type": "footnote", "marker": "1", "appears_before_marker": "the quick brown fox"}
FORMULA = {"type": "math", "math": r"\frac{a+b}{c} = 12x"}


@pytest.mark.parametrize(
    ("test", "texts"),  # each text is nearer than the next, the first passes, the last is worth nothing
    [
        (
            PRESENT,
            ["the quick brown fox jumps.", "the quick brawn fox jumps.", "the quiok brawn fax jumps.", "nothing"],
        ),
        ({"type": "absent", "text": "Page 12"}, ["Text.", "Text. page 12"]),
        (
            ORDER,
            [
                "the quick brown fox and a lazy sleeping dog",
                "the quick brawn fox and a lazy sleeping dog",
                "the quick brawn fax and a lazy sleeping dog",
                "a lazy sleeping dog and the quick brown fox",
            ],
        ),
        (
            {"type": "format", "text": "Results of it", "format": "heading"},
            ["# Results of it", "# Rasults of it", "Results of it"],
        ),
        (
            {"type": "baseline", "max_length": 10},
            ["ten signs_", "ten signs and more", "ten signs and more and more", ""][:3],
        ),
        (CELL, [TABLE, TABLE.replace("1999", "1998"), TABLE.replace("1999", "x").replace("Sold", "y"), "4,310"]),
        (NOTE, ["the quick brown fox[^1]", "the quick brawn fox[^1]", "the quick brown fox"]),
        (FORMULA, [rf"\[{FORMULA['math']}\]", r"\[\frac{a+b}{c} = 13x\]", r"\[\frac{a}{c} = 13\]", "no formula"]),
    ],
)
def test_nearer_is_more(test: dict[str, Any], texts: list[str]) -> None:
    degrees = [degree(test, text) for text in texts]
    assert degrees[0] == 1.0
    assert all(a > b for a, b in zip(degrees, degrees[1:], strict=False)), degrees
    if test.get("max_length") is None:
        assert degrees[-1] == 0.0


def test_one_wrong_letter_costs_about_a_letter() -> None:
    assert degree(PRESENT, "the quick brown fix jumps") == pytest.approx(1 - 2 / 25)  # 2 of 50 edits, from half on


def test_neighbours_count_half() -> None:
    assert degree(CELL, TABLE.replace("1999", "")) == pytest.approx(0.5 + 0.5 * 0.5)
    assert degree(CELL, TABLE.replace("4,310", "")) < 0.5


def test_a_budget_falls_in_proportion() -> None:
    assert degree({"type": "baseline", "max_length": 10}, "a" * 40) == 0.25
    assert degree({"type": "baseline", "max_length": 0}, "a") == 0.0


def test_a_passed_verdict_has_degree_1() -> None:
    assert Verdict(passed=True, degree=0.2).degree == 1.0
    assert [Verdict(passed=False, degree=value).degree for value in (-1.0, 0.3, 7.0)] == [0.0, 0.3, 1.0]


@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    [
        ("x^2", "x^{2}", 1.0, 1.0),
        ("x^2", "x_2", 0.7, 0.7),  # the same letters in another structure
        ("x^2", "x^3", 0.35, 0.35),
        (r"\frac{a}{b}", "ab", 0.7, 0.7),
        ("x", r"\frac{", 0.0, 0.5),  # cannot be rendered
        ("x", "y", 0.0, 0.0),
    ],
)
def test_likeness(a: str, b: str, low: float, high: float) -> None:
    assert low - 1e-9 <= likeness(a, b) <= high + 1e-9
    assert likeness(a, b) == pytest.approx(likeness(b, a))
