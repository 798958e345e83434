"""What all makers of unit tests share: which pieces of a page tests may ask for, which tests hold, and their names.

Knows nothing about where pages come from.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any, TypeVar

from rapidfuzz import fuzz

from ocr_rl.contract import Reading
from ocr_rl.text.checks import load_check, prepare
from ocr_rl.text.normalize import normalize

T = TypeVar("T")
Test = dict[str, Any]
_LEADER = re.compile(r"(\S)(?: ?\1){3,200}")  # a line of dots, a line to sign on
NEARLY = 84.0  # per cent alike; a reader in a hurry would confuse two such places


def stands_once(piece: str, text: str, lower: str) -> bool:
    """Whether a piece stands on the page once, and nothing similar stands elsewhere on it.

    `text` is the normalised page, `lower` the same in lower case. The piece is normalised here.
    """
    wanted = normalize(piece)
    low = wanted.lower()
    if len(low) < 4 or text.count(wanted) != 1 or lower.count(low) != 1:
        return False
    # A place that differs in one character of 12, or in two of 24, still holds one of these parts as it is.
    parts = min(3, len(low) // 12 + 1)
    bounds = [k * len(low) // parts for k in range(parts + 1)]
    if all(lower.count(low[start:end]) == 1 for start, end in zip(bounds, bounds[1:], strict=False)):
        return True
    at = lower.index(low)
    rest = f"{lower[:at]} \n {lower[at + len(low) :]}"
    return fuzz.partial_ratio(low, rest, score_cutoff=NEARLY) == 0


def stretches(words: Sequence[str], length: int) -> list[Sequence[str]]:
    """The words in consecutive stretches of about `length` words, nearly equally long. Together they are all words."""
    count = max(1, round(len(words) / length))
    bounds = [k * len(words) // count for k in range(count + 1)]
    return [words[start:end] for start, end in zip(bounds, bounds[1:], strict=False) if start < end]


def passing(tests: Iterable[Test], transcript: str) -> Iterator[Test]:
    """The tests, still without names, that a transcript passes in both readings. Of equal ones the first.

    A limit on the page's length is a limit on what is seen. There only the strict reading is asked, since the other
    counts markup.
    """
    prepared, seen = prepare(transcript), set[str]()
    for test in tests:
        key = json.dumps(test, sort_keys=True)
        if key in seen:
            continue
        seen.add(key)
        try:
            check = load_check({"pdf": "page.pdf", "page": 1, "id": "page", **test})
        except ValueError:
            continue
        readings: tuple[Reading, ...] = ("strict",) if "max_length" in test else ("strict", "compatible")
        if all(check.run(prepared, reading).passed for reading in readings):
            yield test


def named(tests: Iterable[Test], pdf: str, number: int) -> list[Test]:
    """The tests with their PDF, page and id, such as "scan_p3_order2"."""
    counts: Counter[str] = Counter()
    names = []
    for test in tests:
        counts[test["type"]] += 1
        name = f"{pdf.removesuffix('.pdf')}_p{number}_{test['type']}{counts[test['type']]}"
        names.append({"pdf": pdf, "page": number, "id": name, **test})
    return names


def baseline(transcript: str, *, strange: bool = False) -> Test:
    """The baseline test of a page.

    It has no list of foreign scripts if the page itself has their characters, or if `strange`: the page may have signs
    that its text does not tell. It allows longer tails if a line of the page is, or ends with, a long leader, since
    transcripts may end there and differ in its length.
    """
    test: Test = {"type": "baseline"}
    longest = max((len(match[0]) for match in _LEADER.finditer(transcript)), default=0)
    if longest > 7:
        test["max_repeats"] = 4 * longest
    free = test | {"check_disallowed_characters": False}
    return free if strange else next(passing([test], transcript.rstrip()), free)


def some(things: Sequence[T], most: int, rng: Random) -> list[T]:
    """The things, or that many of them, in their order."""
    if len(things) <= most:
        return list(things)
    return [things[k] for k in sorted(rng.sample(range(len(things)), most))]
