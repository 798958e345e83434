"""Tables as the trees that TEDS compares: sections, rows and cells, a cell's text and inline tags as its content.

HTML becomes the tree that lxml (libxml2) gives the public definition's reference code: which start tag closes which
open element, which end tag is ignored and which elements are empty are libxml2's rules, measured tag by tag, so that
badly nested output mostly agrees too. Any text is parsed in linear time and never raises. Knows nothing of distances.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import lru_cache
from typing import NamedTuple
from zlib import crc32

from ocr_rl.text.html_rows import ATTRIBUTE, tags, unescape
from ocr_rl.text.tables import Cell, Table

DEEPEST = 64  # open elements; what is opened deeper counts as empty, and its content as its parent's


class Node(NamedTuple):
    """An element. Only a `td` has spans and content, and what is inside a `td` is no node: its content holds the tags.

    So a `th` is an element without spans or text, and inline tags in it are nodes, as in the reference code.
    """

    tag: str
    colspan: int = 1
    rowspan: int = 1
    content: str = ""  # a character for each character and each inline tag (`tag_character`)
    children: tuple[Node, ...] = ()


class Tree(NamedTuple):
    root: Node
    num_elements: int  # below the root, inline elements in cells too: what a distance is divided by


def tree(text: str) -> Tree | None:
    """The first table of an HTML text, to its end tag or the text's end; None if there is none.

    Spans that are no whole numbers count as 1 (the reference code raises).
    """
    start = _TABLE.search(text)
    if not start:
        return None
    text = text[start.start() :].replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
    builder = _Builder()
    at = 0
    for tag in tags(text):
        if at < tag.start:
            builder.write(text[at : tag.start])
        at = tag.end
        if tag.kind == "start":
            builder.open(tag.name, tag.rest)
        elif tag.kind == "end":
            builder.close(tag.name)
        if builder.root:
            break
    else:
        builder.write(text[at:])
    return builder.end()


def tree_of(table: Table) -> Tree:
    """The tree of a grid: rows of cells, all of them `td` without sections, whatever notation the table came in.

    Headings are cells like others, because Markdown has no `th`; so what a heading says counts, which it does not
    where the reference code meets a `th`.
    """
    rows: list[list[Cell]] = [[] for _ in range(table.num_rows)]
    for place in sorted(table.cells):
        cell = table.cells[place]
        rows[cell.row].append(cell)
    trs = tuple(Node("tr", children=tuple(map(_td, row))) for row in rows)
    return Tree(Node("table", children=trs), len(trs) + len(table.cells))


def _td(cell: Cell) -> Node:
    return Node("td", cell.colspan, cell.rowspan, cell.text)


def bare(node: Node) -> Node:
    """The same tree without any content."""
    return Node(node.tag, node.colspan, node.rowspan, children=tuple(map(bare, node.children)))


@lru_cache(maxsize=4096)
def tag_character(tag: str) -> str:
    """The character of Unicode's private planes that stands for a tag (`<b>`, `</b>`) in a cell's content."""
    return chr(0xF0000 + crc32(tag.encode(errors="replace")) % 0x1FFFE)


# --- HTML -------------------------------------------------------------------------------------------------------

_EMPTY = frozenset(["area", "base", "br", "col", "frame", "hr", "iframe", "img", "input", "link", "meta", "param"])
_OUTER = frozenset(["html", "head", "body"])  # inside a table they are ignored
_HEADS = "h1 h2 h3 h4 h5 h6 "
# From a start tag to the open elements that it closes.
_CLOSES: dict[str, frozenset[str]] = {
    name: frozenset(closed.split())
    for names, closed in (
        ("a", "a"),
        ("address menu pre", "p ul"),
        ("blockquote dir div h1 h2 h3 h4 h5 h6 hr ol title", "p"),
        ("caption", "p"),
        ("center", "b font i p"),
        ("col", "caption p"),
        ("colgroup", "caption colgroup p"),
        ("dd", "address dir dt menu p pre"),
        ("dl", "address dir dt menu p pre"),
        ("dt", "address dd dir menu p pre"),
        ("fieldset", "a legend p pre " + _HEADS),
        ("form", "address dir dl form ol p pre ul " + _HEADS),
        ("li", "address dl li p pre " + _HEADS),
        ("optgroup option", "option"),
        ("p", "b big i p s small strike tt u " + _HEADS),
        ("table", "a p pre " + _HEADS),
        ("tbody", "caption colgroup p tbody td tfoot th thead tr"),
        ("td th", "a b font i p span td th u"),
        ("tfoot", "caption colgroup p tbody td th thead tr"),
        ("thead", "caption colgroup"),
        ("tr", "caption colgroup p td th tr"),
        ("ul", "address dir menu p pre"),
    )
    for name in names.split()
}
# An end tag is ignored if an open element of a higher rank stands before the one that it would close.
_RANK = {"div": 1, "td": 2, "th": 2, "tr": 3, "thead": 4, "tbody": 4, "tfoot": 4, "table": 5}

_TABLE = re.compile(r"<table(?=[\s/>])", re.IGNORECASE)
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,9}\s*")


class _Open:
    """An open element: a node of the tree with its children so far, or an element inside a cell."""

    __slots__ = ("children", "name", "spans")

    def __init__(self, name: str) -> None:
        self.name = name
        self.spans: tuple[int, int] = (1, 1)
        self.children: list[Node] = []


class _Builder:
    def __init__(self) -> None:
        self.root: Node | None = None
        self._stack: list[_Open] = []
        self._names: defaultdict[str, int] = defaultdict(int)  # of the open elements
        self._num_elements = -1  # the table itself does not count
        self._cell: _Open | None = None
        self._content: list[str] = []  # of the open cell
        self._behind_td = False  # text behind a cell in a cell is left out, as in the reference code

    def write(self, piece: str) -> None:
        if self._cell and not self._behind_td:
            self._content.append(unescape(piece) if "&" in piece else piece)

    def open(self, name: str, attributes: str) -> None:
        if name in _OUTER or not (self._stack or name == "table"):
            return
        if closed := _CLOSES.get(name):
            while self._stack and self._stack[-1].name in closed:
                self._pop()
        self._behind_td = False
        self._num_elements += 1
        element = _Open(name)
        if self._cell:
            self._content.append(tag_character(f"<{name}>"))
        elif name == "td":
            self._cell, self._content = element, []
            element.spans = _spans(attributes)
        self._stack.append(element)
        self._names[name] += 1
        if name in _EMPTY or attributes.endswith("/") or len(self._stack) > DEEPEST:
            self._pop()

    def close(self, name: str) -> None:
        """Close the innermost element of this name with all that is open inside it, if the rules let this end tag."""
        if not self._names[name]:
            return
        rank = _RANK.get(name, 0)
        for element in reversed(self._stack):
            if element.name == name:
                break
            if _RANK.get(element.name, 0) > rank:
                return
        while self._pop() != name:
            pass

    def end(self) -> Tree | None:
        while self._stack:
            self._pop()
        return Tree(self.root, self._num_elements) if self.root else None

    def _pop(self) -> str:
        element = self._stack.pop()
        name = element.name
        self._names[name] -= 1
        self._behind_td = False
        if self._cell and element is not self._cell:
            if name != "unk":
                self._content.append(tag_character(f"</{name}>"))
            self._behind_td = name == "td"
            return name
        if element is self._cell:
            node = Node(name, *element.spans, content="".join(self._content))
            self._cell = None
        else:
            node = Node(name, children=tuple(element.children))
        if self._stack:
            self._stack[-1].children.append(node)
        else:
            self.root = node
        return name


def _spans(attributes: str) -> tuple[int, int]:
    """Values of colspan and rowspan. If an attribute stands there twice, the first counts."""
    if "span" not in attributes.lower():
        return 1, 1
    values: dict[str, str] = {}
    for name, *value in ATTRIBUTE.findall(attributes):
        values.setdefault(name.lower(), "".join(value))
    colspan, rowspan = (values.get(name, "1") for name in ("colspan", "rowspan"))
    return _whole(colspan), _whole(rowspan)


def _whole(value: str) -> int:
    return int(value) if _WHOLE.fullmatch(value) else 1
