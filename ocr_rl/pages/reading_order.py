"""The lines of a page, and the order in which people read them. Knows nothing about PDFs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Text that stands in one line of one column. Boxes are in pt from the lower left corner of the page."""

    text: str
    left: float
    bottom: float
    right: float
    top: float
    words: tuple[tuple[float, float, float, float], ...] = ()  # boxes of its words: left, bottom, right, top
    odd: tuple[bool, ...] = ()  # whether the word may be written otherwise: raised, lowered, or with a space in it
    parted: tuple[bool, ...] = ()  # whether something else than a space is before the word, as between cells
    slanted: bool = False  # whether it stands slanted or sideways, as a watermark; then `words` are its letters
    running: bool = False  # whether it is a running header or footer
    # Whether it may be a running header or footer: a document of few pages, or with a header a chapter, cannot tell.
    margin: bool = False


def in_reading_order(lines: Sequence[Line], width: float) -> list[Line]:
    """The lines from top to bottom, and column by column where a white stripe separates columns.

    This is the recursive XY cut of Nagy and Seth (1984). A stripe must be 1.5 % of the page's width. Rows in which the
    same stripe is white belong together.
    """
    columns = _parted(lines, _across, 0.015 * width)
    parts = columns if len(columns) > 1 else _joined(_parted(lines, _down, 0.0), width)
    if len(parts) > 1:
        return [line for part in parts for line in in_reading_order(part, width)]
    return sorted(lines, key=lambda line: (-round(line.top / 3), line.left))


def _across(line: Line) -> tuple[float, float]:
    return line.left, line.right


def _down(line: Line) -> tuple[float, float]:
    return -line.top, -line.bottom


def _joined(rows: Sequence[list[Line]], width: float) -> list[list[Line]]:
    """Neighbouring rows in which the same stripe is white joined to one part; every other row is a part by itself."""
    parts: list[list[Line]] = []
    open_part: list[Line] = []
    for row in rows:
        together = [*open_part, *row]
        if len(_parted(together, _across, 0.015 * width)) > 1:
            open_part = together
            continue
        if open_part:
            parts.append(open_part)
        open_part = row
    return [*parts, open_part] if open_part else parts


def _parted(lines: Sequence[Line], span: Callable[[Line], tuple[float, float]], gap: float) -> list[list[Line]]:
    """The lines in groups between which nothing stands, in order. `span` gives the start and end of a line."""
    parts: list[list[Line]] = []
    reach = float("-inf")
    for line in sorted(lines, key=lambda item: span(item)[0]):
        start, end = span(line)
        if not parts or start > reach + gap:
            parts.append([])
        parts[-1].append(line)
        reach = max(reach, end)
    return parts
