"""The claims about DPO and GRPO's own weak spots, each a small pure function: results in, a finding out.

A claim whose runs are not there is left out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ocr_rl.evaluate.grade import Graded
from ocr_rl.evaluate.stats import Interval, bootstrap_mean
from ocr_rl.study.findings import Finding, Series, apart, contrast, per_page, points, unpaired, verdict_of
from ocr_rl.study.plan import NOISE
from ocr_rl.study.results import Results

_G = 8  # samples of a group
_THIRDS = ("hardest", "middle", "easiest")


def findings(results: Results) -> list[Finding]:
    return [found for claim in CLAIMS if (found := claim(results)) is not None]


# --- claims about DPO ---


def both_bad(results: Results) -> Finding | None:
    seeds = results.study.claim_seeds
    rows, choice = results.of("dpo_both_bad", seeds), results.choices.get(f"dpo_both_bad-seed{seeds[0]}")
    if not rows or choice is None:
        return None
    start, bad, dpo = per_page(results.start), per_page(rows), per_page(results.of("dpo", seeds))
    gain, less = contrast((1, bad), (-1, start)), contrast((1, bad), (-1, dpo))
    moved = results.metrics[f"dpo-seed{seeds[0]}"]
    return Finding(
        key="both_bad",
        claim="1. Only the order counts: a pair of two bad answers still teaches",
        verdict=verdict_of(gain),
        seen=(
            f"In {choice['kept']} of {choice['pairs']} pairs the chosen answer is worse than the start's greedy one; "
            f"DPO on those alone moves the pass rate by {points(gain)} points (less all pairs: {points(less)}). By the "
            f"end the chosen answers' log-probability has moved by {moved[-1]['chosen_moved_mean']:+.1f} nats, the "
            f"rejected ones' by {moved[-1]['rejected_moved_mean']:+.1f}."
        ),
        x_label="step of DPO",
        y_label="log-probability less the reference's, nats",
        series={
            name: Series(x=[row["step"] for row in moved], y=[row[f"{name}_moved_mean"] for row in moved])
            for name in ("chosen", "rejected")
        },
    )


def label_noise(results: Results) -> Finding | None:
    seeds, start = results.study.claim_seeds, per_page(results.start)
    runs = {
        arm: {share: per_page(results.of(arm if share == 0 else f"{arm}_flip{share}", seeds)) for share in (0, *NOISE)}
        for arm in ("dpo", "grpo")
    }
    if not all(values for by_share in runs.values() for values in by_share.values()):
        return None
    gains = {arm: {s: contrast((1, values), (-1, start)) for s, values in by.items()} for arm, by in runs.items()}
    worst = NOISE[-1]
    dpo, grpo = runs["dpo"], runs["grpo"]
    effect = contrast((1, grpo[worst]), (-1, grpo[0]), (-1, dpo[worst]), (1, dpo[0]))
    return Finding(
        key="label_noise",
        claim="2. DPO is more sensitive to wrong labels than GRPO is to the same noise on its rewards",
        verdict=verdict_of(effect),
        seen=(
            f"With {worst} % of the labels wrong DPO's pass rate changes by {apart(dpo[worst], dpo[0])} "
            f"points, GRPO's by {apart(grpo[worst], grpo[0])}; DPO loses {points(effect)} more."
        ),
        header=("labels wrong", "DPO, gain in points", "GRPO, gain in points"),
        table=[(f"{s} %", points(gains["dpo"][s]), points(gains["grpo"][s])) for s in (0, *NOISE)],
        x_label="labels wrong, %",
        y_label="gain over the start, points",
        series={arm: Series.of(list(by.values()), list(by)) for arm, by in gains.items()},
    )


def weak_reference(results: Results) -> Finding | None:
    seeds = results.study.claim_seeds
    arms = {name: per_page(results.of(name, seeds)) for name in ("dpo", "dpo_late", "grpo", "grpo_late", "sft")}
    if not all(arms.values()):
        return None
    effect = contrast((1, arms["dpo_late"]), (-1, arms["dpo"]), (-1, arms["grpo_late"]), (1, arms["grpo"]))
    early, late = per_page(results.start), arms["sft"]
    starts = (
        ("earlier: the embedded policy", early, ("dpo", "grpo")),
        ("later: after the SFT arm", late, ("dpo_late", "grpo_late")),
    )
    return Finding(
        key="weak_reference",
        claim="3. A weak reference limits what DPO reaches, more than it limits GRPO",
        verdict=verdict_of(effect),
        seen=(
            f"From the later SFT checkpoint DPO ends {apart(arms['dpo_late'], arms['dpo'])} points "
            f"above where it ends from the earlier one, GRPO {apart(arms['grpo_late'], arms['grpo'])}; "
            f"DPO depends on its start by {points(effect)} more."
        ),
        header=("start", "its pass rate", "DPO, gain", "GRPO, gain"),
        table=[
            (
                name,
                f"{100 * np.mean(list(begun.values())):.1f} %",
                *(apart(arms[a], begun) for a in ends),
            )
            for name, begun, ends in starts
        ],
        y_label="gain over its start, points",
        series={
            arm: Series.of([contrast((1, arms[ends[k]]), (-1, begun)) for _, begun, ends in starts])
            for k, arm in enumerate(("DPO", "GRPO"))
        },
        ticks=[name for name, _, _ in starts],
    )


def discovery(results: Results) -> Finding | None:
    """pass@N of the start against pass@1 after: are the tests gained among those that some sample passed already?"""
    arms = {name: results.of(name) for name in results.study.arms if results.of(name)}
    if not {"dpo", "grpo"} <= set(arms):
        return None
    before = {(row.page, check.id): check.passed for row in results.start for check in row.checks}
    reached = {(row.page, check.id) for row in results.samples for check in row.checks if check.passed}

    def found(row: Graded, *, outside: bool) -> float | None:
        if not row.checks:
            return None
        gained = [check for check in row.checks if check.passed and not before[row.page, check.id]]
        return sum((row.page, check.id) not in reached or not outside for check in gained) / len(row.checks)

    new = {arm: per_page(rows, lambda row: found(row, outside=True)) for arm, rows in arms.items()}
    every = {arm: per_page(rows, lambda row: found(row, outside=False)) for arm, rows in arms.items()}
    effect = contrast((1, new["grpo"]), (-1, new["dpo"]))
    share = {arm: sum(new[arm].values()) / max(1e-9, sum(every[arm].values())) for arm in arms}
    return Finding(
        key="discovery",
        claim="4. DPO learns from given pairs alone: it discovers less than GRPO",
        verdict=verdict_of(effect),
        seen=(
            f"Of the tests that GRPO gains {share['grpo']:.0%} were passed by none of {results.study.samples} samples "
            f"of the start, of those that DPO gains {share['dpo']:.0%}; GRPO gains {points(effect)} points more such."
        ),
        header=("arm", "tests gained, % of all", "of them outside the start's samples"),
        table=[(arm, f"{100 * np.mean(list(every[arm].values())):.1f}", f"{share[arm]:.0%}") for arm in arms],
        y_label="tests gained, % of all",
        series={
            label: Series.of([contrast((1, gained[arm])) for arm in arms])
            for label, gained in (("all", every), ("that no sample of the start passed", new))
        },
        ticks=list(arms),
    )


def graded_reward(results: Results) -> Finding | None:
    seeds, start = results.study.claim_seeds, per_page(results.start)
    names = ("dpo", "grpo", "dpo_two_rewards", "grpo_two_rewards")
    arms = {name: per_page(results.of(name, seeds)) for name in names}
    quarters = {n: per_page(results.of(f"dpo_quartile{n}", seeds)) for n in (1, 2, 3, 4)}
    if not all(arms.values()) or not all(quarters.values()):
        return None
    effect = contrast(
        (1, arms["grpo_two_rewards"]), (-1, arms["grpo"]), (-1, arms["dpo_two_rewards"]), (1, arms["dpo"])
    )
    gains = {n: contrast((1, values), (-1, start)) for n, values in quarters.items()}
    edges = {n: results.choices[f"dpo_quartile{n}-seed{seeds[0]}"]["distance"] for n in quarters}
    return Finding(
        key="graded_reward",
        claim="5. A pair cannot say by how much: DPO loses more than GRPO where two rewards must be weighed",
        verdict=verdict_of(effect),
        seen=(
            f"With BLEU beside the unit tests DPO's pass rate changes by "
            f"{apart(arms['dpo_two_rewards'], arms['dpo'])} points, GRPO's by "
            f"{apart(arms['grpo_two_rewards'], arms['grpo'])}, a difference of {points(effect)}. By how "
            f"far apart the two answers are, the nearest quarter of the pairs gains {points(gains[1])}, the farthest "
            f"{points(gains[4])}."
        ),
        header=("quarter of the pairs", "edits between the answers", "DPO, gain in points"),
        table=[(str(n), f"{edges[n][0]:.2f} to {edges[n][1]:.2f}", points(gains[n])) for n in quarters],
        x_label="edits between the two answers, share of the longer",
        y_label="gain over the start, points",
        series={"DPO on a quarter of the pairs": Series.of([gains[n] for n in quarters])},
        ticks=[f"{edges[n][0]:.2f} to {edges[n][1]:.2f}" for n in quarters],
    )


# --- GRPO's own weak spots ---


def flat_groups(results: Results) -> Finding | None:
    """Samples of the start as if they were a step's groups."""
    by_page: dict[str, list[float]] = {}
    for row in results.samples:
        if row.pass_rate is not None:
            by_page.setdefault(row.page, []).append(row.pass_rate)
    groups = {page: values[:_G] for page, values in by_page.items() if len(values) >= _G}
    if len(groups) < 9:
        return None
    flat = {page: float(max(values) - min(values) < 1e-9) for page, values in groups.items()}
    order = sorted(groups, key=lambda page: (float(np.mean(groups[page])), page))
    thirds = [part.tolist() for part in np.array_split(np.array(order), 3)]
    shares = [bootstrap_mean({page: [flat[page]] for page in third}, seed=0) for third in thirds]
    rates = [float(np.mean([np.mean(groups[page]) for page in third])) for third in thirds]
    runs = [row["flat_groups"] for name, rows in results.metrics.items() if name.startswith("grpo-") for row in rows]
    during = f"; in the GRPO runs {np.mean(runs):.0%} of the groups" if runs else ""
    return Finding(
        key="flat_groups",
        claim="GRPO 1. A group whose answers are all equal gives no advantage",
        verdict=verdict_of(bootstrap_mean({page: [value] for page, value in flat.items()}, seed=0)),
        seen=f"Of groups of {_G} samples of the start {np.mean(list(flat.values())):.0%} are without signal{during}.",
        header=("third of the pages by difficulty", "mean pass rate of samples", "groups without signal, %"),
        table=[
            (name, f"{rate:.0%}", f"{100 * s.mean:.1f} [{100 * s.low:.1f}, {100 * s.high:.1f}]")
            for name, rate, s in zip(_THIRDS, rates, shares, strict=True)
        ],
        x_label="third of the pages by difficulty",
        y_label="groups without signal, %",
        series={f"{_G} samples of the start": Series.of(shares)},
        ticks=_THIRDS,
    )


