"""Where a browser would put the symbols of a formula: KaTeX markup in, one rectangle per text span out.

A small inline layout. It knows the rules of KaTeX 0.16's style sheet that move text: inline blocks, the stacked `vlist`
tables, font sizes, alignment, zero-width overlays and tags. Text has the metrics of a Times-like serif font
(`math_metrics`), which browsers take if KaTeX's own fonts are not loaded. The result lies within 0.3 px of Chromium 156
with Liberation Serif on nearly all formulas. Exceptions are commutative diagrams, \\vphantom and automatic equation
numbers inside a line. The layout draws nothing, and knows nothing about TeX or about comparing formulas.

Coordinates are px in a 24 px container that is as wide as its formula; a normal symbol is set at 29.04 px. x runs to
the right, y down.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import groupby
from math import floor
from typing import NamedTuple
from xml.etree.ElementTree import Element

from ocr_rl.text.math_metrics import content_area, line_area, text_width

ROOT_PX = 24 * 1.21
SIZES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.44, 1.728, 2.074, 2.488)  # KaTeX's size1 .. size11
MAX_DEPTH = 300  # nested elements; a level takes about two frames of Python

# Classes that turn the font. Where two meet on one element the later row wins, as in the style sheet.
FONTS: dict[str, tuple[bool | None, bool | None]] = {  # class: (italic, bold), None leaves it as inherited
    "textbf": (None, True),
    "textit": (True, None),
    "mathnormal": (True, None),
    "mathit": (True, None),
    "mathrm": (False, None),
    "mathbf": (None, True),
    "boldsymbol": (True, True),
    "mathboldfrak": (None, True),
    "textboldfrak": (None, True),
    "mathboldsf": (None, True),
    "textboldsf": (None, True),
    "mathitsf": (True, None),
    "mathsfit": (True, None),
    "textitsf": (True, None),
    "mainrm": (False, None),
}
PADDING_EM = {  # class: (left, right)
    "x-arrow-pad": (0.5, 0.5),
    "cd-arrow-pad": (0.27778, 0.55556),
    "boxpad": (0.3, 0.3),
    "cancel-pad": (0.2, 0.2),
    "anglpad": (0.03889, 0.03889),
}
MARGIN_EM = {"cancel-lap": (-0.2, -0.2), "angl": (0.0, 0.03889), "root": (0.2777777778, -0.5555555556)}
INLINE_BLOCKS = frozenset(("base", "strut", "mspace", "rule", "nulldelimiter", "vertical-separator", "arraycolsep"))
CENTERED = frozenset(("mover", "munder", "x-arrow", "accent", "op-limits", "mfrac"))
FLUSH_LEFT = frozenset(("msupsub", "svg-align"))
LENGTH = re.compile(r"([a-z-]+): ?(?:0 )?(-?[0-9.]+)em")  # the zero is that of `margin:0 -0.02em`
OVERLAYS = {"rlap": 0.0, "llap": -1.0, "clap": -0.5}  # share of its own width by which the content is shifted
COLUMNS = {"col-align-c": "center", "col-align-l": "left", "col-align-r": "right"}


class Box(NamedTuple):
    """The rectangle of one text span."""

    text: str
    x: float
    y: float
    width: float
    height: float


class Font(NamedTuple):
    """What an element inherits."""

    size: float
    italic: bool
    bold: bool
    align: str
    depth: int


class Run(NamedTuple):
    """Something laid out on a line: its advance, its reach above and below the baseline, its text spans."""

    width: float
    ascent: float
    descent: float
    boxes: list[Box]


class TooDeep(ValueError):
    """The markup is nested more than MAX_DEPTH levels deep."""


def layout(html: Element) -> list[Box]:
    """Text spans of KaTeX's `span.katex-html` in document order, each with its rectangle. Raises TooDeep."""
    font = Font(ROOT_PX, False, False, "center", 0)
    lines: list[tuple[float, Run]] = []  # (upper edge, line)
    tags: list[Run] = []
    top = tag_top = 0.0
    for breaks, group in groupby(html, key=lambda child: "newline" in _classes(child)):
        children = list(group)
        if breaks:  # every newline is an empty block; `\\[1em]` gives it a margin
            top += sum(_style(child).get("margin-top", 0.0) * font.size for child in children)
            continue
        tags += (_line([_item(child, font)], font) for child in children if "tag" in _classes(child))
        line = _line([_item(child, font) for child in children if "tag" not in _classes(child)], font)
        lines.append((top, line))
        tag_top, top = top, top + line.ascent + line.descent
    width = max((line.width for _, line in lines), default=0.0)
    boxes: list[Box] = []
    for top, line in lines:
        boxes += _moved(line.boxes, (width - line.width) / 2, top + line.ascent)
    for tag in tags:  # placed over the formula's right end, at the height of its line
        boxes += _moved(tag.boxes, width - tag.width, tag_top + tag.ascent)
    return boxes


