"""Where verdicts come from: each type of test, passed, failed and missing, in both readings."""

from __future__ import annotations

from typing import Any

import pytest

from ocr_rl.contract import Reading
from ocr_rl.text.checks import judge, load_check
from ocr_rl.text.spans import Located, locate, locate_all

BODY = """# The **Results**

Some text with the *word* here, and a formula \\( x^{2} + 1 \\).

<table>
<tr><th>Name</th><th>td</th></tr>
<tr><td>Dog</td><td>5</td></tr>
</table>

| a | b |
|---|---|
| 1 | 2 |

A price of 5 dollars<sup>1</sup> and no more.
"""
READINGS: tuple[Reading, ...] = ("strict", "compatible")


def check(**fields: Any):
    return load_check({"pdf": "a.pdf", "page": 1, "id": "x", **fields})


def told(body: str, located: Located) -> tuple[str, list[str], list[str]]:
    return (
        located.kind,
        [body[start:end] for start, end in located.spans],
        [body[start:end] for start, end in located.wrong],
    )


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize(
    ("test", "kind", "spans", "wrong"),
    [
        ({"type": "present", "text": "word here, and"}, "found", ["word* here, and"], []),
        ({"type": "present", "text": "word hire, and"}, "closest", ["word* here, and"], ["e"]),
        ({"type": "present", "text": "with the word here", "last_n": 300}, "found", ["with the *word* here"], []),
        ({"type": "present", "text": "quintessential zebra"}, "missing", [], []),
        ({"type": "absent", "text": "price of 5"}, "closest", ["price of 5"], []),
        ({"type": "absent", "text": "Page header"}, "missing", [], []),
        ({"type": "order", "before": "Some text", "after": "A price"}, "found", ["Some text", "A price"], []),
        ({"type": "order", "before": "A price", "after": "Some text"}, "closest", ["Some text", "A price"], []),
        ({"type": "order", "before": "Some text", "after": "A priqe"}, "closest", ["Some text", "A price"], ["c"]),
        ({"type": "order", "before": "Some text", "after": "zebra quintet"}, "missing", [""], []),
        ({"type": "format", "text": "The Results", "format": "heading"}, "found", ["# The **Results**"], []),
        ({"type": "format", "text": "A price of 5", "format": "heading"}, "closest", ["A price of 5"], []),
        ({"type": "table", "cell": "5", "up": "td", "left": "Dog"}, "found", ["td", "Dog", "5"], []),
        ({"type": "table", "cell": "2", "up": "b", "left": "1"}, "found", ["b", "1", "2"], []),
        ({"type": "table", "cell": "5", "up": "Name"}, "closest", ["td", "5"], ["td"]),
        ({"type": "table", "cell": "Dig", "right": "5"}, "closest", ["Dog"], []),
        ({"type": "math", "math": "x^2+1"}, "found", ["\\( x^{2} + 1 \\)"], []),
        ({"type": "math", "math": "x^2+2"}, "closest", ["\\( x^{2} + 1 \\)"], []),
        ({"type": "footnote", "marker": "1", "appears_before_marker": "dollars"}, "found", None, []),
        ({"type": "footnote", "marker": "7", "appears_before_marker": "5 dollars"}, "missing", [""], []),
        ({"type": "baseline"}, "missing", [], []),
    ],
    ids=lambda value: str(value.get("type")) if isinstance(value, dict) else None,
)
def test_places(reading: Reading, test: dict[str, Any], kind: str, spans: list[str] | None, wrong: list[str]) -> None:
    located = locate(check(**test), BODY, reading)
    assert located.verdict == judge([check(**test)], BODY, reading)[0]
    own = told(BODY, located)
    assert (own[0], own[2]) == (kind, wrong)
    assert own[1] == spans if spans is not None else "dollars<sup>1</sup>" in own[1][0]
    assert list(located.spans) == sorted(located.spans)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize(
    ("test", "body", "spans"),
    [
        ({"type": "baseline"}, "Text.\n\n" + "so " * 40, "so " * 40),
        ({"type": "baseline"}, "Text \u4e2d here", "\u4e2d"),
        ({"type": "baseline", "max_length": 4}, "Text and more", " and more"),
        ({"type": "baseline"}, "...", "..."),
        ({"type": "absent", "text": "Running head"}, "Running head\n\nText\n\nRunning head", None),
    ],
    ids=("loop", "script", "too much", "no letter", "twice"),
)
def test_what_is_too_much(reading: Reading, test: dict[str, Any], body: str, spans: str | None) -> None:
    kind, texts, _ = told(body, locate(check(**test), body, reading))
    assert kind == "closest"
    assert [text.strip() for text in texts] == ([spans.strip()] if spans else ["Running head"] * 2)


def test_an_omission_stands_between_its_neighbours() -> None:
    page = "The first paragraph of it.\n\nA second one, lost.\n\nThe third paragraph of it."
    body = page.replace("A second one, lost.\n\n", "")
    present = check(type="present", text="second one, lost")
    assert locate(present, body, "strict").spans == ()
    located = locate(present, body, "strict", reference=page)
    assert located.kind == "missing"
    (place,) = located.spans
    assert place[0] == place[1] and body[: place[0]].rstrip() == "The first paragraph of it."


def test_a_likely_place_gives_way_to_the_one_that_another_reading_tells() -> None:
    """ "Date:" is read as "Fade:"; what looks more like it stands elsewhere."""
    page = "Name of the child: Ann\n\nDate: 5 May, at noon\n\nWitness of it: Data"
    body = page.replace("Date:", "Fxzw:")
    alone = locate(check(type="present", text="Date:"), body, "strict")
    both = locate(check(type="present", text="Date:"), body, "strict", reference=page)
    assert "Data" in told(body, alone)[1][0]
    assert told(body, both)[1] == ["Fxzw:"]


@pytest.mark.parametrize("reading", READINGS)
def test_any_text_is_located_without_an_error(reading: Reading) -> None:
    tests = [
        check(type="present", text="word here", first_n=20, last_n=20),
        check(type="absent", text="word here"),
        check(type="order", before="word", after="here", max_diffs=1),
        check(type="format", text="The Results", format="bold"),
        check(type="table", cell="5", up="td", left_heading="Dog"),
        check(type="footnote", marker="1", appears_before_marker="dollars", appears_after_marker="and"),
        check(type="baseline", max_repeats=3),
        check(type="baseline", max_length=2),
    ]
    signs = ["**" * 900, "$" * 999, "<!--" * 400, "[^1]" * 200, "<table>" * 300, "|" * 2000, "\ue000\ue001" * 20]
    for body in ["", "\x00", "\ud800", "a\u0301" * 50, *signs]:
        for located in locate_all(tests, body, reading, BODY):
            assert all(0 <= start <= end <= len(body) for start, end in (*located.spans, *located.wrong))


def test_beyond_its_bound_nothing_is_told() -> None:
    located = locate(check(type="present", text="word"), "word " * 5000, "strict")
    assert located.verdict.passed and located.spans == ()
