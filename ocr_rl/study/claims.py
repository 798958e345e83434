"""The claims about DPO, each a small pure function: results in, a finding out. GRPO's own weak spots: `weak_spots`.

A claim whose runs are not there is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ocr_rl.evaluate.results import PageResult
from ocr_rl.study.findings import (
    PART,
    Finding,
    Measured,
    Series,
    Verdict,
    apart,
    contrast,
    every,
    kept_contrast,
    points,
    verdict_of,
)
from ocr_rl.study.jobs import NOISE
from ocr_rl.study.pairs import BAD
from ocr_rl.study.results import Of, Results

_FEW_PAIRS = 20  # learnt by heart rather than from


def both_bad(results: Results) -> Finding | None:
    """The same pairs with their labels exchanged are the control: what a few pairs do to a policy is in both."""
    names = ("dpo_both_bad", "dpo_both_bad_turned")
    seeds = [
        seed
        for seed in results.study.claim_seeds
        if all(f"{name}-seed{seed}" in results.rows for name in names)
        and {"kept", "pages"} <= results.choices.get(f"both_bad-seed{seed}", {}).keys()
    ]
    both = every([results.measured(name, seeds) for name in names])
    if both is None or not seeds:
        return None
    right, turned = both
    choices = [results.choices[f"both_bad-seed{seed}"] for seed in seeds]
    kept, pages = (sum(choice[name] for choice in choices) for name in ("kept", "pages"))
    effect = contrast((1, right), (-1, turned))
    verdict: Verdict = verdict_of(effect) if kept >= _FEW_PAIRS * len(seeds) else "undecided with this budget"
    moved = {
        f"{label}: {side}": _moved(results, arm, seeds, side)
        for arm, label in (("dpo", "ordinary pairs"), ("dpo_both_bad", "both bad"))
        for side in ("chosen", "rejected")
    }
    start = results.began()
    return Finding(
        key="both_bad",
        claim="1. Only the order counts: a pair of two bad answers still teaches",
        verdict=verdict,
        effect=effect,
        seen=(
            f"On {kept} of {pages} pages two samples of the start are bad (reward below {BAD}) and differ. DPO on "
            f"these pairs alone moves the pass rate by {apart(right, start)} points, on the same pairs with labels "
            f"exchanged by {apart(turned, start)} (fewer than {_FEW_PAIRS} pairs a seed decide nothing)."
        ),
        x_label="step of DPO",
        y_label="log-probability less the reference's, nats",
        series={name: Series(x=range(1, len(values) + 1), y=values) for name, values in moved.items()},
    )


def _moved(results: Results, arm: str, seeds: Sequence[int], side: str) -> list[float]:
    """By step, the mean over seeds."""
    name = f"{side}_moved_mean"
    runs = [[row[name] for row in results.metrics[f"{arm}-seed{seed}"] if name in row] for seed in seeds]
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
    effect = kept_contrast((own[0], own[-1]), (grpo[0], grpo[-1]), start)
    return Finding(
        key=key,
        claim=claim,
        verdict=verdict_of(effect, PART),
        effect=effect,
        seen=(
            f"With {NOISE[-1]} % of the labels wrong {name}'s pass rate changes by {apart(own[-1], own[0])} points, "
            f"GRPO's by {apart(grpo[-1], grpo[0])}; of its gain GRPO keeps {points(effect)} per cent more than {name}. "
            f"With them {name} ends {apart(own[-1], grpo[-1])} points above GRPO."
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
    """The start is the same; what differs is the reference that the loss is held to."""
    seeds, start = results.study.claim_seeds, results.began()
    arms = every([results.measured(name, seeds) for name in ("dpo", "dpo_reference", "grpo", "grpo_reference")])
    if arms is None:
        return None
    dpo, dpo_better, grpo, grpo_better = arms
    effect = contrast((1, dpo_better), (-1, dpo), (-1, grpo_better), (1, grpo))
    return Finding(
        key="weak_reference",
        claim="3. A weak reference limits what DPO reaches, more than it limits GRPO",
        verdict=verdict_of(effect),
        effect=effect,
        seen=(
            f"Held to the policy after SFT instead of the start, DPO ends {apart(dpo_better, dpo)} points above where "
            f"it ends otherwise, GRPO {apart(grpo_better, grpo)}; DPO depends on it by {points(effect)} more."
        ),
        header=("reference", "DPO, gain", "GRPO, gain"),
        table=[
            ("the start", apart(dpo, start), apart(grpo, start)),
            ("the policy after SFT", apart(dpo_better, start), apart(grpo_better, start)),
        ],
        y_label="gain over the start, points",
        series={
            name: Series.of([contrast((1, measured), (-1, start)) for measured in both])
            for name, both in (("DPO", (dpo, dpo_better)), ("GRPO", (grpo, grpo_better)))
        },
        ticks=("the start", "the policy after SFT"),
    )


def discovery(results: Results) -> Finding | None:
    """Tests gained that no sample of the start passed: pass@N of the start against pass@1 after."""
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
        of_row = [check for check in row.checks if check.passed and not before[row.page, check.id]]
        counted = [check for check in of_row if not outside or not passed.get((row.page, check.id), set()) - {but}]
        return len(counted) / len(row.checks)

    new: Of = lambda row: gained(row, outside=True)
    whole: Of = lambda row: gained(row, outside=False)
    arms = {arm: both for arm in results.study.arms if (both := _both(results, arm, new, whole)) is not None}
    if not {"dpo", "grpo"} <= set(arms):
        return None
    effect = contrast((1, arms["grpo"][0]), (-1, arms["dpo"][0]))
    own = [
        sum(gained(row, outside=outside, but=row.repeat) or 0 for row in results.samples) for outside in (True, False)
    ]
    return Finding(
        key="discovery",
        claim="4. DPO learns from given pairs alone: it gains less that no sample of the start had than GRPO does",
        verdict=verdict_of(effect),
        effect=effect,
        seen=(
            f"Of all tests GRPO gains {_mean(arms['grpo'][0]):.1f} % that none of {results.study.samples} samples of "
            f"the start passed, DPO {_mean(arms['dpo'][0]):.1f} %, a difference of {points(effect)} points. Of what "
            f"one more sample of the start gains over its greedy answer {own[0] / max(1e-9, own[1]):.0%} is new so."
        ),
        header=("arm", "tests gained, % of all", "new ones, % of all", "share of new ones"),
        table=[
            (arm, f"{_mean(all_of):.1f}", f"{_mean(fresh):.1f}", f"{_mean(fresh) / max(1e-9, _mean(all_of)):.0%}")
            for arm, (fresh, all_of) in arms.items()
        ],
        y_label="tests gained, % of all",
        series={
            label: Series.of([contrast((1, both[k])) for both in arms.values()])
            for k, label in ((1, "all"), (0, "that no sample of the start passed"))
        },
        ticks=list(arms),
    )


def _both(results: Results, arm: str, new: Of, whole: Of) -> tuple[Measured, Measured] | None:
    fresh, all_of = results.measured(arm, of=new), results.measured(arm, of=whole)
    return (fresh, all_of) if fresh and all_of else None


def _mean(measured: Measured) -> float:
    """In per cent."""
    return 100 * float(np.mean(list(measured.pages.values())))


def graded_reward(results: Results) -> Finding | None:
    """On GRPO's own samples, so that what differs is what a group tells, and not who wrote it."""
    seeds, start = results.study.claim_seeds, results.began()
    both = every([results.measured(name, seeds) for name in ("grpo", "grpo_order")])
    if both is None:
        return None
    numbers, order = both
    extremes = results.measured("grpo_extremes", seeds)
    effect = contrast((1, numbers), (-1, order))
    arms = {"all rewards": numbers, "their order alone": order}
    arms |= {"the best and the worst alone": extremes} if extremes else {}
    gains = {label: contrast((1, arm), (-1, start)) for label, arm in arms.items()}
    paired = (
        f" From the best and the worst alone, as a pair tells, it ends {apart(order, extremes)} points below where it "
        f"ends with the order of all, and {apart(numbers, extremes)} below where it ends with all numbers: what the "
        "other samples of a group are worth."
        if extremes
        else ""
    )
    return Finding(
        key="graded_reward",
        claim="5. A pair cannot say by how much: from the order of a group's rewards alone GRPO learns less",
        verdict=verdict_of(effect),
        effect=effect,
        seen=(
            f"With all numbers of its groups GRPO ends {points(effect)} points above where it ends with their order "
            f"alone.{paired}"
        ),
        header=("GRPO learns from", "gain over the start, points"),
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
