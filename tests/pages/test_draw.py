"""Which pages a step sees: all of them in each epoch, none twice in one step, from (seed, at) alone."""

from __future__ import annotations

import pytest

from ocr_rl.pages.draw import draw


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9, 24, 100])
def test_no_page_comes_twice_in_a_step_across_epochs(size: int) -> None:
    pages, n = list(range(size)), 1 + size // 3
    whole = draw(pages, 20 * size, 0, "seed")
    assert all(sorted(whole[at : at + size]) == pages for at in range(0, len(whole), size))
    for at in range(len(whole) - n):
        step = draw(pages, n, at, "seed")
        assert step == whole[at : at + n]
        assert len(set(step)) == n


def test_epochs_mix() -> None:
    first = {frozenset(draw(list(range(12)), 4, 12 * epoch, "seed")) for epoch in range(20)}
    assert len(first) > 15
