"""TEDS: worked by hand, beside a plain tree edit distance, beside the reference code's values, and on hostile text."""

import random
from functools import lru_cache

import pytest
from rapidfuzz.distance import Levenshtein

from ocr_rl.text import teds as module
from ocr_rl.text.table_tree import DEEPEST, Node, bare, tag_character, tree, tree_of
from ocr_rl.text.tables import html_tables, markdown_tables
from ocr_rl.text.teds import distance, similarity, teds

# --- Trees --------------------------------------------------------------------------------------------------------


def shape(text: str) -> str:
    """A tree as `table(tr(td'a' td'b'))`; inline tags in cells as ·."""

    def show(node: Node) -> str:
        spans = f"{node.colspan}x{node.rowspan}" if (node.colspan, node.rowspan) != (1, 1) else ""
        content = "".join("·" if c >= "\U000f0000" else c for c in node.content)
        inner = f"({' '.join(map(show, node.children))})" if node.children else ""
        return node.tag + spans + (f"'{content}'" if content else "") + inner

    made = tree(text)
    return show(made.root) if made else "none"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x <TABLE><tr><td>a</td><TD Colspan='2'>b</td></tr></table> y", "table(tr(td'a' td2x1'b'))"),
        # End tags may be left out.
        ("<table><thead><tr><td>a<td>b<tbody><tr><td>c</table>", "table(thead(tr(td'a' td'b')) tbody(tr(td'c')))"),
        ("<table><tr><td>a<td>b<tr><td>c", "table(tr(td'a' td'b') tr(td'c'))"),
        ("<table><tbody><tr><td>1<tbody><tr><td>2</table>", "table(tbody(tr(td'1')) tbody(tr(td'2')))"),
        # Text outside cells is left out, a heading's too; tags in a heading are nodes.
        ("<table>x<caption>c</caption><tr>y<th colspan=2>h<b>i</b></th></tr></table>", "table(caption tr(th(b)))"),
        ("<table><tr><td>a<br>b<br/>c<!-- d --> <i>e</i></td></tr></table>", "table(tr(td'a··b··c ·e·'))"),
        ("<table><tr><td>&lt;&amp;amp;&nbsp;&foo;&#233;&copy</td></tr></table>", "table(tr(td'<&amp;\xa0&foo;é©'))"),
        # A table in a cell is part of its content; the text behind the inner cell is not, as in the reference code.
        (
            "<table><tr><td>a<table><tr><td>b</td>tail</tr></table>c</td></tr></table>",
            "table(tr(td'a···b···c'))",
        ),
        # End tags that match nothing, or would close a cell from within.
        ("<table><tr><td>a</b>b</div></td></tr></tr><tr><td>c</td></tr></table>", "table(tr(td'ab') tr(td'c'))"),
        ("<table><tr><td><b>a<div>b</b>c</div></td><td>d</td></tr></table>", "table(tr(td'·a·bc··' td'd'))"),
        ("<table><tr><td colspan=2 colspan=3 rowspan='x'>a</td></tr></table>", "table(tr(td2x1'a'))"),
        ("<table><tr><td>a\r\nb</td></tr></table><table><tr><td>second</table>", "table(tr(td'a\nb'))"),
        ("no table", "none"),
        ("<tablet><td>a</td></tablet>", "none"),
        ("<table", "none"),
        ("\u0130<table></table>", "table"),  # whose lower case is longer
    ],
)
def test_trees_of_html(text: str, expected: str) -> None:
    assert shape(text) == expected


def test_elements_in_cells_are_counted() -> None:
    made = tree("<table><tr><td>a<br><b>c</b></td><th><i>d</i></th></tr></table>")
    assert made and made.num_elements == 6


def test_inline_tags_have_characters_of_their_own() -> None:
    names = (
        "a b big br code div em font h1 h2 h3 i img input li math ol p s small span strong sub sup table td th tr u ul"
    )
    tags = [f"{start}{name}>" for name in names.split() for start in ("<", "</")]
    assert len({tag_character(tag) for tag in tags}) == len(tags)


def test_tree_of_a_grid() -> None:
    (table,) = markdown_tables("| a | b |\n|---|---|\n| c | d |")
    (same,) = html_tables("<table><thead><tr><th>a</th><th>b</th></tr></thead><tr><td>c</td><td>d</td></tr></table>")
    expected = tree("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td><td>d</td></tr></table>")
    assert tree_of(table) == tree_of(same) == expected
    text = "<table><tr><td rowspan=2>a</td><td colspan=3>b</td></tr><tr><td>c</td></tr></table>"
    (spans,) = html_tables(text)
    assert tree_of(spans) == tree(text)


