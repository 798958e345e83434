"""Which pages a step sees: all of them in each epoch, none twice in one step, from (seed, at) alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocr_rl.contract import Page
from ocr_rl.pages.epochs import Rests, draw


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9, 24, 100])
def test_no_page_comes_twice_in_a_step_across_epochs(size: int) -> None:
    pages, n = list(range(size)), 1 + size // 3
    whole = [page for at in range(20 * size) for page in draw(pages, 1, at, "seed")]
    assert all(sorted(whole[at : at + size]) == pages for at in range(0, len(whole), size))
    for at in range(len(whole) - n):
        step = draw(pages, n, at, "seed")
        assert step == whole[at : at + n]
        assert len(set(step)) == n


@pytest.mark.parametrize("size", [1, 2, 3, 5, 10, 24])
def test_no_step_holds_a_page_twice_however_small_the_set(size: int) -> None:
    pages = list(range(size))
    for n in range(1, size + 3):
        for at in range(3 * size):
            step = draw(pages, n, at, "seed")
            assert len(step) == len(set(step)) == min(n, size)
            assert step[0] == draw(pages, 1, at, "seed")[0]


def test_a_small_set_gives_every_page_its_share() -> None:
    counts = dict.fromkeys(range(10), 0)
    for step in range(1000):
        for page in draw(list(range(10)), 8, 8 * step, "seed"):
            counts[page] += 1
    assert sum(counts.values()) == 8000 and all(750 <= count <= 850 for count in counts.values())


@pytest.mark.parametrize("longest", [0, 2])
def test_a_refill_takes_no_page_of_the_same_step(longest: int) -> None:
    rests = Rests(longest, {})
    first, turns = rests.draw(PAGES, 3, 0, "seed", ())
    ids = {page.id for page in first}
    more, more_turns = rests.draw(PAGES, 3, turns, "seed", ids)
    assert len(more) == 2 and not ids & {page.id for page in more}
    assert rests.draw(PAGES, 3, turns + more_turns, "seed", {page.id for page in PAGES}) == ([], 0)


def test_epochs_mix() -> None:
    first = {frozenset(draw(list(range(12)), 4, 12 * epoch, "seed")) for epoch in range(20)}
    assert len(first) > 15


PAGES = [Page(id=f"{k}:p1", pdf=Path("a.pdf"), number=k) for k in range(1, 6)]


def test_a_page_without_signal_is_passed_over_for_one_two_and_four_of_its_turns() -> None:
    rests, at, seen = Rests(4, {}), 0, []
    for _ in range(12):
        (epoch, turns) = rests.draw(PAGES, 4, at, "seed", ())
        at += turns
        seen += [page.number for page in epoch]
        for page in epoch:
            rests.learn(page.id, live=page.number != 1)
    others = seen.count(2)
    epochs = [k for k in range(others) if k in (0, 2, 5, 10)]  # rests of 1, 2, 4
    assert seen.count(1) == len(epochs)


def test_a_page_that_teaches_again_is_back_and_nothing_rests_unless_asked() -> None:
    rests = Rests(4, {"1:p1": [2, 1]})
    rests.learn("1:p1", live=True)
    assert rests.state == {}
    never = Rests(0, {})
    never.learn("1:p1", live=False)
    assert never.draw(PAGES, 3, 0, "seed", ()) == (draw(PAGES, 3, 0, "seed"), 3)


def test_a_step_never_has_a_page_twice_nor_waits_for_ever() -> None:
    rests = Rests(2, {page.id: [1, 2] for page in PAGES[1:]})
    chosen, _ = rests.draw(PAGES, 3, 0, "seed", {"1:p1"})
    assert len({page.id for page in chosen}) == len(chosen) and "1:p1" not in {page.id for page in chosen}
    assert Rests(1, {}).draw(PAGES, 3, 0, "seed", {page.id for page in PAGES})[0] == []
