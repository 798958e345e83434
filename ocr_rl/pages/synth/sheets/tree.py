"""The structured source of a full page. It is printed as the page, as its reference and, changed, as a wrong reference.

Every piece of text is a `Text` object of its own, so that a tested fact can be located and changed (`edited`). Knows
nothing about how pages are composed, printed or tested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

from ocr_rl.pages.synth.sheets.formula import Formula


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Text:
    """A stretch of text in one style. It is compared by identity, since the same words may stand at two places."""

    text: str
    style: Literal["", "bold", "italic"] = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Math:
    """A formula in a line of text, or as a block with or without a number."""

    formula: Formula
    number: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mark:
    """The mark of a footnote, with the number that is printed and the text of the note."""

    number: int
    note: tuple[Text, ...]


Inline = Text | Math | Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    text: Text
    level: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Para:
    runs: tuple[Inline, ...]  # printed with a space between two runs, but none before a Mark
    align: Literal["", "center", "right"] = ""
    size: float = 1.0  # in em of the page's type


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Lines with fixed ends, as in an address, a sign-off or a form."""

    rows: tuple[tuple[Text, ...], ...]
    fill: Literal["", "dots", "rule", "box"] = ""  # dots or rule: between the texts of a line; box: before it
    align: Literal["", "center", "right"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    runs: tuple[Inline, ...]
    items: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    items: tuple[Item, ...]
    ordered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cell:
    text: Text
    rows: int = 1  # how many it spans
    cols: int = 1
    head: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """A table. A row lists the cells that begin in it."""

    rows: tuple[tuple[Cell, ...], ...]
    columns: int
    look: Literal["ruled", "booktabs", "bare", "striped"]
    caption: Text | None = None
    size: float = 0.9  # in em of the page's type


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A drawing without words and its caption. It floats to the top or the bottom of the page."""

    heights: tuple[int, ...]  # of its bars, 1 to 100
    caption: Text
    at: Literal["top", "bottom"]


Block = Heading | Para | Lines | Items | Grid | Math | Chart


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a page looks. Lengths in pt."""

    width: float
    height: float
    margin: float
    font: str
    size: float
    leading: float = 0.62  # in em
    columns: int = 1
    justify: bool = True
    indent: bool = False  # first lines set in, no space between paragraphs
    heading_font: str | None = None  # None: that of the text
    centred: bool = False  # headings of level 1
    ink: int = 0  # grey of the text, 0 (black) to 255
    tint: str = "#000000"  # of headings
    language: str = "en"
    rule: bool = False  # a line below the running header
    rotated: Literal[0, 90, 180, 270] = 0  # degrees by which the page was turned clockwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One page. `top` spans the columns and is read first. Header and footer are no part of the text."""

    blocks: tuple[Block, ...]
    look: Look
    top: tuple[Block, ...] = ()
    header: tuple[str, str] = ("", "")  # left and right
    footer: tuple[str, str, str] = ("", "", "")

    @property
    def body(self) -> tuple[Block, ...]:
        return self.top + self.blocks


def edited(node: Any, change: Callable[[Any], Any]) -> Any:
    """The tree with every part replaced by `change(part)`. If that is the part itself, its own parts are replaced."""
    new = change(node)
    if new is not node:
        return new
    if isinstance(node, tuple):
        parts = tuple(edited(part, change) for part in node)
        return node if all(a is b for a, b in zip(parts, node, strict=True)) else parts
    if is_dataclass(node) and not isinstance(node, type):
        new_fields = {f.name: edited(getattr(node, f.name), change) for f in fields(node)}
        if all(value is getattr(node, name) for name, value in new_fields.items()):
            return node
        return replace(node, **new_fields)
    return node


def with_parts(sheet: Sheet, new: dict[int, Any]) -> Sheet:
    """The page with some parts replaced: `new` has the new part by the `id()` of the old one."""
    return edited(sheet, lambda part: new.get(id(part), part))


def parts_of(node: Any, kind: type) -> Iterator[Any]:
    """All parts of a kind in the order of the page, without those inside another part of that kind."""
    if isinstance(node, kind):
        yield node
    elif isinstance(node, tuple):
        for part in node:
            yield from parts_of(part, kind)
    elif is_dataclass(node) and not isinstance(node, type):
        for f in fields(node):
            yield from parts_of(getattr(node, f.name), kind)


def placed(grid: Grid) -> dict[tuple[int, int], Cell]:
    """The cell at each (row, column). A spanning cell stands at all of its places."""
    at: dict[tuple[int, int], Cell] = {}
    for r, cells in enumerate(grid.rows):
        c = 0
        for cell in cells:
            while (r, c) in at:
                c += 1
            at.update({(r + i, c + j): cell for i in range(cell.rows) for j in range(cell.cols)})
    return at
