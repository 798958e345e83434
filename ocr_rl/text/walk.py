"""HTML -> the blocks that a browser would show, in linear time. Elements nest as html.parser nests them.

Where a tag is left out (`</p>`, `</td>`) an element ends as in browsers. Knows nothing about Markdown or tests.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ocr_rl.text.hidden import hides, without_invisible
from ocr_rl.text.html_rows import VOID, HtmlCell, HtmlRow, Tag, feed, spans, unescape
from ocr_rl.text.tables import MOST_PLACES, Table, table_of

Kind = Literal["text", "heading", "table", "formula"]
Mark = Literal["heading", "bold", "italic"]
FOOTNOTE_SIGN = "\ue002"  # stands for "[^"
OF_MARKDOWN = " data-markdown"  # the attributes of a table that Markdown made
_PLACE = re.compile("\ue000(\\d{1,9})\ue001")  # of a formula
_HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
_MARKS: dict[str, Mark] = {
    **dict.fromkeys(_HEADINGS, "heading"),
    **dict.fromkeys(("b", "strong"), "bold"),
    **dict.fromkeys(("i", "em"), "italic"),
}
_BLOCKS = _HEADINGS | frozenset(
    ("address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog", "div", "dl")
    + ("dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "html", "legend", "li", "main")
    + ("nav", "ol", "p", "pre", "section", "summary", "table", "ul")
)
_OF_TABLES = frozenset(("thead", "tbody", "tfoot", "tr", "td", "th"))
# An opening tag ends the innermost open elements of the first set, but none outside an element of the second.
_IMPLIED = {
    **dict.fromkeys(_BLOCKS, (frozenset(["p"]), frozenset(["table", "td", "th", "li", "div", "blockquote"]))),
    "li": (frozenset(["li"]), frozenset(["ul", "ol", "table"])),
    **dict.fromkeys(("dt", "dd"), (frozenset(["dt", "dd"]), frozenset(["dl", "table"]))),
    "tr": (frozenset(["tr"]), frozenset(["table"])),
    **dict.fromkeys(("td", "th"), (frozenset(["td", "th"]), frozenset(["table", "tr"]))),
    **dict.fromkeys(("thead", "tbody", "tfoot"), (frozenset(["thead", "tbody", "tfoot"]), frozenset(["table"]))),
}
_NOTHING = (frozenset[str](), frozenset[str]())
# Browsers open these again in the next paragraph if they were not closed.
_FORMATTING = frozenset(("a", "b", "big", "code", "del", "em", "font", "i", "s", "small", "strike", "strong", "u"))
_DEEPEST = 100  # open elements; one that opens below them is not looked at
_NUMBER = re.compile(r"\b(?:start|value)\s*=\s*[\"']?(-?\d{1,9})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A piece of the page that stands by itself."""

    kind: Kind
    text: str  # as shown; formulas as TeX with their delimiters; cells of a table parted by spaces, its rows by lines
    marker: str = ""  # of a list item: "-", or its number
    table: Table | None = None
    markdown: bool = False  # whether a table was written in Markdown


def walk(source: str, cut: Sequence[str]) -> tuple[list[Block], dict[Mark, list[str]], str]:
    """The blocks of HTML without comments, the text of its marked spans, and all text with <sup> tags in it.

    `cut`: what stands for the private characters and numbers that `visible` put in place of formulas.
    """
    walker = _Walker(cut)
    feed(source, walker)
    walker.finish()
    return walker.blocks, walker.marked, "".join(walker.notes)


class _Element(NamedTuple):
    name: str
    hidden: bool