def distortion(results: Results) -> Finding | None:
    seeds = results.study.claim_seeds
    tests, bleu = per_page(results.of("grpo", seeds)), per_page(results.of("grpo_bleu", seeds))
    if not tests or not bleu:
        return None
    effect = contrast((1, tests), (-1, bleu))
    on_bleu = [per_page(results.of(arm, seeds), lambda row: row.bleu) for arm in ("grpo_bleu", "grpo")]
    before = per_page(results.start), per_page(results.start, lambda row: row.bleu)
    ends = {"unit tests": (tests, on_bleu[1]), "BLEU": (bleu, on_bleu[0])}
    return Finding(
        key="distortion",
        claim="GRPO 2. A badly chosen reward distorts training: BLEU alone costs unit tests",
        verdict=verdict_of(effect),
        seen=(
            f"Rewarded by BLEU alone GRPO passes {points(effect)} points fewer tests than rewarded by them, and its "
            f"BLEU is {apart(on_bleu[0], on_bleu[1])} points apart."
        ),
        x_label="measured by",
        y_label="gain over the start, points",
        series={
            f"rewarded by {name}": Series.of(
                [contrast((1, after), (-1, begun)) for after, begun in zip(both, before, strict=True)]
            )
            for name, both in ends.items()
        },
        ticks=("unit tests", "BLEU"),
    )


