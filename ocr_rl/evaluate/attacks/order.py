"""Attacks that put the page in another order."""

from __future__ import annotations

from collections.abc import Mapping

from ocr_rl.evaluate import edits
from ocr_rl.evaluate.attacks.target import Make, Target
from ocr_rl.evaluate.damage import blocks
from ocr_rl.evaluate.edits import TABLE, at_end, joined, per_block


def _shuffled(target: Target) -> str | None:
    """The paragraphs in another order: at least one has a wrong neighbour."""
    paragraphs = blocks(target.text)
    if len(set(paragraphs)) < 2:
        return None
    rng, mixed = target.rng(), paragraphs
    while mixed == paragraphs:
        mixed = rng.sample(paragraphs, len(paragraphs))
    return joined(mixed)


def _interleaved(target: Target) -> str | None:
    """Two columns as read by somebody who does not see them: each line runs across both halves of the text."""
    paragraphs = blocks(target.text)
    prose = [block for block in paragraphs if "<" not in block and not block.startswith("#")]
    lines = [line for block in prose for line in _wrapped(block)]
    half = (len(lines) + 1) // 2
    if half < 2:
        return None
    pairs = zip(lines[:half], [*lines[half:], ""], strict=False)
    rest = [block for block in paragraphs if block not in prose]
    return joined([*rest, "\n".join(f"{a} {b}".rstrip() for a, b in pairs)])


def _strings(target: Target) -> str | None:
    """Every run of one to five words, sorted: it holds whatever a test may look for, in no order of reading."""
    words = edits.words(target.text)
    runs = {" ".join(words[i : i + n]) for n in range(1, 6) for i in range(len(words) - n + 1)}
    return "\n".join(sorted(runs)) if len(words) > 1 else None


def _first_half_again(target: Target) -> str | None:
    paragraphs = blocks(target.text)
    return joined([*paragraphs, *paragraphs[: len(paragraphs) // 2]]) if len(paragraphs) > 1 else None


def _cells_swapped(target: Target) -> str | None:
    return edits.swap_cells(target.text, target.rng(), pairs=20)


def _rows_shuffled(target: Target) -> str | None:
    def mixed(block: str) -> str:
        head, *rows = block.split("</tr>")
        *rows, tail = rows or [""]
        return "</tr>".join([head, *target.rng().sample(rows, len(rows)), tail])

    return per_block(target.text, mixed, "table")


def _columns_apart(target: Target) -> str | None:
    """Every word a line of its own."""
    return "\n\n".join(edits.words(target.text))


def _wrapped(block: str) -> list[str]:
    """Lines as a column has them, of about eight words."""
    words = block.split()
    return [" ".join(words[i : i + 8]) for i in range(0, len(words), 8)]


def caption_moved(reference: str) -> tuple[str, str] | None:
    """The page with a caption before its table, and after it; None without a table.

    Where a float stands is nobody's fault.
    """
    table = TABLE.search(reference)
    if table is None:
        return None
    above, below = reference[: table.start()].rstrip(), reference[table.end() :].lstrip()
    caption = "Table 1: what was measured"
    orders = ((caption, table[0]), (table[0], caption))
    before, after = ("\n\n".join(filter(None, [above, *pieces, below])) for pieces in orders)
    return before, after


ORDER: Mapping[str, Make] = {
    "paragraphs shuffled": _shuffled,
    "paragraphs reversed": lambda target: joined(blocks(target.text)[::-1]),
    "columns interleaved": _interleaved,
    "tables and formulas at the end": lambda target: at_end(target.text, "table", "formula"),
    "headings at the end": lambda target: at_end(target.text, "heading"),
    "first half again": _first_half_again,
    "all likely strings, sorted": _strings,
    "twenty cells swapped": _cells_swapped,
    "rows shuffled": _rows_shuffled,
    "a word a block": _columns_apart,
}
