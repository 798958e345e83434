"""Tables of a page by TEDS, matched by likeness."""

from __future__ import annotations

from collections.abc import Sequence

from ocr_rl.text.element import elements
from ocr_rl.text.table_tree import Tree
from ocr_rl.text.teds import similarity


def table_trees(text: str) -> list[Tree]:
    """The tables of a text, Markdown and HTML, as TEDS compares them."""
    return [tree for block in elements(text) if (tree := block.tree) is not None]


def teds(wanted: Sequence[Tree], shown: Sequence[Tree], *, structure_only: bool = False) -> list[float]:
    """The likest pairs first; a table that is missing counts 0."""
    likest = sorted(
        (
            (similarity(a, b, structure_only=structure_only), k, j)
            for k, a in enumerate(wanted)
            for j, b in enumerate(shown)
        ),
        reverse=True,
    )
    scores, taken = dict.fromkeys(range(len(wanted)), 0.0), set[int]()
    done: set[int] = set()
    for alike, k, j in likest:
        if k not in done and j not in taken:
            scores[k] = alike
            done.add(k)
            taken.add(j)
    return list(scores.values())
