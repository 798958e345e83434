"""What a transcript that fails a test says instead, in statements that siblings can share.

A test of a text is contradicted letter by letter: "position 12 of the text is 3" is one statement. So samples that
misread different letters still agree on the one letter that a wrong test has wrong. Nothing here knows which is right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import product
from typing import cast

from rapidfuzz import fuzz, process
from rapidfuzz.distance import Levenshtein

from ocr_rl.contract import Check, Verdict
from ocr_rl.text import distance
from ocr_rl.text.checks import Prepared
from ocr_rl.text.element_checks import TableRelation
from ocr_rl.text.page_check import needle_of
from ocr_rl.text.prepared import TextTable
from ocr_rl.text.tables import Cell, Direction
from ocr_rl.text.text_checks import Absent, Format, Order, Present

NOWHERE = "stands nowhere"
THERE = "it stands there"
TURNED = "it stands the other way round"
ALIKE = 0.7  # texts less alike than this are two texts, not one that was misread
AROUND = 3  # characters by which the closest place may be longer or shorter at either end
_PLACES = re.compile(r" at (?:character \d+|row \d+, column \d+)| \(\d+% alike\)| among \d+| last at \d+")


def contradictions(check: Check, prepared: Prepared, verdict: Verdict) -> frozenset[str]:
    """The statements of a transcript that fails a test in the strict reading; none where it passes."""
    if verdict.passed:
        return frozenset()
    match check:
        case Absent():
            return frozenset({THERE})
        case Present():
            return frozenset(misread(*_sought(check, prepared)))
        case Order():
            return frozenset(_order(check, prepared.searched("strict")))
        case Format():
            pieces = prepared.pieces(check.format, "strict")
            needle = needle_of(check.text, "strict")
            return frozenset(_other("piece", needle, pieces))
        case TableRelation() if check.cell is not None:
            return frozenset(_table(check, prepared.tables("strict", markdown=not check.ignore_markdown_tables)))
    return frozenset({_PLACES.sub("", verdict.why)})


def reading(check: Check, prepared: Prepared, verdict: Verdict) -> str:
    """What stands at the likeliest place, for people: the text itself, or the reason of the verdict."""
    if isinstance(check, Present) and not isinstance(check, Absent) and not verdict.passed:
        needle, text = _sought(check, prepared)
        near = distance.closest(needle, text)
        return text[near.start : near.end] if near.similarity >= ALIKE else ""
    return _PLACES.sub("", verdict.why)


def _sought(check: Present, prepared: Prepared) -> tuple[str, str]:
    """What is searched, and in what."""
    needle = needle_of(check.text, "strict")
    text = prepared.searched("strict", lower=not check.case_sensitive)
    return (needle if check.case_sensitive else needle.lower()), text


def misread(needle: str, text: str) -> Iterator[str]:
    """Each letter of the needle that its likeliest place in the text has otherwise; each word where there is none."""
    place = likeliest(needle, text)
    if place is not None:
        yield from edits(needle, text[slice(*place)])
    else:
        yield from (f"{word!r} {NOWHERE}" for word in needle.split())


def likeliest(needle: str, text: str) -> tuple[int, int] | None:
    """Start and end of the place that is most like the needle; None where nothing is alike.

    The closest window of a search is as long as the needle; this one is as long as what was read there.
    """
    near = distance.closest(needle, text)
    if near.similarity < ALIKE:
        return None
    starts = range(max(0, near.start - AROUND), near.start + AROUND + 1)
    ends = range(max(0, near.end - AROUND), min(len(text), near.end + AROUND) + 1)
    return min(
        product(starts, ends),
        key=lambda place: (Levenshtein.distance(needle, text[slice(*place)]), place[0] - place[1], place),
    )


def edits(needle: str, there: str) -> Iterator[str]:
    """The letters that stand otherwise there, each by its word, so that tests of one word can be compared."""
    words = [word.span() for word in re.finditer(r"\S+", needle)]
    inserted: dict[int, str] = {}
    for op in Levenshtein.editops(needle, there):
        at, other = op.src_pos, there[op.dest_pos : op.dest_pos + 1]
        if op.tag == "insert":
            inserted[at] = inserted.get(at, "") + other
        else:
            yield f"{_letter(needle, words, at)} is {repr(other) if op.tag == 'replace' else 'missing'}"
    yield from (f"{more!r} stands before {_letter(needle, words, at)}" for at, more in inserted.items())


def _letter(needle: str, words: Sequence[tuple[int, int]], at: int) -> str:
    """What stands at that place of the needle, by its word or by the word before it."""
    start, end = next((span for span in reversed(words) if span[0] <= at), (0, 0))
    word = needle[start:end]
    return f"letter {at - start + 1} of {word!r}" if at < end else f"what follows {word!r}"


def _order(check: Order, text: str) -> Iterator[str]:
    """That both stand there the other way round, however they are read, and what is misread of them."""
    places = []
    for name in ("before", "after"):
        needle = needle_of(getattr(check, name), "strict")
        places.append(likeliest(needle, text))
        if distance.first_and_last(needle, text, check.max_diffs) is None:
            yield from misread(needle, text)
    before, after = places
    if before and after and before[0] >= after[0]:
        yield TURNED


def _table(check: TableRelation, tables: list[TextTable]) -> Iterator[str]:
    """What the likeliest cell and its neighbours say instead."""
    needle = needle_of(check.cell, "strict")
    wanted = [(name, needle_of(value, "strict")) for name in check.RELATIONS if (value := getattr(check, name))]
    likeliest = max(
        ((similarity, table, table.cells[k]) for table in tables for _, similarity, k in _likeliest(needle, table)),
        key=lambda one: (one[0], sum(_alike(_beside(one[1], one[2], name), value) for name, value in wanted)),
        default=None,
    )
    if likeliest is None:
        yield "there is no table"
        return
    _, table, cell = likeliest
    yield from _other("cell", needle, [table.by_place[cell.place]])
    for name, value in wanted:
        yield from _other(name, value, _beside(table, cell, name))


def _likeliest(needle: str, table: TextTable) -> list[tuple[str, float, int]]:
    return process.extract(needle, table.texts, scorer=fuzz.ratio, limit=4)


def _beside(table: TextTable, cell: Cell, relation: str) -> list[str]:
    if relation in ("top_heading", "left_heading"):
        others = table.table.headings(cell, "up" if relation == "top_heading" else "left")
    else:
        others = table.table.neighbours(cell, cast(Direction, relation))
    return [table.by_place[other.place] for other in others]


def _alike(texts: Sequence[str], needle: str) -> float:
    return max((fuzz.ratio(text, needle) for text in texts), default=0.0)


def _other(name: str, needle: str, texts: Sequence[str]) -> Iterator[str]:
    """What stands there instead of the needle, letter by letter; another text counts as a whole."""
    nearest = max(texts, key=lambda text: fuzz.ratio(text, needle), default=None)
    if nearest is None:
        yield f"{name} {needle!r} is nothing"
    elif fuzz.ratio(nearest, needle) < 100 * ALIKE:
        yield f"{name} {needle!r} is {nearest[:200]!r}"
    else:
        yield from edits(needle, nearest)
