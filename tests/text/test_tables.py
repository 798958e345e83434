"""Tables as grids, worked by hand."""

import pytest

from ocr_rl.text.html_rows import DEEPEST
from ocr_rl.text.tables import Table, html_tables, markdown_tables


def single(text: str) -> Table:
    (table,) = html_tables(text) or markdown_tables(text)
    return table


def names(table: Table, cells: list) -> list[str]:
    return sorted(cell.text for cell in cells)


def test_markdown_table() -> None:
    table = single("before\n| H1 | H2 |\n|---|:-:|\n| a | b |\n| c |\nafter")
    assert {place: cell.text for place, cell in table.cells.items()} == {
        (0, 0): "H1",
        (0, 1): "H2",
        (1, 0): "a",
        (1, 1): "b",
        (2, 0): "c",
    }
    assert not table.is_rectangular
    assert [cell.text for cell in table.cells.values() if cell.heading] == ["H1", "H2", "a", "c"]
    b = table.cells[1, 1]
    assert names(table, table.neighbours(b, "left")) == ["a"]
    assert names(table, table.neighbours(b, "down")) == []
    assert names(table, table.headings(b, "up")) == ["H2"]


def test_one_line_with_a_bar_is_no_table() -> None:
    assert markdown_tables("a | b\n\nc") == []


HTML = """<table><thead><tr><th rowspan=2>Name</th><th colspan="2">Sales</th></tr>
<tr><th>Q1</th><th>Q2</th></tr></thead>
<tr><td>North</td><td>1</td><td>2 &amp; 3<br>4</td></tr></table>"""


def test_html_spans_and_headings() -> None:
    table = single(HTML)
    assert sorted(table.cells) == [(0, 0), (0, 1), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]
    assert table.is_rectangular and (table.num_rows, table.num_cols) == (3, 3)
    last = table.cells[2, 2]
    assert last.text == "2 & 3\n4"
    assert names(table, table.headings(last, "up")) == ["Q2", "Sales"]
    assert names(table, table.neighbours(table.cells[0, 0], "right")) == ["Q1", "Sales"]
    assert names(table, table.headings(last, "left")) == ["North"]  # no th in the row: where the way ends


def test_the_start_is_no_heading_of_itself() -> None:
    table = single(HTML)
    assert table.headings(table.cells[0, 0], "up") == []


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("<table><tr><td>A<td>B</table>", ["AB"]),  # an unclosed cell swallows the next
        ("<table><td>A</td></table>", None),  # no row
        ("<table><tr><td>a</div><td>b</td></tr></table>", ["ab"]),  # a stray end tag closes nothing
        ("<div><table><tr><td>a</div><td>b</td></tr></table>", ["a"]),  # this one closes the table
        ("<table><tr><td/><td>b</td></tr></table>", ["", "b"]),
        ("<table><tr><!-- <td>no</td> --><td>b</td></tr></table>", ["b"]),
        ("<table><tr><td title='>'>b</td></tr></table>", ["b"]),
        ("<table><tr><td>&lt;b&gt; &nope; &#65;</td></tr></table>", ["<b> &nope A"]),
        ("<table><tr><td>a<script>x</td></script></td></tr></table>", ["a"]),
        ("<TABLE><TR><TD>a</TD></TR></TABLE>", ["a"]),
    ],
)
def test_nesting(text: str, texts: list[str] | None) -> None:
    texts_by_table = [[cell.text for cell in table.cells.values()] for table in html_tables(text)]
    assert texts_by_table == ([] if texts is None else [texts])


def test_nested_tables_stand_on_their_own_and_inside_the_outer_one() -> None:
    outer, inner = html_tables(
        "<table><tr><td>a<table><tr><td>b</td></tr></table></td></tr><tr><td>c</td></tr></table>"
    )
    assert [cell.text for cell in outer.cells.values()] == ["ab", "b", "c"]
    assert [cell.text for cell in inner.cells.values()] == ["b"]


@pytest.mark.parametrize(
    ("spans", "width", "height"),
    [
        ("colspan=' 2 '", 2, 1),
        ("colspan=2.5 rowspan=abc", 1, 1),
        ("colspan=-1 rowspan=-2", 1, 1),
        ("colspan=0", 1, 1),
        ("rowspan=0", 1, 2),
        ("rowspan=2 rowspan=1", 1, 1),
    ],
)
def test_span_values(spans: str, width: int, height: int) -> None:
    cell = single(f"<table><tr><td {spans}>a</td></tr><tr><td>b</td></tr></table>").cells[0, 0]
    assert (cell.colspan, cell.rowspan) == (width, height)


def test_row_spans_past_the_last_row_add_rows() -> None:
    table = single("<table><tr><td rowspan=3>a</td><td>b</td></tr></table>")
    assert table.num_rows == 3 and not table.is_rectangular and not table.fault


def test_a_column_span_over_a_row_span_is_a_fault_only_where_it_ends_below() -> None:
    cut = "<table><tr><td>a</td><td rowspan={}>b</td></tr><tr><td colspan=2>c</td></tr></table>"
    assert single(cut.format(2)).fault == ""
    assert "'b'" in single(cut.format(3)).fault


def test_deep_and_wide_tables_stay_bounded() -> None:
    assert len(html_tables("<table><tr><td>" * 5_000)) == DEEPEST
    tables = html_tables("<table>" + "<tr><td colspan=1000 rowspan=60000>x" * 2_000)
    assert sum(len(table.grid) for table in tables) <= 300_000


def test_some_heading_asks_what_headings_lists() -> None:
    no_th = "<table><tr><td>a</td><td>b</td></tr><tr><td>c</td><td>d</td></tr><tr><td colspan=2>e</td></tr></table>"
    for table in (single(HTML), single(no_th)):
        for direction in ("up", "left"):
            for text in {cell.text for cell in table.cells.values()}:
                ways: dict = {}
                for cell in table.cells.values():
                    listed = text in names(table, table.headings(cell, direction))
                    assert table.some_heading(cell, direction, lambda other, t=text: other.text == t, ways) == listed


def test_long_columns_are_not_walked_from_every_cell() -> None:
    # 8,000 walks of up to 8,000 cells would take minutes
    table = single("| a |\n" * 8_000)
    ways: dict = {}
    assert not any(table.some_heading(cell, "up", lambda other: False, ways) for cell in table.cells.values())
    assert len(ways) == 8_000


@pytest.mark.parametrize("digits", ["9" * 5000, "x" + "f" * 5000, "0" * 5000 + "65"])
def test_a_number_of_any_length_is_read(digits: str) -> None:
    (table,) = html_tables(f"<table><tr><td>a&#{digits};b</td></tr></table>")
    assert table.cells[0, 0].text == ("aAb" if digits.startswith("0") else "a\ufffdb")
