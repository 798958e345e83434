"""Attacks and damage are what they say."""

from __future__ import annotations

from random import Random

import pytest
from rapidfuzz.distance import Levenshtein

from ocr_rl.evaluate.attacks import ATTACKS, Target
from ocr_rl.evaluate.attacks.order import caption_moved
from ocr_rl.evaluate.damage import CURVES, LEVELS, with_wrong_characters
from ocr_rl.text.visible import see
from tests.evaluate.simple_rewards import REFERENCE

FORMULA = "\\[ x = \\frac{1}{2} \\]"
ROWS = REFERENCE.replace(
    "</tr>\n</table>", "</tr>\n<tr><td>Oslo</td><td>6</td></tr>\n<tr><td>Bergen</td><td>8</td></tr>\n</table>"
)
TEXT = f"{ROWS}\n\n{FORMULA}\n\nAfter that the tide falls."
SECOND = with_wrong_characters(TEXT, 0.3, Random(1))
OTHER = "Another page. It has a sentence or two, which nobody reads here. " * 20
TARGET = Target(text=TEXT, second=SECOND, other=OTHER, edges=["Almanac", "Page 7"], seed="0")
TEXTS = {attack.name: attack.make(TARGET) for attack in ATTACKS}


def text(name: str) -> str:
    attacked = TEXTS[name]
    assert attacked is not None
    return attacked


def test_every_attack_applies_to_a_page_that_has_everything_and_changes_it() -> None:
    same = {attack.name for attack in ATTACKS if attack.front == "true" and TEXTS[attack.name] in (None, TEXT)}
    assert not same
    assert {attack.name: attack.make(TARGET) for attack in ATTACKS} == TEXTS  # by the seed alone
    assert len(TEXTS) == len(ATTACKS)


def test_attacks_on_a_single_word_apply_or_say_that_they_do_not() -> None:
    bare = Target(text="Word", second="Ward", other="Word", seed="0")
    assert {type(attack.make(bare)) for attack in ATTACKS} == {str, type(None)}


def test_omissions_leave_out_what_they_say() -> None:
    assert text("empty") == ""
    assert text("first line only") == "# Tides 2024"
    lines = [line for line in TEXT.splitlines() if line.strip()]
    assert [line for line in text("first 60 % of the lines").splitlines() if line.strip()] == lines[:7]
    assert not see(text("tables dropped")).tables and see(text("tables dropped")).formulas
    assert not see(text("formulas dropped")).formulas and see(text("formulas dropped")).tables
    assert "Tides" not in text("headings dropped") and "harbour" in text("headings dropped")
    assert text("inner cells dropped").count("<td>") == 3


def test_orders_hold_the_same_blocks() -> None:
    for name in ("paragraphs shuffled", "paragraphs reversed", "headings at the end"):
        assert sorted(text(name).split("\n\n")) == sorted(TEXT.split("\n\n"))
    assert "Then the water rises twice a day and After that" in text("columns interleaved")
    assert "the boats of the harbour" in text("all likely strings, sorted").splitlines()
    assert text("first half again").startswith(TEXT) and text("first half again").count("Tides") == 2


def test_inventions_add_what_they_say() -> None:
    assert text("page twice").count("Nörd") == 2
    assert text("table five times").count("<table>") == 5
    assert len(text("4,000 symbols in front").partition("\n")[0].replace(" ", "")) == 4000
    assert text("junk added").startswith(TEXT)
    assert text("endless loop").endswith("falls. falls. falls.")
    assert len(see(text("tables in two notations")).tables) == 2
    assert text("tables in two readings").count("<table>") == 2
    both = text("every line in two readings").splitlines()
    assert TEXT.splitlines()[2] in both
    assert SECOND.splitlines()[2] in both
    assert text("another page's sentences, 25 %")[len(TEXT) :].strip().startswith("Another page.")


@pytest.mark.parametrize("attack", [attack for attack in ATTACKS if attack.kind == "harmless"], ids=lambda a: a.name)
def test_what_is_harmless_looks_the_same(attack) -> None:
    attacked = attack.make(TARGET)
    assert attacked and see(attacked).text.split() == see(TEXT).text.split()


def test_everything_hidden_leaves_a_reader_nothing() -> None:
    for name in ("in display:none", "in white", "tiny", "in a comment"):
        assert not see(text(f"everything {name}")).text.strip(), name
    assert see(text("second reading in a comment")).text == see(TEXT).text


def test_damage_is_what_it_says() -> None:
    assert text("all cells equal").count("Quay") == 8
    assert text("header and footer kept").startswith("Almanac") and text("header and footer kept").endswith("Page 7")
    assert "NÖRD" in text("upper-cased") and "<td>" in text("upper-cased")
    assert text("diacritics dropped") == TEXT.replace("ö", "o")
    assert text("digits changed").startswith(ROWS[:60].replace("2024", "3135"))
    assert Levenshtein.distance(text("one wrong digit in a table"), TEXT) == 1


def test_honest_is_a_tenth_wrong_and_leaves_markup_alone() -> None:
    honest = with_wrong_characters(TEXT, 0.1, Random(0))
    letters = sum(char.isalnum() for char in see(TEXT).text)
    assert 0.07 * letters < Levenshtein.distance(honest, TEXT) < 0.11 * letters
    assert honest.count("<td>") == 6 and "\\frac" in with_wrong_characters(TEXT, 1.0, Random(0))


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
