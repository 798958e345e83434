"""What every miner asks: does a piece stand once on a page, and how much may a transcript of it say?

Knows nothing about where pages come from.
"""

from __future__ import annotations

from rapidfuzz import fuzz

from ocr_rl.text.normalize import count_alphanumeric, normalize

NEARLY = 84.0  # per cent alike: two such places are one to a reader in a hurry


def stands_once(piece: str, text: str, lower: str) -> bool:
    """`text` is the normalised page, `lower` the same in lower case; `piece` is normalised here."""
    wanted = normalize(piece)
    low = wanted.lower()
    at = lower.find(low)
    if len(low) < 4 or at < 0 or text.count(wanted) != 1:
        return False
    rest = f"{lower[:at]} \n {lower[at + len(low) :]}"
    return fuzz.partial_ratio(low, rest, score_cutoff=NEARLY) == 0 or (len(low) < 12 and low not in rest)


def budget(text: str) -> int:
    """Letters and digits that a transcript of a page with this text may have: a quarter more, and 10."""
    said = count_alphanumeric(text)
    return said + said // 4 + 10
