"""What a reader sees of a transcript, and what not."""

from __future__ import annotations

import pytest

from ocr_rl.text.hidden import without_comments
from ocr_rl.text.tex import count_symbols, formulas, without_delimiters
from ocr_rl.text.visible import budget, count_visible, searchable, see, see_phrase


def seen(text: str) -> str:
    return searchable(see(text).text).strip()


# --- what is shown --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("# A\n\nb *c* __d__ `e`", "A b c d e"),
        ("a &amp; b &lt;c&gt; &#233;", "a & b <c> é"),
        ("a\\_b \\* c", "a_b * c"),
        ("H<sub>2</sub>O, m<sup>2</sup>", "H2O, m2"),
        ("[link](http://x.org 'title') <http://y.org>", "link http://y.org"),
        ("7. seven\n9. nine\n\n- dash\n* star", "7. seven 9. nine - dash - star"),
        ("<ol start=4><li>four<li>five</ol><ul><li>dot</ul>", "4. four 5. five - dot"),
        ("text[^1] and more\n\n[^1]: Note", "text[^1] and more [^1]: Note"),
        ("a<br>b<br/>c", "a b c"),
        ("<p>one<p>two", "one two"),
        ("```markdown\n# A\n\nb\n```", "A b"),
        ("    <table><tr><td>1</td></tr></table>", "1"),  # indented: still a table
        ("line one\nline two", "line one line two"),
        ("5 * 3 * 2 and a_b c_d", "5 * 3 * 2 and a_b c_d"),
        ("$5 and $7 each", "$5 and $7 each"),
        (r"then $s$ has \(x^2\)", "then s has x^2"),
        ("<td>lone cell", "lone cell"),
        ("a < b and b > c", "a < b and b > c"),
        ("<details open><summary>S</summary>inside</details>", "S inside"),
        ("<ruby>漢<rp>(</rp><rt>kan</rt><rp>)</rp></ruby>", "漢kan"),
    ],
)
def test_shown(text: str, shown: str) -> None:
    assert seen(text) == shown


@pytest.mark.parametrize(
    "hidden",
    [
        "<!-- secret -->",
        "<!-- open to the end",
        "<!--secret--!>",
        '<span title="secret"></span>',
        "<img alt='secret' src='secret.png'>",
        "![secret](secret.png)",
        '[secret]: http://secret.org "secret"',
        '<div style="display:none">secret</div>',
        '<div style="display : NONE">\n\nsecret\n\nsecret\n\n</div>',
        "<div hidden>secret</div>",
        '<p hidden="">secret</p>',
        "<span style='visibility:hidden'>secret</span>",
        "<span style=opacity:0>secret</span>",
        "<span style='opacity: 0.05'>secret</span>",
        "<span style='font-size:0'>secret</span>",
        "<span style='font-size: 1px'>secret</span>",
        "<span style='font-size: 0.1em'>secret</span>",
        "<span style='font:1px serif'>secret</span>",
        "<span style='color:#fff'>secret</span>",
        "<span style='color:#FFFFFF'>secret</span>",
        "<span style='color: white'>secret</span>",
        "<span style='color:rgba(0,0,0,0)'>secret</span>",
        "<span style='color:transparent'>secret</span>",
        "<span style='font-weight:bold; color: hsl(0, 0%, 100%)'>secret</span>",
        "<span style='color:rgb(0 0 0 / 0)'>secret</span>",
        "<span style='color:#0000'>secret</span>",
        "<span style='color:rgb(250, 250, 250)'>secret</span>",
        "<span style='height:0.1em;overflow:hidden'>secret</span>",
        "<div style='left:9999px;position:absolute'>secret</div>",
        "<font color=white>secret</font>",
        "<font color='#ffffff'>secret</font>",
        "<div style='height:0;overflow:hidden'>secret</div>",
        "<div style='width:0px'>secret</div>",
        "<div style='position:absolute;left:-9999px'>secret</div>",
        "<div style='text-indent:-999px'>secret</div>",
        "<div style='clip-path:inset(100%)'>secret</div>",
        "<div style='transform:scale(0)'>secret</div>",
        "<div style='dis/**/play:none'>secret</div>",
        "<div style='display\\3a none'>secret</div>",
        "<div style='display&#58;none'>secret</div>",
        "~~secret~~",
        "<del>secret</del> <s>secret</s> <strike>secret</strike>",
        "<span style='text-decoration:line-through'>secret</span>",
        "<script>secret</script><style>secret</style><template>secret</template>",
        "<noscript>secret</noscript><title>secret</title><iframe>secret</iframe>",
        "<details><p>secret</details>",
        r"$\phantom{secret}$",
        "\\[ % secret\n\\]",
        "\u200b\u200c\u200d\ufeff\u00ad\u2060\u034f\u3164\u2800\U000e0041",
    ],
)
def test_hidden(hidden: str) -> None:
    assert "secret" not in seen(f"before\n\n{hidden}")
    assert not searchable(see(hidden).text).strip(r"\()[]$ ")
    assert see(f"before\n\n{hidden}").length <= len("before") + 1


