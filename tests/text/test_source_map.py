"""Places in a text that was made of another, led back to it."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import pytest

from ocr_rl.text.normalize import canonical, normalize
from ocr_rl.text.source_map import LONGEST, SourceMap, gap, merged, only, without_tags


@pytest.mark.parametrize(
    ("source", "searched", "held"),
    [
        ("**Total**  of 5", "Total of 5", "Total**  of 5"),
        ("a\n\n\nb *c* d", "b c d", "b *c* d"),
        ("x \u201cy\u201d z", '"y"', "\u201cy\u201d"),  # another character: what is before and behind it is known
        ("one two", "two", "two"),
    ],
)
def test_a_stretch_is_led_back(source: str, searched: str, held: str) -> None:
    shown = normalize(source)
    at = shown.index(searched)
    span = SourceMap(shown, source).span(at, at + len(searched))
    assert span is not None
    assert source[slice(*span)].strip("\u201c\u201d") == held.strip("\u201c\u201d")


WORDS = "전체 금액은 천이백 원"


@pytest.mark.parametrize("made", [normalize, canonical])
@pytest.mark.parametrize(
    ("before", "text"),
    [
        ("", unicodedata.normalize("NFD", WORDS)),
        ("", unicodedata.normalize("NFD", "mười hai đồng à")),
        ("– ", unicodedata.normalize("NFD", "কোন কৌ")),  # vowels that are composed, and no combining marks
        ("Ünten: ", "".join(chr(ord(letter) + 0xFEE0) for letter in "Total:12345")),
        ("\ufb01ne ", "\U0001d413\U0001d428\U0001d42d\U0001d41a\U0001d425"),
        ("", "a" + "\u0301" * 96),  # more than one cluster
    ],
)
def test_letters_that_only_look_alike_are_led_back_whole(made: Callable[[str], str], before: str, text: str) -> None:
    source = f"{before}{text} behind"
    shown = made(source)
    start, end = len(made(before)), len(shown) - len(" behind")
    assert SourceMap(shown, source).span(start, end) == (len(before), len(before) + len(text))
    assert SourceMap(shown, source).span(len(shown), len(shown)) == (len(source), len(source))


def test_a_text_that_grows_beyond_all_bounds_has_no_map() -> None:
    long = "\ufdfa" * (LONGEST // 10)  # 18 letters each
    assert SourceMap(canonical(long), long).span(0, 5) is None


def test_the_nearest_of_equal_stretches() -> None:
    shown = "5 5 5"
    places = SourceMap(shown, "<td>5</td><td>5</td><td>5</td>")
    assert [places.span(at, at + 1) for at in (0, 2, 4)] == [(4, 5), (14, 15), (24, 25)]


def test_nothing_has_an_empty_place() -> None:
    places = SourceMap("abcdef", "abef")
    assert places.span(2, 4) == (2, 2)
    assert places.span(3, 3) == (2, 2)
    assert SourceMap("", "").span(0, 0) == (0, 0)


def test_texts_that_are_too_long_have_no_map() -> None:
    assert SourceMap("a" * (LONGEST + 1), "a").span(0, 1) is None
    assert gap("a" * (LONGEST + 1), (0, 1), "a") is None


def test_what_is_masked_keeps_its_length() -> None:
    source = "a <td x='>'>b</td> <!-- <c> --> d < e"
    masked = without_tags(source)
    assert len(masked) == len(source)
    assert masked.replace("\ue000", "") == "a b  d < e"
    assert only(source, [(2, 4), (0, 1)]).replace("\ue000", "") == "a<t"


def test_where_something_lacks() -> None:
    page = "The first sentence. The second one is lost. The third sentence."
    lost = (20, 43)
    assert page[slice(*lost)] == "The second one is lost."
    without = page.replace("The second one is lost. ", "")
    place = gap(page, lost, without)
    assert place is not None
    assert without[: place[0]].startswith("The first sentence.") and without[place[1] :].endswith("third sentence.")
    assert place[1] - place[0] <= 5  # "The " could be of either sentence
    misread = page.replace("second one is lost", "stork on his post")
    low, high = gap(page, lost, misread) or (0, 0)
    assert "stork on his post" in misread[low:high]
    assert gap(page, lost, "nothing of it at all") is None


def test_spans_are_merged() -> None:
    assert merged([(5, 7), (0, 2), (2, 3), (6, 9), (9, 9), (12, 12)]) == ((0, 3), (5, 9), (12, 12))
