"""The eight types of page tests: by hand, in both readings, and in bounded time."""

import json
from typing import Any

import pytest

from ocr_rl.contract import Verdict
from ocr_rl.text.checks import LONGEST, TYPES, judge, load_check

PAGE = {"pdf": "a.pdf", "page": 1, "id": "t"}
HELLO = {"type": "present", "text": "Hello wonderful world"}


def run(test: dict[str, Any], text: str, reading: Any = "compatible") -> Verdict:
    (verdict,) = judge([load_check({**PAGE, **test})], text, reading)
    return verdict


def both(test: dict[str, Any], text: str) -> tuple[bool, bool]:
    """(compatible, strict)"""
    return run(test, text).passed, run(test, text, "strict").passed


TABLE = "| Name | Q1 |\n|---|---|\n| North | 12 |\n| South | 7 |"


@pytest.mark.parametrize(
    ("test", "text", "passed"),
    [
        (HELLO, "so: **Hello** wonderful\nworld!", True),
        (HELLO, "Hello wonderful earth", False),
        ({**HELLO, "max_diffs": 5}, "x Hello wonderful earth y", True),
        ({**HELLO, "case_sensitive": False}, "HELLO WONDERFUL WORLD", True),
        ({"type": "present", "text": "world", "first_n": 10}, "Hello wonderful world", False),
        ({"type": "present", "text": "world", "last_n": 9}, "Hello wonderful world", True),
        ({"type": "present", "text": "world", "first_n": 6, "last_n": 5}, "world of wonderful pages", True),
        ({"type": "present", "text": "world", "first_n": 0}, "Hello wonderful world", True),  # no window
        ({**HELLO, "type": "absent"}, "Hello wonderful world", False),
        ({**HELLO, "type": "absent"}, "something else altogether here", True),
        ({"type": "order", "before": "one", "after": "two"}, "one two", True),
        ({"type": "order", "before": "one", "after": "two"}, "two one", False),
        ({"type": "order", "before": "one", "after": "two"}, "two one two", True),
        (
            {"type": "order", "before": "first line", "after": "last line", "max_diffs": 2},
            "f1rst line\nlast l1ne",
            True,
        ),
        ({"type": "format", "format": "heading", "text": "Results"}, "## Results", True),
        ({"type": "format", "format": "heading", "text": "Results"}, "**Results**", False),
        ({"type": "format", "format": "bold", "text": "Results"}, "the **Results** are", True),
        ({"type": "format", "format": "italic", "text": "Results"}, "the <em>Results</em> are", True),
        ({"type": "table", "cell": "12", "up": "Q1", "left": "North", "down": "7"}, TABLE, True),
        ({"type": "table", "cell": "12", "up": "Q2"}, TABLE, False),
        ({"type": "table", "cell": "7", "top_heading": "Q1", "left_heading": "South"}, TABLE, True),
        ({"type": "table", "cell": "12", "ignore_markdown_tables": True}, TABLE, False),
        ({"type": "table", "cell": "Nerth", "max_diffs": 1}, TABLE, True),
        ({"type": "table", "cell": "North"}, "no table", False),
        ({"type": "baseline"}, "some text", True),
        ({"type": "baseline"}, "--- …", False),
        ({"type": "baseline"}, "text" + "." * 31, False),
        ({"type": "baseline"}, "text" + "." * 30, True),
        ({"type": "baseline"}, "text 漢", False),
        ({"type": "baseline", "check_disallowed_characters": False}, "text 漢", True),
        ({"type": "baseline"}, "한국어 Ελληνικά", True),
        ({"type": "baseline", "max_length": 3}, "a b c", True),
        ({"type": "baseline", "max_length": 3}, "a b c d", False),
        ({"type": "baseline", "max_length": 3, "max_length_skips_image_alt_tags": True}, "a b c ![d](e)", True),
        ({"type": "footnote", "marker": "1"}, "text[^1]", True),
        ({"type": "footnote", "marker": "1"}, "text [1]", False),
        (
            {"type": "footnote", "marker": "1", "appears_before_marker": "the end", "appears_after_marker": "Next"},
            "It is the end.<sup>1</sup> Next one",
            True,
        ),
        ({"type": "footnote", "marker": "1", "appears_before_marker": "the end"}, "[^1] it is the end", False),
        ({"type": "footnote", "marker": "1", "appears_before_marker": "--"}, "--[^1]", False),
        ({"type": "footnote", "marker": "1"}, "left open<sup>1 and again<sup>1</sup>", True),
        ({"type": "math", "math": "x^2"}, "so \\(x^2\\) holds", True),
        ({"type": "math", "math": "x^2"}, "so x^2 holds", False),
        ({"type": "math", "math": "x^2", "ignore_dollar_delimited": True}, "so $x^2$ holds", False),
    ],
)
def test_clear_cases_are_the_same_in_both_readings(test: dict[str, Any], text: str, passed: bool) -> None:
    assert both(test, text) == (passed, passed)
    assert bool(run(test, text).why) == (not passed)