class _Walker:
    """The elements that are open at a place of the source, and what was shown so far."""

    def __init__(self, cut: Sequence[str]) -> None:
        self.blocks: list[Block] = []
        self.marked: dict[Mark, list[str]] = {"heading": [], "bold": [], "italic": []}
        self.notes: list[str] = []
        self._cut = cut
        self._open: list[_Element] = []
        self._names: defaultdict[str, int] = defaultdict(int)  # of open elements
        self._hidden = 0  # number of open elements that hide
        self._text: list[str] = []  # of the open block
        self._marker = ""
        self._lists: list[int | None] = []  # the last number of each open list; None: bullets
        self._rows: list[HtmlRow] = []  # of the open table, as far as they are seen
        self._cell: HtmlCell | None = None
        self._places = MOST_PLACES  # of the grids of all tables that are still to come
        self._nesting = 0  # open tables
        self._of_markdown = False
        self._spans: list[tuple[Mark, list[str]]] = []  # open headings, bold and italic spans

    def write(self, piece: str) -> None:
        if piece and not self._hidden:
            if "&" in piece:
                piece = without_invisible(unescape(piece))
            if "\ue000" in piece:
                piece = _PLACE.sub(self._formula, piece)
            self._show(piece.replace(FOOTNOTE_SIGN, "[^"))

    def open(self, tag: Tag) -> None:
        name = tag.name
        self._end_implied(name)
        if name in _BLOCKS:
            self._break()
        elif name == "br":
            self.write("\n")
        if name in VOID or len(self._open) >= _DEEPEST:
            return
        hidden = hides(name, tag.rest)
        self._open.append(_Element(name, hidden))
        self._names[name] += 1
        self._hidden += hidden
        if self._hidden:
            return
        if mark := _MARKS.get(name):
            self._spans.append((mark, []))
        elif name in ("ul", "ol"):
            number = _NUMBER.search(tag.rest)
            self._lists.append(None if name == "ul" else int(number[1]) - 1 if number else 0)
        elif name == "li":
            self._marker = self._next_marker(tag)
        elif name == "sup":
            self.notes.append("<sup>")
        elif name == "table":
            self._nesting += 1
            if self._nesting == 1:
                self._rows, self._of_markdown = [], tag.rest == OF_MARKDOWN
        elif self._nesting == 1 and name in ("tr", "td", "th"):
            self._start_row_or_cell(tag)

    def _start_row_or_cell(self, tag: Tag) -> None:
        if tag.name == "tr" or not self._rows:  # a cell without a row begins one, as in browsers
            self._rows.append(HtmlRow(in_head=self._names["thead"] > 0, cells=[]))
        if tag.name != "tr":
            self._cell = HtmlCell(tag.name, *spans(tag.rest), [])
            self._rows[-1].cells.append(self._cell)

    def close(self, name: str) -> None:
        if name == "p" and not self._names["p"]:
            self._break()
        if self._names[name]:
            again = []
            while (element := self._pop()).name != name:
                if element.hidden and element.name in _FORMATTING:
                    again.append(element)
            for element in reversed(again):
                self._open.append(element)
                self._names[element.name] += 1
                self._hidden += 1

    def finish(self) -> None:
        while self._open:
            self._pop()
        self._break()

    def _formula(self, place: re.Match[str]) -> str:
        number = int(place[1])
        formula = self._cut[number] if number < len(self._cut) else ""
        in_code = self._names["code"] or self._names["pre"]
        return formula.strip("$") if in_code and formula.startswith("$") else formula[2:-2] if in_code else formula

    def _show(self, text: str) -> None:
        if self._cell is not None:
            self._cell.text.append(text)
        self._text.append(text.replace("\n", " ") if self._nesting else text)
        self.notes.append(text.replace("<", "\u2039"))  # so that every <sup> in it is an element
        for _, span in self._spans:
            span.append(text)

    def _next_marker(self, tag: Tag) -> str:
        if not self._lists or (last := self._lists[-1]) is None:
            return "-"
        number = _NUMBER.search(tag.rest)
        self._lists[-1] = int(number[1]) if number else last + 1
        return f"{self._lists[-1]}."

    def _end_implied(self, name: str) -> None:
        ended, boundary = _IMPLIED.get(name, _NOTHING)
        for other in ended:
            if self._names[other]:
                break
        else:
            return
        for depth in range(len(self._open) - 1, -1, -1):
            if self._open[depth].name in boundary:
                return
            if self._open[depth].name in ended:
                self.close(self._open[depth].name)
                return

    def _pop(self) -> _Element:
        """Close the innermost element."""
        element = self._open.pop()
        name = element.name
        self._names[name] -= 1
        if self._hidden:
            self._hidden -= element.hidden
            return element
        if mark := _MARKS.get(name):
            text = " ".join("".join(self._spans.pop()[1]).split())
            self.marked[mark] += [text] if text else []
        elif name in ("ul", "ol"):
            self._lists.pop()
        elif name == "sup":
            self.notes.append("</sup>")
        elif name in _OF_TABLES and self._nesting == 1:
            self._cell = None
            self._text.append("\n" if name == "tr" else " ")
            self.notes.append(" ")
        if name == "table":
            self._nesting -= 1
            if not self._nesting:
                self._end_table()
        if name in _BLOCKS:
            self._break("heading" if name in _HEADINGS else "text")
        return element

    def _break(self, kind: Kind = "text") -> None:
        """The end of a block. Inside a table it is a space, because the table is one block."""
        if self._nesting:
            self._show(" ")
            return
        text = "".join(self._text).strip()
        self._text = []
        self.notes.append("\n\n")
        if text:
            self.blocks.append(Block(kind=kind, text=text, marker=self._marker))
            self._marker = ""

    def _end_table(self) -> None:
        table = table_of(self._rows, self._places) if any(row.cells for row in self._rows) else None
        self._places -= len(table.grid) if table else 0
        lines = (" ".join(line.split()) for line in "".join(self._text).split("\n"))
        text = "\n".join(line for line in lines if line)
        self._rows, self._cell, self._text = [], None, []
        if text:
            kind: Kind = "table" if table else "text"
            self.blocks.append(Block(kind=kind, text=text, table=table, markdown=self._of_markdown))
