"""Which pages a step sees: a function of (seed, how many were drawn before) alone, so resuming needs only a number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from random import Random

from ocr_rl.contract import Page


def draw(pages: Sequence[Page], n: int, at: int, seed: str) -> list[Page]:
    """The next `n` pages after `at` were drawn: epochs of seeded shuffles, one after the other."""
    chosen: list[Page] = []
    while len(chosen) < n:
        epoch, offset = divmod(at + len(chosen), len(pages))
        order = _order(len(pages), f"{seed}/{epoch}")
        chosen += [pages[i] for i in order[offset : offset + n - len(chosen)]]
    return chosen


@lru_cache(maxsize=2)
def _order(n: int, seed: str) -> list[int]:
    return Random(seed).sample(range(n), n)
