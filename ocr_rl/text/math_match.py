"""Whether the symbols of one formula can be laid on those of another, neighbour on neighbour.

Knows rectangles and letters only, nothing about TeX, MathML or fonts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

TOLERANCE = 5.0  # px
SNAP = 64  # positions are compared in 1/64 px, the unit of browsers, so that equal stays equal
MAX_SYMBOLS = 2000
MAX_STEPS = 1_000_000
Rect = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbols:
    """The visible letters of a formula in document order. A neighbour is an index, -1 where there is none."""

    letters: tuple[str, ...]
    neighbours: tuple[tuple[int, ...], ...]  # a row per direction (up, down, left, right), one entry per letter


class TooMany(ValueError):
    """The formula has more than MAX_SYMBOLS symbols."""


def symbols(spans: Iterable[tuple[str, Rect]]) -> Symbols:
    """The symbols of text spans with their (x, y, width, height). A span of several letters is cut into equal parts.

    The neighbour in a direction is the nearest centre there that lies at most 5 px off the axis. Of equally near
    centres it is the first in document order. Raises TooMany.
    """
    letters: list[str] = []
    centers: list[tuple[float, float]] = []
    for text, (x, y, width, height) in spans:
        for index, letter in enumerate(text):
            letters.append(letter)
            centers.append((x + width * (index + 0.5) / len(text), y + height / 2))
    if len(letters) > MAX_SYMBOLS:
        raise TooMany(f"the formula has more than {MAX_SYMBOLS} symbols")
    if not letters:
        return Symbols(letters=(), neighbours=((), (), (), ()))
    x, y = np.rint(np.array(centers).T * SNAP).astype(np.int32)
    right, down = x[None, :] - x[:, None], y[None, :] - y[:, None]  # [i, j]: from i to j
    return Symbols(
        letters=tuple(letters),
        neighbours=(_nearest(-down, right), _nearest(down, right), _nearest(-right, down), _nearest(right, down)),
    )


def _nearest(ahead: np.ndarray, aside: np.ndarray) -> tuple[int, ...]:
    far = np.iinfo(np.int32).max
    distance = np.where((ahead > 0) & (np.abs(aside) <= TOLERANCE * SNAP), ahead, far)
    nearest = distance.argmin(axis=1)
    return tuple(np.where(distance[np.arange(len(nearest)), nearest] < far, nearest, -1).tolist())


def embeds(part: Symbols, whole: Symbols) -> bool:
    """Whether every symbol of `part` can be laid on a symbol of `whole`, no two on the same one.

    The two symbols have the same letter. Where the upper symbol has a neighbour, the symbol below has a neighbour of
    that letter in that direction. If the neighbour stands earlier in the document, it must also lie on just that
    symbol; a neighbour that stands later need not. (That is the public rule; it makes the order of symbols count.)
    The answer is exact up to MAX_STEPS of work, and False beyond.
    """
    if Counter(part.letters) - Counter(whole.letters):
        return False
    places = _by_letter(whole.letters)
    origins = [_origins(below) for below in whole.neighbours]
    options: list[int] = []
    links: list[list[Link]] = [[] for _ in part.letters]
    for index, letter in enumerate(part.letters):
        fits = places[letter]
        for near, below, origin in zip(part.neighbours, whole.neighbours, origins, strict=True):
            other = near[index]
            if other < 0:
                continue
            wanted = part.letters[other]
            fits = [place for place in fits if below[place] >= 0 and whole.letters[below[place]] == wanted]
            if other < index:
                links[index].append((index, other, origin))
                links[other].append((index, other, origin))
        options.append(sum(1 << place for place in fits))
    return _assign(part.letters, options, links)


def _by_letter(letters: Sequence[str]) -> dict[str, list[int]]:
    """The indices of each letter."""
    indices: dict[str, list[int]] = defaultdict(list)
    for index, letter in enumerate(letters):
        indices[letter].append(index)
    return indices


# An integer stands for a set of places in `whole`: bit n says whether place n belongs to it.
# (later symbol, earlier symbol, for each place of the earlier the places that the later may have)
Link = tuple[int, int, list[int]]


def _origins(below: Sequence[int]) -> list[int]:
    """For each place, the set of places whose neighbour it is."""
    origins = [0] * len(below)
    for place, neighbour in enumerate(below):
        if neighbour >= 0:
            origins[neighbour] |= 1 << place
    return origins


def _bits(places: int) -> Iterator[int]:
    while places:
        lowest = places & -places
        yield lowest.bit_length() - 1
        places ^= lowest


def _assign(letters: Sequence[str], options: list[int], links: list[list[Link]]) -> bool:
    """Whether every symbol can get a place of its own among its options such that all links hold.

    Options that no other symbol supports are removed until none is left to remove. Where a symbol still has a choice,
    its places are tried one after the other.
    """
    alike = _by_letter(letters)
    steps = 0

    def narrow(options: list[int], changed: list[int]) -> bool:
        """False if a symbol has no place left."""
        nonlocal steps
        while changed and steps <= MAX_STEPS:
            index = changed.pop()
            for later, earlier, origins in links[index]:
                kept_later = kept_earlier = 0
                for place in _bits(options[earlier]):
                    steps += 1
                    if supported := origins[place] & options[later]:
                        kept_later |= supported
                        kept_earlier |= 1 << place
                for which, left in ((later, kept_later), (earlier, kept_earlier)):
                    if left != options[which]:
                        options[which] = left
                        changed.append(which)
                if not kept_later:
                    return False
            if (taken := options[index]).bit_count() == 1:
                steps += len(alike[letters[index]])
                for other in alike[letters[index]]:
                    if other != index and options[other] & taken:
                        options[other] ^= taken
                        changed.append(other)
                        if not options[other]:
                            return False
        return steps <= MAX_STEPS

    if not all(options) or not narrow(options, list(range(len(options)))):
        return False
    trail: list[tuple[list[int], int, Iterator[int]]] = []  # where to go on after a dead end
    while True:
        steps += len(options)
        choices = [(count, index) for index, fits in enumerate(options) if (count := fits.bit_count()) > 1]
        if not choices:
            return True
        index = min(choices)[1]
        trail.append((options, index, _bits(options[index])))
        while True:
            if not trail or steps > MAX_STEPS:
                return False
            before, index, places = trail[-1]
            place = next(places, None)
            if place is None:
                trail.pop()
                continue
            options = [*before]
            options[index] = 1 << place
            if narrow(options, [index]):
                break
