"""How wide and how high a browser sets text: the metrics of the Times-like serif font that stands in for KaTeX's fonts.

The widths in `katex/metrics.json` were measured in Chromium 156 with Liberation Serif, fall-back fonts included. Knows
nothing about formulas.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from itertools import pairwise
from math import floor
from unicodedata import combining, east_asian_width

LINE_HEIGHT = 1.2
ASCENT, DESCENT = 0.891, 0.216  # of the serif font, in em


@cache
def content_area(size: float) -> tuple[int, int]:
    """Ascent and descent of a text span in whole px, as browsers round them. `size` is in px."""
    return floor(ASCENT * size + 0.5), floor(DESCENT * size + 0.5)


@cache
def line_area(size: float) -> tuple[float, float]:
    """Ascent and descent of a line: those of its text with half of the line's extra height on either side."""
    up, down = content_area(size)
    ascent = up + floor((LINE_HEIGHT * size - up - down) / 2)
    return float(ascent), LINE_HEIGHT * size - ascent


def text_width(text: str, size: float, *, italic: bool, bold: bool) -> float:
    """Width in px of a text in the serif font of this size, with kerning."""
    if not text:
        return 0.0
    advance, pairs = _metrics()[italic + 2 * bold]
    width = sum(advance[char] if char in advance else _unknown_width(char) for char in text)
    kerning = sum(pairs.get(a + b, 0) for a, b in pairwise(text)) if len(text) > 1 else 0
    return (width + kerning) * size / 1000


def _unknown_width(char: str) -> int:
    return 0 if combining(char) else 1000 if east_asian_width(char) in "WF" else 600


@cache
def _metrics() -> tuple[tuple[dict[str, int], dict[str, int]], ...]:
    """(advance widths, kerning of pairs) in 1/1000 em: regular, italic, bold, bold italic."""
    table = json.loads((files("ocr_rl.text") / "katex" / "metrics.json").read_text(encoding="utf-8"))
    return tuple(
        (
            {char: int(width) for width, chars in style["advance"].items() for char in chars},
            {pair: int(shift) for shift, pairs in style["pairs"].items() for pair in pairs.split()},
        )
        for style in (table[name] for name in ("regular", "italic", "bold", "bold_italic"))
    )
