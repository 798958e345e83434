"""Damage by degrees: a page's true transcript, worse by a share. An audit draws curves of it.

Pure functions `(text, share, rng) -> text`. With one state of the rng, a higher share damages all that a lower one
does, and more. Knows nothing about attacks, rewards or scores.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from random import Random

ERRORS = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1)  # shares of an honest reading's letters and digits that are wrong
LEVELS = (0.05, 0.1, 0.2, 0.4, 0.8)  # of damage
TAG = re.compile(r"(<[^<>]*>)")
_MARKUP = re.compile(r"<[^<>]*>|\\(?:begin|end)\{[a-z*]+\}|\\[a-zA-Z]+")  # a reader sees no letter of it
CELL = re.compile(r"(?<=<td>)[^<>]+(?=</td>)|(?<=<th>)[^<>]+(?=</th>)")

_SYLLABLES = ("ta", "ne", "ri", "so", "ul", "ka", "men", "do", "fi", "ber", "lo", "ist")


def with_wrong_characters(text: str, share: float, rng: Random) -> str:
    """The text with that share of its letters and digits replaced by others of their sort; markup stays."""
    chars, places = list(text), _letters(text)
    for i in rng.sample(places, round(share * len(places))):
        chars[i] = _other(chars[i], rng)
    return "".join(chars)


def _letters(text: str) -> list[int]:
    inside = {i for tag in _MARKUP.finditer(text) for i in range(*tag.span())}
    return [i for i, char in enumerate(text) if char.isalnum() and i not in inside]


def _other(char: str, rng: Random) -> str:
    if char.isdigit():
        return rng.choice(string.digits.replace(char, ""))
    letters = string.ascii_uppercase if char.isupper() else string.ascii_lowercase
    return rng.choice(letters.replace(char, ""))


def _words_lost(text: str, share: float, rng: Random) -> str:
    return _lost(re.split(r"( +|\n+)", text), lambda piece: bool(piece.strip()) and "<" not in piece, share, rng)


def _lines_lost(text: str, share: float, rng: Random) -> str:
    return _lost(text.splitlines(keepends=True), lambda piece: bool(piece.strip()), share, rng)


def _paragraphs_reversed(text: str, share: float, rng: Random) -> str:
    """The last paragraphs, that share of all, in reverse order."""
    paragraphs = blocks(text)
    kept = len(paragraphs) - round(share * len(paragraphs))
    return "\n\n".join([*paragraphs[:kept], *reversed(paragraphs[kept:])])


def _cells_wrong(text: str, share: float, rng: Random) -> str:
    cells = list(CELL.finditer(text))
    order = rng.sample(range(len(cells)), len(cells))
    wrong = {cells[i].start(): "".join(_other(c, rng) if c.isalnum() else c for c in cells[i][0]) for i in order}
    kept = {cells[i].start() for i in order[round(share * len(cells)) :]}
    return CELL.sub(lambda cell: cell[0] if cell.start() in kept else wrong[cell.start()], text)


def _junk_added(text: str, share: float, rng: Random) -> str:
    junk = gibberish(len(text), rng)
    return f"{text}\n\n{junk[: round(share * len(text))]}"


CURVES: Mapping[str, Callable[[str, float, Random], str]] = {
    "characters wrong": with_wrong_characters,
    "words lost": _words_lost,
    "lines lost": _lines_lost,
    "paragraphs reversed": _paragraphs_reversed,
    "cells wrong": _cells_wrong,
    "junk added": _junk_added,
}


# ---- pieces


def blocks(text: str) -> list[str]:
    """Paragraphs: what blank lines part."""
    return [block for block in re.split(r"\n[ \t]*\n", text.strip()) if block.strip()]


def gibberish(length: int, rng: Random) -> str:
    """Words of no language, together that many characters."""
    words: list[str] = []
    while sum(map(len, words)) + len(words) < length:
        words.append("".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(1, 4))))
    return " ".join(words)[:length]


def _lost(pieces: Sequence[str], may_go: Callable[[str], bool], share: float, rng: Random) -> str:
    places = [i for i, piece in enumerate(pieces) if may_go(piece)]
    gone = set(rng.sample(places, len(places))[: round(share * len(places))])
    return "".join(piece for i, piece in enumerate(pieces) if i not in gone)
