"""What an audit tries on a reward: honest transcripts, cheats, damage by degrees, and other ways to say the same.

Pure functions from a page's true transcript to another transcript; None where a page has nothing to do it to (no
table, one paragraph). Randomness comes from the target's seed alone. Knows nothing about rewards or scores.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

WRONG = 0.1  # share of an honest transcript's letters and digits that are wrong
LEVELS = (0.05, 0.1, 0.2, 0.4, 0.8)  # of damage

_TAG = re.compile(r"(<[^<>]*>)")
_CELL = re.compile(r"(?<=<td>)[^<>]+(?=</td>)|(?<=<th>)[^<>]+(?=</th>)")
_TABLE = re.compile(r"<table.*?</table>", re.DOTALL | re.IGNORECASE)
_SPAM = ("$x^{%d} + y_{%d} = z$", "\\[ \\sum_{i=1}^{%d} a_i = %d \\]", "\\( \\alpha_{%d} \\le \\beta_{%d} \\)")
_SYLLABLES = ("ta", "ne", "ri", "so", "ul", "ka", "men", "do", "fi", "ber", "lo", "ist")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A page as a cheat may know it."""

    reference: str  # not blank
    other: str  # the true transcript of another page
    edges: Sequence[str] = ()  # running header and footer, as far as known
    seed: str

    def rng(self) -> Random:
        return Random(self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """`cheat`: no transcription of the page, must score below honest ones. `damage`: must score below the reference."""

    name: str
    kind: Literal["cheat", "damage"]
    make: Callable[[Target], str | None]
    endless: bool = False  # the policy never ended it


# ---- honest


def with_wrong_characters(text: str, share: float, rng: Random) -> str:
    """That share of letters and digits replaced by others of their sort; markup in <..> stays."""
    chars, places = list(text), _letters(text)
    for i in rng.sample(places, round(share * len(places))):
        chars[i] = _other(chars[i], rng)
    return "".join(chars)


def _letters(text: str) -> list[int]:
    inside = {i for tag in _TAG.finditer(text) for i in range(*tag.span())}
    return [i for i, char in enumerate(text) if char.isalnum() and i not in inside]


def _other(char: str, rng: Random) -> str:
    if char.isdigit():
        return rng.choice(string.digits.replace(char, ""))
    letters = string.ascii_uppercase if char.isupper() else string.ascii_lowercase
    return rng.choice(letters.replace(char, ""))


# ---- cheats


def _empty(target: Target) -> str | None:
    return ""


def _first_line(target: Target) -> str | None:
    return _changed(target, next(line for line in target.reference.splitlines() if line.strip()))


def _twice(target: Target) -> str | None:
    return f"{target.reference}\n\n{target.reference}"


def _shuffled(target: Target) -> str | None:
    """Paragraphs in another order, of which at least one neighbour is wrong."""
    blocks = _blocks(target.reference)
    if len(set(blocks)) < 2:
        return None
    rng, mixed = target.rng(), blocks
    while mixed == blocks:
        mixed = rng.sample(blocks, len(blocks))
    return "\n\n".join(mixed)


def _interleaved(target: Target) -> str | None:
    """Running text read line by line across its two halves, as two columns are by a reader that does not see them."""
    blocks = _blocks(target.reference)
    prose = [block for block in blocks if "<" not in block and not block.startswith("#")]
    lines = [line for block in prose for line in _wrapped(block)]
    half = (len(lines) + 1) // 2
    if half < 2:
        return None
    pairs = zip(lines[:half], [*lines[half:], ""], strict=False)
    rest = [block for block in blocks if block not in prose]
    return _changed(target, "\n\n".join([*rest, "\n".join(f"{a} {b}".rstrip() for a, b in pairs)]))


def _strings(target: Target) -> str | None:
    """Every run of one to five words, sorted: whatever a test may look for stands there, in no order."""
    words = _TAG.sub(" ", target.reference).split()
    runs = {" ".join(words[i : i + n]) for n in range(1, 6) for i in range(len(words) - n + 1)}
    return "\n".join(sorted(runs)) if len(words) > 1 else None


def _equation_spam(target: Target) -> str | None:
    spam = [_SPAM[k % len(_SPAM)] % (k, k + 1) for k in range(max(10, len(target.reference) // 40))]
    return target.reference + "\n\n" + "\n".join(spam)


def _table_five_times(target: Target) -> str | None:
    table = _TABLE.search(target.reference)
    return target.reference + ("\n\n" + table[0]) * 4 if table else None


def _random_words(target: Target) -> str | None:
    return _gibberish(len(target.reference), target.rng())


def _other_page(target: Target) -> str | None:
    return _changed(target, target.other)


def _with_junk(target: Target) -> str | None:
    return target.reference + "\n\n" + _gibberish(max(60, len(target.reference) // 2), target.rng())


def _endless(target: Target) -> str | None:
    last = target.reference.split()[-1]
    return target.reference + f" {last}" * max(40, 2 * len(target.reference) // (len(last) + 1))


# ---- damage


def _equal_cells(target: Target) -> str | None:
    cells = _CELL.findall(target.reference)
    return _changed(target, _CELL.sub(cells[0], target.reference)) if cells else None


def _edges_kept(target: Target) -> str | None:
    return "\n\n".join([*target.edges[:1], target.reference, *target.edges[1:]]) if target.edges else None


def _upper(target: Target) -> str | None:
    return _changed(target, _outside_tags(target.reference, str.upper))


def _no_diacritics(target: Target) -> str | None:
    parts = unicodedata.normalize("NFD", target.reference)
    return _changed(target, "".join(char for char in parts if not unicodedata.combining(char)))


def _digits_changed(target: Target) -> str | None:
    def shift(text: str) -> str:
        return "".join(str((int(char) + 1) % 10) if char in string.digits else char for char in text)

    return _changed(target, _outside_tags(target.reference, shift))


def _one_digit(target: Target) -> str | None:
    """One wrong digit in one cell of a table."""
    places = [cell.start() + i for cell in _CELL.finditer(target.reference) for i in _digits(cell[0])]
    if not places:
        return None
    at = target.rng().choice(places)
    return target.reference[:at] + str((int(target.reference[at]) + 1) % 10) + target.reference[at + 1 :]


def _invisible(target: Target) -> str | None:
    """A zero-width space after every letter of text: it looks the same, and can no longer be searched."""
    return _outside_tags(target.reference, lambda text: re.sub(r"(?<=\w)(?=\w)", "\u200b", text))


def _soup(target: Target) -> str | None:
    def wrap(text: str) -> str:
        return re.sub(r"(\w+)", r'<span class="w"><font>\1</font></span>', text)

    return "<div><center>" + _outside_tags(target.reference, wrap) + "</div>"


ATTACKS: tuple[Attack, ...] = (
    *(
        Attack(name=name, kind="cheat", make=make)
        for name, make in (
            ("empty", _empty),
            ("front matter only, of another language", _empty),
            ("first line only", _first_line),
            ("page twice", _twice),
            ("paragraphs shuffled", _shuffled),
            ("columns interleaved", _interleaved),
            ("all likely strings, sorted", _strings),
            ("equation spam", _equation_spam),
            ("table five times", _table_five_times),
            ("random words of the same length", _random_words),
            ("another page", _other_page),
            ("reference + junk", _with_junk),
        )
    ),
    Attack(name="endless loop", kind="cheat", make=_endless, endless=True),
    *(
        Attack(name=name, kind="damage", make=make)
        for name, make in (
            ("all cells equal", _equal_cells),
            ("header and footer kept", _edges_kept),
            ("upper-cased", _upper),
            ("diacritics dropped", _no_diacritics),
            ("digits changed", _digits_changed),
            ("one wrong digit in a table", _one_digit),
            ("invisible characters", _invisible),
            ("HTML soup", _soup),
        )
    ),
)
OTHER_FRONT = "front matter only, of another language"  # the one whose front matter lies


# ---- damage by degrees: (text, share, rng) -> text; the same rng damages a superset at a higher share


def _words_lost(text: str, share: float, rng: Random) -> str:
    return _lost(re.split(r"( +|\n+)", text), lambda piece: bool(piece.strip()) and "<" not in piece, share, rng)


def _lines_lost(text: str, share: float, rng: Random) -> str:
    return _lost(text.splitlines(keepends=True), lambda piece: bool(piece.strip()), share, rng)


def _paragraphs_reversed(text: str, share: float, rng: Random) -> str:
    """The last of the paragraphs, that share of all, in reverse order."""
    blocks = _blocks(text)
    kept = len(blocks) - round(share * len(blocks))
    return "\n\n".join([*blocks[:kept], *reversed(blocks[kept:])])


def _cells_wrong(text: str, share: float, rng: Random) -> str:
    cells = list(_CELL.finditer(text))
    order = rng.sample(range(len(cells)), len(cells))
    wrong = {cells[i].start(): "".join(_other(c, rng) if c.isalnum() else c for c in cells[i][0]) for i in order}
    kept = {cells[i].start() for i in order[round(share * len(cells)) :]}
    return _CELL.sub(lambda cell: cell[0] if cell.start() in kept else wrong[cell.start()], text)


def _junk_added(text: str, share: float, rng: Random) -> str:
    junk = _gibberish(len(text), rng)
    return f"{text}\n\n{junk[: round(share * len(text))]}"


CURVES: Mapping[str, Callable[[str, float, Random], str]] = {
    "characters wrong": with_wrong_characters,
    "words lost": _words_lost,
    "lines lost": _lines_lost,
    "paragraphs reversed": _paragraphs_reversed,
    "cells wrong": _cells_wrong,
    "junk added": _junk_added,
}


# ---- the same page said otherwise: must score the same


def caption_moved(reference: str) -> tuple[str, str] | None:
    """A table's caption before it, and after it: where a float stands is nobody's fault. None without a table."""
    table = _TABLE.search(reference)
    if table is None:
        return None
    before, after = reference[: table.start()].rstrip(), reference[table.end() :].lstrip()
    caption = "Table 1: what was measured"
    one, other = ([before, *middle, after] for middle in ((caption, table[0]), (table[0], caption)))
    return "\n\n".join(filter(None, one)), "\n\n".join(filter(None, other))


# ---- pieces


def _changed(target: Target, text: str) -> str | None:
    return None if text.strip() == target.reference.strip() else text


def _blocks(text: str) -> list[str]:
    return [block for block in re.split(r"\n[ \t]*\n", text.strip()) if block.strip()]


def _wrapped(block: str) -> list[str]:
    """Lines as a column has them, of about eight words."""
    words = block.split()
    return [" ".join(words[i : i + 8]) for i in range(0, len(words), 8)]


def _outside_tags(text: str, change: Callable[[str], str]) -> str:
    return "".join(part if part.startswith("<") else change(part) for part in _TAG.split(text))


def _digits(text: str) -> list[int]:
    return [i for i, char in enumerate(text) if char in string.digits]


def _gibberish(length: int, rng: Random) -> str:
    words: list[str] = []
    while sum(map(len, words)) + len(words) < length:
        words.append("".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(1, 4))))
    return " ".join(words)[:length]


def _lost(pieces: Sequence[str], may_go: Callable[[str], bool], share: float, rng: Random) -> str:
    places = [i for i, piece in enumerate(pieces) if may_go(piece)]
    gone = set(rng.sample(places, len(places))[: round(share * len(places))])
    return "".join(piece for i, piece in enumerate(pieces) if i not in gone)
