"""The floor: what transcripts that read nothing earn, and what a report then says of a gain."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ocr_rl.contract import Page, Transcript
from ocr_rl.evaluate.bench import bench
from ocr_rl.evaluate.figures import compare, summary
from ocr_rl.evaluate.floors import ABOVE, EMPTY, FOREIGN, Floors, blind, judged_here, stands
from ocr_rl.evaluate.report import write_report
from ocr_rl.evaluate.results import PageResult, judge_page
from ocr_rl.evaluate.tables import above_line, floor_line, verdict
from ocr_rl.text.checks import load_check
from tests.evaluate.rows import row
from tests.evaluate.scripted import whole


def page(n: int, document: str, reference: str | None = None, **more) -> Page:
    """Four tests: `absent` is free for all, `baseline` for any text, the two others need reading."""
    where = {"pdf": f"{document}.pdf", "page": n}
    tests = [
        {"type": "absent", "text": "page header"},
        {"type": "baseline"},
        {"type": "present", "text": f"the number of page {document}{n}"},
        {"type": "present", "text": f"a word of {document}{n} alone"},
    ]
    checks = [load_check({**where, "id": f"{document}{n}/{k}", **test}) for k, test in enumerate(tests)]
    return Page(id=f"{document}:p{n}", pdf=Path(where["pdf"]), number=n, reference=reference, checks=checks, **more)


def truth(n: int, document: str) -> str:
    return f"the number of page {document}{n} and a word of {document}{n} alone"


def results(pages: Mapping[str, Page], texts: Mapping[str, str]) -> list[PageResult]:
    return [
        judge_page(pages[id_], Transcript(raw=text, body=text, finish="stop", num_tokens=3), "strict")
        for id_, text in texts.items()
    ]


PAGES = {p.id: p for p in (page(n, d, truth(n, d)) for d in "abcdefghij" for n in (1, 2))}


def test_the_levels_and_the_free_tests_by_hand() -> None:
    floors = judged_here(list(PAGES.values()), (), "strict")
    assert floors is not None and floors.tests == 80
    # empty: absent alone; another page's: absent and baseline
    assert {name: level.metrics["pass_rate"].mean for name, level in floors.levels.items()} == {
        EMPTY: 0.25,
        FOREIGN: 0.5,
    }
    assert floors.free_share == 0.5 and ("a:p1", "a1/0") in floors.free and ("a:p1", "a1/2") not in floors.free
    assert {level.metrics[ABOVE].mean for level in floors.levels.values()} == {0.0}
    assert floors.metric.of(row("a:p1", [])) == ()
    assert "25.0 % of a page's tests, another page's text 50.0 %; 50.0 % of the 80 tests" in floor_line(floors)


def test_the_foreign_text_is_of_another_document_and_never_the_own() -> None:
    texts = blind(list(PAGES.values()))[FOREIGN]
    assert texts["a:p1"].body == truth(1, "b") and texts["j:p2"].body == truth(1, "a")
    one_document = [page(1, "a", "first"), page(2, "a", "second")]
    assert blind(one_document)[FOREIGN]["a:p1"].body == "second"
    twins = [page(1, "a", "same"), page(1, "b", "same"), page(1, "c", "other")]
    assert blind(twins)[FOREIGN]["a:p1"].body == "other"
    assert set(blind([page(1, "a", "alone")])) == {EMPTY}


def test_without_references_it_is_another_pages_transcript() -> None:
    pages = [replace(p, reference=None) for p in PAGES.values()]
    rows = results(PAGES, {p.id: f"read of {p.id}" for p in pages})
    assert blind(pages, rows)[FOREIGN]["a:p1"].body == "read of b:p1"
    assert set(blind(pages)) == {EMPTY}


def test_without_tests_there_is_no_floor() -> None:
    assert judged_here([Page(id="a:p1", pdf=Path("a.pdf"), number=1, reference="x")], (), "strict") is None


def both(before: str, after: str) -> tuple[Floors, list[PageResult], list[PageResult]]:
    """Every page transcribed as `before` and as `after` say; TRUTH stands for its own text."""
    floors = judged_here(list(PAGES.values()), (), "strict")
    assert floors is not None

    def side(text: str) -> list[PageResult]:
        return results(PAGES, {id_: text.replace("TRUTH", p.reference or "") for id_, p in PAGES.items()})

    return floors, side(before), side(after)


def test_a_gain_of_who_reads_nothing_is_none() -> None:
    """From loops with the page's header to some words: half of the tests pass then, and not one that needs reading."""
    floors, before, after = both("page header" + " so" * 200, "some words")
    old, new = (summary(rows, metrics=floors.metrics) for rows in (before, after))
    plain = compare(before, after, metrics=floors.metrics)
    assert verdict(plain.metrics["pass_rate"], floors.metrics[0]) == "better"
    comparison = floors.grounded(plain, old, new)
    assert stands(old) and stands(new)
    for name in ("pass_rate", "tests"):
        assert verdict(comparison.metrics[name], floors.metrics[0]) == "at the floor"
    assert {verdict(change, floors.metrics[0]) for change in comparison.by_type.values()} == {"at the floor"}
    line = above_line(old, new, comparison, floors.metric)
    assert line.startswith("But both stand at the floor, they read nothing") and "0.0 % before and 0.0 % after" in line


