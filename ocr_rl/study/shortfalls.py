"""Where each arm gains, what training did to its answers, and the rule on data without effect: tables, no verdicts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import combinations

import numpy as np
from rapidfuzz.fuzz import ratio

from ocr_rl.evaluate.report import Section
from ocr_rl.evaluate.results import PageResult
from ocr_rl.evaluate.stats import Interval
from ocr_rl.study.findings import OWN, Measured, contrast, per_page, points, verdict_of
from ocr_rl.study.results import Results

_GOOD = 0.5  # a sample that passes fewer of the tests is a bad one
_NEAR = 0.25  # samples whose pass rates lie within this differ by little
_LATE = 5  # steps at the end of a run that its last figures are the mean of
_LEAST = 4  # seeds of an arm that can be compared with itself


def shortfalls(results: Results) -> list[Section]:
    """Those that there are rows for."""
    made = (offered(results), moved(results), alike(results), without_effect(results))
    return [section for section in made if section is not None]


def offered(results: Results) -> Section | None:
    arms = results.ended_arms()
    start = results.began()
    classes = {label: pages & set(start.pages) for label, pages in classes_of(results.samples).items()}
    if not arms or not any(classes.values()):
        return None
    return Section(
        title="By what the pages offer",
        text=(
            f"Gain over the start, in points, on pages where every one of {results.study.samples} samples of the start "
            f"is bad (passes less than {_GOOD:.0%} of the tests), where some are good and they differ by little (less "
            f"than {100 * _NEAR:.0f} points from worst to best), and where they differ by more."
        ),
        header=("arm", *(f"{label}: {len(pages)} pages" for label, pages in classes.items())),
        rows=[
            ("start, passes", *(_passes(start, pages) for pages in classes.values())),
            *((arm, *(points(of) if (of := results.gain(arm, on)) else "" for on in classes.values())) for arm in arms),
        ],
    )


def _passes(start: Measured, pages: Collection[str]) -> str:
    return f"{100 * np.mean([start.pages[page] for page in pages]):.1f} %" if pages else ""


def classes_of(samples: Sequence[PageResult]) -> dict[str, set[str]]:
    """The pages by how the start's samples of them fare."""
    by_page: dict[str, list[float]] = {}
    for row in samples:
        if row.pass_rate is not None:
            by_page.setdefault(row.page, []).append(row.pass_rate)
    classes: dict[str, set[str]] = {"all bad": set(), "nearly equal": set(), "far apart": set()}
    for page, rates in by_page.items():
        near = max(rates) - min(rates) < _NEAR
        classes["all bad" if max(rates) < _GOOD else "nearly equal" if near else "far apart"].add(page)
    return classes


def moved(results: Results) -> Section | None:
    """Razin et al. 2024 (arXiv 2410.08847) call it likelihood displacement: chosen answers become less likely too."""
    names = {arm: [f"{arm}-seed{seed}" for seed in results.study.seeds] for arm in results.study.arms}
    runs = {arm: [results.metrics[name] for name in of_arm if name in results.metrics] for arm, of_arm in names.items()}
    rows = [
        (arm, *(f"{value:+.1f}" for value in values))
        for arm, of_arm in runs.items()
        if (values := [_last(of_arm, f"{side}_moved_mean") for side in ("chosen", "rejected")]) != [None, None]
    ]
    if not rows:
        return None
    return Section(
        title="What preference training does to the answers that it prefers",
        text=(
            f"Log-probability of a whole answer less the reference's, in nats, mean over the last {_LATE} updates and "
            "over seeds. Below 0 the preferred answers have become less likely than they were, too. A run in rounds is "
            "held to the policy at the beginning of each round."
        ),
        header=("arm", "preferred answers", "rejected answers"),
        rows=rows,
    )


def _last(runs: Sequence[Sequence], name: str) -> float | None:  # type: ignore[type-arg]
    ends = [[row[name] for row in rows if name in row][-_LATE:] for rows in runs]
    return float(np.mean([np.mean(end) for end in ends if end])) if any(ends) else None


