"""The two printers of a full page: Markdown for the reference, Typst for the page. Both print the same tree.

Knows nothing about how pages are composed or tested.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from ocr_rl.pages.synth.sheets import formula
from ocr_rl.pages.synth.sheets.tree import (
    Block,
    Cell,
    Chart,
    Grid,
    Heading,
    Inline,
    Item,
    Items,
    Lines,
    Look,
    Mark,
    Math,
    Para,
    Sheet,
    Text,
    parts_of,
)
from ocr_rl.text.front_matter import FrontMatter

# --- Markdown ---------------------------------------------------------------------------------------------------------


def to_markdown(sheet: Sheet) -> str:
    r"""The reference: Markdown with HTML tables, \(..\) and \[..\], and footnotes as [^1] and, at the end, [^1]:."""
    printed = [_block(block) for block in sheet.body]
    notes = [f"[^{mark.number}]: {_inlines(mark.note)}" for mark in parts_of(sheet.body, Mark)]
    return "\n\n".join([*filter(None, printed), *notes])


def to_front_matter(sheet: Sheet) -> FrontMatter:
    """What olmOCR's models write before the transcript. A page is a table if cells are more than half of its words."""
    tables = sum(len(cells) for grid in parts_of(sheet.body, Grid) for cells in grid.rows)
    words = sum(len(text.text.split()) for text in parts_of(sheet.body, Text))
    return FrontMatter(
        primary_language=sheet.look.language if sheet.body else None,
        is_rotation_valid=sheet.look.rotated == 0,
        rotation_correction=sheet.look.rotated,
        is_table=tables * 2 > words,
        is_diagram=False,
    )


def _block(block: Block) -> str:
    match block:
        case Heading(text=text, level=level):
            return f"{'#' * level} {text.text}"
        case Para(runs=runs):
            return _inlines(runs)
        case Lines(rows=rows):
            return "  \n".join(_line(row, block.fill) for row in rows)
        case Items(items=items, ordered=ordered):
            return "\n".join(_items(items, ordered, 0))
        case Math():
            tag = f" \\tag{{{block.number}}}" if block.number else ""
            return f"\\[ {formula.to_latex(block.formula)}{tag} \\]"
        case Grid():
            caption = [block.caption.text, ""] if block.caption else []
            return "\n".join([*caption, "<table>", *map(_row, block.rows), "</table>"])
        case Chart(caption=caption):
            return caption.text


def _inlines(runs: Iterable[Inline]) -> str:
    out = ""
    for run in runs:
        match run:
            case Text(text=text, style=style):
                mark = {"": "", "bold": "**", "italic": "*"}[style]
                piece = f"{mark}{text}{mark}"
            case Math():
                piece = f"\\( {formula.to_latex(run.formula)} \\)"
            case Mark(number=number):
                piece = f"[^{number}]"
        out += piece if not out or isinstance(run, Mark) else f" {piece}"
    return out


def _line(texts: Sequence[Text], fill: str) -> str:
    # A person would write this box, too. The mark of a list would make the line a list.
    return ("☐ " if fill == "box" else "") + _inlines(texts)


def _items(items: Sequence[Item], ordered: bool, depth: int) -> Iterable[str]:
    for k, item in enumerate(items, 1):
        yield f"{'   ' * depth}{f'{k}.' if ordered else '-'} {_inlines(item.runs)}"
        yield from _items(item.items, False, depth + 1)


def _row(cells: Sequence[Cell]) -> str:
    return "<tr>" + "".join(map(_cell, cells)) + "</tr>"


def _cell(cell: Cell) -> str:
    tag = "th" if cell.head else "td"
    spans = (f' rowspan="{cell.rows}"' if cell.rows > 1 else "") + (f' colspan="{cell.cols}"' if cell.cols > 1 else "")
    return f"<{tag}{spans}>{html.escape(cell.text.text, quote=False)}</{tag}>"


# --- Typst ------------------------------------------------------------------------------------------------------------


def to_typst(sheets: Sequence[Sheet]) -> str:
    """One Typst document with a page for each sheet. A sheet that overflows gives more pages: count them."""
    return "#set document(date: none)\n" + "\n".join(map(_page, sheets))