@pytest.mark.parametrize(
    "shown",
    [
        "<span style='color:red'>word</span>",
        "<span style='color:#f00'>word</span>",
        "<span style='opacity:0.9'>word</span>",
        "<span style='opacity:1'>word</span>",
        "<span style='font-size:10px'>word</span>",
        "<span style='font-size:80%'>word</span>",
        "<span style='font-size:0.8em'>word</span>",
        "<td style='width:100%'>word</td>",
        "<td style='width:10.5%'>word</td>",
        "<td style='text-align:center;height:12px'>word</td>",
        "<div style='border-width:0'>word</div>",
        "<div class='x' id='y' align='center'>word</div>",
        "<span style='background-color:white'>word</span>",
        "<p style='text-indent:-2em;margin-left:-5px'>word</p>",
        "<div style='margin-top:-10px;letter-spacing:-0.1px'>word</div>",
        "<span style='background-clip:padding-box'>word</span>",
        "```HTML\n<b>word</b>\n```",
        "<span style='color:white;background:#123'>word</span>",
        "<span style='color:rgb(0,0,0)'>word</span>",
        "<span style='color:rgb(10, 20, 0)'>word</span>",
        "<span style='color:#000'>word</span>",
        "<span style='color:#000000'>word</span>",
        "<span style='margin:0 auto;left:10px'>word</span>",
        "<table border='0' width='0'><tr><td>word</table>",
    ],
)
def test_what_is_styled_otherwise_is_shown(shown: str) -> None:
    assert seen(shown) == "word"


def test_a_hidden_element_hides_all_that_is_in_it_and_no_more() -> None:
    assert seen("a <span hidden>b <b>c</b> <i>d</i></span> e") == "a e"
    assert seen("<div hidden><div>a</div>b</div>c") == "c"
    assert seen("<p hidden>a<p>b") == "b"  # a paragraph ends where the next begins
    assert seen("<p><s>a\n\n<p>b</p><p>c</s>d</p>") == "d"  # a browser goes on striking in the next paragraph


def test_characters_without_a_glyph_split_no_word() -> None:
    assert seen("in\u200bvi\u00adsi\ufeffble") == "invisible"
    assert seen("in&#8203;vi&shy;sible") == "invisible"


def test_comments() -> None:
    assert without_comments("a<!--b-->c<!-->d<!--->e<!--f--!>g<!--h") == "acdeg"


# --- blocks ---------------------------------------------------------------------------------------------------------


def test_blocks_in_order() -> None:
    table = "| a | b |\n|---|---|\n| 1 | 2 |"
    text = f"# H\n\nText $x$.\n\n{table}\n\n\\[ y = 1 \\]\n\n1. one\n2. two\n\n<table><tr><th>c<td>d</table>"
    blocks = see(text).blocks
    assert [block.kind for block in blocks] == ["heading", "text", "table", "formula", "text", "text", "table"]
    assert [block.marker for block in blocks] == ["", "", "", "", "1.", "2.", ""]
    assert [block.markdown for block in blocks if block.table] == [True, False]
    assert [cell.text for table in see(text).tables for cell in table.cells.values()] == ["a", "b", "1", "2", "c", "d"]
    assert [(formula.tex, formula.displayed) for formula in see(text).formulas] == [("x", False), ("y = 1", True)]


def test_a_table_without_its_rule_is_a_table() -> None:
    (block,) = see("a | b\n1 | 2").blocks
    assert block.table is not None and block.table.num_rows == 2
    assert see("a | b").tables == []


def test_spans_and_hidden_cells_of_tables() -> None:
    source = "<table><tr><td rowspan='2'>a<td colspan=2>b<tr><td hidden>x<td>c<td><span hidden>y</span>d</table>"
    (table,) = see(source).tables
    assert [(cell.place, cell.text, cell.rowspan, cell.colspan) for cell in table.cells.values()] == [
        ((0, 0), "a", 2, 1),
        ((0, 1), "b", 1, 2),
        ((1, 1), "c", 1, 1),
        ((1, 2), "d", 1, 1),
    ]


