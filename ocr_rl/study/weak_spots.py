"""GRPO's own weak spots, each a small pure function: results in, a finding out (none where its runs are not there)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ocr_rl.evaluate.stats import Interval, bootstrap_mean
from ocr_rl.study.findings import Finding, Series, apart, contrast, every, points, unpaired, verdict_of
from ocr_rl.study.jobs import LONGER
from ocr_rl.study.results import Results, bleu, pass_rate

_THIRDS = ("hardest", "middle", "easiest")
THIRDS_BY_LENGTH = ("shortest third", "middle", "longest third")


def flat_groups(results: Results) -> Finding | None:
    """Samples of the start as if they were a step's groups; how hard a page is, the other samples say."""
    G = results.study.group_size
    by_page: dict[str, list[float]] = {}
    for row in results.samples:
        if row.pass_rate is not None:
            by_page.setdefault(row.page, []).append(row.pass_rate)
    groups = {page: values[:G] for page, values in by_page.items() if len(values) > G}
    if len(groups) < 9:
        return None
    flat = {page: float(max(values) - min(values) < 1e-9) for page, values in groups.items()}
    ease = {page: float(np.mean(by_page[page][G:])) for page in groups}
    order = sorted(groups, key=lambda page: (ease[page], page))
    thirds = [part.tolist() for part in np.array_split(np.array(order), 3)]
    shares = [bootstrap_mean({page: [flat[page]] for page in third}, seed=0) for third in thirds]
    effect = unpaired([flat[page] for page in thirds[0]], [flat[page] for part in thirds[1:] for page in part])
    all_bad = np.mean([flat[page] and groups[page][0] < 1e-9 for page in groups])
    all_good = np.mean([flat[page] and groups[page][0] > 1 - 1e-9 for page in groups])
    runs = [row["flat_groups"] for name, rows in results.metrics.items() if name.startswith("grpo-") for row in rows]
    during = f"; in the GRPO runs {np.mean(runs):.0%} of the groups" if runs else ""
    return Finding(
        key="flat_groups",
        claim="GRPO 1. Groups whose answers are all equal teach nothing, and hard pages have more of them than others",
        verdict=verdict_of(effect),
        effect=effect,
        seen=(
            f"Of groups of {G} samples of the start {np.mean(list(flat.values())):.0%} pass equally many tests (all "
            f"none: {all_bad:.0%}, all every one: {all_good:.0%}){during}; on the hardest third of the pages "
            f"{points(effect)} points more."
        ),
        header=("third of the pages by difficulty", "mean pass rate of samples", "groups without signal, %"),
        table=[
            (
                name,
                f"{np.mean([ease[page] for page in third]):.0%}",
                f"{100 * s.mean:.1f} [{100 * s.low:.1f}, {100 * s.high:.1f}]",
            )
            for name, third, s in zip(_THIRDS, thirds, shares, strict=True)
        ],
        x_label="third of the pages by difficulty",
        y_label="groups without signal, %",
        series={f"{G} samples of the start": Series.of(shares)},
        ticks=_THIRDS,
    )


def distortion(results: Results) -> Finding | None:
    seeds = results.study.claim_seeds
    arms = every([results.measured(arm, seeds, of) for of in (pass_rate, bleu) for arm in ("grpo", "grpo_bleu")])
    if arms is None:
        return None
    on_tests, on_bleu = arms[:2], arms[2:]
    effect = contrast((1, on_tests[0]), (-1, on_tests[1]))
    before = results.began(), results.began(bleu)
    return Finding(
        key="distortion",
        claim="GRPO 2. A badly chosen reward distorts training: BLEU alone, without gates, costs unit tests",
        verdict=verdict_of(effect),
        effect=effect,
        seen=(
            f"Rewarded by BLEU alone, without gates, GRPO passes {points(effect)} points fewer tests than rewarded by "
            f"the study's mix, and its BLEU is {apart(on_bleu[1], on_bleu[0])} points apart."
        ),
        x_label="measured by",
        y_label="gain over the start, points",
        series={
            f"rewarded by {name}": Series.of(
                [contrast((1, both[k]), (-1, begun)) for both, begun in zip((on_tests, on_bleu), before, strict=True)]
            )
            for k, name in enumerate(("the study's mix", "BLEU"))
        },
        ticks=("unit tests", "BLEU"),
    )


