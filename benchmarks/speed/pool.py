"""How much a second worker helps: a recipe's rewards over groups, with one worker and with two, in turn.

Seconds of the clock, since that is what workers are for: other programs on the machine count.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.speed import cases
from ocr_rl.config import load_recipe
from ocr_rl.contract import Page, Transcript
from ocr_rl.rollout.reward_pool import PageGroup, RewardPool, weighted
from ocr_rl.text.checks import load_check

RECIPE = "qwen2_5_vl_7b_grpo"
GROUPS, ROUNDS = 14, 3


def seconds_by_workers() -> dict[int, float]:
    """Of the best round."""
    groups = [_group(seed) for seed in range(GROUPS)]
    pools = {workers: _pool(workers) for workers in (1, 2)}
    seconds: dict[int, list[float]] = {workers: [] for workers in pools}
    try:
        for pool in pools.values():
            list(pool.score_all(groups[:4]))  # starts the workers
        for _ in range(ROUNDS):
            for workers, pool in pools.items():
                seconds[workers].append(_timed(pool, groups))
    finally:
        for pool in pools.values():
            pool.close()
    return {workers: min(rounds_s) for workers, rounds_s in seconds.items()}


def _timed(pool: RewardPool, groups: Sequence[PageGroup]) -> float:
    start = time.perf_counter()
    list(pool.score_all(groups))
    return time.perf_counter() - start


def _pool(workers: int) -> RewardPool:
    choices = load_recipe(RECIPE).mix
    return RewardPool(choices=choices, rewards=weighted(choices), workers=workers, timeout_s=60)


def _group(seed: int) -> PageGroup:
    case = cases.siblings(1000 * seed)
    page = Page(id=f"{seed:08x}:p1", pdf=Path("a.pdf"), number=1, checks=[load_check(test) for test in case["tests"]])
    return page, [Transcript(raw=text, body=text, finish="stop", num_tokens=len(text)) for text in case["texts"]]
