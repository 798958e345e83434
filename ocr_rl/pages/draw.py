"""Which pages a step sees: a function of (seed, how many were drawn before) alone, so resuming needs only a number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from random import Random
from typing import TypeVar

T = TypeVar("T")


def draw(pages: Sequence[T], n: int, at: int, seed: str) -> list[T]:
    """The next `n` pages (or pairs) after `at` were drawn: epochs of seeded shuffles, one after the other.

    No page comes twice among any 1 + len(pages) // 3 in a row, so not in a step either that asks for no more.
    """
    chosen: list[T] = []
    while len(chosen) < n:
        epoch, offset = divmod(at + len(chosen), len(pages))
        order = _order(len(pages), seed, epoch)
        chosen += [pages[i] for i in order[offset : offset + n - len(chosen)]]
    return chosen


@lru_cache(maxsize=2)
def _order(n: int, seed: str, epoch: int) -> list[int]:
    """A shuffle whose first third holds none of the last third of the epoch before.

    Such pages change places with others from the middle third; the last third stays as it was shuffled, so an epoch
    depends on the one before it but not, through that, on all before.
    """
    order = _shuffle(n, seed, epoch)
    if epoch > 0:
        third = n // 3
        late = set(_shuffle(n, seed, epoch - 1)[n - third :])
        others = (k for k in range(third, n - third) if order[k] not in late)
        for k in range(third):
            if order[k] in late:
                other = next(others)
                order[k], order[other] = order[other], order[k]
    return order


def _shuffle(n: int, seed: str, epoch: int) -> list[int]:
    return Random(f"{seed}/{epoch}").sample(range(n), n)
