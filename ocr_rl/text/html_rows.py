"""The rows and cells of the HTML tables of a text, as the public olmOCR-Bench's parser (html.parser) sees them.

The rows of a nested table are also rows of the tables around it. Any text is parsed in linear time. Knows nothing about
grids and spans: `tables` lays the cells out.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from html.entities import html5
from typing import Literal, NamedTuple, Protocol

DEEPEST = 12  # tables in tables in tables: deeper ones are part of their cell's text only


@dataclass(slots=True)
class HtmlCell:
    name: str
    rowspan: str | None
    colspan: str | None
    text: list[str]


@dataclass(slots=True)
class HtmlRow:
    in_head: bool
    cells: list[HtmlCell]


VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "keygen", "link", "menuitem", "meta", "param")
    + ("source", "track", "wbr", "basefont", "bgsound", "command", "frame", "image", "isindex", "nextid", "spacer")
)
_TAG = re.compile(
    r"""<(?:(?P<end>/\s*)?(?P<name>[a-zA-Z][^\t\n\r\f />\x00]*)"""
    r"""(?P<rest>(?:=\s*"[^"]*"|=\s*'[^']*'|(?!=\s*["'])[^>])*)>|(?P<odd>!--|[!?/]))"""
)
ATTRIBUTE = re.compile(r"""([^\s/>=][^\s/=>]*)(?:\s*=+\s*(?:"([^"]*)"|'([^']*)'|([^>\s]*)))?""")
_ENTITY = re.compile(r"&(?:(#(?:[0-9]+|[xX][0-9a-fA-F]+);?)|([a-zA-Z][-.a-zA-Z0-9]*);?)")
_ZEROS = re.compile(r"(&#)0+(?=[0-9])|(&#[xX])0+(?=[0-9a-fA-F])")  # that lead a number
_TOO_HIGH = re.compile(r"&#(?:[1-9][0-9]{7,}|[xX][1-9a-fA-F][0-9a-fA-F]{6,});?")  # for a character
_RAW = frozenset(["script", "style"])  # their content is no text of the page


def html_rows(text: str) -> list[list[HtmlRow]]:
    """The rows of every table, in the order of the text."""
    if "<table" not in text.lower():
        return []
    parser = _Parser()
    feed(text, parser)
    return parser.tables


class Parser(Protocol):
    """What `feed` tells of a text."""

    def write(self, piece: str) -> None: ...
    def open(self, tag: Tag) -> None: ...
    def close(self, name: str) -> None: ...


def feed(text: str, parser: Parser) -> None:
    """Tell a parser the text and the tags of HTML, in order."""
    at = 0
    for tag in tags(text):
        parser.write(text[at : tag.start])
        at = tag.end
        if tag.kind == "start":
            parser.open(tag)
        elif tag.kind == "end":
            parser.close(tag.name)
    parser.write(text[at:])


class _Parser:
    """The elements that are open at a place of the text, and the tables so far.

    Tables, rows and cells are the nodes that are kept. Of other elements only the nesting counts: where they close.
    """

    def __init__(self) -> None:
        self.tables: list[list[HtmlRow]] = []
        self._stack: list[tuple[str, list[HtmlRow] | HtmlRow | HtmlCell | None]] = []  # (tag, node) of open elements
        self._open_names: Counter[str] = Counter()
        self._open_tables: list[list[HtmlRow]] = []
        self._open_cells: list[HtmlCell] = []

    def write(self, piece: str) -> None:
        """Text, which belongs to all open cells."""
        if self._open_cells and piece:
            if not piece.strip(" \t\n\f\r"):
                piece = "\n" if "\n" in piece else " "
            elif "&" in piece:
                piece = _ENTITY.sub(_character, piece)
            for cell in self._open_cells:
                cell.text.append(piece)

    def open(self, tag: Tag) -> None:
        name = tag.name
        node: list[HtmlRow] | HtmlRow | HtmlCell | None = None
        if name == "br":
            for cell in self._open_cells:
                cell.text.append("\n")
        elif name == "table":
            if len(self._open_tables) < DEEPEST:
                node = []
                self.tables.append(node)
                self._open_tables.append(node)
        elif name == "tr":
            node = HtmlRow(in_head=self._open_names["thead"] > 0, cells=[])
            for table in self._open_tables:
                table.append(node)
        elif name in ("td", "th") and self._stack and isinstance(row := self._stack[-1][1], HtmlRow):
            node = HtmlCell(name, *spans(tag.rest), [])
            row.cells.append(node)
            if len(self._open_cells) < DEEPEST:
                self._open_cells.append(node)
        if name not in VOID:
            self._stack.append((name, node))
            self._open_names[name] += 1
            if tag.rest.endswith("/"):
                self.close(name)

    def close(self, name: str) -> None:
        """Close the innermost element of this name with all that is open inside it; nothing if none is open."""
        while self._open_names[name]:
            top, node = self._stack.pop()
            self._open_names[top] -= 1
            if self._open_tables and node is self._open_tables[-1]:
                self._open_tables.pop()
            elif self._open_cells and node is self._open_cells[-1]:
                self._open_cells.pop()
            if top == name:
                return


def spans(attributes: str) -> tuple[str | None, str | None]:
    """The values of rowspan and colspan. If an attribute stands there twice, the last counts."""
    if "span" not in attributes.lower():
        return None, None
    values = {name.lower(): a or b or c for name, a, b, c in ATTRIBUTE.findall(attributes)}
    return values.get("rowspan"), values.get("colspan")


def _character(entity: re.Match[str]) -> str:
    number, name = entity.groups()
    # An unknown name stays as text, without its semicolon.
    return unescape(entity[0]) if number else html5.get(f"{name};", f"&{name}")


def unescape(text: str) -> str:
    """The text with its entities decoded as HTML does, numbers of any length too (`int` raises at 4,300 digits)."""
    return html.unescape(_TOO_HIGH.sub("\ufffd", _ZEROS.sub(lambda zeros: zeros[1] or zeros[2], text)))


class Tag(NamedTuple):
    kind: Literal["start", "end", "other"]
    name: str
    rest: str
    start: int
    end: int


def tags(text: str) -> Iterator[Tag]:
    """Tags, comments, declarations and the content of scripts, as html.parser sees them, in linear time."""
    last = text.rfind(">") + 1  # no tag can stand behind the last >
    no_more: set[str] = set()  # closers that do not occur any more, so that none is searched twice
    at = 0
    while at < last and (match := _TAG.search(text, at, last)):
        start, at = match.span()
        ending, name, rest, odd = match.groups()
        if odd:
            closer = "-->" if odd == "!--" else ">"
            end = -1 if closer in no_more else text.find(closer, at)
            if end < 0:
                no_more.add(closer)
                continue
            at = end + len(closer)
            yield Tag("other", "", "", start, at)
            continue
        name = name.lower()
        if ending:
            yield Tag("end", name, "", start, at)
            continue
        yield Tag("start", name, rest, start, at)
        if name in _RAW:
            closed = re.compile(rf"</{name}", re.IGNORECASE).search(text, at)
            end = closed.start() if closed else len(text)
            yield Tag("other", "", "", at, end)
            at = end
