"""The claims about PPO's critic against GRPO's group mean, each a small pure function: results in, a finding out.

A claim whose runs are not there is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from rapidfuzz.distance import LCSseq

from ocr_rl import config
from ocr_rl.evaluate.results import PageResult
from ocr_rl.evaluate.stats import Interval
from ocr_rl.study.findings import (
    Finding,
    Measured,
    Noise,
    PerPage,
    Series,
    apart,
    contrast,
    every,
    noise_of,
    noise_of_runs,
    over_runs,
    per_page,
    points,
    spread,
    unpaired,
    verdict_of,
)
from ocr_rl.study.jobs import LAMBDA
from ocr_rl.study.plan import Arm
from ocr_rl.study.results import PHASES, Of, Results, cost_of, peak_of, phases_of
from ocr_rl.study.weak_spots import THIRDS_BY_LENGTH, gains_by_length, thirds_by_length
from ocr_rl.text.figures import pair, words


def delayed_credit(results: Results) -> Finding | None:
    both = every([results.measured(arm) for arm in ("ppo", "grpo")])
    if both is None:
        return None
    ppo, grpo = both
    thirds, seeds = thirds_by_length(results), results.study.claim_seeds
    lead = {page: ppo.pages[page] - grpo.pages[page] for page in ppo.pages}
    # unpaired: pages of two lengths are different pages
    short, long_ = ([lead[page] for page in third if page in lead] for third in (thirds[0], thirds[2]))
    effect = unpaired(long_, short, [_slope_noise(results, arm, thirds) for arm in ("ppo", "grpo")])
    trusting, ppo_there = results.measured("ppo_lambda", seeds), results.measured("ppo", seeds)
    names = {"ppo": "ppo", "grpo": "grpo", "ppo_lambda": f"ppo, lambda {LAMBDA}"}
    gains = {names[arm]: of_arm for arm, of_arm in gains_by_length(results, list(names)).items()}
    credit = ""
    if trusting is not None and ppo_there is not None:
        credit = f" With lambda {LAMBDA} PPO ends {apart(trusting, ppo_there)} points from where it ends as it is."
    return Finding(
        key="delayed_credit",
        claim="RLHF 4. A critic sees delayed credit that a group mean does not: on long pages PPO leads GRPO by more",
        verdict=verdict_of(effect),
        effect=effect,
        seen=(
            f"PPO is ahead of GRPO by {points(effect)} points more on the longest third of the pages than on the "
            f"shortest.{credit}"
        ),
        header=("arm", *THIRDS_BY_LENGTH),
        table=[(arm, *map(points, intervals)) for arm, intervals in gains.items()],
        y_label="gain over the start, points",
        series={arm: Series.of(intervals) for arm, intervals in gains.items()},
        ticks=THIRDS_BY_LENGTH,
    )


def _slope_noise(results: Results, arm: str, thirds: Sequence[Sequence[str]]) -> tuple[Noise, int]:
    """How far an arm's runs lie apart in their mean on the longest third less that on the shortest; and how many."""
    runs = [per_page(rows) for rows in results.runs(arm)]
    slopes = [_mean_of(run, thirds[2]) - _mean_of(run, thirds[0]) for run in runs]
    return spread([slopes]), len(runs)


def _mean_of(run: PerPage, pages: Sequence[str]) -> float:
    return float(np.mean([run[page] for page in pages if page in run]))


def early_errors(results: Results) -> Finding | None:
    """The reward comes after the last token, so what is written first waits longest for it."""
    sides = every([_measured(results, arm, _early_less_late(results)) for arm in _BOTH])
    if sides is None:
        return None
    effect = contrast((1, sides[0]), (-1, sides[1]))
    halves = [_place(results, lambda right: right.early), _place(results, lambda right: right.late)]
    changes = {arm: [_change(results, arm, half) for half in halves] for arm in _BOTH}
    before_error = _place(results, lambda right: right.before_error)
    rows = {"start": results.start, **{arm: results.of(arm) for arm in _BOTH}}
    clean = {arm: 100 * np.mean(list(per_page(of_arm, before_error).values())) for arm, of_arm in rows.items()}
    return Finding(
        key="early_errors",
        claim="RLHF 5. Early errors wait longest for their reward: PPO's lead over GRPO is larger there than late",
        verdict=verdict_of(effect),
        effect=effect,
        seen=(
            f"In the first half of a page, less the second, PPO reads {points(effect)} points more of the words than "
            "GRPO (words of the reference that the transcript has, in order)."
        ),
        header=("arm", *(f"words right, {half}, change" for half in _HALVES), "words before the first error, %"),
        table=[
            ("start", "", "", f"{clean['start']:.1f}"),
            *((arm, *map(points, changes[arm]), f"{clean[arm]:.1f}") for arm in _BOTH),
        ],
        y_label="words right, change in points",
        series={arm: Series.of(intervals) for arm, intervals in changes.items()},
        ticks=_HALVES,
    )


