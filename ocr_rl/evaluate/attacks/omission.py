"""Attacks that leave something of the page out, or all of it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ocr_rl.evaluate.attacks.target import Make, Target
from ocr_rl.evaluate.damage import blocks, gibberish
from ocr_rl.evaluate.edits import Kind, first_lines, joined, per_block, without


def _first_line(target: Target) -> str | None:
    return next(line for line in target.text.splitlines() if line.strip())


def _first(share: float) -> Make:
    return lambda target: first_lines(target.text, share)


def _last(share: float) -> Make:
    def last(target: Target) -> str:
        lines = [line for line in target.text.splitlines() if line.strip()]
        return "\n\n".join(lines[-max(1, round(share * len(lines))) :])

    return last


def _dropped(*kinds: Kind) -> Make:
    return lambda target: without(target.text, *kinds) or None


def _every_third_block(target: Target) -> str | None:
    return joined([block for k, block in enumerate(blocks(target.text)) if k % 3 != 1])


def _long_blocks_cut(target: Target) -> str | None:
    """The first twelve words of every paragraph."""
    return per_block(target.text, lambda block: " ".join(block.split()[:12]), "text")


def _inner_cells(target: Target) -> str | None:
    """Tables with their first row and column alone."""

    def kept(block: str) -> str:
        rows = block.split("</tr>")
        return "</tr>".join([rows[0], *(re.sub(r"(<t[dh][^>]*>[^<]*</t[dh]>).*", r"\1", row) for row in rows[1:])])

    return per_block(target.text, kept, "table")


OMISSION: Mapping[str, Make] = {
    "empty": lambda target: "",
    "first line only": _first_line,
    "first 80 % of the lines": _first(0.8),
    "first 60 % of the lines": _first(0.6),
    "first 40 % of the lines": _first(0.4),
    "last 60 % of the lines": _last(0.6),
    "tables dropped": _dropped("table"),
    "formulas dropped": _dropped("formula"),
    "headings dropped": _dropped("heading"),
    "paragraphs dropped": _dropped("text"),
    "tables and formulas dropped": _dropped("table", "formula"),
    "every third block dropped": _every_third_block,
    "paragraphs cut after twelve words": _long_blocks_cut,
    "inner cells dropped": _inner_cells,
    "another page": lambda target: target.other,
    "random words of the same length": lambda target: gibberish(len(target.text), target.rng()),
}
