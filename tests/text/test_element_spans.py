"""Places of elements: read, missing, invented."""

from __future__ import annotations

from ocr_rl.text.element_spans import element_spans
from ocr_rl.text.source_map import LONGEST

PAGE = """# The results of it

Ten boats left the harbour before noon.

<table>
<tr><th>Year</th><th>Boats</th></tr>
<tr><td>1901</td><td>17</td></tr>
</table>

$$ a^2 + b^2 = c^2 $$

None of them was seen again by anybody.
"""


def test_each_element_is_read_from_its_own_place() -> None:
    body = PAGE.replace("# The results", "**The results").replace("of it", "of it**").replace("noon", "moon")
    places = element_spans(PAGE, body)
    shown = [" ".join(body[start:end] for start, end in place.spans) for place in places.elements]
    assert shown[0] == "The results of it"
    assert shown[1] == "Ten boats left the harbour before moon."
    assert shown[2].startswith("Year") and shown[2].endswith("17")
    assert shown[3] == "a^2 + b^2 = c^2"
    assert shown[4] == "None of them was seen again by anybody."
    assert [place.kind for place in places.elements] == ["text", "text", "table", "formula", "text"]
    assert [place.score == 1.0 for place in places.elements] == [True, False, True, True, True]
    assert [PAGE[slice(*place.reference)] for place in places.elements if place.reference][1].startswith("Ten boats")
    assert places.invented == ()


def test_what_is_missing_and_what_is_invented() -> None:
    body = PAGE.replace("Ten boats left the harbour before noon.\n\n", "") + "\nTwo whales were paid for in silver.\n"
    places = element_spans(PAGE, body)
    missing = places.elements[1]
    assert missing.score == 0.0
    ((start, end),) = missing.spans
    assert start == end and body[:start].rstrip().endswith("The results of it") and "<table>" in body[start:]
    assert [body[start:end] for start, end in places.invented] == ["Two whales were paid for in silver."]


def test_nothing_is_told_of_nothing_and_of_too_much() -> None:
    assert element_spans("", "Text of its own").invented == ((0, 15),)
    assert element_spans(PAGE, "").elements[1].spans == ((0, 0),)
    assert all(not place.spans for place in element_spans(PAGE, PAGE + "more " * LONGEST).elements)