HEADER = {"type": "absent", "text": "Annual Report of 1999"}


@pytest.mark.parametrize(
    ("test", "text", "compatible", "strict"),
    [
        # the roles swap when the transcript is the shorter text
        (HELLO, "H", True, False),
        ({**HELLO, "type": "absent"}, "H", False, True),
        ({"type": "format", "format": "heading", "text": "Results"}, "# R", True, False),
        ({"type": "footnote", "marker": "1", "appears_before_marker": "the end"}, "t¹", True, False),
        # 1 - 1/12 in floating point
        ({"type": "present", "text": "abcdefghijkl", "max_diffs": 1}, "-- abcdeXghijkl --", False, True),
        # what only looks like emphasis
        ({"type": "format", "format": "bold", "text": "Results"}, "<br>Results</b>", True, False),
        ({"type": "format", "format": "italic", "text": "Results"}, "* Results\n* more", True, False),
        ({"type": "format", "format": "heading", "text": "Results"}, "#\n\nResults", True, False),
        # a marker inside a longer number
        ({"type": "footnote", "marker": "1"}, "word¹²", True, False),
        ({"type": "footnote", "marker": "1", "appears_before_marker": "--", "max_diffs": 3}, "x --[^1]", True, False),
        ({"type": "footnote", "marker": "a"}, "word<sup>A</sup>", True, False),
        # a malformed table fails every table test of the page
        (
            {"type": "table", "cell": "a", "right": "b"},
            "<table><tr><td>a</td><td rowspan=3>b</td></tr><tr><td colspan=2>c</td></tr></table>",
            False,
            True,
        ),
        # formulas: one-sided comparison, unrenderable reference
        ({"type": "math", "math": "x"}, "$\\sqrt{x}$", True, False),
        ({"type": "math", "math": "\\frac{"}, "$y$", True, False),
        # what a reader does not see
        (HELLO, "<!-- Hello wonderful world -->", True, False),
        (HELLO, "<div style='display:none'>Hello wonderful world</div> and", True, False),
        (HELLO, "<img alt='Hello wonderful world'> and", True, False),
        (HELLO, "~~Hello wonderful world~~ and", True, False),
        (
            {"type": "table", "cell": "a", "right": "b"},
            "<table hidden><tr><td>a</td><td>b</td></tr></table>",
            True,
            False,
        ),
        ({"type": "math", "math": "xy"}, "<!-- $xy$ -->", True, False),
        ({"type": "baseline"}, "<b></b>", True, False),
        ({"type": "baseline", "max_length": 3}, "<b>abc</b> ![alt](a.png)", False, True),
        ({"type": "baseline", "max_length": 3}, "abc § ¶ †", True, False),
        # what a reader does see, whatever it is written as
        (HELLO, "Hello <i>wonder</i><i>ful</i> wo\u00adrld", False, True),
        ({"type": "present", "text": "AT&T costs $5"}, "AT&amp;T costs $5", False, True),
        ({"type": "present", "text": "so x^2 is"}, "so \\(x^2\\) is", False, True),
        ({"type": "present", "text": "office 12"}, "o\ufb03ce \uff11\uff12", False, True),
        # a header that is hidden from the search, or misread, is still there
        (HEADER, "annual REPORT of 1999", True, False),
        (HEADER, "Annual <u>Re</u>port of 1999", True, False),
        (HEADER, "Annual Re\u200bport of 1999", True, False),
        (HEADER, "Annual Repart of 1999", True, False),
        # a mark says nothing where it marks much more than the text, or most of the page
        (
            {"type": "format", "format": "bold", "text": "Results"},
            f"**Results {'and more ' * 6}** x{' y' * 60}",
            True,
            False,
        ),
        (
            {"type": "format", "format": "heading", "text": "Results"},
            "# Results\n\n" + "# A long line of text\n" * 4,
            True,
            False,
        ),
    ],
)
def test_what_strict_closes(test: dict[str, Any], text: str, compatible: bool, strict: bool) -> None:
    assert both(test, text) == (compatible, strict)


def test_reasons_say_what_was_looked_for_and_what_was_found() -> None:
    assert "'wonderful world'" in run(HELLO | {"text": "wonderful world"}, "hello wonderful word").why
    assert "at character 6" in run(HELLO | {"text": "wonderful world"}, "hello wonderful word").why
    assert "its up at row 2, column 2 is 'Q1', not 'Q2'" in run({"type": "table", "cell": "12", "up": "Q2"}, TABLE).why
    assert "'two'" in run({"type": "order", "before": "one", "after": "two"}, "one").why


