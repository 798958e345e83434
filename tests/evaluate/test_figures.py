"""Figures of page results, by hand: means, paired changes, tallies."""

from __future__ import annotations

import pytest

from ocr_rl.contract import UserError
from ocr_rl.evaluate.figures import compare, summary, tallies
from tests.evaluate.rows import row


def test_summary_by_hand():
    rows = [
        row("a:p1", [True, True, False, False], bleu=0.5),
        row("b:p1", [True], "table", finish="length", num_tokens=30),
        row("c:p1", []),
    ]
    figures = summary(rows, draws=100)
    means = {name: interval.mean for name, interval in figures.metrics.items()}
    assert (figures.pages, figures.tests, figures.transcripts) == (3, 5, 3)
    assert means == pytest.approx(
        {"pass_rate": 0.75, "tests": 0.6, "bleu": 0.5, "stopped": 2 / 3, "num_tokens": 50 / 3}
    )
    assert {type_: interval.mean for type_, interval in figures.by_type.items()} == {"present": 0.5, "table": 1.0}
    assert figures.metrics["pass_rate"].clusters == 2  # a page without tests has no share


def test_documents_as_clusters():
    rows = [row("a:p1", [True]), row("a:p2", [True]), row("b:p1", [False])]
    assert summary(rows, draws=50).metrics["pass_rate"].clusters == 3
    figures = summary(rows, cluster="document", draws=50).metrics["pass_rate"]
    assert figures.clusters == 2 and figures.mean == pytest.approx(2 / 3)


def test_summary_of_nothing_is_an_error():
    with pytest.raises(UserError, match="no transcripts to summarise"):
        summary([])


def test_compare_by_hand():
    before = [row(f"{n}:p1", [True, False]) for n in range(20)]
    after = [row(f"{n}:p1", [n > 0, True]) for n in range(20)]
    comparison = compare(before, after, draws=100, permutations=200)
    change = comparison.metrics["pass_rate"]
    assert change.difference.mean == pytest.approx(0.475) and change.difference.low > 0
    assert (change.fixed, change.broken) == (20, 1) and change.p < 0.01 and change.p_holm is None
    assert comparison.by_type["present"].p_holm == change.p  # one type: nothing to adjust
    assert comparison.metrics["num_tokens"].difference.mean == 0 and comparison.metrics["num_tokens"].p == 1.0
    assert "bleu" not in comparison.metrics


def test_holm_runs_over_the_types():
    before = [row(f"{n}:p1", [False], "present") for n in range(12)] + [
        row(f"{n}:p2", [False], "table") for n in range(12)
    ]
    after = [row(f"{n}:p1", [True], "present") for n in range(12)] + [
        row(f"{n}:p2", [n > 5], "table") for n in range(12)
    ]
    comparison = compare(before, after, draws=50, permutations=999).by_type
    assert comparison["present"].p_holm == pytest.approx(2 * comparison["present"].p)
    assert comparison["table"].p_holm == pytest.approx(max(comparison["table"].p, 2 * comparison["present"].p))


def test_compare_needs_the_same_pages_and_tests():
    with pytest.raises(UserError, match="the first: page b:p1, no test"):
        compare([row("a:p1", [True])], [row("a:p1", [True]), row("b:p1", [True])])
    with pytest.raises(UserError, match="the first: page a:p1, a:p1/1"):
        compare([row("a:p1", [True, True])], [row("a:p1", [True])])


def test_figures_of_one_side_only_are_left_out():
    comparison = compare([row("a:p1", [True], bleu=0.5)], [row("a:p1", [True])], draws=20, permutations=20)
    assert "bleu" not in comparison.metrics and "pass_rate" in comparison.metrics


def test_tallies_add_up_repeats():
    rows = [row("a:p1", [True, False]), row("a:p1", [True, True], repeat=2)]
    tests = tallies(rows, {"a:p1/0": "text.jsonl"})
    assert [(t.id, t.file, t.page, t.passes, t.repeats) for t in tests] == [
        ("a:p1/0", "text.jsonl", "a:p1", 2, 2),
        ("a:p1/1", "baseline", "a:p1", 1, 2),
    ]
