"""Attacks that change letters: damage that a reward should see."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping

from ocr_rl.evaluate import edits
from ocr_rl.evaluate.attacks.target import Make, Target
from ocr_rl.evaluate.damage import CELL


def changed_by(change: Callable[[str], str]) -> Make:
    return lambda target: edits.outside_tags(target.text, change)


def _no_diacritics(target: Target) -> str | None:
    parts = unicodedata.normalize("NFD", target.text)
    return "".join(char for char in parts if not unicodedata.combining(char))


def _shift_digits(text: str) -> str:
    return re.sub(r"[0-9]", lambda digit: str((int(digit[0]) + 1) % 10), text)


def _one_digit(target: Target) -> str | None:
    """One wrong digit in one cell of a table."""
    places = [
        cell.start() + i
        for cell in CELL.finditer(target.text)
        for i, char in enumerate(cell[0])
        if char in "0123456789"
    ]
    if not places:
        return None
    at = target.rng().choice(places)
    return target.text[:at] + _shift_digits(target.text[at]) + target.text[at + 1 :]


def _equal_cells(target: Target) -> str | None:
    cells = CELL.findall(target.text)
    return CELL.sub(lambda _: cells[0], target.text) if cells else None


LETTERS: Mapping[str, Make] = {
    "all cells equal": _equal_cells,
    "one wrong digit in a table": _one_digit,
    "digits changed": changed_by(_shift_digits),
    "upper-cased": changed_by(str.upper),
    "lower-cased": changed_by(str.lower),
    "diacritics dropped": _no_diacritics,
    "punctuation dropped": changed_by(lambda text: re.sub(r"(?<=\w)[,.;:](?=\s)", "", text)),
    "spaces dropped": changed_by(lambda text: re.sub(r"(?<=\w) (?=\w)", "", text)),
}
