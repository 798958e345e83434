"""The structured source of a small synthetic page, and its two printers: Typst (the page) and Markdown (the reference).

Both printers print the same tree, so the reference is true by construction. Knows nothing about how documents are
composed, typeset or tested.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ocr_rl.pages.synth.sheets import formula


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A stretch of text in one style."""

    text: str
    bold: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    text: str
    level: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Paragraph:
    runs: tuple[Run, ...]

    @property
    def text(self) -> str:
        return " ".join(run.text for run in self.runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A rectangular table. Row 0 holds the column headings."""

    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """A formula on a line of its own."""

    formula: formula.Formula

    @property
    def latex(self) -> str:
        return formula.to_latex(self.formula)


Block = Heading | Paragraph | Table | Display


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a document looks. Lengths in pt."""

    width: float
    height: float
    margin: float
    font: str
    size: float
    leading: float  # in em
    columns: int = 1
    heading_scale: float = 1.2
    centred_headings: bool = False
    ruled: bool = True  # whether tables have all lines or only one under the headings
    furniture_size: float = 0.75  # running header and page number, in em of the text
    ink: int = 0  # grey of the text, 0 (black) to 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One page: its text in blocks, and the running header and footer, which are no part of the text."""

    blocks: tuple[Block, ...]
    style: Style
    header: str | None = None
    footer: str | None = None
    header_align: Literal["left", "center", "right"] = "left"
    footer_align: Literal["left", "center", "right"] = "center"


def to_markdown(source: Source) -> str:
    """The reference transcript: Markdown with HTML tables, without running header and footer."""
    return "\n\n".join(_markdown(block) for block in source.blocks)


def _markdown(block: Block) -> str:
    match block:
        case Heading(text=text, level=level):
            return f"{'#' * level} {text}"
        case Paragraph(runs=runs):
            return " ".join(f"**{run.text}**" if run.bold else run.text for run in runs)
        case Table(rows=rows):
            cells = [
                "<tr>" + "".join(f"<{tag}>{html.escape(cell, quote=False)}</{tag}>" for cell in row) + "</tr>"
                for row, tag in zip(rows, ["th"] + ["td"] * (len(rows) - 1), strict=True)
            ]
            return "\n".join(["<table>", *cells, "</table>"])
        case Display():
            return f"\\[ {block.latex} \\]"


def to_typst(sources: Sequence[Source]) -> str:
    """One Typst document with a page for each source. A source that overflows gives more pages: count them."""
    # Without a date the same sources give the same bytes at any time. Page ids are made from the bytes.
    head = "#set document(date: none)\n#set par(justify: false)\n#set text(hyphenate: false)\n"
    return head + "\n".join(_page(source) for source in sources)


def _page(source: Source) -> str:
    style = source.style
    body = "\n".join(_typst(block, style) for block in source.blocks)
    return (
        f"#page(width: {style.width}pt, height: {style.height}pt, columns: {style.columns}, "
        f"margin: (x: {style.margin}pt, top: {_edge(source.header, style)}pt, "
        f"bottom: {_edge(source.footer, style)}pt), "
        f"header: {_furniture(source.header, source.header_align, style)}, header-ascent: 15%, "
        f"footer: {_furniture(source.footer, source.footer_align, style)}, footer-descent: 15%)[\n"
        f"#set text(font: {_string(style.font)}, size: {style.size}pt, fill: luma({style.ink}), fallback: false)\n"
        f"#set par(leading: {style.leading}em, spacing: {style.leading + 0.35}em)\n"
        f"#set block(spacing: {style.leading + 0.35}em)\n"
        f"{body}\n]"
    )


def _edge(furniture: str | None, style: Style) -> float:
    return style.margin if furniture is None else max(style.margin, style.size * style.furniture_size * 1.9 + 2)


def _furniture(text: str | None, align: str, style: Style) -> str:
    if text is None:
        return "none"
    return (
        f"align({align}, text(font: {_string(style.font)}, size: {style.size * style.furniture_size:.2f}pt, "
        f"fill: luma({style.ink}), {_string(text)}))"
    )


def _typst(block: Block, style: Style) -> str:
    match block:
        case Heading(text=text, level=level):
            size = style.size * (1 + (style.heading_scale - 1) / level)
            inner = f'text(size: {size:.2f}pt, weight: "bold", {_string(text)})'
            return f"#align({'center' if style.centred_headings else 'left'}, {inner})"
        case Paragraph(runs=runs):
            words = " ".join(f"#strong({_string(run.text)})" if run.bold else f"#{_string(run.text)};" for run in runs)
            return words + "\n#parbreak()"
        case Table(rows=rows):
            cells = ", ".join(f"[#{_string(cell)}]" for row in rows for cell in row)
            stroke = "0.5pt" if style.ruled else "(x, y) => if y == 0 { (bottom: 0.6pt) }"
            return f"#table(columns: {len(rows[0])}, inset: {style.size * 0.25:.2f}pt, stroke: {stroke}, {cells})"
        case Display():
            return f"#math.equation(block: true, $ {formula.to_typst(block.formula)} $)"


def _string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
