"""Formulas: extraction, the layout of symbols, and both readings of the comparison."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest

from ocr_rl.text.formulas import equal, extract, prepare
from ocr_rl.text.math_layout import layout
from ocr_rl.text.math_match import Symbols, embeds, symbols
from ocr_rl.text.math_render import MAX_CHARS, render

ORACLE = Path(__file__).resolve().parents[2].parent / "shared" / "oracle" / "dev"


@pytest.mark.parametrize(
    ("text", "formulas"),
    [
        (r"a \(x\) b \[ y \] c $$z$$ d $w$", ["x", "y", "z", "w"]),
        (r"$a$ then \(b\)", ["b", "a"]),  # in the order of the kinds, not of the text
        ("$$x\n+ y$$", ["x\n+ y"]),
        (r"costs \$5 and \$6", ["5 and \\"]),  # an escaped dollar counts
        (r"\begin{equation}x\end{equation}", []),
        ("lone $ sign", []),
        (r"\(a\)$\(b\)$", ["a", "b"]),  # nothing is left between the dollars, so they are no pair
        ("$$$", ["$"]),
        (r"\(\)x\)", [r"\)x"]),  # a formula has one character at least
    ],
)
def test_extract(text: str, formulas: list[str]) -> None:
    assert extract(text) == formulas


def test_dollars_can_be_left_alone() -> None:
    assert extract(r"$a$ \(b\) $$c$$ \[d\]", dollars=False) == ["b", "d"]


@pytest.mark.parametrize("text", ["$" * 1_000_001, "\\(" * 500_000, "\\[x" * 300_000, "$ $$ \\( " * 100_000])
def test_extraction_is_linear_in_hostile_text(text: str) -> None:
    assert sum(map(len, extract(text))) <= len(text)


def boxes(tex: str) -> dict[str, tuple[float, float, float, float]]:
    markup = render(tex)
    assert markup is not None
    return {box.text: box[1:] for box in layout(markup.html)}


def test_boxes_are_those_of_a_browser() -> None:
    """Read off Chromium 156 with Liberation Serif: (x, y, width, height) relative to the left parenthesis."""
    browser = {"b": (13.15625, 19.921875, 14.515625, 32), "a": (13.15625, -19.65625, 14.515625, 32)}
    browser |= {")": (31.15625, 0, 9.671875, 32), "2": (40.828125, -18.21875, 10.15625, 22)}
    placed = boxes(r"\left( \frac{a}{b} \right)^2")
    x, y = placed["("][:2]
    for letter, expected in browser.items():
        seen = placed[letter]
        assert (seen[0] - x, seen[1] - y, *seen[2:]) == pytest.approx(expected, abs=0.05)


def test_text_behind_a_nested_span_takes_room() -> None:
    placed = boxes(r"\gcd(x")  # KaTeX writes <span><span>g</span>cd</span>
    assert placed["("][0] - placed["g"][0] > 35


def test_tag_stands_at_the_right_end() -> None:
    placed = boxes(r"abcdefgh \tag{3}")
    assert placed["3"][0] > placed["h"][0] - 40 and placed["3"][1] == pytest.approx(placed["h"][1])


def test_neighbours() -> None:
    row = symbols([("ab", (0, 0, 20, 10)), ("c", (0, 20, 12, 10))])  # c below a, centres 1 px apart
    up, down, left, right = row.neighbours
    assert row.letters == ("a", "b", "c")
    assert (up, down, left, right) == ((-1, -1, 0), (2, -1, -1), (-1, 0, -1), (1, -1, -1))


def by_trying_all(part: Symbols, whole: Symbols) -> bool:
    def fits(choice: tuple[int, ...]) -> bool:
        for index, place in enumerate(choice):
            if part.letters[index] != whole.letters[place]:
                return False
            for near, below in zip(part.neighbours, whole.neighbours, strict=True):
                if near[index] < 0:
                    continue
                if below[place] < 0:
                    return False
                if near[index] < index and choice[near[index]] != below[place]:
                    return False
                if whole.letters[below[place]] != part.letters[near[index]]:
                    return False
        return True

    return any(map(fits, permutations(range(len(whole.letters)), len(part.letters))))


def test_search_agrees_with_trying_all_assignments() -> None:
    rng = random.Random(0)
    seen = set()
    for _ in range(300):
        grid = [(8.0 * x, 8.0 * y) for x in range(3) for y in range(2)]
        wholes = rng.sample(grid, 5)
        whole = symbols([(rng.choice("ab"), (x + rng.choice((0, 3)), y, 4, 4)) for x, y in wholes])
        parts = rng.sample(wholes, 3) if rng.random() < 0.7 else rng.sample(grid, 3)
        part = symbols([(rng.choice("ab"), (x, y, 4, 4)) for x, y in parts])
        verdict = embeds(part, whole)
        assert verdict == by_trying_all(part, whole)
        seen.add(verdict)
    assert seen == {True, False}


def test_search_ends_where_trying_all_would_not() -> None:
    """Lone letters can be laid in 200! ways. Three symbols that all need one of two places cannot be laid at all."""
    lone = Symbols(letters=("x",) * 200, neighbours=((-1,) * 200,) * 4)
    assert embeds(lone, lone)
    none = (-1,) * 202
    two = Symbols(letters=("x",) * 200 + ("y",) * 2, neighbours=((200, 201, *none[2:]), none, none, none))
    three = Symbols(letters=("x",) * 200 + ("y",) * 2, neighbours=((200, 201, 201, *none[3:]), none, none, none))
    assert embeds(two, two) and embeds(two, three)
    assert not embeds(three, two)


SAME = [
    ("x+1", " x + 1 "),
    (r"\frac12", r"\frac{1}{2}"),
    (r"s\left(t\right)", "s(t)"),
    (r"\mathbf{F}", "F"),
    ("x^2_i", "x_i^2"),
    (r"\binom{n}{k}", r"\begin{pmatrix}n\\k\end{pmatrix}"),
    (r"\int_a^b f", r"\int\limits_a^b f"),
    (r"\operatorname{Ann}_R(x)", r"\text{Ann}_R(x)"),
]
HOLES = [  # equal in the public reading only
    ("x", r"\sqrt{x}"),
    ("x", "x+1"),
    ("x", "x_1"),
    ("x^2", "x2"),
    ("x_2", "x^2"),
    (r"\sqrt{x}", "x"),
    ("a+b", r"\begin{aligned}a+b\\c\end{aligned}"),
    (r"\frac{a", "y"),  # cannot be rendered: matches anything
    (r"\frac{a", r"\notamacro"),
    (r"\quad", "y"),  # shows nothing: matches anything
]
DIFFERENT = [
    ("x2", "x^2"),
    (r"\frac{a}{b}", "a/b"),
    (r"\hat{x}", "x"),
    (r"\ldots", "..."),
    ("x", "y"),
    ("x", r"\frac{x"),
]


@pytest.mark.parametrize(("reference", "candidate"), SAME)
def test_same_in_both_readings(reference: str, candidate: str) -> None:
    assert equal(reference, candidate) and equal(reference, candidate, "strict")
    assert equal(candidate, reference, "strict")


@pytest.mark.parametrize(("reference", "candidate"), HOLES)
def test_holes_are_open_in_compatible_and_closed_in_strict(reference: str, candidate: str) -> None:
    assert equal(reference, candidate, "compatible")
    assert not equal(reference, candidate, "strict")


@pytest.mark.parametrize(("reference", "candidate"), DIFFERENT)
def test_different_in_both_readings(reference: str, candidate: str) -> None:
    assert not equal(reference, candidate) and not equal(reference, candidate, "strict")


def test_strict_forgives_numbering_and_closing_punctuation() -> None:
    assert equal("x = 1", r"x = 1. \tag{3}", "strict")
    assert equal(r"x = 1 \label{eq:1}", "x = 1,", "strict")
    assert not equal("x = 1", "x = 1.5", "strict")


def test_unrenderable_matches_itself_in_strict() -> None:
    assert equal(r"\frac{a", r"\frac{a", "strict")


@pytest.mark.parametrize(
    "tex",
    [
        "x" * (MAX_CHARS + 1),
        r"\def\a{\a\a}\a",
        "{" * 3000 + "x" + "}" * 3000,
        r"\sqrt{" * 400 + "x" + "}" * 400,
        "x" * 5000,
    ],
)
def test_hostile_formulas_are_refused(tex: str) -> None:
    assert prepare(tex) is None
    assert not equal("x", tex)


def test_odd_characters_are_shown() -> None:
    shown = prepare("a\x00b\ud800c")
    assert shown is None or "a" in shown.symbols.letters


def test_macros_do_not_outlive_their_formula() -> None:
    assert equal(r"\gdef\mine{y}\mine", "y")
    assert prepare(r"\mine") is None


def test_the_interpreter_ends_with_the_engine_running() -> None:
    program = "import os, sys; from ocr_rl.text.formulas import equal; assert equal('x', 'x+1')\n"
    program += "child = os.fork()\nassert equal('x', 'x+2')\nif child: assert os.waitpid(child, 0)[1] == 0\nsys.exit(0)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120, cwd=Path(__file__).parents[2])


@pytest.mark.skipif(not ORACLE.is_dir(), reason="no folder shared/oracle/dev beside the checkout")
def test_agrees_with_the_public_benchmark() -> None:
    rows = [json.loads(line) for line in (ORACLE / "equations.jsonl").read_text(encoding="utf-8").splitlines()[::4]]
    sure = [row for row in rows if row["equal"] == row["equal_dejavu_fonts"] == row["equal_katex_fonts"]]
    wrong = [row["case_id"] for row in sure if equal(row["reference"], row["candidate"]) != row["equal"]]
    assert len(sure) > 100 and len(wrong) <= len(sure) // 100, wrong
