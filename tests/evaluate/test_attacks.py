"""Attacks and damage are what they say."""

from __future__ import annotations

from random import Random

import pytest
from rapidfuzz.distance import Levenshtein

from ocr_rl.evaluate.attacks import ATTACKS, Target, caption_moved
from ocr_rl.evaluate.damage import CURVES, LEVELS, with_wrong_characters
from tests.evaluate.simple_rewards import REFERENCE

TARGET = Target(reference=REFERENCE, other="Another page.", edges=["Almanac", "Page 7"], seed="0")
TEXTS = {attack.name: attack.make(TARGET) for attack in ATTACKS}


def text(name: str) -> str:
    cheat = TEXTS[name]
    assert cheat is not None
    return cheat


def test_every_attack_applies_to_a_page_that_has_everything_and_changes_it() -> None:
    assert all(cheat is not None and cheat != REFERENCE for cheat in TEXTS.values())
    assert {attack.name: attack.make(TARGET) for attack in ATTACKS} == TEXTS  # by the seed alone


def test_cheats_are_what_they_say() -> None:
    assert text("empty") == ""
    assert text("first line only") == "# Tides 2024"
    assert text("page twice").count("Nörd") == 2
    assert sorted(text("paragraphs shuffled").split("\n\n")) == sorted(REFERENCE.split("\n\n"))
    assert text("columns interleaved").index("Then") < text("columns interleaved").index("boats")
    assert "the boats of the harbour" in text("all likely strings, sorted").splitlines()
    assert text("table five times").count("<table>") == 5
    assert text("another page") == "Another page."
    assert text("reference + junk").startswith(REFERENCE)
    assert text("endless loop").endswith("</table> </table>")


def test_damage_is_what_it_says() -> None:
    assert text("all cells equal").count("Quay") == 4
    assert text("header and footer kept").startswith("Almanac") and text("header and footer kept").endswith("Page 7")
    assert "NÖRD" in text("upper-cased") and "<td>" in text("upper-cased")
    assert text("diacritics dropped") == REFERENCE.replace("ö", "o")
    assert text("digits changed") == REFERENCE.replace("2024", "3135").replace("7.5", "8.6")
    assert Levenshtein.distance(text("one wrong digit in a table"), REFERENCE) == 1
    assert text("invisible characters").replace("\u200b", "") == REFERENCE


def test_honest_is_a_tenth_wrong_and_leaves_markup_alone() -> None:
    honest = with_wrong_characters(REFERENCE, 0.1, Random(0))
    letters = sum(char.isalnum() for char in REFERENCE.replace("table", "").replace("tr", "").replace("td", ""))
    assert 0.07 * letters < Levenshtein.distance(honest, REFERENCE) < 0.11 * letters
    assert honest.count("<td>") == 2


@pytest.mark.parametrize("kind", CURVES)
def test_more_damage_is_further_from_the_reference(kind: str) -> None:
    """Within a kind a higher level damages a superset; the first level may touch nothing on a small page."""
    distances = [Levenshtein.distance(CURVES[kind](REFERENCE, share, Random(0)), REFERENCE) for share in (0, *LEVELS)]
    assert distances[0] == 0 or kind in ("lines lost", "junk added")
    assert distances[-1] > distances[0]
    assert distances == sorted(distances)


def test_a_caption_stands_on_either_side_of_its_table() -> None:
    orders = caption_moved(REFERENCE)
    assert orders is not None
    assert orders[0].index("Table 1") < orders[0].index("<table>") < orders[1].index("Table 1")
    assert caption_moved("no table") is None
