"""Does a piece of text stand once on a page, and nothing like it? Knows nothing about where pages come from."""

from __future__ import annotations

from rapidfuzz import fuzz

from ocr_rl.text.normalize import normalize

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