def test_max_diffs_of_the_whole_length_lets_present_always_pass() -> None:
    assert both({"type": "present", "text": "ab", "max_diffs": 2}, "xyz") == (True, True)


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_a_text_too_large_fails_every_type(kind: str) -> None:
    verdict = run(EXAMPLES[kind], "a" * (LONGEST + 1), "strict")
    assert not verdict.passed and verdict.why.startswith("too large to judge")


EXAMPLES: dict[str, dict[str, Any]] = {
    "present": HELLO,
    "absent": {**HELLO, "type": "absent"},
    "order": {"type": "order", "before": "one", "after": "two"},
    "format": {"type": "format", "format": "bold", "text": "one"},
    "table": {"type": "table", "cell": "one", "up": "two"},
    "baseline": {"type": "baseline", "max_repeats": 20},
    "math": {"type": "math", "math": "x"},
    "footnote": {"type": "footnote", "marker": "1", "max_diffs": 1},
}

HOSTILE = {
    "open tags": "<table><tr><td>" * 2_000,
    "unclosed tags": "<b" * 15_000,
    "unclosed quotes": '<td a="' * 4_000,
    "dollars": "$" * 30_001,
    "stars": "* " * 15_000,
    "headings": "<h1>x" * 6_000,
    "bars": "|" * 30_000,
    "surrogates": "\ud800" * 3_000,
    "combining marks": "a" + "\u0301" * 15_000 + "\u0323" * 15_000,
    "zero bytes": "\0" * 30_000,
    "nothing": "",
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_transcripts_are_judged(name: str) -> None:
    # an algorithm that is quadratic in the text would take minutes here
    checks = [load_check({**PAGE, **example}) for example in EXAMPLES.values()]
    for reading in ("compatible", "strict"):
        verdicts = judge(checks, HOSTILE[name], reading)
        assert [v.passed or bool(v.why) for v in verdicts] == [True] * len(checks)


# --- reading ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_json_round_trip(kind: str) -> None:
    check = load_check({**PAGE, **EXAMPLES[kind]})
    assert (check.id, check.type) == ("t", kind)
    assert check.to_json() == {**PAGE, **EXAMPLES[kind]}
    assert load_check(json.loads(json.dumps(check.to_json()))) == check


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ({"type": "presnt", "text": "a"}, "did you mean 'present'"),
        ({"type": "zzz"}, "known are present"),
        ({}, "type None is unknown"),
        ({"type": "present", "text": "a", "max_dif": 1}, "did you mean 'max_diffs'"),
        ({"type": "present"}, "needs the field 'text'"),
        ({"type": "present", "text": "**"}, "text must be a text that is not blank"),
        ({"type": "present", "text": None}, "text must be"),
        ({"type": "present", "text": "a", "max_diffs": -1}, "max_diffs must be"),
        ({"type": "present", "text": "a", "max_diffs": 0.5}, "max_diffs must be"),
        ({"type": "present", "text": "a", "id": ""}, "id must be"),
        ({"type": "present", "text": "a", "pdf": ""}, "pdf must be"),
        ({"type": "present", "text": "a", "first_n": "3"}, "first_n must be"),
        ({"type": "order", "before": "ab", "after": "cdef", "max_diffs": 2}, "at most half"),
        ({"type": "format", "text": "a", "format": "Bold"}, "heading, bold or italic"),
        ({"type": "table"}, "needs the field 'cell'"),
        ({"type": "math", "math": " "}, "math must be"),
        ({"type": "footnote", "marker": "a b"}, "without a space"),
        ({"type": "footnote", "marker": 1}, "marker must be"),
        ({"type": "footnote", "marker": "1", "appears_before_marker": " \n"}, "appears_before_marker must be"),
        ({"type": "footnote", "marker": "1", "appears_after_marker": "<b>** **</b>"}, "appears_after_marker must be"),
        ({"type": "footnote", "marker": "1", "appears_after_marker": 0}, "appears_after_marker must be"),
        ({"type": "format", "text": "a", "format": ["bold"]}, "heading, bold or italic"),
        ({"type": "table", "cell": 1}, "cell must be"),
    ],
)
def test_wrong_tests_are_refused_with_the_field(test: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_check({**PAGE, **test})


def test_a_footnote_with_an_empty_context_asks_for_none() -> None:
    check = load_check({**PAGE, "type": "footnote", "marker": "1", "appears_before_marker": ""})
    assert judge([check], "[^1]")[0].passed


def test_a_table_test_without_a_cell_loads_and_nothing_passes_it() -> None:
    """The public test raises whatever it is run on, so its benchmark counts a failure."""
    check = load_check({**PAGE, "type": "table", "cell": None})
    for text in ("", "no table", "<table><tr><td></td></tr></table>", "| a |\n|---|\n| b |"):
        for reading in ("compatible", "strict"):
            (verdict,) = judge([check], text, reading)
            assert not verdict.passed and "null" in verdict.why
    assert load_check(check.to_json()) == check


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON object"):
        load_check(["present"])  # type: ignore[arg-type]