# --- Worked by hand -----------------------------------------------------------------------------------------------

FOUR = "<table><tr><td>ab</td><td>cd</td></tr><tr><td>ef</td><td>gh</td></tr></table>"  # six elements


@pytest.mark.parametrize(
    ("candidate", "whole", "structure"),
    [
        (FOUR, 1, 1),
        (FOUR.replace("cd", "cx"), 1 - 0.5 / 6, 1),
        (FOUR.replace("cd", "x"), 1 - 1 / 6, 1),
        (FOUR.replace("cd", ""), 1 - 1 / 6, 1),
        (FOUR.replace("<td>cd", "<td colspan=2>cd"), 1 - 1 / 6, 1 - 1 / 6),
        (FOUR.replace("td", "th"), 1 - 4 / 6, 1 - 4 / 6),
        (FOUR.replace("<td>gh</td>", ""), 1 - 1 / 6, 1 - 1 / 6),
        ("<table><tr><td>ab</td><td>cd</td></tr></table>", 0.5, 0.5),
        # One row of all cells: no row can be kept with cells of both, so two are deleted and one inserted.
        (FOUR.replace("</tr><tr>", ""), 0.5, 0.5),
        # A section more: 7 elements, one to insert.
        (FOUR.replace("<table>", "<table><tbody>"), 1 - 1 / 7, 1 - 1 / 7),
        ("<table></table>", 0, 0),
        ("no table", 0, 0),
    ],
)
def test_by_hand(candidate: str, whole: float, structure: float) -> None:
    for a, b in ((FOUR, candidate), (candidate, FOUR)):
        assert teds(a, b) == pytest.approx(whole, abs=1e-12)
        assert teds(a, b, structure_only=True) == pytest.approx(structure, abs=1e-12)


def test_two_tables_of_nothing_are_equal() -> None:
    assert teds("<table></table>", "<table>") == 1.0


def test_a_distance_above_all_elements_counts_zero() -> None:
    chain = "<table>" + "<q>" * 6 + "</q>" * 6 + "</table>"
    star = "<table>" + "<u></u>" * 6 + "</table>"
    assert teds(chain, star) == 0.0  # five deleted, five inserted, one renamed, of six


# --- Beside a plain recursion -------------------------------------------------------------------------------------


def plain_distance(a: Node, b: Node) -> float:
    """The recursion over the last roots of two forests."""

    @lru_cache(None)
    def between(f: tuple[Node, ...], g: tuple[Node, ...]) -> float:
        if not f and not g:
            return 0.0
        options = []
        if f:
            options.append(1 + between(f[:-1] + f[-1].children, g))
        if g:
            options.append(1 + between(f, g[:-1] + g[-1].children))
        if f and g:
            x, y = f[-1], g[-1]
            options.append(rename(x, y) + between(x.children, y.children) + between(f[:-1], g[:-1]))
        return min(options)

    return between((a,), (b,))


def rename(a: Node, b: Node) -> float:
    if a[:3] != b[:3]:
        return 1
    most = max(len(a.content), len(b.content))
    return Levenshtein.distance(a.content, b.content) / most if most else 0


def random_tree(rng: random.Random, num: int) -> Node:
    children, left = [], num - 1
    while left:
        size = rng.randint(1, left)
        children.append(random_tree(rng, size))
        left -= size
    if children:
        return Node(rng.choice(("table", "tr", "tbody")), children=tuple(children))
    if rng.random() < 0.2:
        return Node("tr")
    return Node("td", rng.choice((1, 1, 2)), 1, rng.choice(("", "a", "ab", "abc", "xbc")))


@pytest.mark.parametrize("seed", range(300))
def test_distance_is_that_of_a_plain_recursion(seed: int) -> None:
    rng = random.Random(seed)
    a, b = (random_tree(rng, rng.randint(1, 9)) for _ in range(2))
    expected = plain_distance(a, b)
    assert distance(a, b) == pytest.approx(expected, abs=1e-9)
    assert distance(b, a) == pytest.approx(expected, abs=1e-9)
    assert distance(a, a) == 0
    assert distance(bare(a), bare(b)) == pytest.approx(plain_distance(bare(a), bare(b)), abs=1e-9)


