"""Which pages a step sees: epochs of seeded shuffles, one after the other.

The pages are a function of the seed and of how many were drawn before, so that resuming needs only that number. `Rests`
passes over some pages for a while; its state goes into the checkpoint.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from random import Random
from typing import TypeVar

from ocr_rl.contract import Page

T = TypeVar("T")


def draw(pages: Sequence[T], n: int, at: int, seed: str) -> list[T]:
    """The next `n` pages (or pairs) once `at` were drawn; all of them where there are fewer. None comes twice.

    Among any 1 + len(pages) // 3 turns in a row no page comes twice. In a larger step, a page whose turn comes again is
    passed over, and a later one stands in for it.
    """
    return [pages[i] for i in _walk(len(pages), n, at, seed, ())[0]]


def _walk(size: int, n: int, at: int, seed: str, without: Collection[int]) -> tuple[list[int], int]:
    """Indices of the next `n` of `size` pages, none twice and none of `without`; and how many turns that took."""
    chosen: dict[int, None] = {}  # in order
    taken = 0
    while len(chosen) < min(n, size - len(without)):
        epoch, offset = divmod(at + taken, size)
        page = _order(size, seed, epoch)[offset]
        taken += 1
        if page not in without and page not in chosen:
            chosen[page] = None
    return list(chosen), taken


@lru_cache(maxsize=2)
def _order(n: int, seed: str, epoch: int) -> list[int]:
    """A shuffle whose first third holds no page from the last third of the epoch before.

    Such pages change places with pages of the middle third. The last third stays as it was shuffled. An epoch therefore
    depends on the shuffle of the epoch before it, and on no earlier one.
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
    """Passes over pages that taught nothing: for one of their turns, then two, then four, at most `longest`.

    A page's turn comes once an epoch. A page that teaches something again is passed over no more.
    """

    def __init__(self, longest: int, state: Mapping[str, Sequence[int]]) -> None:
        self.longest = longest
        self._counts = {page: list(counts) for page, counts in state.items()}  # page id: [times in a row, turns left]

    def draw(
        self, pages: Sequence[Page], n: int, at: int, seed: str, without: Collection[str]
    ) -> tuple[list[Page], int]:
        """The next `n` pages that do not rest and whose ids are not in `without`, and how many turns that took."""
        if self.longest == 0:
            barred = {i for i, page in enumerate(pages) if page.id in without} if without else ()
            indices, turns = _walk(len(pages), n, at, seed, barred)
            return [pages[i] for i in indices], turns
        chosen: list[Page] = []
        taken, n = 0, min(n, sum(page.id not in without for page in pages))
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
        """Note whether the group of a page (its id) was `live`, which means that it taught something."""
        if live or self.longest == 0:
            self._counts.pop(page, None)
            return
        times = self._counts.get(page, (0, 0))[0] + 1
        self._counts[page] = [times, min(2 ** (times - 1), self.longest)]
