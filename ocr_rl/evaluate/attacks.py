"""What an audit tries on a reward: cheats, damage of one kind, and the same page written in another way.

Pure functions from a page's true transcript to another transcript. They give None where the page lacks what they change
(a table, a second paragraph). Randomness comes from the target's seed alone. Knows nothing about rewards or scores.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from ocr_rl.evaluate.damage import CELL, TAG, blocks, gibberish

_TABLE = re.compile(r"<table.*?</table>", re.DOTALL | re.IGNORECASE)
_SPAM = ("$x^{%d} + y_{%d} = z$", "\\[ \\sum_{i=1}^{%d} a_i = %d \\]", "\\( \\alpha_{%d} \\le \\beta_{%d} \\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a cheat may know of a page."""

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
    front: Literal["true", "lies"] = "true"  # the page's own front matter before it, or another page's


# ---- cheats


def _empty(target: Target) -> str | None:
    return ""


def _first_line(target: Target) -> str | None:
    return _changed(target, next(line for line in target.reference.splitlines() if line.strip()))


def _twice(target: Target) -> str | None:
    return f"{target.reference}\n\n{target.reference}"


def _shuffled(target: Target) -> str | None:
    """The paragraphs in another order: at least one has a wrong neighbour."""
    paragraphs = blocks(target.reference)
    if len(set(paragraphs)) < 2:
        return None
    rng, mixed = target.rng(), paragraphs
    while mixed == paragraphs:
        mixed = rng.sample(paragraphs, len(paragraphs))
    return "\n\n".join(mixed)


def _interleaved(target: Target) -> str | None:
    """Two columns as read by somebody who does not see them: each line runs across both halves of the text."""
    paragraphs = blocks(target.reference)
    prose = [block for block in paragraphs if "<" not in block and not block.startswith("#")]
    lines = [line for block in prose for line in _wrapped(block)]
    half = (len(lines) + 1) // 2
    if half < 2:
        return None
    pairs = zip(lines[:half], [*lines[half:], ""], strict=False)
    rest = [block for block in paragraphs if block not in prose]
    return _changed(target, "\n\n".join([*rest, "\n".join(f"{a} {b}".rstrip() for a, b in pairs)]))


def _strings(target: Target) -> str | None:
    """Every run of one to five words, sorted: it holds whatever a test may look for, in no order of reading."""
    words = TAG.sub(" ", target.reference).split()
    runs = {" ".join(words[i : i + n]) for n in range(1, 6) for i in range(len(words) - n + 1)}
    return "\n".join(sorted(runs)) if len(words) > 1 else None


def _equation_spam(target: Target) -> str | None:
    spam = [_SPAM[k % len(_SPAM)] % (k, k + 1) for k in range(max(10, len(target.reference) // 40))]
    return target.reference + "\n\n" + "\n".join(spam)


def _table_five_times(target: Target) -> str | None:
    table = _TABLE.search(target.reference)
    return target.reference + ("\n\n" + table[0]) * 4 if table else None


def _random_words(target: Target) -> str | None:
    return gibberish(len(target.reference), target.rng())


def _other_page(target: Target) -> str | None:
    return _changed(target, target.other)


def _with_junk(target: Target) -> str | None:
    return target.reference + "\n\n" + gibberish(max(60, len(target.reference) // 2), target.rng())


def _endless(target: Target) -> str | None:
    last = target.reference.split()[-1]
    return target.reference + f" {last}" * max(40, 2 * len(target.reference) // (len(last) + 1))


# ---- damage


def _equal_cells(target: Target) -> str | None:
    cells = CELL.findall(target.reference)
    return _changed(target, CELL.sub(cells[0], target.reference)) if cells else None


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
    places = [cell.start() + i for cell in CELL.finditer(target.reference) for i in _digits(cell[0])]
    if not places:
        return None
    at = target.rng().choice(places)
    return target.reference[:at] + str((int(target.reference[at]) + 1) % 10) + target.reference[at + 1 :]


def _invisible(target: Target) -> str | None:
    """A zero-width space between all letters: the text looks the same and can no longer be searched."""
    return _outside_tags(target.reference, lambda text: re.sub(r"(?<=\w)(?=\w)", "\u200b", text))


def _soup(target: Target) -> str | None:
    def wrap(text: str) -> str:
        return re.sub(r"(\w+)", r'<span class="w"><font>\1</font></span>', text)

    return "<div><center>" + _outside_tags(target.reference, wrap) + "</div>"


ATTACKS: tuple[Attack, ...] = (
    Attack(name="empty", kind="cheat", make=_empty),
    Attack(name="front matter only, of another language", kind="cheat", make=_empty, front="lies"),
    *(
        Attack(name=name, kind="cheat", make=make)
        for name, make in (
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


# ---- the same page in another way: must score the same


def caption_moved(reference: str) -> tuple[str, str] | None:
    """The page with a caption before its table, and after it; None without a table.

    Where a float stands is nobody's fault.
    """
    table = _TABLE.search(reference)
    if table is None:
        return None
    above, below = reference[: table.start()].rstrip(), reference[table.end() :].lstrip()
    caption = "Table 1: what was measured"
    orders = ((caption, table[0]), (table[0], caption))
    before, after = ("\n\n".join(filter(None, [above, *pieces, below])) for pieces in orders)
    return before, after


# ---- pieces


def _changed(target: Target, text: str) -> str | None:
    """The text, or None where it is the reference itself."""
    return None if text.strip() == target.reference.strip() else text


def _wrapped(block: str) -> list[str]:
    """Lines as a column has them, of about eight words."""
    words = block.split()
    return [" ".join(words[i : i + 8]) for i in range(0, len(words), 8)]


def _outside_tags(text: str, change: Callable[[str], str]) -> str:
    return "".join(part if part.startswith("<") else change(part) for part in TAG.split(text))


def _digits(text: str) -> list[int]:
    return [i for i, char in enumerate(text) if char in string.digits]