def _item(element: Element, font: Font, block: bool = False) -> Run:
    """One element as a piece of its parent's line. `block`: the style sheet makes it an inline block there."""
    if font.depth > MAX_DEPTH:
        raise TooDeep("the formula is nested too deeply")
    classes, style = _classes(element), _style(element)
    font = _font(classes, font)
    size = font.size
    if "vlist-t" in classes:
        return _stack(element, font)
    overlay = next((shift for name, shift in OVERLAYS.items() if name in classes), None)
    if overlay is not None:
        return _overlay(element, font, overlay)

    width, ascent, descent, boxes = _content(element, font)
    pad_left, pad_right = PADDING_EM.get(next(iter(classes & PADDING_EM.keys()), ""), (0.0, 0.0))
    pad_left = style.get("padding-left", pad_left)
    text = element.text if len(element) == 0 else None
    if block or not INLINE_BLOCKS.isdisjoint(classes):
        width = max(style.get("width", width / size), style.get("min-width", 0.0)) * size
        if "vertical-separator" in classes:
            width = 1.0
        if "accent-body" in classes and "accent-full" not in classes or "pstrut" in classes:
            width = 0.0
        if "nulldelimiter" in classes and "width" not in style:
            width = 0.12 * size
        if "height" in style:
            ascent, descent = style["height"] * size, 0.0
        if text:
            boxes = [Box(text, pad_left * size, -ascent, width, ascent + descent)]
    elif text:
        up, down = content_area(size)
        boxes = [Box(text, 0.0, -up, width + (pad_left + pad_right) * size, up + down)]
    margins = MARGIN_EM.get(next(iter(classes & MARGIN_EM.keys()), ""), (0.0, 0.0))
    left = style.get("margin-left", style.get("margin", margins[0])) * size
    right = style.get("margin-right", style.get("margin", margins[1])) * size
    rule = floor(style.get("border-right-width", 0.0) * size)  # browsers draw borders in whole px
    raised = style.get("vertical-align", 0.0) * size
    x = left + style.get("left", 0.0) * size + (0.0 if text else pad_left * size)
    y = style.get("top", 0.0) * size - raised
    advance = left + width + rule + (pad_left + pad_right) * size + right
    return Run(advance, ascent + raised, descent - raised, _moved(boxes, x, y))


def _content(element: Element, font: Font) -> Run:
    """The inside of an element as one line."""
    items = [_text(element.text, font)] if element.text else []
    for child in element:
        if child.tag == "span":  # other elements are drawings, which take no room
            items.append(_item(child, font))
        if child.tail:
            items.append(_text(child.tail, font))
    return _line(items, font)


def _text(text: str, font: Font) -> Run:
    return Run(text_width(text, font.size, italic=font.italic, bold=font.bold), *line_area(font.size), [])


def _line(items: list[Run], font: Font) -> Run:
    x, boxes = 0.0, []
    ascent, descent = line_area(font.size)
    for width, up, down, inner in items:
        boxes += _moved(inner, x, 0.0)
        x += width
        ascent, descent = max(ascent, up), max(descent, down)
    return Run(x, ascent, descent, boxes)


def _stack(table: Element, font: Font) -> Run:
    """KaTeX's vlist, an inline table with one or two rows.

    The lines of the first row have no height; they hang from its lower edge, which is the baseline of the table. The
    second row only makes room below.
    """
    rows = [next(iter(row)) for row in table]  # the second cell of a row is a 2 px spacer that a margin takes back
    lines = [_stacked_line(child, font) for child in rows[0]]
    width = max((left + line.width + right for line, left, right, _ in lines), default=0.0)
    boxes: list[Box] = []
    for line, left, right, top in lines:
        free = width - left - right - line.width
        shift = free if font.align == "right" else free / 2 if font.align == "center" else 0.0
        boxes += _moved(line.boxes, left + shift, top + line.ascent)
    heights = [_style(row).get("height", 0.0) * font.size for row in rows] + [0.0]
    return Run(width, heights[0], heights[1], boxes)


def _stacked_line(row: Element, font: Font) -> tuple[Run, float, float, float]:
    """(line, margin left, margin right, offset of the line's upper edge from the baseline of the stack)."""
    style = _style(row)
    font = _font(_classes(row), font)
    line = _line([_item(child, font, block=True) for child in row if child.tag == "span"], font)
    left, right, top = (style.get(name, 0.0) * font.size for name in ("margin-left", "margin-right", "top"))
    return line, left, right, top


def _overlay(element: Element, font: Font, shift: float) -> Run:
    """\\rlap, \\llap and \\clap: the content is drawn but takes no room."""
    parts = {name: child for child in element for name in _classes(child)}
    strut = _item(parts["strut"], font) if "strut" in parts else Run(0.0, *line_area(font.size), [])
    inner = _content(parts["inner"], font._replace(depth=font.depth + 1))
    line_ascent = max(strut.ascent, line_area(font.size)[0])
    return Run(0.0, strut.ascent, strut.descent, _moved(inner.boxes, shift * inner.width, inner.ascent - line_ascent))


def _font(classes: frozenset[str], font: Font) -> Font:
    size, italic, bold, align, depth = font
    if "sizing" in classes or "fontsize-ensurer" in classes:
        size *= _resize(classes)
    for name, (slant, weight) in FONTS.items() if classes & FONTS.keys() else ():
        if name in classes:
            italic, bold = italic if slant is None else slant, bold if weight is None else weight
    if column := classes & COLUMNS.keys():
        align = COLUMNS[next(iter(column))]
    elif not CENTERED.isdisjoint(classes):
        align = "center"
    elif not FLUSH_LEFT.isdisjoint(classes):
        align = "left"
    return Font(size, italic, bold, align, depth + 1)


@cache
def _resize(classes: frozenset[str]) -> float:
    old = next(int(name[10:]) for name in classes if name.startswith("reset-size"))
    new = next(int(name[4:]) for name in classes if name.startswith("size") and name[4:].isdigit())
    return SIZES[new - 1] / SIZES[old - 1]


def _moved(boxes: list[Box], dx: float, dy: float) -> list[Box]:
    if not boxes or (dx == 0.0 and dy == 0.0):
        return boxes
    return [Box(text, x + dx, y + dy, width, height) for text, x, y, width, height in boxes]


def _classes(element: Element) -> frozenset[str]:
    return _split(element.get("class", ""))


@cache
def _split(names: str) -> frozenset[str]:
    return frozenset(names.split())


def _style(element: Element) -> dict[str, float]:
    text = element.get("style")
    return {name: float(length) for name, length in LENGTH.findall(text)} if text else {}