def diversity(results: Results) -> Finding | None:
    seeds, warm = results.study.claim_seeds, results.study.temperature
    arms = every([results.measured(name, seeds) for name in ("grpo", "grpo_cool")])
    if arms is None:
        return None
    labels = (f"temperature {warm:g}", f"temperature {warm / 2:g}")
    effect = contrast((1, arms[0]), (-1, arms[1]))
    gains = [contrast((1, measured), (-1, results.began())) for measured in arms]
    return Finding(
        key="diversity",
        claim="GRPO 3. Without diversity training stalls: half the temperature gains less",
        verdict=verdict_of(effect),
        effect=effect,
        seen=f"At temperature {warm:g} GRPO ends {points(effect)} points above where it ends at {warm / 2:g}.",
        header=("sampling", "gain over the start, points"),
        table=[(label, points(gain)) for label, gain in zip(labels, gains, strict=True)],
        y_label="gain over the start, points",
        series={"GRPO": Series.of(gains)},
        ticks=labels,
    )


def blurred_credit(results: Results) -> Finding | None:
    both = every([results.measured(arm) for arm in ("grpo_spans", "grpo")])
    if both is None:
        return None
    effect = contrast((1, both[0]), (-1, both[1]))
    on = gains_by_length(results, list(results.ended_arms()))
    return Finding(
        key="blurred_credit",
        claim="GRPO 4. One reward for a whole transcript blurs credit: on the words that earned it it teaches more",
        verdict=verdict_of(effect),
        effect=effect,
        seen=f"With the same rewards, put where they were earned (credit by spans), GRPO gains {points(effect)} more.",
        header=("arm", *THIRDS_BY_LENGTH),
        table=[(arm, *map(points, intervals)) for arm, intervals in on.items()],
        y_label="gain over the start, points",
        series={arm: Series.of(intervals) for arm, intervals in on.items()},
        ticks=THIRDS_BY_LENGTH,
    )


def longer_runs(results: Results) -> Finding | None:
    seeds = results.study.claim_seeds
    arms = {
        arm: (short, long_)
        for arm in ("grpo", "grpo_spans", "dpo_iterative")
        if (short := results.measured(arm, seeds)) and (long_ := results.measured(f"{arm}_long", seeds))
    }
    if not {"grpo", "dpo_iterative"} <= set(arms):
        return None
    (grpo, grpo_long), (dpo, dpo_long) = arms["grpo"], arms["dpo_iterative"]
    effect = contrast((1, grpo_long), (-1, grpo), (-1, dpo_long), (1, dpo))
    return Finding(
        key="longer_runs",
        claim=f"Budget. With {LONGER} times the tokens GRPO's lead over iterative DPO grows",
        verdict=verdict_of(effect),
        effect=effect,
        seen=f"From {LONGER} times the tokens GRPO gains {points(effect)} points more than iterative DPO does.",
        header=(
            "arm",
            "gain, points",
            f"gain with {LONGER} times the tokens",
            "what they added",
            "above iterative DPO then",
        ),
        table=[
            (
                arm,
                apart(short, results.began()),
                apart(long_, results.began()),
                apart(long_, short),
                apart(long_, dpo_long) if arm != "dpo_iterative" else "",
            )
            for arm, (short, long_) in arms.items()
        ],
        y_label="gain over the start, points",
        series={
            arm: Series.of([contrast((1, measured), (-1, results.began())) for measured in both], (1, LONGER))
            for arm, both in arms.items()
        },
        x_label="times the tokens",
    )


def gains_by_length(results: Results, arms: Sequence[str]) -> dict[str, list[Interval]]:
    """Of those arms of which a run has ended: the gain on each third of the pages."""
    thirds = thirds_by_length(results)
    gains = {arm: [gain for third in thirds if (gain := results.gain(arm, third))] for arm in arms}
    return {arm: intervals for arm, intervals in gains.items() if intervals}


def thirds_by_length(results: Results) -> list[list[str]]:
    """The test pages, by the length of their reference: the shortest third, the middle, the longest."""
    pages = {row.page for row in results.start if row.pass_rate is not None}
    order = sorted(pages, key=lambda page: (len(results.pages[page].reference or ""), page))
    return [part.tolist() for part in np.array_split(np.array(order), 3)]


WEAK_SPOTS: tuple[Callable[[Results], Finding | None], ...] = (
    flat_groups,
    distortion,
    diversity,
    blurred_credit,
    longer_runs,
)