def test_a_hidden_table_is_none() -> None:
    assert see("<div style='display:none'><table><tr><td>a</table></div>").tables == []


def test_a_table_in_a_cell_is_text_of_the_cell() -> None:
    (table,) = see("<table><tr><td>a<table><tr><td>b</table><td>c</table>").tables
    assert [" ".join(cell.text.split()) for cell in table.cells.values()] == ["a b", "c"]


def test_phrases_keep_their_numbers() -> None:
    assert see_phrase("1. **One** of") == "1. One of"
    assert see_phrase("## Two") == "Two"
    assert see_phrase("- x &lt; y") == "- x < y"


# --- formulas -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"\(a\) \[b\] $$c$$ $d$", ["a", "b", "c", "d"]),
        ("from $5 to $10", []),
        ("$a$b", ["a"]),
        ("$a$5", []),
        (r"\$a$ b$", []),
        ("$a\n\nb$", []),
        ("$a\nb$", ["a\nb"]),
        (r"\\(a\\)", []),
        ("$<b>a</b>$", []),
        (r"\(a <!-- b\) c -->", []),
        ("$a<b$", ["a<b"]),
        (r"\(open and $x$", ["x"]),
        (r"$a \text{ and } \$ b$", [r"a \text{ and } \$ b"]),
    ],
)
def test_formulas(text: str, found: list[str]) -> None:
    assert [formula.tex for formula in formulas(text)] == found


def test_code_holds_no_formula() -> None:
    for code in ("`$x^2$`", "```\n\\(x^2\\)\n```\n\na", "<pre>$$x^2$$</pre>"):
        assert see(code).formulas == [] and "x^2" in see(code).text


def test_delimiters() -> None:
    assert without_delimiters(r"so \( x^2 \) and $y$ cost $5") == "so x^2 and y cost $5"


@pytest.mark.parametrize(
    ("tex", "symbols"),
    [
        ("x^2", 2),
        (r"\frac{a}{b}", 2),
        (r"\alpha_{12}", 3),
        (r"\left( x \right)", 3),
        (r"\begin{aligned} a &= b \end{aligned}", 3),
        (r"\hspace{1em} x \color{red} y", 2),
        (r"\hspace{a line of text}", 12),  # free, it would be a second reading that no length pays for
        (r"\color{title} x", 7),
    ],
)
def test_symbols(tex: str, symbols: int) -> None:
    assert count_symbols(tex) == symbols


# --- length ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plain", "marked"),
    [
        ("ab cd", "# **ab**\n\n*cd*"),
        ("a b c d", "<table><tr><td>a</td><td>b</td></tr><tr><td>c</td><td>d</td></tr></table>"),
        ("a b c d", "| a | b |\n|---|---|\n| c | d |"),
        ("ab", "![alternative text](picture.png)\n\nab"),
        ("ab", r"\(\frac{a}{b}\)"),
        ("1. ab", "1. ab"),
        ("a . b", "a ................... b"),
    ],
)
def test_markup_has_no_length(plain: str, marked: str) -> None:
    assert see(marked).length == len(plain.replace(" ", "")) == see(plain).length


def test_signs_count_as_letters_do() -> None:
    assert count_visible("§ ¶ † « »" * 800) == 4000
    assert count_visible("." * 100) == 1
    assert count_visible("." * 500) == 5
    assert count_visible("§" * 100) == 100


def test_budget() -> None:
    assert [budget(length) for length in (0, 49, 50, 1000)] == [3, 52, 54, 1023]


# --- any text -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "piece",
    [
        "[",
        "![",
        "*a_ ",
        "<",
        "<b>",
        "<div>",
        "<td>",
        "<table><tr><td>",
        "\\(",
        "\\(<b> \\)",
        "$5 ",
        "$$",
        "<!--",
        "&",
        "`a",
    ]
    + [
        "&#" + "9" * 5000 + ";",
        "<p style='&#" + "9" * 5000 + ";'>",
        "<s><p>",
        "<sup>",
        "> ",
        "- ",
        "|a",
        "~~a",
        "<a x='",
        "\ue000",
        "\ud800",
        "\x00",
        "</p>",
        "[^",
        "](",
        "[a](b",
    ],
)
def test_any_text_is_seen(piece: str) -> None:
    result = see((piece * 3000)[:200_000])
    assert result.length >= 0 and isinstance(result.text, str)


def test_private_characters_stand_for_no_formula() -> None:
    assert seen("a \ue0000\ue001 $x$") == "a \ufffd0\ufffd x"
