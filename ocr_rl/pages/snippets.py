"""What all makers of unit tests share: whether a piece of text stands on a page once.

Knows nothing about where pages come from.
"""

from __future__ import annotations

from rapidfuzz import fuzz

from ocr_rl.text.normalize import normalize

NEARLY = 84.0  # per cent alike; a reader in a hurry would confuse two such places


def stands_once(piece: str, text: str, lower: str) -> bool:
    """Whether a piece stands on the page once, and nothing similar stands elsewhere on it.

    `text` is the normalised page, `lower` the same in lower case. The piece is normalised here.
    """
    wanted = normalize(piece)
    low = wanted.lower()
    at = lower.find(low)
    if len(low) < 4 or at < 0 or text.count(wanted) != 1:
        return False
    rest = f"{lower[:at]} \n {lower[at + len(low) :]}"
    return fuzz.partial_ratio(low, rest, score_cutoff=NEARLY) == 0 or (len(low) < 12 and low not in rest)
