"""The claims about DPO, each a small pure function: results in, a finding out. GRPO's own weak spots: `weak_spots`.

A claim whose runs are not there is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ocr_rl.evaluate.results import PageResult
from ocr_rl.study.findings import (
    Finding,
    Measured,
    PerPage,
    Series,
    Verdict,
    apart,
    contrast,
    every,
    per_page,
    points,
    share_contrast,
    turned,
    verdict_of,
)
from ocr_rl.study.jobs import NOISE
from ocr_rl.study.results import Results

_FEW_PAIRS = 20  # learnt by heart rather than from
_LATE = 5  # steps at the end of a run that its last figures are the mean of


def both_bad(results: Results) -> Finding | None:
    seeds = [seed for seed in results.study.claim_seeds if f"dpo_both_bad-seed{seed}" in results.rows]
    bad, dpo = results.measured("dpo_both_bad", seeds), results.measured("dpo", seeds)
    if bad is None or dpo is None:
        return None
    choices = [results.choices[f"dpo_both_bad-seed{seed}"] for seed in seeds]
    kept, pages = (sum(choice[name] for choice in choices) for name in ("kept", "pages"))
    gain = contrast((1, bad), (-1, results.began()))
    moved = {
        f"{label}: {side}": _moved(results, arm, seeds, side)
        for arm, label in (("dpo", "all pairs"), ("dpo_both_bad", "both bad"))
        for side in ("chosen", "rejected")
    }
    ends = {name: float(np.mean(values[-_LATE:])) for name, values in moved.items()}
    effect = gain if gain.mean >= 0 else turned(gain)  # it teaches if it changes anything, for better or worse
    verdict: Verdict = verdict_of(effect) if kept >= _FEW_PAIRS * len(seeds) else "undecided with this budget"
    return Finding(
        key="both_bad",
        claim="1. Only the order counts: a pair of two bad answers still teaches",
        verdict=verdict,
        effect=effect,
        seen=(
            f"On {kept} of {pages} pages samples of the start make a pair whose better answer is worse than the "
            f"start's greedy one; DPO on those alone moves the pass rate by {points(gain)} points (less ordinary "
            f"pairs: {apart(bad, dpo)}). Over the last {_LATE} steps chosen answers have moved by "
            f"{ends['all pairs: chosen']:+.1f} nats and rejected ones by {ends['all pairs: rejected']:+.1f} with all "
            f"pairs, by {ends['both bad: chosen']:+.1f} and {ends['both bad: rejected']:+.1f} with these alone (fewer "
            f"than {_FEW_PAIRS} pairs a seed decide nothing)."
        ),
        x_label="step of DPO",
        y_label="log-probability less the reference's, nats",
        series={name: Series(x=range(1, len(values) + 1), y=values) for name, values in moved.items()},
    )


def _moved(results: Results, arm: str, seeds: Sequence[int], side: str) -> list[float]:
    """By step, the mean over seeds."""
    runs = [[row[f"{side}_moved_mean"] for row in results.metrics[f"{arm}-seed{seed}"]] for seed in seeds]
    return [float(np.mean(values)) for values in zip(*runs, strict=False)]


def label_noise(results: Results) -> Finding | None:
    claim = "2. DPO is more sensitive to wrong labels than GRPO is to the same noise on its rewards"
    return against_noise(results, "dpo", "DPO", key="label_noise", claim=claim)


def against_noise(results: Results, arm: str, name: str, *, key: str, claim: str) -> Finding | None:
    """What wrong labels cost this arm, less what as many cost GRPO."""
    seeds, start = results.study.claim_seeds, results.began()
    runs = {
        of: [results.measured(of if share == 0 else f"{of}_flip{share}", seeds) for share in (0, *NOISE)]
        for of in (arm, "grpo")
    }
    own, grpo = (every(runs[of]) for of in (arm, "grpo"))
    if own is None or grpo is None:
        return None
    gains = {
        label: [contrast((1, measured), (-1, start)) for measured in noisy]
        for label, noisy in ((name, own), ("GRPO", grpo))
    }
    effect = contrast((1, grpo[-1]), (-1, grpo[0]), (-1, own[-1]), (1, own[0]))
    return Finding(
        key=key,
        claim=claim,
        verdict=verdict_of(effect),
        effect=effect,
        seen=(
            f"With {NOISE[-1]} % of the labels wrong {name}'s pass rate changes by {apart(own[-1], own[0])} points, "
            f"GRPO's by {apart(grpo[-1], grpo[0])}; {name} loses {points(effect)} more."
        ),
        header=("labels wrong", f"{name}, gain in points", "GRPO, gain in points"),
        table=[
            (f"{share} %", points(own_gain), points(grpo_gain))
            for share, own_gain, grpo_gain in zip((0, *NOISE), gains[name], gains["GRPO"], strict=True)
        ],
        x_label="labels wrong, %",
        y_label="gain over the start, points",
        series={label: Series.of(intervals, (0, *NOISE)) for label, intervals in gains.items()},
    )


def weak_reference(results: Results) -> Finding | None:
    seeds = results.study.claim_seeds
    arms = every([results.measured(name, seeds) for name in ("dpo", "dpo_late", "grpo", "grpo_late", "sft")])
    if arms is None:
        return None
    dpo, dpo_late, grpo, grpo_late, late = arms
    effect = contrast((1, dpo_late), (-1, dpo), (-1, grpo_late), (1, grpo))
    starts = (
        ("earlier: the study's start", results.began(), dpo, grpo),
        ("later: after the SFT arm", late, dpo_late, grpo_late),
    )
    return Finding(
        key="weak_reference",
        claim="3. A weak reference limits what DPO reaches, more than it limits GRPO",
        verdict=verdict_of(effect),
        effect=effect,
        seen=(
            f"From the later SFT checkpoint, which is start and reference both, DPO ends {apart(dpo_late, dpo)} points "
            f"above where it ends from the earlier one, GRPO {apart(grpo_late, grpo)}; DPO depends on its start by "
            f"{points(effect)} more."
        ),
        header=("start", "its pass rate", "DPO, gain", "GRPO, gain"),
        table=[
            (name, f"{100 * np.mean(list(begun.pages.values())):.1f} %", apart(measured, begun), apart(other, begun))
            for name, begun, measured, other in starts
        ],
        y_label="gain over its start, points",
        series={
            "DPO": Series.of([contrast((1, measured), (-1, begun)) for _, begun, measured, _ in starts]),
            "GRPO": Series.of([contrast((1, other), (-1, begun)) for _, begun, _, other in starts]),
        },
        ticks=[name for name, *_ in starts],
    )


def discovery(results: Results) -> Finding | None:
    """pass@N of the start against pass@1 after: are the tests gained among those that some sample passed already?"""
    arms = {name: results.of(name) for name in results.study.arms if results.of(name)}
    if not {"dpo", "grpo"} <= set(arms):
        return None
    before = {(row.page, check.id): check.passed for row in results.start for check in row.checks}
    passed: dict[tuple[str, str], set[int]] = {}  # by which samples of the start
    for row in results.samples:
        for check in row.checks:
            if check.passed:
                passed.setdefault((row.page, check.id), set()).add(row.repeat)

    def gained(row: PageResult, *, outside: bool, but: int = 0) -> float | None:
        """Of the page's tests; outside what the start's samples (but one) passed, or wherever."""
        if not row.checks:
            return None
        gained_checks = [check for check in row.checks if check.passed and not before[row.page, check.id]]
        counted = [
            check for check in gained_checks if not outside or not passed.get((row.page, check.id), set()) - {but}
        ]
        return len(counted) / len(row.checks)

    def shares(rows: Sequence[PageResult], *, own: bool = False) -> tuple[PerPage, PerPage]:
        """Gained outside, and gained, by page; `own`: rows that are among the samples themselves."""
        return tuple(
            per_page(rows, lambda row, o=outside: gained(row, outside=o, but=row.repeat if own else 0))
            for outside in (True, False)
        )  # type: ignore[return-value]

    def share(new_and_all: tuple[PerPage, PerPage]) -> float:
        return sum(new_and_all[0].values()) / max(1e-9, sum(new_and_all[1].values()))

    by_arm = {arm: shares(rows) for arm, rows in arms.items()}
    null = share(shares(results.samples, own=True))
    effect = share_contrast(by_arm["grpo"], by_arm["dpo"])
    return Finding(
        key="discovery",
        claim="4. DPO learns from given pairs alone: less of what it gains is new than of what GRPO gains",
        verdict=verdict_of(effect),
        effect=effect,
        seen=(
            f"Of the tests that GRPO gains {share(by_arm['grpo']):.0%} were passed by none of {results.study.samples} "
            f"samples of the start, of those that DPO gains {share(by_arm['dpo']):.0%}, a difference of "
            f"{points(effect)} points (pages redrawn). Of what one more sample of the start gains over its greedy "
            f"answer it is {null:.0%}."
        ),
        header=("arm", "tests gained, % of all", "of them outside the start's samples"),
        table=[
            (arm, f"{100 * np.mean(list(gains.values())):.1f}", f"{share((new, gains)):.0%}")
            for arm, (new, gains) in by_arm.items()
        ],
        y_label="tests gained, % of all",
        series={
            label: Series.of([contrast((1, Measured(pages=shares_of[k]))) for shares_of in by_arm.values()])
            for k, label in ((1, "all"), (0, "that no sample of the start passed"))
        },
        ticks=list(arms),
    )


def graded_reward(results: Results) -> Finding | None:
    """On GRPO's own samples, so that what differs is what a group tells, and not who wrote it."""
    seeds = results.study.claim_seeds
    names = ("grpo", "grpo_order", "grpo_extremes", "dpo_quartile1", "dpo_quartile4")
    arms = [results.measured(name, seeds) for name in names]
    if arms[0] is None or arms[2] is None:
        return None
    effect = contrast((1, arms[0]), (-1, arms[2]))
    edges = {name: results.choices.get(f"{name}-seed{seeds[0]}", {}).get("distance", (0, 1)) for name in names[3:]}
    labels = (
        "GRPO, rewards",
        "GRPO, their order alone",
        "GRPO, the best and the worst alone",
        *(f"DPO on pairs {low:.2f} to {high:.2f} apart" for low, high in edges.values()),
    )
    gains = {label: contrast((1, arm), (-1, results.began())) for label, arm in zip(labels, arms, strict=True) if arm}
    return Finding(
        key="graded_reward",
        claim="5. A pair cannot say by how much: from the best and the worst of each group alone GRPO learns less",
        verdict=verdict_of(effect),
        effect=effect,
        seen=(
            f"With all numbers of its groups GRPO ends {points(effect)} points above where it ends with the best and "
            "the worst alone, which is what a pair tells, from samples of its own as before."
        ),
        header=("learns from", "gain over the start, points"),
        table=[(label, points(gain)) for label, gain in gains.items()],
        y_label="gain over the start, points",
        series={"gain": Series.of(list(gains.values()))},
        ticks=list(gains),
    )


CLAIMS: tuple[Callable[[Results], Finding | None], ...] = (
    both_bad,
    label_noise,
    weak_reference,
    discovery,
    graded_reward,
)