@pytest.mark.parametrize("seed", range(50))
def test_above_the_bound_the_distance_is_no_less(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    a, b = (random_tree(rng, rng.randint(1, 30)) for _ in range(2))
    exact = distance(a, b)
    monkeypatch.setattr(module, "MOST_PAIRS", 0)
    assert distance(a, b) >= exact - 1e-9
    assert distance(a, a) == 0


def test_structure_ignores_contents() -> None:
    other = FOUR.replace("ab<", "something <b>else</b><").replace("gh", "")
    assert teds(FOUR, other, structure_only=True) == 1
    assert teds(FOUR, other) == pytest.approx(1 - (18 / 18 + 1) / 7)


# --- The reference code's values (PubTabNet's metric.py, lxml 6.1.3, apted 1.0.3) -----------------------------------

A = (
    "<table><thead><tr><th>Name</th><th colspan=2>Sales</th></tr></thead><tbody>"
    "<tr><td>North</td><td>1,204</td><td>2 &amp; 3</td></tr><tr><td>South</td><td><b>17</b></td><td></td></tr>"
    "<tr><td rowspan=2>East</td><td>x<br>y</td><td>5</td></tr><tr><td>6</td><td>7</td></tr></tbody></table>"
)
B = (
    "<table><tr><td>Name</td><td colspan=2>Sales</td></tr>"
    "<tr><td>North</td><td>1,204</td><td>2 & 3</td></tr><tr><td>South</td><td>17</td></tr>"
    "<tr><td rowspan=2>East</td><td>x y</td><td>5</td></tr><tr><td>6</td><td>8</td></tr></table>"
)
C = (
    "<table><tr><th>Name<td>Sales<tr><td>North 1,204<td>2 & 3<tr><td>South<td><i>17</i><td>"
    "<tr><td>East<td><p>x</p><p>y</p><tr><td>5<td>6<td>7</table>"
)


@pytest.mark.parametrize(
    ("reference", "candidate", "whole", "structure"),
    [
        (A, B, 0.6818181818181819, 0.7727272727272727),
        (A, C, 0.6039944903581267, 0.7272727272727273),
        (B, C, 0.5143939393939394, 0.7),
    ],
)
def test_the_reference_codes_values(reference: str, candidate: str, whole: float, structure: float) -> None:
    assert teds(reference, candidate) == pytest.approx(whole, abs=1e-12)
    assert teds(reference, candidate, structure_only=True) == pytest.approx(structure, abs=1e-12)


# --- Hostile text -------------------------------------------------------------------------------------------------

LONG = 50_000


@pytest.mark.parametrize(
    "text",
    [
        "<table>" + "<td>" * (LONG // 4),
        "<table>" + "<tr>" * (LONG // 4),
        "<table>" + "<b>" * (LONG // 3),
        "<table><td><b><div>" + "<i>" * (LONG // 6) + "</b>" * (LONG // 8),
        "<table><tr><td>" * (LONG // 15),
        "<table><tr><th>" * (LONG // 15),
        "<table><td>&#" + "9" * LONG + ";",
        "<table><td>" + "<" * LONG,
        "<table><td>" + "<!--" * (LONG // 4),
        "<table><td colspan=" + "9" * LONG + ">a",
        "<table><td " + "a=1 " * (LONG // 4) + ">",
        "<table><td>\ud800\udfff\0\U000f0000" + "\u0130" * LONG,
        "<table>" + ("<i>" * 60 + "</i>" * 60) * 200,
    ],
)
def test_hostile_text_is_judged(text: str) -> None:
    for structure_only in (False, True):
        assert 0 <= teds(FOUR, text, structure_only=structure_only) <= 1
        assert teds(text, text, structure_only=structure_only) == 1


def test_depth_is_bounded() -> None:
    made = tree("<table>" + "<tr>x<i>" * 500)
    depth, nodes = 0, [made.root] if made else []
    while nodes:
        depth, nodes = depth + 1, [child for node in nodes for child in node.children]
    assert depth <= DEEPEST + 1


def test_similarity_of_trees_of_notations() -> None:
    (markdown,) = markdown_tables("| a | b |\n|---|---|\n| c | dx |")
    (html,) = html_tables("<table><tr><th>a</th><th>b</th></tr><tr><td>c</td><td>d</td></tr></table>")
    assert similarity(tree_of(markdown), tree_of(html)) == pytest.approx(1 - 0.5 / 6)
    assert similarity(tree_of(markdown), tree_of(html), structure_only=True) == 1