def _page(sheet: Sheet) -> str:
    look = sheet.look
    first = next(parts_of(sheet.body, Mark), None)
    top = "\n".join(_set(block, look) for block in sheet.top)
    if sheet.top and look.columns > 1:
        top = f'#place(top, float: true, scope: "parent", clearance: {look.size}pt)[#block(width: 100%)[{top}]]'
    return (
        f"#page(width: {look.width}pt, height: {look.height}pt, columns: {look.columns}, "
        f"margin: (x: {look.margin}pt, y: {look.margin}pt), header-ascent: 35%, footer-descent: 40%, "
        f"header: {_edge(sheet.header, look)}, footer: {_edge(sheet.footer, look)})[\n"
        f"#set text(font: {_string(look.font)}, size: {look.size}pt, fill: luma({look.ink}), lang: "
        f"{_string(look.language)}, fallback: false)\n"
        f"#set par(leading: {look.leading}em, spacing: {look.leading if look.indent else look.leading + 0.45:.2f}em, "
        f"justify: {str(look.justify).lower()}, first-line-indent: {'1.2em' if look.indent else '0pt'})\n"
        f"#set block(spacing: {look.leading + 0.45:.2f}em)\n"
        f"#set list(indent: 0.8em)\n#set enum(indent: 0.8em)\n#set footnote.entry(gap: 0.35em)\n"
        f"#counter(footnote).update({first.number - 1 if first else 0})\n"
        f"{top}\n{chr(10).join(_set(block, look) for block in sheet.blocks)}\n]"
    )


def _edge(texts: Sequence[str], look: Look) -> str:
    if not any(texts):
        return "none"
    cells = ", ".join(f"[#{_string(text)}]" for text in texts)
    align = "(left, right)" if len(texts) == 2 else "(left, center, right)"
    rule = "stroke: (bottom: 0.4pt), inset: (y: 3pt), " if look.rule and len(texts) == 2 else ""
    return (
        f"text(font: {_string(look.font)}, size: {look.size * 0.85:.2f}pt, fill: luma({look.ink}), fallback: false, "
        f"grid(columns: {len(texts)} * (1fr,), align: {align}, {rule}{cells}))"
    )


_SCALE = {1: 1.55, 2: 1.25, 3: 1.08, 4: 1.0}


def _set(block: Block, look: Look) -> str:
    match block:
        case Heading(text=text, level=level):
            font = f"font: {_string(look.heading_font)}, " if look.heading_font else ""
            slant = 'style: "italic", ' if level == 4 else ""
            inner = (
                f"text({font}size: {look.size * _SCALE[level]:.2f}pt, weight: 700, fill: rgb({_string(look.tint)}), "
                f"{slant}{_string(text.text)})"
            )
            align = "center" if look.centred and level == 1 else "start"
            return (
                f"#block(above: {1.5 if level > 1 else 1.1}em, below: {look.leading + 0.35:.2f}em, width: 100%, "
                f"sticky: true, align({align}, par(justify: false, first-line-indent: 0pt, {inner})))"
            )
        case Para(runs=runs, align=align, size=size):
            text = _runs(runs)
            if align or size != 1.0:
                inner = f"#set text(size: {look.size * size:.2f}pt)\n#set par(first-line-indent: 0pt)\n{text}"
                return f"#align({align or 'start'})[{inner}]"
            return text + "\n#parbreak()"
        case Lines(rows=rows, fill=fill, align=align):
            lines = " \\\n".join(_set_line(row, fill) for row in rows)
            inner = f"#set par(justify: false, first-line-indent: 0pt)\n{lines}"
            return f"#align({align or 'start'})[{inner}]"
        case Items(items=items, ordered=ordered):
            return _set_items(items, ordered)
        case Math():
            body = f"math.equation(block: true, $ {formula.to_typst(block.formula)} $)"
            if block.number is None:
                return f"#{body}"
            return f"#grid(columns: (1fr, auto), align: horizon, {body}, [({block.number})])"
        case Grid():
            caption = f"#text(size: {look.size * 0.9:.2f}pt)[#{_string(block.caption.text)}]\n" if block.caption else ""
            return f"#align(center, block(width: 100%)[{caption}{_table(block, look)}])"
        case Chart():
            return _chart(block, look)


