"""Edits of a transcript that attacks and the searching attacker share: pieces, omissions, moves, wraps.

Pure functions on Markdown with HTML tables. They know nothing about pages, rewards or scores.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from random import Random
from typing import Literal

from ocr_rl.evaluate.damage import CELL, TAG, blocks

Kind = Literal["text", "heading", "table", "formula"]
SYMBOLS = "§¶†‡«»¤•◊※¦"
TABLE = re.compile(r"<table.*?</table>", re.DOTALL | re.IGNORECASE)
_ROW = re.compile(r"<tr[^<>]*>(.*?)</tr>", re.DOTALL | re.IGNORECASE)
_HEADING = re.compile(r"[ \t]*#{1,6}[ \t]+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def kind_of(block: str) -> Kind:
    """What a block of Markdown is."""
    if "<table" in block:
        return "table"
    if _HEADING.match(block):
        return "heading"
    return "formula" if block.lstrip().startswith(("\\[", "$$")) else "text"


def joined(pieces: Sequence[str]) -> str:
    return "\n\n".join(pieces)


def of_kind(text: str, *kinds: Kind) -> list[str]:
    return [block for block in blocks(text) if kind_of(block) in kinds]


def without(text: str, *kinds: Kind) -> str:
    """The text without its blocks of these kinds."""
    return joined([block for block in blocks(text) if kind_of(block) not in kinds])


def at_end(text: str, *kinds: Kind) -> str:
    """The text with its blocks of these kinds behind the others."""
    return joined([*filter(None, [without(text, *kinds)]), *of_kind(text, *kinds)])


def first_lines(text: str, share: float) -> str:
    """That share of the lines, from the start; a table may be cut open."""
    kept = text.strip().splitlines()
    places = [i for i, line in enumerate(kept) if line.strip()]
    last = places[max(0, round(share * len(places)) - 1)] if places else 0
    return "\n".join(kept[: last + 1])


def sentences(text: str) -> list[str]:
    """Sentences of running text, without markup."""
    running = " ".join(re.sub(r"[#*]", "", block) for block in of_kind(text, "text", "heading"))
    return [piece for piece in _SENTENCE.split(running) if piece.strip()]


def words(text: str) -> list[str]:
    return TAG.sub(" ", text).split()


def per_line(text: str, change: Callable[[str], str]) -> str:
    """The text with every line of prose changed; tables and displayed formulas stay."""
    return joined(
        [
            "\n".join(map(change, block.splitlines())) if kind_of(block) in ("text", "heading") else block
            for block in blocks(text)
        ]
    )


def per_block(text: str, change: Callable[[str], str], *kinds: Kind) -> str:
    return joined([change(block) if kind_of(block) in kinds else block for block in blocks(text)])


def plain(line: str) -> str:
    """A line without the marks of headings and emphasis."""
    return _HEADING.sub("", line).replace("*", "")


def outside_tags(text: str, change: Callable[[str], str]) -> str:
    return "".join(part if part.startswith("<") else change(part) for part in TAG.split(text))


def markdown_table(block: str) -> str:
    """An HTML table as a pipe table, spans as single cells."""
    rows = [[plain_cell(cell) for cell in CELL.findall(row)] for row in _ROW.findall(block)]
    rows = [row for row in rows if row]
    if not rows:
        return block
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def plain_cell(cell: str) -> str:
    return cell.replace("|", "/").strip()


def as_lines(block: str) -> str:
    """A table as its cells, one row a line."""
    return "\n".join(" ".join(CELL.findall(row)) for row in _ROW.findall(block))


def swap_cells(text: str, rng: Random, pairs: int = 1) -> str:
    """Cells of one table exchanged, that many times two neighbours in reading order."""
    cells = list(CELL.finditer(text))
    if len(cells) < 2:
        return text
    values = [cell[0] for cell in cells]
    for _ in range(pairs):
        i = rng.randrange(len(cells) - 1)
        values[i], values[i + 1] = values[i + 1], values[i]
    queue = iter(values)
    return CELL.sub(lambda _: next(queue), text)


def misread(line: str, rng: Random, letters: int = 1) -> str:
    """A line with a few letters or digits replaced by others of their sort."""
    chars = list(line)
    places = [i for i, char in enumerate(chars) if char.isalnum()]
    for i in rng.sample(places, min(letters, len(places))):
        chars[i] = rng.choice(string.digits if chars[i].isdigit() else string.ascii_lowercase)
    return "".join(chars)
