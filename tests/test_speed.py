"""The cases of the speed comparison, one side timed on them, and the table of both."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.fidelity.coverage import coverage
from benchmarks.speed import cases
from benchmarks.speed.judging import collect, comparison, main, overall, ratios, speeds
from benchmarks.speed.worker import Ours, compared, judged, scored
from ocr_rl.contract import UserError


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """Two pages of two PDFs; b.pdf has no baseline test of its own and gets one."""
    tests = {
        "one.jsonl": [
            {"pdf": "a.pdf", "page": 1, "id": "a1", "type": "present", "text": "hello"},
            {"pdf": "a.pdf", "page": 1, "id": "a2", "type": "baseline"},
            {"pdf": "sub/b.pdf", "page": 2, "id": "b1", "type": "math", "math": "x^2"},
        ],
        "two.jsonl": [{"pdf": "sub/b.pdf", "page": 1, "id": "b2", "type": "table", "cell": "no"}],
    }
    for name, found in tests.items():
        (tmp_path / name).write_text("\n\n".join(map(json.dumps, found)), encoding="utf-8")
    for pdf in ("a.pdf", "sub/b.pdf"):
        path = tmp_path / "pdfs" / pdf
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name, text in (("a_pg1", "hello"), ("sub/b_pg1", "a|b\nc|d"), ("sub/b_pg2", "so $y$ and $ x^{2} $")):
        path = tmp_path / "us" / f"{name}_repeat1.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def test_pages_of_a_benchmark_folder_with_their_added_baselines(bench: Path) -> None:
    pages = cases.benchmark_pages(bench, "us")
    assert [[test["id"] for test in page.tests] for page in pages] == [
        ["a1", "a2"],
        ["b1"],
        ["b2", "sub/b.pdf_baseline"],
    ]
    assert [list(page.files) for page in pages] == [["one.jsonl"] * 2, ["one.jsonl"], ["two.jsonl", "baseline"]]
    assert list(cases.formulas_of(pages)) == [("x^2", "x^{2}")]
    with pytest.raises(UserError, match="a_pg1_repeat1.md is missing"):
        cases.benchmark_pages(bench, "them")
    with pytest.raises(UserError, match="holds no tests"):
        cases.benchmark_pages(bench / "pdfs", "us")


def test_score_is_the_mean_over_files(bench: Path) -> None:
    pages = cases.benchmark_pages(bench, "us")
    found = judged(Ours(), [asdict(page) for page in pages], rounds=1)
    assert found["verdicts"] == [[True, True], [True], [False, True]]
    assert {kind: timed["tests"] for kind, timed in found["timed"].items()} == {
        "text types": 3,
        "tables": 1,
        "formula tests": 1,
    }
    assert overall(pages, found["verdicts"]).mean == pytest.approx((3 / 3 + 0 / 1 + 1 / 1) / 3)


def test_composed_cases_pass_their_own_tests() -> None:
    pages, pairs = collect(None, "", None, 0)
    (found,) = pages.values()
    judgement = judged(Ours(), [asdict(page) for page in found[:5]], rounds=1)
    assert all(map(all, judgement["verdicts"]))
    same = compared(Ours(), [list(pair) for pair in pairs], rounds=1)
    assert same["verdicts"] == [True] * len(cases.WELL_KNOWN) + [False] * (len(cases.WELL_KNOWN) - 1)
    assert (same["pairs"], same["formulas"]) == (2 * len(cases.WELL_KNOWN) - 1, 2 * len(cases.WELL_KNOWN))


def test_both_sides_in_one_table_and_every_difference_named() -> None:
    pages = {"set": [cases.PageCase(text="", tests=[{"id": "t1"}, {"id": "t2"}])]}
    ours, peer = (
        {
            "pages": {"set": {"timed": {"tables": {"tests": 10, "seconds": seconds}}, "verdicts": [[True, passed]]}},
            "group": {"transcripts": 28, "tests": 15, "mean": 0.5, "seconds": seconds},
            "formulas": {"formulas": 4, "pairs": 2, "first": seconds, "seen": seconds, "verdicts": [True, passed]},
        }
        for seconds, passed in (([0.2, 9.0, 0.1], True), ([1.0], False))
    )
    table = speeds(ours, peer)
    assert "| tables, set: tests | 10 | 100 | 10.00 | 10.0x |" in table
    assert "28 transcripts of a page with 15 tests: groups | 1 | 10.00 | 1.00 | 10.0x |" in table
    assert "| 100 |  |  |" in speeds(ours, None)
    (skipped,) = comparison(pages, ours, None)
    assert "comparison of verdicts" in skipped and "make bench PEER=" in skipped
    verdicts, formulas = comparison(pages, ours, peer)
    assert verdicts.splitlines() == [
        "Verdicts, set: 1 of 2 equal; passed 2 (ours), 1 (olmocr)",
        "- t2: ours True, olmocr False",
    ]
    assert formulas == "Pairs of formulas: 1 of 2 verdicts equal"


def test_promised_ratios_are_of_the_best_rounds_and_one_without_a_peer_says_what_it_needs() -> None:
    ours, peer = ({"group": {"transcripts": 28, "tests": 15, "seconds": s}} for s in ([0.2, 0.1], [0.9, 0.8]))
    group, pool = ratios(ours, peer, {1: 3.0, 2: 2.0})
    assert (group["ratio"], group["at_least"]) == (pytest.approx(8), 5)
    assert (pool["ratio"], pool["at_least"]) == (1.5, 1.7)
    alone, same = ratios(ours, None, {1: 3.0, 2: 2.0})
    assert "ratio" not in alone
    assert "make bench PEER=" in alone["skipped"]
    assert same == pool


def test_a_group_of_28_transcripts_is_scored_by_the_reward_itself() -> None:
    group = cases.siblings()
    assert [test["type"] for test in group["tests"]] == ["present"] * 5 + ["order"] * 5 + ["table"] * 5
    assert 2_800 <= len(group["texts"][0]) <= 6_000
    found = scored(Ours(), group, rounds=1)
    assert (found["transcripts"], found["tests"]) == (28, 15)
    assert 0.2 < found["mean"] < 0.9  # the first is true, the last is hardly legible


def test_wrong_input_exits_2_with_a_sentence(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--bench", str(bench), "--candidate", "them"]) == 2
    assert main(["--oracle", str(bench)]) == 2
    assert "candidates.jsonl is missing" in capsys.readouterr().err


def test_intervals_that_redraw_pages_are_wide_enough_where_tests_correlate() -> None:
    found = coverage(0.4, pages=200, draws=100, seed=0)
    assert found["pages"].covered >= 0.88
    assert found["tests"].covered <= 0.8
