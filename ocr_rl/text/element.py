"""The elements of a transcript as figures compare them: blocks of text, tables, formulas, each in one form.

Two texts that no reader tells apart have one form: canonical characters, white space as the script writes it, formulas
without delimiters and without TeX that does not show. Knows nothing about how elements are matched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from ocr_rl.text.prepared import LONGEST
from ocr_rl.text.table_tree import Tree, tree_of
from ocr_rl.text.tables import Table
from ocr_rl.text.tex import formulas, only_formulas, with_formulas
from ocr_rl.text.visible import count_visible, searchable, see, short_leaders
from ocr_rl.text.walk import Block, Kind

_SPACING = re.compile(r"\\[,;:!> ]|\\(?:left|right|displaystyle|textstyle|quad|qquad)(?![a-zA-Z])|~")
_SIZED = re.compile(r"\\[dt]frac(?![a-zA-Z])")
_SPACE = re.compile(r"(?<![a-zA-Z\s])\s+|\s+(?![a-zA-Z\s])")
_BRACED = re.compile(r"(?<=[_^])\{(\\[a-zA-Z]+|[^{}\\])\}")


@dataclass(frozen=True)
class Element:
    """A block of a transcript. A heading is a text."""

    kind: Kind
    text: str
    length: int  # visible characters
    tex: str = ""  # of a block that is one formula, displayed or not
    table: Table | None = None

    @cached_property
    def tree(self) -> Tree | None:
        """The table as TEDS compares it, with cells in the form of the text."""
        if self.table is None:
            return None
        cells = {place: replace(cell, text=plain(cell.text)) for place, cell in self.table.cells.items()}
        return tree_of(replace(self.table, cells=cells))

    @cached_property
    def validity(self) -> float:
        """Share of the table's places on which exactly one cell lies; 0 if its spans contradict each other."""
        table = self.table
        if table is None or table.fault:
            return 0.0
        area = sum(cell.rowspan * cell.colspan for cell in table.cells.values())
        return max(0, 2 * len(table.grid) - area) / max(1, table.num_rows * table.num_cols)


@lru_cache(maxsize=64)  # siblings are compared with one reference, and each by several figures
def elements(text: str) -> Sequence[Element]:
    """The visible elements of a text without front matter, in order. What is behind 200,000 characters is left out."""
    every = map(_element, see(text[:LONGEST]).blocks)
    return tuple(element for element in every if element.length and element.text)


def plain(text: str) -> str:
    """A seen text in the form in which two are compared."""
    return short_leaders(searchable(with_formulas(text, lambda formula: fold(formula.tex)))).strip()


def fold(tex: str) -> str:
    r"""TeX without what does not show: `x^{2}` becomes `x^2`, and `\dfrac{a}{b} \, c` becomes `\frac{a}{b}c`."""
    return _BRACED.sub(r"\1", _SPACE.sub("", _SIZED.sub(r"\\frac", _SPACING.sub(" ", tex))))


def _element(block: Block) -> Element:
    text = block.text if block.marker in ("", "-") else f"{block.marker} {block.text}"
    kind: Kind = "text" if block.kind == "heading" else block.kind
    shown = list(formulas(block.text)) if kind != "table" else []
    whole = len(shown) == 1 and only_formulas(block.text)
    return Element(kind, plain(text), count_visible(text), shown[0].tex if whole else "", block.table)
