"""Tables of a page against those of a transcript, by TEDS and TEDS-S, as OmniDocBench's own code compares them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from html import unescape

from ocr_rl.evaluate.suites.omnidocbench.blocks import LATEX_TABLE, TABLE, TEXT, Block
from ocr_rl.evaluate.suites.omnidocbench.matching import assign, costs
from ocr_rl.text.table_tree import Tree, tree
from ocr_rl.text.teds import similarity

_CELL = re.compile(r"<td\b[^>]*>\s*(?:<[^>]+>)*([^<]*)(?:</(?!td)[^>]+>)*\s*</td>")
_TABLE = re.compile(r"<table\b[^>]*>(.*)</table>", re.DOTALL | re.IGNORECASE)
_SPACES = re.compile(r"\s+")
_ALT = re.compile(r"<math\b[^>]*?alttext=\"([^\"]*)\".*?</math>", re.DOTALL)
_NO_PART = re.compile(
    r"</?(?:thead|span)\b[^>]*>| (?:style|height|width|align|class)=\".*?\"|</?tbody>|</?su[pb]>|</?(?:div|p)>"
    r"|<colgroup>.*?</colgroup>"
)


def tables(wanted: Sequence[str], blocks: Sequence[Block]) -> tuple[list[float], list[float], list[Block]]:
    """TEDS and TEDS-S of each, and the cells of those that stand for none, as texts. A table in LaTeX counts 0."""
    if not wanted:
        return [], [], []
    by_kind = {kind: [block for block in blocks if block.kind == kind] for kind in (TABLE, LATEX_TABLE)}
    latex = len(by_kind[LATEX_TABLE]) > len(by_kind[TABLE])
    given = by_kind[LATEX_TABLE if latex else TABLE]
    pairs = dict(assign(costs(wanted, [block.text for block in given])))
    trees = [
        (_tree(html), _tree(given[pairs[k]].text) if k in pairs and not latex else None)
        for k, html in enumerate(wanted)
    ]
    teds, teds_s = (
        [similarity(a, b, structure_only=only) if a is not None and b is not None else 0.0 for a, b in trees]
        for only in (False, True)
    )
    left = [block for j, block in enumerate(given) if j not in pairs.values()]
    cells = (
        (unescape(cell).replace("$\\cdot$", "").strip(), block) for block in left for cell in _CELL.findall(block.text)
    )
    return teds, teds_s, [Block(TEXT, cell, block.place) for cell, block in cells if cell]


def _tree(html: str) -> Tree | None:
    """A table as the authors compare it: headings are cells, and what dresses it is left out."""
    html = re.sub(r"(</?)th\b", r"\1td", _ALT.sub(r"$\1$", html))
    html = unicodedata.normalize("NFKC", unescape(html).replace("\n", "")).strip()
    inner = _SPACES.sub(" ", _NO_PART.sub("", "".join(_TABLE.findall(html))))
    return tree(f"<table>{inner}</table>") if inner else None
