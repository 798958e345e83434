"""The one form for text that means the same."""

import unicodedata

import pytest

from ocr_rl.text.normalize import (
    compose,
    count_alphanumeric,
    has_alphanumeric,
    letters_and_digits,
    normalize,
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
