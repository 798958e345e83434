"""Text that reads like text: words, names, numbers, dates and sentences, drawn with a given random generator.

The word lists are Faker's: en_US, and Latin for words that pages do not have otherwise. Only its data is used, so that
drawing is fast and depends on the generator alone. Knows nothing about pages.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Literal

from faker.providers.lorem.en_US import Provider as _Lorem
from faker.providers.lorem.la import Provider as _Latin
from faker.providers.person.en_US import Provider as _Person

WORDS: tuple[str, ...] = tuple(sorted({word.lower() for word in _Lorem.word_list if word.isalpha()}))
FIRST_NAMES: tuple[str, ...] = tuple(sorted(_Person.first_names))
LAST_NAMES: tuple[str, ...] = tuple(sorted(_Person.last_names))
_KNOWN = {word.lower() for word in (*WORDS, *FIRST_NAMES, *LAST_NAMES)}
LATIN: tuple[str, ...] = tuple(sorted({word.lower() for word in _Latin.word_list if word.isalpha()} - _KNOWN))
_LATIN = {length: [word for word in LATIN if len(word) == length] for length in set(map(len, LATIN))}
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_ONSETS = (*"bcdfghjklmnpqrstvwxz", "", "br", "ch", "cl", "fl", "gr", "pl", "pr", "qu", "sc", "sh", "st", "th", "tr")
_VOWELS = (*"aaeeiioouuy", "ae", "ai", "ea", "ee", "ie", "io", "oo", "ou", "ui")
_CODAS = (*"bcdfgklmnprstxz", *"nrst", *[""] * 12, "ck", "ll", "mp", "nd", "ng", "nt", "rm", "ss", "st")
UNITS = ("kg", "km", "m", "mm", "h", "min", "%", "GB", "litres", "pages")


def word(rng: Random, longest: int = 99) -> str:
    """A common English word of at most `longest` characters."""
    while len(drawn := rng.choice(WORDS)) > longest:
        continue
    return drawn


def name(rng: Random) -> str:
    return f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"


def number(rng: Random) -> str:
    """An integer, a decimal, an amount of money or a percentage, of very different sizes."""
    whole = rng.randrange(10 ** rng.randint(1, 5))
    return rng.choice(
        (f"{whole}", f"{whole}", f"{whole:,}", f"{whole / 100:.2f}", f"${whole / 100:.2f}", f"{whole % 101}%")
    )


def date(rng: Random) -> str:
    day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1950, 2035)
    return rng.choice(
        (f"{day} {MONTHS[month - 1]} {year}", f"{day:02}.{month:02}.{year}", f"{year}-{month:02}-{day:02}")
    )


def code(rng: Random) -> str:
    """A reference code such as "KX-4071", which cannot be guessed, only read."""
    letters = "".join(rng.choice(ascii_uppercase) for _ in range(rng.randint(1, 3)))
    return f"{letters}{rng.choice(('-', '', '/'))}{''.join(rng.choice(digits) for _ in range(rng.randint(2, 5)))}"


def gibberish(rng: Random, low: int, high: int, alphabet: str = ascii_lowercase + digits) -> str:
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(low, high)))


def title(rng: Random, low: int = 1, high: int = 3) -> str:
    words = [word(rng) for _ in range(rng.randint(low, high))]
    return " ".join(w.capitalize() if rng.random() < 0.5 or i == 0 else w for i, w in enumerate(words))


def sentence(rng: Random) -> str:
    """A sentence of about 20 to 60 characters: a fact about somebody or something, or, as often, plain words."""
    if rng.random() < 0.5:
        words = [word(rng) for _ in range(rng.randint(3, 9))]
        if rng.random() < 0.3:
            words[rng.randrange(len(words))] += ","
        return _capital(" ".join(words)).rstrip(",") + rng.choice("." * 8 + "?!")
    return rng.choice(_FACTS)(rng)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


_FACTS = (
    lambda r: f"{name(r)} paid {number(r)} for the {word(r)}.",
    lambda r: f"On {date(r)} the {word(r)} was {word(r)}.",
    lambda r: f"See {code(r)} and {code(r)} for {word(r)}.",
    lambda r: f"The {word(r)} grew by {number(r)} in {r.randint(1900, 2035)}.",
    lambda r: f"{name(r)} met {name(r)}.",
    lambda r: f"It weighs {number(r)} {r.choice(UNITS)}, {word(r)} {word(r)}.",
    lambda r: f"{_capital(word(r))} no. {number(r)} is {gibberish(r, 3, 7)}.",
    lambda r: f"Ask {r.choice(FIRST_NAMES)} about the {word(r)} {word(r)}.",
    lambda r: f"Why does {name(r)} {word(r)} it?",
    lambda r: f"{_capital(word(r))}: {number(r)} {r.choice(UNITS)}; {word(r)}: {number(r)}.",
)


def in_other_words(text: str, which: Literal["invented", "latin"], rng: Random) -> str:
    """The text with words of at least two letters exchanged for words of about the same length.

    invented: on average every second word becomes random syllables, so that a reader gains little from knowing words.
    latin: every word becomes a Latin word that is in none of the lists of words and names.
    """
    other = {"invented": _half_invented, "latin": _latin}[which]
    return re.sub(r"\b[A-Za-z][a-z]+\b", lambda match: _like(match[0], other, rng), text)


def _like(old: str, other: Callable[[str, Random], str], rng: Random) -> str:
    new = other(old, rng)
    return _capital(new) if old[0].isupper() else new


def _half_invented(old: str, rng: Random) -> str:
    if rng.random() < 0.5:
        return old
    new = ""
    while len(new) < len(old):
        new += rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS)
    return new[: max(2, len(old) + rng.randint(-1, 1))]


def _latin(old: str, rng: Random) -> str:
    return rng.choice(_LATIN[min(len(old), max(_LATIN))])