def alike(results: Results) -> Section | None:
    by_arm = {"start": [results.siblings["start"]] if "start" in results.siblings else []}
    for arm in results.study.arms:
        names = [f"{arm}-seed{seed}" for seed in results.study.seeds]
        by_arm[arm] = [results.siblings[name] for name in names if name in results.siblings]
    rows = [
        (arm, *(f"{100 * np.mean([of(run) for run in runs]):.1f}" for of in (likeness, passed_once, passed_ever)))
        for arm, runs in by_arm.items()
        if runs
    ]
    if not rows:
        return None
    return Section(
        title="How alike samples are after training",
        text=(
            "Samples of the validation pages at the study's temperature: how alike two of one page are (diff ratio), "
            "how many tests a sample passes, and how many at least one of a page's samples passes."
        ),
        header=("arm", "alike, %", "tests passed by a sample, %", "by one of them, %"),
        rows=rows,
    )


def likeness(rows: Sequence[PageResult]) -> float:
    """Mean over pages of the mean diff ratio of two samples, in [0, 1]."""
    texts: dict[str, list[str]] = {}
    for row in rows:
        texts.setdefault(row.page, []).append(row.text)
    pairs = [[ratio(a, b) / 100 for a, b in combinations(of_page, 2)] for of_page in texts.values()]
    return float(np.mean([np.mean(of_page) for of_page in pairs if of_page]))


def passed_once(rows: Sequence[PageResult]) -> float:
    """Mean over pages of the mean pass rate of a sample."""
    return float(np.mean(list(per_page(rows).values())))


def passed_ever(rows: Sequence[PageResult]) -> float:
    """Mean over pages of the share of tests that one sample at least passes."""
    tests: dict[str, dict[str, bool]] = {}
    for row in rows:
        of_page = tests.setdefault(row.page, {})
        for check in row.checks:
            of_page[check.id] = check.passed or of_page.get(check.id, False)
    return float(np.mean([np.mean(list(of_page.values())) for of_page in tests.values() if of_page]))


def without_effect(results: Results) -> Section | None:
    """The first two seeds of each arm against the next two: the same recipe, so no difference is to be found."""
    seeds = results.study.seeds[:_LEAST]
    if len(seeds) < _LEAST:
        return None
    halves = {arm: (results.measured(arm, seeds[:2]), results.measured(arm, seeds[2:])) for arm in results.study.arms}
    effects = {arm: contrast((1, one), (-1, other)) for arm, (one, other) in halves.items() if one and other}
    if not effects:
        return None
    listed: Callable[[Sequence[int]], str] = lambda of: " and ".join(map(str, of))
    return Section(
        title="The rule on data without effect",
        text=(
            f"Seeds {listed(seeds[:2])} of each arm against its seeds {listed(seeds[2:])}, one recipe on both sides. "
            f"{sum(map(differs, effects.values()))} of {len(effects)} differ, the one way or the other (95 % "
            f"intervals; arms share pages), where one of twenty is expected. {_of_halves(results)}"
        ).strip(),
        header=("arm", "difference", "verdict"),
        rows=[(arm, points(effect), verdict_of(effect)) for arm, effect in effects.items()],
    )


def differs(effect: Interval) -> bool:
    return effect.low > 0 or effect.high < 0


def _of_halves(results: Results) -> str:
    """Two runs have no spread of their own; nothing to say where no half has more."""
    if len(results.study.seeds) < 2 * OWN:
        return ""
    effects = {arm: halves for arm in results.study.arms if (halves := list(halved(results, arm)))}
    wrong = {arm: sum(map(differs, of_arm)) for arm, of_arm in effects.items()}
    named = ", ".join(f"{arm} {count}" for arm, count in wrong.items() if count)
    return (
        "A side of two runs borrows the spread of all arms' runs. With three runs a side and a spread of their own, "
        f"over all ways to halve each arm's first six seeds, {sum(wrong.values())} of "
        f"{sum(map(len, effects.values()))} differ{f' ({named})' if named else ''}; halves of one arm share runs."
    )


def halved(results: Results, arm: str) -> Iterator[Interval]:
    """The arm against itself, for each way to halve its first six seeds."""
    first, *others = seeds = results.study.seeds[: 2 * OWN]
    if len(results.runs(arm, seeds)) < 2 * OWN:
        return
    for with_it in combinations(others, OWN - 1):
        one = results.measured(arm, [first, *with_it])
        other = results.measured(arm, [seed for seed in others if seed not in with_it])
        if one and other:
            yield contrast((1, one), (-1, other))
