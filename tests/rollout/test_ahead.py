"""Rollouts one ahead: in which order weights are loaded and samples written, and what becomes of one on its way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event, Timer, get_ident
from typing import Any

import pytest

from ocr_rl.rollout.ahead import rollouts
from ocr_rl.rollout.collect import Rollout


def rollout(number: int) -> Rollout:
    return Rollout(groups=(), scored=(), drawn=number, prompted=0, generated=0, clock={"rollout_s": 1.0}, after={})


class Loop:
    """Stands for all around the rollouts: loads, samples and updates, in the order in which they came."""

    def __init__(self, steps: int, pauses: tuple[int, ...] = ()) -> None:
        self.log: list[str] = []
        self.policy, self.held, self.steps, self.pauses, self.begun = 0, -1, steps, (*pauses, steps), 0

    def load(self) -> None:
        self.held = self.policy
        self.log.append(f"load {self.policy}")

    def gather(self) -> Rollout:
        self.begun += 1
        self.log.append(f"write {self.begun} by {self.held}")
        return rollout(self.begun)

    def rollouts(self, gather: Callable[[], Rollout] | None = None, *, ahead: bool = True, aside: bool) -> Iterator:
        may = lambda: ahead and self.policy + 1 not in self.pauses
        more = lambda: self.policy < self.steps
        return rollouts(self.load, gather or self.gather, more=more, ahead=may, aside=aside)

    def run(self, **how: Any) -> list[str]:
        for got in self.rollouts(**how):
            self.log.append(f"learn {got.drawn} at {self.policy}")
            self.policy += 1
        return self.log


def test_without_going_ahead_weights_rollouts_and_updates_take_turns() -> None:
    turns = [[f"load {i}", f"write {i + 1} by {i}", f"learn {i + 1} at {i}"] for i in range(3)]
    assert Loop(3).run(ahead=False, aside=False) == [event for turn in turns for event in turn]


def test_one_ahead_each_rollout_is_of_the_weights_before_the_last_update() -> None:
    assert Loop(4).run(aside=False) == [
        *("load 0", "write 1 by 0", "write 2 by 0", "learn 1 at 0"),
        *("load 1", "write 3 by 1", "learn 2 at 1"),
        *("load 2", "write 4 by 2", "learn 3 at 2"),
        "learn 4 at 3",  # the last: none is begun that nobody would learn from
    ]


def test_none_is_on_its_way_at_a_pause_and_the_next_one_is_fresh() -> None:
    assert Loop(4, pauses=(2,)).run(aside=False) == [
        *("load 0", "write 1 by 0", "write 2 by 0", "learn 1 at 0"),
        "learn 2 at 1",
        *("load 2", "write 3 by 2", "write 4 by 2", "learn 3 at 2"),
        "learn 4 at 3",
    ]


@pytest.mark.parametrize("pauses", [(), (1,), (2, 3)])
def test_a_thread_of_its_own_changes_nothing_but_when(pauses: tuple[int, ...]) -> None:
    here, aside = Loop(6, pauses).run(aside=False), Loop(6, pauses).run(aside=True)
    assert sorted(aside) == sorted(here)
    for kind in ("learn", "write", "load"):
        assert [event for event in aside if kind in event] == [event for event in here if kind in event]


def test_learning_goes_on_while_the_next_rollout_is_written_and_no_load_comes_between() -> None:
    loop, learnt, main = Loop(3), Event(), get_ident()
    threads = []

    def gather() -> Rollout:
        threads.append(get_ident())
        if loop.begun == 1:  # the second one: not done before the first is learnt from
            assert learnt.wait(30)
            assert loop.log[-1] == "learn 1 at 0"
        return loop.gather()

    for got in loop.rollouts(gather, aside=True):
        loop.log.append(f"learn {got.drawn} at {loop.policy}")
        learnt.set()
        assert got.drawn == 1 or "wait_s" in got.clock
        loop.policy += 1
    assert threads[0] == main and main not in threads[1:]


def test_leaving_waits_for_the_rollout_on_its_way() -> None:
    loop, go, done = Loop(9), Event(), []

    def gather() -> Rollout:
        if loop.begun:
            assert go.wait(30)
        got = loop.gather()
        done.append(got.drawn)
        return got

    stream: Any = loop.rollouts(gather, aside=True)
    next(stream)
    go.set()
    stream.close()
    assert done == [1, 2]


def test_leaving_says_what_it_waits_for(capsys: pytest.CaptureFixture[str]) -> None:
    loop, go = Loop(9), Event()

    def gather() -> Rollout:
        if loop.begun:
            assert go.wait(30)
        return loop.gather()

    stream: Any = loop.rollouts(gather, aside=True)
    next(stream)
    Timer(0.05, go.set).start()
    stream.close()
    assert "Waiting for the rollout on its way" in capsys.readouterr().out


def test_what_goes_wrong_in_the_thread_goes_wrong_where_the_rollout_is_wanted() -> None:
    loop = Loop(9)

    def gather() -> Rollout:
        if loop.begun:
            raise ValueError("the engine")
        return loop.gather()

    stream = loop.rollouts(gather, aside=True)
    assert next(stream).drawn == 1
    with pytest.raises(ValueError, match="the engine"):
        next(stream)
