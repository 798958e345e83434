"""The one form for text that means the same."""

import sys
import unicodedata

import pytest

from ocr_rl.text.normalize import (
    LONG,
    SPACES,
    collapse,
    compose,
    count_alphanumeric,
    has_alphanumeric,
    letters_and_digits,
    normalize,
    normalize_all,
    reaches,
    tail_repeats,
    without_surrogates,
)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("a<br>b<br/>c<br />d<BR>e", "a b c<br />d<BR>e"),
        ("**x** __y__ *z* _w_ ***v***", "x y z w v"),
        ("<b>x</b> <i>y</i> <strong>z</strong>", "x y <strong>z</strong>"),
        ("snake_case_name", "snakecasename"),
        ("2 * 3 * 4", "2 3 4"),
        ("$a_1 + b_1$", "$a1 + b1$"),
        ("**a\nb**", "a b"),
        ("*a _b_ c*", "a _b_ c"),  # of nested marks only the outer pair goes
        ("one *star", "one *star"),
        (" a\u00a0\u2009b\u3000\u2028c\u200bd ", " a b c\u200bd "),
        (" \n", " "),
        ("", ""),
        ("e\u0301", "é"),
        ("\ufb01", "\ufb01"),
        ("‘a’ “b” – — − µ", "'a' \"b\" - - - μ"),
        ("\uff3fa\uff3f", "_a_"),
        ("\u2010 … « »", "\u2010 … « »"),
    ],
)
def test_normal_form(text: str, form: str) -> None:
    assert normalize(text) == form


def test_long_runs_of_combining_marks_are_composed_in_pieces() -> None:
    # sorting the marks of one run is quadratic: 10^10 steps for this one if it were sorted whole
    text = "a" + "\u0301" * 100_000 + "\u0323" * 100_000
    assert len(compose(text)) >= len(text) - 1
    short = "a" + "\u0301" * 5 + "\u0323" * 5
    assert compose(short) == unicodedata.normalize("NFC", short)


def test_lone_surrogates_become_replacement_characters() -> None:
    assert without_surrogates("a\ud800b\U0001f600") == "a\ufffdb\U0001f600"
    assert without_surrogates("plain") == "plain"


def test_letters_and_digits_of_any_script() -> None:
    assert letters_and_digits("Été_2, Ж-漢!") == "été2ж漢"
    assert count_alphanumeric("a_b 1 漢 -") == 4
    assert has_alphanumeric("--7") and not has_alphanumeric("_-…")


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("abab", [1, 2, 1, 1, 0]),
        ("aabaabaa", [2, 1, 2, 1, 1]),
        ("a \n\t a  a", [1, 2, 1, 1, 1]),
        ("....\n", [1, 1, 1, 1, 1]),  # one trailing newline hides a run of dots
        ("", [0, 0, 0, 0, 0]),
    ],
)
def test_tail_repeats(text: str, counts: list[int]) -> None:
    assert tail_repeats(text) == counts


def test_long_texts_collapse_as_short_ones_do() -> None:
    assert sorted(SPACES) == [c for c in map(chr, range(sys.maxunicode + 1)) if c.isspace() and c != " "]
    piece = "".join(f"a{space}b {space}\n" for space in SPACES)
    for text in (f"\t{piece}", piece.encode("ascii", "ignore").decode()):
        long = text * LONG
        assert collapse(long) == collapse(text)[:-1] + f" {collapse(text).strip()}" * (LONG - 1) + " "


def test_repeats_at_the_end_are_counted_to_their_start() -> None:
    assert tail_repeats("text " + "ab" * 5_000)[:2] == [1, 5_000]
    assert tail_repeats("text" + "\n" * 5_000)[0] == 1
    assert tail_repeats("." * 1_000) == [1_000, 500, 333, 250, 200]


def test_many_texts_at_once_are_normalised_as_one_by_one() -> None:
    for texts in (["a  b", " “c” ", "", "e\u0301"], ["*a*", "b * c", "d"], ["a\0b", "c"], []):
        assert normalize_all(texts) == [normalize(text) for text in texts]
    assert normalize_all(["a*b", "c*d"]) == ["a*b", "c*d"]  # no mark pairs with one of another text


@pytest.mark.parametrize("text", ["", "abc", "é—", "\u303f", "\u3040", "a\U0001f600"])
def test_reaches(text: str) -> None:
    assert reaches(text, 0x3040) == any(c >= "\u3040" for c in text)
