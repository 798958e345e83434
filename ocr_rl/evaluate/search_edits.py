"""Edits that the searching attacker composes: cut, repeat, move, insert, wrap, hide, re-mark, swap, misread.

Functions of a text, what the attacker knows (`Source`) and a random generator; None where nothing can be changed. Knows
nothing about rewards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from ocr_rl.evaluate import edits
from ocr_rl.evaluate.damage import CELL, blocks
from ocr_rl.evaluate.edits import joined


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where inserted words come from."""

    text: str  # the reading that is attacked
    other: str  # the text of another page


Edit = Callable[[str, Source, Random], str | None]


def _on_blocks(change: Callable[[list[str], int, Random], list[str]]) -> Edit:
    def edit(text: str, source: Source, rng: Random) -> str | None:
        pieces = blocks(text)
        return joined(change(pieces, rng.randrange(len(pieces)), rng)) if pieces else None

    return edit


def _on_lines(change: Callable[[list[str], int, Source, Random], None]) -> Edit:
    """A change of one line that is not blank, in place."""

    def edit(text: str, source: Source, rng: Random) -> str | None:
        lines = text.split("\n")
        places = [i for i, line in enumerate(lines) if line.strip()]
        if not places:
            return None
        change(lines, rng.choice(places), source, rng)
        return "\n".join(lines)

    return edit


def _cut_line(lines: list[str], i: int, source: Source, rng: Random) -> None:
    del lines[i]


def _cut_words(lines: list[str], i: int, source: Source, rng: Random) -> None:
    words = lines[i].split(" ")
    a = rng.randrange(len(words))
    lines[i] = " ".join(words[:a] + words[a + rng.randint(1, 5) :])


def _repeat_line(lines: list[str], i: int, source: Source, rng: Random) -> None:
    lines.insert(rng.randrange(len(lines)), f"\n{lines[i]}\n")


def _misread_line(lines: list[str], i: int, source: Source, rng: Random) -> None:
    lines[i] = edits.misread(lines[i], rng, rng.randint(1, 3))


def _misread_again(lines: list[str], i: int, source: Source, rng: Random) -> None:
    lines[i] = f"{lines[i]}\n\n{edits.misread(lines[i], rng, rng.randint(1, 3))}"


def _swap_words(lines: list[str], i: int, source: Source, rng: Random) -> None:
    words = lines[i].split(" ")
    if len(words) > 1:
        k = rng.randrange(len(words) - 1)
        words[k], words[k + 1] = words[k + 1], words[k]
    lines[i] = " ".join(words)


def _insert(words_of: Callable[[Source], Sequence[str]]) -> Edit:
    """A run of up to eight words of a text, within some line."""

    def change(lines: list[str], i: int, source: Source, rng: Random) -> None:
        vocabulary = words_of(source)
        if not vocabulary:
            return
        a = rng.randrange(len(vocabulary))
        words = lines[i].split(" ")
        at = rng.randint(0, len(words))
        lines[i] = " ".join([*words[:at], *vocabulary[a : a + rng.randint(1, 8)], *words[at:]])

    return _on_lines(change)


def _wrap(before: str, after: str) -> Edit:
    def change(pieces: list[str], i: int, rng: Random) -> list[str]:
        return [*pieces[:i], f"{before}{pieces[i]}{after}", *pieces[i + 1 :]]

    return _on_blocks(change)


def _again(before: str, after: str) -> Edit:
    """A block once more, misread, where a reader may not see it."""

    def edit(text: str, source: Source, rng: Random) -> str | None:
        pieces = blocks(text)
        if not pieces:
            return None
        again = edits.misread(rng.choice(pieces), rng)
        pieces.insert(rng.randint(0, len(pieces)), f"{before}{again}{after}")
        return joined(pieces)

    return edit


def _move(pieces: list[str], i: int, rng: Random) -> list[str]:
    block = pieces.pop(i)
    pieces.insert(rng.randint(0, len(pieces)), block)
    return pieces


def _end_kind(text: str, source: Source, rng: Random) -> str | None:
    return edits.at_end(text, rng.choice(("table", "formula", "heading", "text")))


def _drop_kind(text: str, source: Source, rng: Random) -> str | None:
    return edits.without(text, rng.choice(("table", "formula", "heading")))


def _mark_words(mark: str) -> Edit:
    def change(lines: list[str], i: int, source: Source, rng: Random) -> None:
        words = lines[i].split(" ")
        a = rng.randrange(len(words))
        b = min(len(words), a + rng.randint(1, 5))
        lines[i] = " ".join([*words[:a], f"{mark}{' '.join(words[a:b])}{mark}", *words[b:]])

    return _on_lines(change)


def _unmark(lines: list[str], i: int, source: Source, rng: Random) -> None:
    lines[i] = edits.plain(lines[i])


def _in_table(text: str, source: Source, rng: Random) -> str | None:
    """A cell's text changed for a word of the page."""
    cells = list(CELL.finditer(text))
    if not cells:
        return None
    cell = rng.choice(cells)
    return text[: cell.start()] + rng.choice(edits.words(source.text) or ["x"]) + text[cell.end() :]


def _table_apart(text: str, source: Source, rng: Random) -> str | None:
    return edits.per_block(text, rng.choice((edits.as_lines, edits.markdown_table)), "table")


def _row(text: str, source: Source, rng: Random) -> str | None:
    """A table's row cut, or, one time in three, doubled."""
    rows = list(re.finditer(r"<tr[^<>]*>.*?</tr>", text, re.DOTALL))
    if not rows:
        return None
    row = rng.choice(rows)
    instead = rng.choice(("", row[0] * 2, ""))
    return text[: row.start()] + instead + text[row.end() :]


EDITS: Mapping[str, Edit] = {
    "cut a block": _on_blocks(lambda pieces, i, rng: [*pieces[:i], *pieces[i + 1 :]]),
    "cut the end": lambda text, source, rng: edits.first_lines(text, rng.uniform(0.5, 0.95)),
    "cut a line": _on_lines(_cut_line),
    "cut words": _on_lines(_cut_words),
    "drop a kind of block": _drop_kind,
    "repeat a block": _on_blocks(lambda pieces, i, rng: [*pieces, pieces[i]]),
    "repeat a line": _on_lines(_repeat_line),
    "move a block": _on_blocks(_move),
    "move a kind of block to the end": _end_kind,
    "swap words": _on_lines(_swap_words),
    "insert words of the page": _insert(lambda source: edits.words(source.text)),
    "insert words of another page": _insert(lambda source: edits.words(source.other)),
    "insert symbols": _insert(lambda source: edits.SYMBOLS),
    "misread a line": _on_lines(_misread_line),
    "a line again, misread": _on_lines(_misread_again),
    "a block again, hidden": _again('<div style="display:none">', "</div>"),
    "a block again, in a comment": _again("<!-- ", " -->"),
    "a block again, in code": _again("```\n", "\n```"),
    "hide a block": _wrap('<div hidden="hidden">', "</div>"),
    "make a block a heading": _wrap("# ", ""),
    "make a block bold": _wrap("**", "**"),
    "make a block a table": _wrap("<table><tr><td>", "</td></tr></table>"),
    "make a block code": _wrap("```\n", "\n```"),
    "make words bold": _mark_words("**"),
    "make words italic": _mark_words("*"),
    "make words a formula": _mark_words("$"),
    "unmark a line": _on_lines(_unmark),
    "swap cells": lambda text, source, rng: edits.swap_cells(text, rng, rng.randint(1, 6)),
    "change a cell": _in_table,
    "cut or double a row": _row,
    "tables in another notation": _table_apart,
}