def _runs(runs: Iterable[Inline]) -> str:
    out = ""
    for run in runs:
        match run:
            case Text(text=text, style=""):
                piece = f"#{_string(text)};"
            case Text(text=text, style=style):
                piece = f"#{'strong' if style == 'bold' else 'emph'}({_string(text)});"
            case Math():
                piece = f"${formula.to_typst(run.formula)}$"
            case Mark(note=note):
                piece = f"#footnote[{_runs(note)}];"
        out += piece if not out or isinstance(run, Mark) else f" {piece}"
    return out


def _set_line(texts: Sequence[Text], fill: str) -> str:
    gaps = {"dots": " #box(width: 1fr, repeat[.]) ", "rule": " #box(width: 1fr, line(length: 100%, stroke: 0.4pt)) "}
    before = "#box(width: 0.7em, height: 0.7em, stroke: 0.6pt, baseline: 0.05em) " if fill == "box" else ""
    return before + gaps.get(fill, " ").join(_runs([text]) for text in texts)


def _set_items(items: Sequence[Item], ordered: bool) -> str:
    name = "enum" if ordered else "list"
    cells = ", ".join(f"[{_runs(item.runs)}{_set_items(item.items, False) if item.items else ''}]" for item in items)
    return f"#{name}({cells})"


_STROKES = {
    "ruled": "0.5pt",
    "booktabs": "(x, y) => (top: if y == 0 { 0.9pt } else if y == HEAD { 0.5pt }, bottom: if y == LAST { 0.9pt })",
    "bare": "none",
    "striped": "none",
}


def _table(grid: Grid, look: Look) -> str:
    heads = sum(all(cell.head for cell in cells) for cells in grid.rows)
    cells = ", ".join(_set_cell(cell) for row in grid.rows for cell in row)
    stroke = _STROKES[grid.look].replace("HEAD", str(heads)).replace("LAST", str(len(grid.rows) - 1))
    fill = f", fill: (x, y) => if y >= {heads} and calc.odd(y) {{ luma(232) }}" if grid.look == "striped" else ""
    size, side = look.size * grid.size, "center" if grid.look == "ruled" else "right"
    return (
        f"#text(size: {size:.2f}pt)[#set par(justify: false, leading: 0.45em, first-line-indent: 0pt)\n"
        f"#table(columns: {grid.columns}, inset: (x: {size * 0.45:.2f}pt, y: {size * 0.3:.2f}pt), "
        f"stroke: {stroke}{fill}, align: (x, y) => (if x == 0 {{ left }} else {{ {side} }}) + horizon, {cells})]"
    )


def _set_cell(cell: Cell) -> str:
    body = (
        f"#{'strong' if cell.head else ''}({_string(cell.text.text)})" if cell.head else f"#{_string(cell.text.text)}"
    )
    if cell.rows == cell.cols == 1:
        return f"[{body}]"
    return f"table.cell(rowspan: {cell.rows}, colspan: {cell.cols})[{body}]"


def _chart(chart: Chart, look: Look) -> str:
    height = look.size * 8
    bars = ", ".join(
        f"align(bottom, rect(width: 70%, height: {height * h / 100:.1f}pt, fill: luma({120 + 20 * (k % 4)})))"
        for k, h in enumerate(chart.heights)
    )
    drawn = (
        f"block(stroke: (left: 0.6pt, bottom: 0.6pt), width: 85%, grid(columns: {len(chart.heights)} * (1fr,), {bars}))"
    )
    caption = f"text(size: {look.size * 0.88:.2f}pt, {_string(chart.caption.text)})"
    scope = ', scope: "parent"' if look.columns == 1 else ""
    return f"#place({chart.at}, float: true{scope}, align(center, stack(spacing: 6pt, {drawn}, {caption})))"


def _string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
