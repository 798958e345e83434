"""A page that could be asked for and cannot be drawn when it is learnt from: it costs itself alone.

Its file may have gone meanwhile, or never have been where another rank looks for it. Whoever reads rows says so after
all of its passes, on every rank alike (`Undrawn`), and nothing has changed then; the same is done again without the
page. What the other rows count stays as it was: such an update is a page smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from tqdm import tqdm

from ocr_rl.contract import UserError
from ocr_rl.pages.raster import ImageRef, PageError
from ocr_rl.rollout.asking import none_left
from ocr_rl.rollout.flow import Row

Answer = TypeVar("Answer")


class Undrawn(UserError):
    """Pages of rows that a rank could not draw; `refused` says why."""

    def __init__(self, refused: Mapping[ImageRef, PageError]) -> None:
        super().__init__(refused)
        self.refused = refused

    def __str__(self) -> str:
        return str(next(iter(self.refused.values())))


def rest_of(rows: Sequence[Row], undrawn: Undrawn) -> list[Row]:
    """The rows of other pages; says which ones are left out. UserError where no row is left."""
    rest = [row for row in rows if row.prompt.image not in undrawn.refused]
    if len(rest) == len(rows):  # it was about other rows than these: to ask again would have no end
        raise undrawn
    for error in undrawn.refused.values():
        tqdm.write(f"left out: {error}")
    if not rest:
        raise none_left(error)
    return rest


def without_undrawn(rows: Sequence[Row], act: Callable[[Sequence[Row]], Answer]) -> tuple[Sequence[Row], Answer]:
    """The rows whose pages could be drawn, and what `act` says of these. UserError where there are none."""
    while True:
        try:
            return rows, act(rows)
        except Undrawn as undrawn:
            rows = rest_of(rows, undrawn)


def lost_pages(before: Sequence[Row], after: Sequence[Row]) -> int:
    """How many pages of the rows are not there any more."""
    return len({row.prompt.image for row in before} - {row.prompt.image for row in after})