def diversity(results: Results) -> Finding | None:
    seeds, start = results.study.claim_seeds, per_page(results.start)
    names = {
        "grpo": "temperature 1, 8 samples",
        "grpo_cool": "temperature 0.5",
        "grpo_small_groups": "4 samples, twice the pages",
    }
    arms = {name: per_page(results.of(name, seeds)) for name in names}
    if not all(arms.values()):
        return None
    effect = contrast((1, arms["grpo"]), (-1, arms["grpo_cool"]))
    return Finding(
        key="diversity",
        claim="GRPO 3. Without diversity training stalls: half the temperature gains less",
        verdict=verdict_of(effect),
        seen=f"At temperature 1 GRPO ends {points(effect)} points above where it ends at 0.5.",
        header=("sampling", "gain over the start, points"),
        table=[(label, apart(arms[name], start)) for name, label in names.items()],
        y_label="gain over the start, points",
        series={"GRPO": Series.of([contrast((1, arms[name]), (-1, start)) for name in names])},
        ticks=list(names.values()),
    )


def long_pages(results: Results) -> Finding | None:
    arms = {name: per_page(rows) for name in results.study.arms if (rows := results.of(name))}
    start = per_page(results.start)
    if "grpo" not in arms:
        return None
    order = sorted(start, key=lambda page: (len(results.pages[page].reference or ""), page))
    thirds = [set(part.tolist()) for part in np.array_split(np.array(order), 3)]
    gain = {page: arms["grpo"][page] - start[page] for page in start if page in arms["grpo"]}
    # unpaired: pages of two lengths are different pages
    short, long_ = ([gain[page] for page in third if page in gain] for third in (thirds[0], thirds[2]))
    effect = unpaired(short, long_)

    def on(arm: str, third: set[str]) -> Interval:
        return contrast((1, {p: v for p, v in arms[arm].items() if p in third}), (-1, start))

    return Finding(
        key="long_pages",
        claim="GRPO 4. One reward for a whole transcript: long pages gain less than short ones",
        verdict=verdict_of(effect),
        seen=f"GRPO gains {points(effect)} points more on the shortest third of the pages than on the longest.",
        header=("arm", "shortest third", "middle", "longest third"),
        table=[(arm, *(points(on(arm, third)) for third in thirds)) for arm in arms],
        y_label="gain over the start, points",
        series={arm: Series.of([on(arm, third) for third in thirds]) for arm in arms},
        ticks=("shortest third", "middle", "longest third"),
    )


CLAIMS: tuple[Callable[[Results], Finding | None], ...] = (
    both_bad,
    label_noise,
    weak_reference,
    discovery,
    graded_reward,
    flat_groups,
    distortion,
    diversity,
    long_pages,
)
