"""Which words of a text layer every transcript writes alike. Knows nothing about tests."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ocr_rl.pages.reading_order import Line

Box = tuple[float, float, float, float]  # left, bottom, right, top

CAPTION = re.compile(r"(?:fig|table|chart|plate|abb|tab|scheme|exhibit|source)\w*[.:]?\s*\d?", re.IGNORECASE)
MARKS = ".,;:!?()\"'“”‘’«»"  # may stand around a plain word
_LONE_ACCENT = re.compile("[¨´`ˆ˜¸¯˘˙˚˝ˇ]")  # TeX's old typefaces print an accented letter in two parts
_NUMBER = re.compile(r"\d{2,4}|\d{1,3}(?:,\d{3})+")  # behind a decimal point may stand the mark of a footnote
_FUNCTIONS = re.compile("sin|cos|tan|log|exp|max|min|lim|ln|det|sup|inf|arg|deg|dim|gcd|ker|mod", re.IGNORECASE)


def boxes_of(tokens: Sequence[str], line: Line) -> dict[int, Box]:
    """The boxes of the words of a line by their place among its tokens; none if the layer gives other words."""
    lettered = [k for k, token in enumerate(tokens) if any(map(str.isalnum, token))]
    return dict(zip(lettered, line.words, strict=True)) if len(lettered) == len(line.words) else {}


def is_plain(token: str) -> bool:
    """Whether a word is written alike in every transcript: letters with usual punctuation, or a number."""
    core = token.strip(MARKS)
    if _NUMBER.fullmatch(core):
        return True
    if _LONE_ACCENT.search(token) or _FUNCTIONS.fullmatch(core) or (len(core) < 2 and core not in ("a", "A", "I")):
        return False
    return all((c.isalpha() and ord(c) < 0x10000) or c in "-'’" for c in core)
