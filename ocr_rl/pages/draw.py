"""Which pages a step sees: a function of (seed, how many were drawn before), so resuming needs only a number.

With `Rests` also of which pages are passed over for a while; its state goes into the checkpoint.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from random import Random
from typing import TypeVar

from ocr_rl.contract import Page

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


class Rests:
    """Pages that taught nothing are passed over: once, then twice, four times, up to `longest` of their turns.

    A page's turn comes once an epoch. One that teaches something is back among the others.
    """

    def __init__(self, longest: int, state: Mapping[str, Sequence[int]]) -> None:
        self.longest = longest
        self._counts = {page: list(counts) for page, counts in state.items()}  # page id: [times in a row, turns left]

    def draw(
        self, pages: Sequence[Page], n: int, at: int, seed: str, without: Collection[str]
    ) -> tuple[list[Page], int]:
        """The next `n` pages that do not rest and are not in `without`, and how many turns that took."""
        if self.longest == 0:
            return draw(pages, n, at, seed), n
        chosen: list[Page] = []
        taken = 0
        while len(chosen) < n and taken < (1 + self.longest) * len(pages):
            (page,) = draw(pages, 1, at + taken, seed)
            taken += 1
            if self._counts.get(page.id, (0, 0))[1] > 0:
                self._counts[page.id][1] -= 1
            elif page.id not in without and page not in chosen:
                chosen.append(page)
        return chosen, taken

    @property
    def state(self) -> dict[str, list[int]]:
        return {page: list(counts) for page, counts in self._counts.items()}

    def learn(self, page: str, live: bool) -> None:
        """What a page's group was like."""
        if live or self.longest == 0:
            self._counts.pop(page, None)
            return
        times = self._counts.get(page, (0, 0))[0] + 1
        self._counts[page] = [times, min(2 ** (times - 1), self.longest)]