def test_a_gain_of_who_learns_to_read_is_told_above_the_floor() -> None:
    floors, before, after = both("some words", "TRUTH")
    old, new = (summary(rows, metrics=floors.metrics) for rows in (before, after))
    comparison = floors.grounded(compare(before, after, metrics=floors.metrics), old, new)
    assert not stands(new) and verdict(comparison.metrics["pass_rate"], floors.metrics[0]) == "better"
    line = above_line(old, new, comparison, floors.metric)
    assert "0.0 % before and 100.0 % after pass: +100.0 points" in line and line.endswith("better.")


def test_who_stops_to_read_falls() -> None:
    floors, before, after = both("TRUTH", "some words")
    old, new = (summary(rows, metrics=floors.metrics) for rows in (before, after))
    comparison = floors.grounded(compare(before, after, metrics=floors.metrics), old, new)
    assert verdict(comparison.metrics["pass_rate"], floors.metrics[0]) == "worse"


def test_where_no_test_needs_reading_both_stand_at_the_floor() -> None:
    pages = {id_: replace(p, checks=p.checks[:2]) for id_, p in PAGES.items()}
    floors = judged_here(list(pages.values()), (), "strict")
    assert floors is not None and floors.free_share == 1.0
    before, after = (results(pages, dict.fromkeys(pages, text)) for text in ("", "some words"))
    old, new = (summary(rows, metrics=floors.metrics) for rows in (before, after))
    comparison = floors.grounded(compare(before, after, metrics=floors.metrics), old, new)
    assert verdict(comparison.metrics["pass_rate"], floors.metrics[0]) == "at the floor"
    assert "no test of these pages needs reading" in above_line(old, new, comparison, floors.metric)


@pytest.mark.parametrize(("after", "better"), [("some words", False), ("TRUTH", True)])
def test_the_report_says_it(tmp_path: Path, after: str, better: bool) -> None:
    floors, first, last = both("page header" + " so" * 200, after)
    candidates = {"before": first, "after": last}
    write_report(tmp_path, title="t", candidates=candidates, pages=PAGES, floors=floors)
    markdown, html = ((tmp_path / name).read_text() for name in ("report.md", "report.html"))
    for text in (markdown, html):
        assert EMPTY in text and "Reading nothing earns something too" in text.replace("&#39;", "'")
        assert ("both stand at the floor" in text) is not better
    assert ('class="finding better"' in html, 'class="finding at-the-floor"' in html) == (better, not better)
    assert f"| {EMPTY} " in markdown and "| above the floor" in markdown
    assert json.loads((tmp_path / "report.json").read_text())["floors"]["free_share"] == 0.5


def test_a_bench_shows_them(data: Path, tmp_path: Path, in_process: None) -> None:
    """By hand: an empty transcript passes b1 alone, which asks that a text be absent."""
    text = bench(data, out=tmp_path / "out", candidates=[str(whole(tmp_path / "mine"))], workers=1)
    section = text[text.index("## Benchmark score") :].split("\n## ")[0]
    assert all(f"\n| {name} " in section for name in ("mine", EMPTY, FOREIGN))
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["benchmark"][EMPTY]["by_file"] == {"baseline": [0, 2], "one.jsonl": [1, 2], "two.jsonl": [0, 2]}
    verdicts = (tmp_path / "out/floors.jsonl").read_text()
    bench(data, out=tmp_path / "out", candidates=[str(tmp_path / "mine")], workers=1)
    assert (tmp_path / "out/floors.jsonl").read_text() == verdicts  # a rerun judges nothing twice


def test_a_start_that_reads_nothing_is_named() -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    from ocr_rl.train.evaluation import floor_warning

    pages = list(PAGES.values())
    blank = floor_warning("new", pages, results(PAGES, dict.fromkeys(PAGES, "some words")))
    assert blank.startswith("! The starting policy reads none of the new pages") and "SFT" in blank
    assert floor_warning("new", pages, results(PAGES, {id_: p.reference or "" for id_, p in PAGES.items()})) == ""
