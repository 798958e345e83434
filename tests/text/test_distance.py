"""Likeness of texts and search for near matches, against hand counts and brute force."""

import random

import pytest
from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein

from ocr_rl.text.distance import (
    HALF,
    close_enough,
    closest,
    first_and_last,
    partial_similarity,
    within,
)


def test_closest_finds_the_window() -> None:
    near = closest("wonderful", "hello wonderfol world")
    assert (near.start, near.end) == (6, 15)
    assert near.similarity == pytest.approx(1 - 2 / 18)


def test_closest_never_swaps_the_roles() -> None:
    assert closest("Hello", "H").similarity == pytest.approx(1 - 4 / 6)
    assert partial_similarity("Hello", "H") == 1.0


def test_within_is_exact_where_floating_point_is_not() -> None:
    # one substitution in 12 characters: 2 edits of 24; rapidfuzz's 91.66…/100 is below 1 - 1/12 by accident
    assert within(1 - 2 / 24, 12, 12, 1)
    assert not within(1 - 3 / 24, 12, 12, 1)


@pytest.mark.parametrize(
    ("needle", "text", "max_diffs", "places"),
    [
        ("ab", "ab ab", 0, (0, 3)),
        ("aaaa", "aaaaa", 0, (0, 1)),  # exact hits may overlap
        ("b", "aaa", 0, None),
        ("wonderful", "a wondrful b wonderfull c", 1, (2, 13)),
        ("wonderful", "a wndrfl b", 1, None),
        ("cat", "a cut, a cot", 1, (2, 9)),  # short: no piece of three characters to search for
        ("cat", "xyz", 1, None),
        ("ab", "", 1, None),
    ],
)
def test_first_and_last(needle: str, text: str, max_diffs: int, places: tuple[int, int] | None) -> None:
    assert first_and_last(needle, text, max_diffs) == places


def test_overlapping_near_matches_are_one_and_the_best_counts() -> None:
    # "abcdef" stands at 2; windows that start at 1 or 3 are near as well but belong to the same match
    assert first_and_last("abcdef", "xxabcdefxx", 1) == (2, 2)


@pytest.mark.parametrize("length", [4, 15])
def test_near_matches_exist_where_brute_force_finds_them(length: int) -> None:
    rng = random.Random(length)
    seen = set()
    for _ in range(150):
        needle = "".join(rng.choices("abcd ", k=length))
        text = "".join(rng.choices("abcd ", k=40))
        if rng.random() < 0.5:
            text = text[:20] + needle[:2] + "x" + needle[3:] + text[20:]
        windows = (text[i:j] for i in range(len(text)) for j in range(i + 1, min(len(text), i + length + 1) + 1))
        exists = any(Levenshtein.distance(needle, window) <= 1 for window in windows)
        seen.add(exists)
        assert (first_and_last(needle, text, 1) is not None) == exists
    assert seen == {True, False}


def test_close_enough_finds_what_a_search_of_all_windows_finds() -> None:
    rng = random.Random(0)
    num_close = 0
    for _ in range(3_000):
        needle = _random(rng, rng.randint(1, 50))
        text = _random(rng, 120)
        at = rng.randrange(len(text))
        text = text[:at] + _edited(rng, needle, rng.randint(0, 5)) + text[at:]
        text = text[rng.randint(0, 60) :]
        if len(text) < len(needle):
            continue
        least = max(0.0, 1 - rng.randint(0, 6) / len(needle) - 1e-6)
        similarity = fuzz.partial_ratio(needle, text) / 100
        near = close_enough(needle, text, least)
        assert (near.similarity if near else None) == (similarity if similarity >= least else None)
        num_close += near is not None
    assert 500 < num_close < 2_500


def test_closest_is_half_alike_or_nothing() -> None:
    text = "the quick brown fox jumps over the lazy dog " * 3
    near = closest("brawn fax jumps", text)
    assert text[near.start : near.end] == "brown fox jumps"
    assert closest("0123456789", text).similarity == 0.0
    assert closest("brown cow", text).similarity >= HALF


def _random(rng: random.Random, length: int) -> str:
    return "".join(rng.choices("etaoin ", k=length))


def _edited(rng: random.Random, text: str, edits: int) -> str:
    for _ in range(edits):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(("", "x")) + text[at + rng.randint(0, 1) :]
    return text
