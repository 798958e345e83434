"""Page results -> figures: each with its interval, two candidates compared, and the public benchmark's tallies.

This file knows nothing about how a transcript is judged nor about how figures are shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ocr_rl.contract import UserError
from ocr_rl.evaluate.results import PageResult
from ocr_rl.evaluate.stats import (
    BASELINE_FILE,
    Interval,
    Tally,
    bootstrap_mean,
    holm,
    paired_difference,
    permutation_test,
)

ClusterBy = Literal["page", "document"]
Values = Callable[[PageResult], Sequence[float]]  # of one page result; none where the figure does not apply


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure of a transcript. `of` gives no value where it does not apply, and several where each test counts."""

    name: str
    label: str
    unit: Literal["%", "tokens"]
    better: Literal[1, -1, 0]  # higher, lower, neither
    of: Values


def _field(name: str) -> Values:
    def of(row: PageResult) -> Sequence[float]:
        value = getattr(row, name)
        return () if value is None else (value,)

    return of


def _tests(type_: str | None = None) -> Values:
    return lambda row: [float(check.passed) for check in row.checks if type_ in (None, check.type)]


def _length(row: PageResult) -> Sequence[float]:
    return (float(row.num_tokens),) if row.num_tokens else ()


METRICS = (
    Metric(name="pass_rate", label="pass rate", unit="%", better=1, of=_field("pass_rate")),
    Metric(name="tests", label="tests passed", unit="%", better=1, of=_tests()),
    Metric(name="elements", label="element score", unit="%", better=1, of=_field("elements")),
    Metric(name="text_blocks", label="text", unit="%", better=1, of=_field("text_blocks")),
    Metric(name="teds", label="TEDS", unit="%", better=1, of=_field("teds")),
    Metric(name="teds_structure", label="TEDS-S", unit="%", better=1, of=_field("teds_structure")),
    Metric(name="formulas", label="formulas", unit="%", better=1, of=_field("formulas")),
    Metric(name="order", label="order", unit="%", better=1, of=_field("order")),
    Metric(name="bleu", label="BLEU", unit="%", better=1, of=_field("bleu")),
    Metric(name="diff_ratio", label="diff ratio", unit="%", better=1, of=_field("diff_ratio")),
    Metric(name="cer", label="CER", unit="%", better=-1, of=_field("cer")),
    Metric(name="wer", label="WER", unit="%", better=-1, of=_field("wer")),
    Metric(name="stopped", label="ended by itself", unit="%", better=1, of=lambda row: (float(row.finish == "stop"),)),
    Metric(name="num_tokens", label="length", unit="tokens", better=0, of=_length),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Figures of one candidate. A figure that applies to none of its pages is left out."""

    pages: int
    tests: int
    transcripts: int
    metrics: Mapping[str, Interval]  # by the metric's name; pass_rate is a mean over pages, tests one over tests
    by_type: Mapping[str, Interval]  # share of the tests of each type that pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """`after` less `before`, paired by page."""

    difference: Interval
    p: float  # two-sided, page labels swapped
    p_holm: float | None = None  # adjusted over the test types; None where it stands alone
    fixed: int = 0  # tests that fail before and pass after
    broken: int = 0
    at_floor: bool = False  # a figure of tests, and neither side reads: no gain and no loss (`floors`)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    metrics: Mapping[str, Change]
    by_type: Mapping[str, Change]


def summary(
    rows: Sequence[PageResult],
    *,
    metrics: Sequence[Metric] = METRICS,
    cluster: ClusterBy = "page",
    seed: int = 0,
    draws: int = 2000,
) -> Summary:
    """Every figure with its 95 % interval from a bootstrap over pages (or documents). Raises UserError without rows."""
    if not rows:
        raise UserError("no transcripts to summarise; check the folder of pages and the candidate's name")

    def estimate(of: Values) -> Interval | None:
        values = _clusters(rows, of, cluster)
        return bootstrap_mean(values, seed=seed, draws=draws) if values else None

    figures = {metric.name: estimate(metric.of) for metric in metrics}
    by_type = {type_: estimate(_tests(type_)) for type_ in check_types(rows)}
    return Summary(
        pages=len({row.page for row in rows}),
        tests=len({(row.page, check.id) for row in rows for check in row.checks}),
        transcripts=len(rows),
        metrics={name: figure for name, figure in figures.items() if figure},
        by_type={name: figure for name, figure in by_type.items() if figure},
    )


def compare(
    before: Sequence[PageResult],
    after: Sequence[PageResult],
    *,
    metrics: Sequence[Metric] = METRICS,
    cluster: ClusterBy = "page",
    seed: int = 0,
    draws: int = 2000,
    permutations: int = 10_000,
) -> Comparison:
    """Paired differences of every figure. Raises UserError where pages or tests of the two are not the same."""
    if unpaired := sorted(_questions(before) ^ _questions(after)):
        page, check = unpaired[0]
        raise UserError(
            "two candidates can only be compared on the same pages and tests, but "
            f"{len(unpaired)} stand on one side only (the first: page {page}, "
            f"{check or 'no test'}); judge both again on one folder"
        )

    def changed(of: Values, flips: tuple[int, int] = (0, 0)) -> Change | None:
        old, new = _clusters(before, of, cluster), _clusters(after, of, cluster)
        if not old or old.keys() != new.keys():  # no such tests, or references on one side only
            return None
        difference = paired_difference(old, new, seed=seed, draws=draws)
        p = permutation_test(old, new, seed=seed, draws=permutations)
        return Change(difference=difference, p=p, fixed=flips[0], broken=flips[1])

    flips = _flips(before, after)
    total = (sum(fixed for fixed, _ in flips.values()), sum(broken for _, broken in flips.values()))
    figures = {m.name: changed(m.of, total if m.name in ("pass_rate", "tests") else (0, 0)) for m in metrics}
    by_type = {type_: changed(_tests(type_), flips.get(type_, (0, 0))) for type_ in check_types(before)}
    adjusted = holm({type_: change.p for type_, change in by_type.items() if change})
    return Comparison(
        metrics={name: change for name, change in figures.items() if change},
        by_type={type_: replace(change, p_holm=adjusted[type_]) for type_, change in by_type.items() if change},
    )


def tallies(rows: Sequence[PageResult], file_of: Mapping[str, str]) -> list[Tally]:
    """Rows of one candidate (all repeats) as input of `benchmark_score`.

    `file_of` maps a check's id to the JSONL file it came from. A check that is in none is an added baseline test.
    """
    verdicts: dict[tuple[str, str, str], list[bool]] = defaultdict(list)
    for row in rows:
        for check in row.checks:
            verdicts[row.page, check.id, check.type].append(check.passed)
    return [
        Tally(
            id=id_,
            type=type_,
            file=file_of.get(id_, BASELINE_FILE),
            page=page,
            passes=sum(passed),
            repeats=len(passed),
        )
        for (page, id_, type_), passed in verdicts.items()
    ]


def check_types(rows: Iterable[PageResult]) -> list[str]:
    return sorted({check.type for row in rows for check in row.checks})


def _clusters(rows: Iterable[PageResult], of: Values, cluster: ClusterBy) -> dict[str, list[float]]:
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        values[row.page if cluster == "page" else row.document].extend(of(row))
    return {name: of_cluster for name, of_cluster in values.items() if of_cluster}


def _questions(rows: Iterable[PageResult]) -> set[tuple[str, str]]:
    """(page, check id) of every check, and (page, "") of every page, so that a page counts even without checks."""
    return {(row.page, id_) for row in rows for id_ in ("", *(check.id for check in row.checks))}


def _flips(before: Iterable[PageResult], after: Iterable[PageResult]) -> dict[str, tuple[int, int]]:
    """By test type: how many tests (of the same page and repeat) went from fail to pass, and from pass to fail."""
    was = {(row.page, row.repeat, check.id): check.passed for row in before for check in row.checks}
    flips: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for row in after:
        for check in row.checks:
            passed = was.get((row.page, row.repeat, check.id), check.passed)
            fixed, broken = flips[check.type]
            flips[check.type] = (fixed + (check.passed and not passed), broken + (passed and not check.passed))
    return dict(flips)
