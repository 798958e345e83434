"""ParseBench's data points of charts: a value in a table of the transcript, with its labels in row, column or heading.

Defined by the benchmark's own code (run-llama/ParseBench at facdaf0, Apache-2.0), written anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from rapidfuzz import fuzz

from ocr_rl.evaluate.suites.parsebench.tables import grids
from ocr_rl.evaluate.suites.parsebench.text import Rule, Seen, filled, fold

HEADING_ALIKE = 0.6  # of a label and all of a heading
LEAST_ALIKE = 0.5
TOLERANCE = 0.01  # of a value, relative
_CURRENCY = re.compile(r"^[$€£¥]\s*|\s*[$€£¥]$")
_ABOUT = re.compile(r"^[~≈]\s*")
_SCALES = [
    (re.compile(rf"(?:{names})$", re.IGNORECASE), scale)
    for names, scale in (
        ("trillion|trill|trn", 1e12),
        ("billion|bill|bln", 1e9),
        ("million|mill|mln", 1e6),
        ("t", 1e12),
        ("g|b", 1e9),
        ("m", 1e6),
        ("k", 1e3),
    )
]
_PARTS = re.compile(r"[-+]?\d(?:,\d{3}|\d)*\.?\d*%?")
_NOT_ALNUM = re.compile(r"[^a-z0-9]")
_MD_HEADING = re.compile(r"^#{1,6}\s+(.+?)$", re.MULTILINE)
_CAPTION = re.compile(r"<caption[^>]*>(.+?)</caption>", re.IGNORECASE)
_EMPHASISED = (
    _MD_HEADING,
    re.compile(r"\*\*(.+?)\*\*"),
    re.compile(r"<h[1-6][^>]*>(.+?)</h[1-6]>", re.IGNORECASE),
    re.compile(r"<(?:strong|b)[^>]*>(.+?)</(?:strong|b)>", re.IGNORECASE),
)


class Table(NamedTuple):
    """Folded cells; what stands before it as it is."""

    cells: Sequence[Sequence[str]]
    headings: frozenset[tuple[int, int]]
    emphasised: Sequence[str]  # headings and bold text before it
    named: Sequence[str]  # headings before it, and its caption


@lru_cache(maxsize=4)
def _tables(text: str) -> list[Table]:
    return [
        Table(
            [[fold(cell) for cell in row] for row in grid.cells],
            grid.headings,
            [fold(found) for pattern in _EMPHASISED for found in pattern.findall(grid.before)],
            [fold(found) for pattern in (_CAPTION, _MD_HEADING) for found in pattern.findall(grid.before)],
        )
        for grid in grids(text)
    ]


def data_point(rule: Rule, seen: Seen) -> float:
    """Whether in one table the value stands with each of its labels."""
    value, labels = filled(fold(str(rule.get("value")))), [fold(str(label)) for label in filled(rule.get("labels"))]
    edits = float(rule.get("max_diffs") or 0)
    return any(
        all(_belongs(table, row, col, label, edits) for label in labels)
        for table in _tables(seen.text)
        for row, col in _places(table, value, edits, rule)
    )


def _least(text: str, edits: float) -> float:
    return max(LEAST_ALIKE, 1 - edits / max(1, len(text)))


def _belongs(table: Table, row: int, col: int, label: str, edits: float) -> bool:
    """In the value's row or column; or nowhere in the table and emphasised before it; or in a heading or caption."""
    is_label = _alike(label, edits)
    line = [text for c, text in enumerate(table.cells[row]) if c != col or (row, col) in table.headings]
    line += [cells[col] for r, cells in enumerate(table.cells) if r != row]
    if any(map(is_label, line)):
        return True
    elsewhere = any(is_label(text) for cells in table.cells for text in cells)
    if not elsewhere and any(_same_heading(label, text) for text in table.emphasised):
        return True
    return any(map(is_label, table.named))


def _alike(label: str, edits: float) -> Callable[[str], bool]:
    least, letters = _least(label, edits), _NOT_ALNUM.sub("", label)

    def alike(text: str) -> bool:
        return fuzz.partial_ratio(label, text) / 100 >= least or bool(letters) and letters in _NOT_ALNUM.sub("", text)

    return alike


def _same_heading(label: str, text: str) -> bool:
    bare = _NOT_ALNUM.sub("", label), _NOT_ALNUM.sub("", text)
    return max(fuzz.ratio(label, text), fuzz.ratio(*bare) if all(bare) else 0) / 100 >= HEADING_ALIKE


def _places(table: Table, value: str, edits: float, rule: Rule) -> Iterator[tuple[int, int]]:
    """Where the value stands: as text or as a number; a value of several numbers also in cells side by side."""
    numeric = rule.get("normalize_numbers") is not False
    tolerance = TOLERANCE if (given := rule.get("relative_tolerance")) is None else float(given)
    least = _least(value, edits)
    found = [
        (r, c)
        for r, row in enumerate(table.cells)
        for c, text in enumerate(row)
        if fuzz.ratio(value, text) / 100 >= least or (numeric and same_number(value, text, tolerance))
    ]
    yield from found
    parts = _PARTS.findall(value)
    if found or not numeric or len(parts) < 2:
        return
    for r, row in enumerate(table.cells):
        for c in range(len(row) - len(parts) + 1):
            if all(same_number(part, row[c + k], tolerance) for k, part in enumerate(parts)):
                yield r, c


def same_number(one: str, other: str, tolerance: float) -> bool:
    """Whether two texts can be read as numbers that differ by no more than a share of the larger."""
    for a, b in product(_numbers(one), _numbers(other)):
        if a == b == 0:
            return True
        if a == 0 or b == 0:
            if abs(a - b) < tolerance:
                return True
        elif abs(a - b) / max(abs(a), abs(b)) <= tolerance:
            return True
    return False


@lru_cache(maxsize=100_000)
def _numbers(text: str) -> list[float]:
    """What a text may mean as a number: a comma groups thousands, or begins the decimals."""
    read = [_number(text), _number(text.replace(",", ".")) if "," in text else None]
    return [number for number in read if number is not None]


def _number(text: str) -> float | None:
    text = _ABOUT.sub("", _CURRENCY.sub("", text.strip())).rstrip("%").replace(",", "").replace(" ", "")
    pattern, scale = next(((pattern, scale) for pattern, scale in _SCALES if pattern.search(text)), (None, 1.0))
    try:
        return float(pattern.sub("", text) if pattern else text) * scale
    except ValueError:
        return None
