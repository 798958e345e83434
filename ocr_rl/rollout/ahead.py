"""Rollouts one after the other; where that is wanted, one is on its way while the one before it is learnt from.

Loads and rollouts come in a fixed order, in a thread or without one:

    load 0, rollout 0 | (learn 0) rollout 1 | load 1, (learn 1) rollout 2 | load 2, ...

so rollout t + 1 is of the weights that rollout t is about to move: it is one rollout old when its turn comes. Weights
are loaded between rollouts, never while one is written. It knows nothing about learners or losses.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import wait
from dataclasses import replace

from tqdm import tqdm

from ocr_rl.rollout.aside import at_once, begin
from ocr_rl.rollout.collect import Rollout, timed


def rollouts(
    load: Callable[[], None],
    gather: Callable[[], Rollout],
    *,
    more: Callable[[], bool],
    ahead: Callable[[], bool],
    aside: bool,
) -> Generator[Rollout, None, None]:
    """Rollouts for as long as there are to be `more`, each with its seconds of loading, and of waiting where it was.

    Where `ahead` says so, the next one is begun before one is handed out: in a thread of its own (`aside`), or at once,
    which takes longer and gives the same. Closing the iterator waits for the one on its way, which is thrown away.
    """
    while more():
        clock: dict[str, float] = {}
        with timed(clock, "sync_s"):
            load()
        got, loaded = gather(), True
        while ahead():
            if not loaded:
                with timed(clock, "sync_s"):
                    load()
            following = begin(gather) if aside else at_once(gather)
            try:
                yield replace(got, clock={**clock, **got.clock})
            except GeneratorExit:
                if not following.done():
                    tqdm.write("Waiting for the rollout on its way, which is thrown away; Ctrl-C leaves it.")
                raise
            finally:
                clock = {}
                with timed(clock, "wait_s"):
                    wait([following])
            got, loaded = following.result(), False
        yield replace(got, clock={**clock, **got.clock})
