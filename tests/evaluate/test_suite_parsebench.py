"""ParseBench on made pages in its layout; what each rule gives was worked out from the benchmark's own definitions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ocr_rl.contract import UserError
from ocr_rl.evaluate.suites import parsebench
from ocr_rl.evaluate.suites.parsebench.rules import RULES, score
from ocr_rl.evaluate.suites.parsebench.tables import grids
from ocr_rl.evaluate.suites.parsebench.text import Seen, fold, sentence
from ocr_rl.evaluate.suites.run import bench_suite

TEXT = """# Annual **report**

The quick fox jumped. It cost $15.00 in total! See note<sup>2</sup> and H₂O.

<page_header>ACME – 2024</page_header>

| Region | Sales |
|---|---|
| North | 1.5k |

**Summary line**

The $x^{2}+1$ rule. ```
"""


def given(kind: str, page: str = TEXT, /, **rule: Any) -> float:
    return score({"type": kind, **rule}, Seen(page))


def test_texts_are_folded() -> None:
    assert (
        fold("Caf\u00e9\u00a0__A__ *b* “x” – ~~d~~ 84.1<sup>(2)</sup> y² Income....")
        == 'cafe a b "x" - d 84.1 y income'
    )
    assert fold("が µ ● <ins>z</ins>") == "が μ • z"
    assert sentence("- 1. **Short one!**") == "short one" and sentence("Tiny.") == ""


BAG = {"The quick fox jumped": 1, "It cost $15.00 in total": 1, "Never said here": 2}
GIVEN = [
    ("missing_sentence_percent", {"bag_of_sentence": BAG}, 2 / 4),
    (
        "too_many_sentence_occurence_percent",
        {"bag_of_sentence": {"The quick fox jumped": 0, "Not there": 3}},
        1 - 1 / 4,
    ),
    ("missing_word_percent", {"bag_of_word": {"quick": 1, "north": 4, "absent": 1}}, (1 + 3) / 6),  # cell and row count
    ("too_many_word_occurence_percent", {"bag_of_word": {"north": 1, "fox": 1}}, 1 - 2 / 4),
    ("bag_of_digit_percent", {"bag_of_digit": {"7": 1, "4": 1}}, 1 / 2),
    ("missing_specific_sentence", {"sentence": "quick fox jumped. It cost"}, 1),
    ("missing_specific_sentence", {"sentence": "tiny"}, 0),  # too short to be compared
    ("missing_specific_word", {"word": "SALES"}, 1),
    ("missing_specific_word", {"word": "sale"}, 0),
    ("order", {"before": "The quick fox", "after": "Summary line"}, 1),
    ("order", {"before": "Summary line", "after": "The quick fox"}, 0),
    ("order", {"before": "The quick fox jumped over", "after": "Summary line", "max_diffs": 5}, 1),
    ("order", {"before": "fox", "after": "line", "max_diffs": 2}, 0),  # more than half of it may differ
    ("is_title", {"text": "annual report"}, 1),
    ("is_title", {"text": "Summary line"}, 1),
    ("is_title", {"text": "The quick fox"}, 0),
    ("is_bold", {"text": "report"}, 1),
    ("is_bold", {"text": "Annual"}, 1),  # a heading is bold
    ("is_bold", {"text": "quick"}, 0),
    ("is_not_bold", {"text": "quick"}, 1),
    ("is_sup", {"text": "2"}, 1),
    ("is_sub", {"text": "2"}, 1),  # as a character of its own
    ("is_mark", {"text": "report"}, 0),
    ("is_latex", {"formula": "$$ x^{2} + 1 $$"}, 0),  # the price's sign opens a formula that ends before it
    ("is_header", {"text": "acme - 2024"}, 1),
    ("is_footer", {"text": "acme - 2024"}, 0),
    ("title_hierarchy_percent", {"title_hierarchy": {"Annual report": ["Summary line", "Gone"]}}, 3 / 6),
    ("chart_data_point", {"value": "1500", "labels": ["North", "Sales"]}, 1),
    ("chart_data_point", {"value": "1500", "labels": ["South"]}, 0),
    ("chart_data_point", {"value": "1600", "labels": ["North"]}, 0),
]


@pytest.mark.parametrize(("kind", "rule", "wanted"), GIVEN)
def test_rules(kind: str, rule: dict[str, Any], wanted: float) -> None:
    assert given(kind, **rule) == pytest.approx(wanted)


def test_what_is_said_besides_counts_too() -> None:
    text = "The quick fox jumped.\nAnd nobody asked for this.\n<table><tr><td>Cells do not count</td></tr></table>"
    assert given("unexpected_sentence_percent", text, bag_of_sentence=BAG) == 1 / 2
    assert (
        given("unexpected_sentence_percent", text, bag_of_sentence=BAG, original_md="X and nobody asked for this") == 1
    )
    assert given("unexpected_word_percent", text, bag_of_word={"the": 1, "quick": 1, "fox": 1}) == 3 / 9
    assert given("extra_content", text, bag_of_sentence=BAG) == 0
    assert given("is_latex", "A $x^{2}+1$ rule", formula="$$ x^{2} + 1 $$") == 1
    assert given("is_code_block", "```Python\nx = 1\n```", language="python", code="x  =  1") == 1


def test_nothing_at_all_fails_every_rule() -> None:
    assert {given(kind, "", text="a", bag_of_word={"no": 1}) for kind in RULES} == {0.0}


def test_tables_are_grids_with_what_stands_before_them() -> None:
    html = '## Sales\n<table><caption>C</caption><tr><th rowspan="2">a<sup>1</sup></th><td colspan="2">b<br>c</td></tr>'
    (grid,) = grids(f"{html}<tr><td>d<td>e</table>")
    assert grid.cells == [["a¹", "b c", "b c"], ["a¹", "d", "e"]] and grid.headings == {(0, 0), (1, 0)}
    assert grid.before == "<caption>C</caption> ## Sales"
    (outer,) = grids('<table><tr><td rowspan="">x<table><tr><td>y</td></tr></table></td></tr><td>z</td></table>')
    assert outer.cells == [["x y "]] or outer.cells == [["x y"]]


@pytest.mark.parametrize(
    "text", ["*" * 20_000, "**" * 9_000 + "x", "**" + "x y " * 9_000, "<b " * 9_000, "$$x " * 9_000, "<table>" * 9_000]
)
def test_no_transcript_takes_long(text: str) -> None:
    for kind in ("is_bold", "is_italic", "is_title", "is_underline"):
        assert given(kind, text, text="x y z") == 0
    given("missing_specific_sentence", text, sentence="something that is not there")


def folder(place: Path, parts: dict[str, list[dict[str, Any]]]) -> Path:
    place.mkdir()
    for part, rows in parts.items():
        (place / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


def row(pdf: str, kind: str, rule: Any = None, **more: Any) -> dict[str, Any]:
    return {"pdf": pdf, "category": "c", "id": "i", "type": kind, "rule": json.dumps(rule or {}), "page": None, **more}


def test_the_folder_and_its_figures(tmp_path: Path) -> None:
    words, table = {"bag_of_word": {"fox": 1, "gone": 1}}, "<table><tr><td>a</td></tr></table>"
    content = [
        row("docs/text/a.pdf", "missing_word_percent", words),
        row("docs/text/b.pdf", "is_header", {"text": "b"}),
    ]
    content += [row("docs/text/a.pdf", "order", {"before": "quick", "after": "fox"})]
    formats = [row("docs/text/a.pdf", kind, {"text": "fox"}) for kind in ("is_bold", "is_not_sup", "is_title")]
    parts = {"text_content": content, "text_formatting": formats}
    parts |= {"table": [row("docs/table/t.pdf", "expected_markdown", expected_markdown=table)]}
    parts |= {
        "chart": [row("docs/chart/c.pdf", "form_field", {"label": "x"})],
        "layout": [row("docs/layout/l.pdf", "layout")],
    }
    suite = folder(tmp_path / "suite", parts)
    (tmp_path / "md/text").mkdir(parents=True)
    (tmp_path / "md/text/a.md").write_text("A quick **fox**.")
    (tmp_path / "md/t.md").write_text(table)
    pages = parsebench.load(suite)
    scores = pages.score("text/a", pages.read(tmp_path / "md")["text/a"])
    assert scores["faithfulness"] == [pytest.approx((0.5 + 0.5 * 1) / 1.5)]
    assert scores["formatting"] == [pytest.approx((1 + 0) / 2)] and scores["is_bold"] == [1.0]
    report = bench_suite(suite, "parsebench", [("mine", tmp_path / "md")], tmp_path / "out")
    assert "# ParseBench: 3 pages" in report and "Apache-2.0" in report and "Not run: 1 form_field." in report
    assert next(line for line in report.splitlines() if line.startswith("| mine")).rstrip(" |").endswith("1")


CHART = '{"pdf": "a.pdf", "type": "chart_data_point", "rule": {"value": 1, "labels": ["a"]%s}}'
BAD = [
    ("{", "text_content.jsonl:1: this is not JSON"),
    ("[]", "text_content.jsonl:1: is no rule as ParseBench writes them"),
    ('{"pdf": "a.pdf", "type": "order", "rule": "{"}', "text_content.jsonl:1: is no rule"),
    ('{"pdf": "a.pdf", "type": "order", "rule": "[1]"}', "text_content.jsonl:1: is no rule"),
    ('{"pdf": "a.pdf", "type": "missing_word_percent", "rule": {"bag_of_word": ["a"]}}', "jsonl:1: is no rule"),
    ('{"pdf": "a.pdf", "type": "is_bold", "rule": {"text": 3}}', "jsonl:1: is no rule"),
    ('{"pdf": "a.pdf", "type": "order", "rule": {"before": ["a"], "after": "b"}}', "jsonl:1: is no rule"),
    ('{"pdf": "a.pdf", "type": "chart_data_point", "rule": {"value": 1, "labels": 2}}', "jsonl:1: is no rule"),
    ('{"pdf": "a.pdf", "type": ["order"], "rule": {}}', "jsonl:1: is no rule"),
    ('{"pdf": "a.pdf", "type": "order", "rule": {"before": "a", "after": "b", "max_diffs": 1e999}}', "or no number"),
    (
        '{"pdf": "a.pdf", "type": "missing_word_percent", "rule": {"bag_of_word": {"a": -3}}}',
        "is negative or no number",
    ),
    ('{"pdf": "a.pdf", "type": "bag_of_digit_percent", "rule": {"bag_of_digit": {"1": NaN}}}', "or no number"),
    (CHART % ', "relative_tolerance": "x"', "is no rule as ParseBench writes them .*'x'"),
    (CHART % ', "normalize_numbers": "false"', "normalize_numbers is str"),
    (CHART.replace('["a"]', '"a"') % "", "labels is str"),
    ("", "holds no page of ParseBench"),
]


@pytest.mark.parametrize(("text", "sentence"), BAD)
def test_a_file_in_another_layout_is_a_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "text_content.jsonl").write_text(text)
    with pytest.raises(UserError, match=sentence):
        bench_suite(tmp_path, "parsebench", [("a", tmp_path)], tmp_path / "out")


def test_a_tolerance_that_is_missing_is_the_usual_one(tmp_path: Path) -> None:
    without = '{"pdf": "a.pdf", "type": "expected_markdown", "expected_markdown": "no table"}'
    (tmp_path / "chart.jsonl").write_text(
        CHART % ', "relative_tolerance": null, "normalize_numbers": null' + "\n" + without
    )
    suite = parsebench.load(tmp_path)
    assert suite.note == "Not run: 1 expected_markdown without a table."
    assert suite.score(suite.pages[0], "|a|\n|-|\n|1.005|")["charts"] == [1.0]
    assert suite.score(suite.pages[0], "|a|\n|-|\n|1.05|")["charts"] == [0.0]
