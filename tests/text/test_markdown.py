"""Headings, emphasis and footnote markers in both readings."""

from typing import Literal

import pytest

from ocr_rl.text.markdown import bold, footnote_places, headings, italic, without_images
from ocr_rl.text.visible import see

Reading = Literal["compatible", "strict"]


@pytest.mark.parametrize(
    ("text", "compatible", "strict"),
    [
        ("# A\n###### B", ["A", "B"], ["A", "B"]),
        ("####### A\n#B\n  # C\nD\n===", [], ["C", "D"]),
        ("#\n\nA", ["A"], []),
        ("<H2 class='x'>A\nB</h3>", ["A\nB"], ["A B"]),
        ("<header>A</h1>", [], []),
        ("## A ##", ["A ##"], ["A"]),
    ],
)
def test_headings(text: str, compatible: list[str], strict: list[str]) -> None:
    assert headings(text) == compatible
    assert see(text).marked["heading"] == strict


@pytest.mark.parametrize(
    ("text", "compatible", "strict"),
    [
        ("**a** b **c**", ["a", "c"], ["a", "c"]),
        ("__a__", ["a"], ["a"]),
        ("<b>a</b> <STRONG>b</STRONG>", ["a", "b"], ["a", "b"]),
        ("<br>X</b>", ["X"], []),
        ("<blockquote>X</b>", ["X"], []),
        ("a__b X c__d", ["b X c"], []),
        ("**a\n\nb**", ["a\n\nb"], []),
        ("a ** b ** c", [" b "], []),
        ("<b>a", [], ["a"]),  # as in browsers
    ],
)
def test_bold(text: str, compatible: list[str], strict: list[str]) -> None:
    assert bold(text) == compatible
    assert see(text).marked["bold"] == strict


@pytest.mark.parametrize(
    ("text", "compatible", "strict"),
    [
        ("*a* b _c_", ["a", "c"], ["a", "c"]),
        ("* X\n* Y", [" X\n"], []),
        ("a_b X c_d", ["b X c"], []),
        ("__X__", [], []),
        ("<em>a</em><i>b</i>", ["b", "a"], ["a", "b"]),
        ("<img src='x'>X</i>", ["X"], []),
    ],
)
def test_italic(text: str, compatible: list[str], strict: list[str]) -> None:
    assert italic(text) == compatible
    assert see(text).marked["italic"] == strict


@pytest.mark.parametrize(
    ("text", "marker", "compatible", "strict"),
    [
        ("a[^1] b", "1", 1, 1),
        ("[^1]: note", "1", 0, 0),
        ('<SUP class="f">1</sup>', "1", 1, 1),
        ("<sup> 1</sup>", "1", 0, 0),
        ("<sup>A</sup>", "a", 1, 0),
        ("a¹²", "1", 1, 0),
        ("a¹²", "12", 1, 1),
        ("^1 [1] $^{1}$", "1", 0, 0),
        ("x[^*]", "*", 1, 1),
    ],
)
def test_footnote_places(text: str, marker: str, compatible: int, strict: int) -> None:
    assert len(footnote_places(text, marker, "compatible")) == compatible
    assert len(footnote_places(text, marker, "strict")) == strict


def test_images_are_taken_out() -> None:
    assert without_images("a ![alt text](x.png) b") == "a  b"
    assert without_images("![no\nimage](x)") == "![no\nimage](x)"