_BOTH = ("ppo", "grpo")
_HALVES = ("first half", "second half")


class Right(NamedTuple):
    """What of a page's words a transcript has, as shares."""

    early: float  # of the first half
    late: float  # of the second
    before_error: float  # of all words, those before the first that is wrong


@cache
def right_words(reference: str, text: str) -> Right | None:
    """By the longest common subsequence; None for a reference of fewer than two words."""
    texts = pair(reference, text)
    true, written = (words(side, texts.unit) for side in (texts.reference, texts.candidate))
    if len(true) < 2:
        return None
    right = np.zeros(len(true))
    for block in LCSseq.opcodes(true, written):
        if block.tag == "equal":
            right[block.src_start : block.src_end] = 1
    half = len(true) // 2
    wrong = np.flatnonzero(right == 0)
    clean = float(wrong[0]) / len(true) if len(wrong) else 1.0
    return Right(early=float(right[:half].mean()), late=float(right[half:].mean()), before_error=clean)


def _place(results: Results, of: Callable[[Right], float]) -> Of:
    def figure(row: PageResult) -> float | None:
        reference = results.pages[row.page].reference
        right = None if reference is None else right_words(reference, row.text)
        return None if right is None else of(right)

    return figure


def _early_less_late(results: Results) -> Of:
    return _place(results, lambda right: right.early - right.late)


def _measured(results: Results, arm: str, of: Of) -> Measured | None:
    """As `Results.measured`, pooled over these two arms alone: words are compared once for each row."""
    runs = {name: [per_page(rows, of) for rows in results.runs(name)] for name in _BOTH}
    pages = per_page([row for rows in results.runs(arm) for row in rows], of)
    noise = noise_of_runs(runs[arm], lambda: noise_of(list(runs.values())))
    return Measured(pages=pages, runs=len(runs[arm]), noise=noise) if pages else None


def _change(results: Results, arm: str, of: Of) -> Interval:
    measured = _measured(results, arm, of)
    assert measured is not None
    return contrast((1, measured), (-1, results.began(of)))


def compute(results: Results) -> Finding | None:
    names = {arm: _runs(results, arm) for arm, settings in results.study.arms.items() if _on_policy(settings)}
    steps = {arm: {seed: _a_step(results.metrics[name]) for seed, name in runs.items()} for arm, runs in names.items()}
    seeds = sorted(set(steps.get("ppo", {})) & set(steps.get("grpo", {})))
    if not seeds:
        return None
    longer = over_runs([steps["ppo"][seed]["all"] / steps["grpo"][seed]["all"] - 1 for seed in seeds])
    shown = {
        arm: {what: over_runs([step[what] for step in of_arm.values()]) for what in _STEP}
        for arm, of_arm in steps.items()
        if of_arm
    }
    peaks = {arm: peak_of(results, arm) for arm in shown}
    held = f" Their processes held {peaks['ppo']} and {peaks['grpo']} GiB at the most, the engine in them."
    return Finding(
        key="compute",
        claim="RLHF 7. A critic costs: a step of PPO takes longer than one of GRPO",
        verdict=verdict_of(longer),
        effect=longer,
        seen=(
            f"A step of PPO takes longer than one of GRPO at the same seed by {points(longer)} per cent."
            f"{held if peaks['ppo'] and peaks['grpo'] else ''}"
        ),
        header=("arm", *(f"{what}, s a step" for what in _STEP), "tokens a step", "memory, GiB"),
        table=[
            (
                arm,
                *(f"{interval.mean:.2f}" for interval in intervals.values()),
                f"{np.mean([step['tokens'] for step in steps[arm].values()]):,.0f}",
                peaks[arm],
            )
            for arm, intervals in shown.items()
        ],
        y_label="seconds a step",
        series={what: _of([intervals[what] for intervals in shown.values()]) for what in _STEP},
        ticks=list(shown),
    )


_STEP = ("all", *PHASES)


def _on_policy(arm: Arm) -> bool:
    return config.ALGORITHMS[arm.algorithm].on_policy


def _runs(results: Results, arm: str) -> dict[int, str]:
    """Those that ended, by seed."""
    return {seed: name for seed in results.study.seeds if (name := f"{arm}-seed{seed}") in results.rows}


def _a_step(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over the steps of a run: seconds in all and by phase, and tokens generated."""
    cost = cost_of(rows)
    whole = {"all": cost.seconds, **phases_of(rows), "tokens": cost.tokens}
    return {what: value / len(rows) for what, value in whole.items()}


def _of(intervals: Sequence[Interval]) -> Series:
    return Series(
        x=range(len(intervals)),
        y=[interval.mean for interval in intervals],
        low=[interval.low for interval in intervals],
        high=[interval.high for interval in intervals],
    )


CRITIC: tuple[Callable[[Results], Finding | None], ...] = (delayed_credit, early_errors, compute)
