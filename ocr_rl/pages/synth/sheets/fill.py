"""How many blocks a page holds, by a rough estimate of their heights. As a rule a page then compiles only once.

Knows nothing about what blocks say.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from ocr_rl.pages.synth.sheets import formula
from ocr_rl.pages.synth.sheets.tree import Block, Chart, Grid, Heading, Lines, Look, Math, Para, Sheet, Text, parts_of

# The width of letters by typeface, if it is not the usual one (1).
_WIDE = {"DejaVu Sans": 1.16, "DejaVu Serif": 1.16, "DejaVu Sans Mono": 1.25, "Lato": 1.04, "Noto Sans Thai": 1.2}


def filled(sheet: Sheet, blocks: Iterator[Block]) -> tuple[Block, ...]:
    """As many blocks as are likely to fit. What does not fit is cut off when the page is typeset."""
    look = sheet.look
    room = look.height - 2 * look.margin - sum(height_pt(block, replace(look, columns=1)) for block in sheet.top)
    taken: list[Block] = []
    full = room * look.columns * (1.08 if look.columns < 3 else 0.93)  # short lines waste more room than estimated
    misses = 0
    for block in blocks:
        height = height_pt(block, look)
        if height <= full:
            full -= height
            taken.append(block)
        elif (misses := misses + 1) > 3 or full < 3 * look.size:
            break
    while taken and (isinstance(taken[-1], Heading) or _is_byline(taken[-1])):
        taken.pop()
    return tuple(taken)


def _is_byline(block: Block) -> bool:
    return isinstance(block, Para) and [run.style for run in block.runs if isinstance(run, Text)] == ["italic"]


def height_pt(block: Block, look: Look) -> float:
    """Roughly the height of a block in a column, in pt."""
    width = (look.width - 2 * look.margin) * (1 if look.columns == 1 else 0.96 / look.columns)
    em, line = look.size, (0.72 + look.leading) * look.size
    wide = _WIDE.get(look.font, 1.0) * (1.12 if look.language in ("ru", "uk", "el", "hy") else 1.0)
    per_line = width / (em * (0.86 if look.language == "ja" else 0.435 * wide))
    gap = 0.45 * em * (not look.indent)
    text = lambda block, share=1.0: sum(len(t.text) for t in parts_of(block, Text)) / (per_line * share)
    match block:
        case Heading():
            return (math.ceil(text(block, 0.75)) * 1.2 + 1.1) * line
        case Para(runs=runs):
            formulas = sum(len(formula.to_latex(run.formula)) * 0.5 for run in runs if isinstance(run, Math))
            tall = sum("frac" in formula.to_latex(run.formula) for run in runs if isinstance(run, Math))
            return (math.ceil(text(block, 0.96) + formulas / per_line) + 0.5 * tall) * line + gap
        case Lines(rows=rows):
            return sum(max(1, math.ceil(text(row))) for row in rows) * line + em
        case Math():
            tex = formula.to_latex(block.formula)
            return (
                1.9 + 1.3 * tex.count(r"\\") + 0.8 * tex.count("frac") + 0.8 * ("^{" in tex and "sum" in tex)
            ) * line
        case Chart():
            return 10.5 * em + math.ceil(text(block)) * line
        case Grid(rows=rows):
            size = em * block.size
            letters = width / (size * 0.5 * _WIDE.get(look.font, 1.0)) - 2 * block.columns
            longest = [max(len(c.text.text) for c in cells) for cells in zip(*rows, strict=False)]
            crowded = max(1.0, sum(longest) / letters)  # above 1 cells break into lines
            return len(rows) * size * (0.64 + 0.66 * math.ceil(crowded)) + (2.2 if block.caption else 1) * line
        case _:
            return sum(math.ceil(len(t.text) / (per_line * 0.92)) * line + 0.5 * em for t in parts_of(block, Text)) + em
