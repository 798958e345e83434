"""Figures as words and as GitHub Markdown tables, aligned so that a terminal shows them well.

Texts from outside (names, titles) are made safe for Markdown here. Knows nothing about HTML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ocr_rl.evaluate.figures import METRICS, Change, Comparison, Metric, Summary
from ocr_rl.evaluate.floors import ABOVE, EMPTY, FOREIGN, Floors
from ocr_rl.evaluate.stats import BenchmarkScore, Interval

# control characters, direction overrides, invisible marks, lone surrogates: shown by their code
_DISTURBING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")


def to_markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """First column to the left, the others to the right. Pipes, tags and line breaks in a cell are shown as text."""
    table = [[cell(text) for text in row] for row in (header, *rows)]
    widths = [max(3, *(len(row[column]) for row in table)) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = (
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "| " + " | ".join([first, *rest]) + " |"

    rule = [":" + "-" * (width - 1) if column == 0 else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join([line(table[0]), line(rule), *(line(row) for row in table[1:])]) + "\n"


def summary_table(summaries: Mapping[str, Summary], metrics: Sequence[Metric] = METRICS) -> str:
    """One row a candidate, one column a figure: estimate and 95 % interval."""
    shown = [metric for metric in metrics if any(metric.name in summary.metrics for summary in summaries.values())]
    return to_markdown_table(
        ["candidate", *(metric.label for metric in shown)],
        [
            [name, *(_with_interval(summary.metrics.get(metric.name), metric.unit) for metric in shown)]
            for name, summary in summaries.items()
        ],
    )


def type_table(summaries: Mapping[str, Summary]) -> str:
    """One row a test type, one column a candidate: share of the tests that pass."""
    types = sorted({type_ for summary in summaries.values() for type_ in summary.by_type})
    return to_markdown_table(
        ["test type", *summaries],
        [[type_, *(_with_interval(summary.by_type.get(type_)) for summary in summaries.values())] for type_ in types],
    )


def change_table(comparison: Comparison, metrics: Sequence[Metric] = METRICS) -> str:
    """Paired differences in points (or tokens), p-values and what they say."""
    rows = [(metric.label, metric, comparison.metrics.get(metric.name)) for metric in metrics]
    rows += [(f"{type_} tests", METRICS[0], change) for type_, change in comparison.by_type.items()]
    return to_markdown_table(
        ["figure", "difference", "95 % interval", "p", "p (Holm)", "fixed / broken", "verdict"],
        [
            [
                label,
                signed(change.difference.mean, metric.unit),
                f"{signed(change.difference.low, metric.unit)} to {signed(change.difference.high, metric.unit)}",
                p_value(change.p),
                "" if change.p_holm is None else p_value(change.p_holm),
                f"{change.fixed} / {change.broken}" if change.fixed or change.broken else "",
                verdict(change, metric),
            ]
            for label, metric, change in rows
            if change
        ],
    )


def benchmark_table(scores: Mapping[str, BenchmarkScore]) -> str:
    """One row a candidate, as the public benchmark prints it: the mean over files, then every file."""
    files = sorted({file for score in scores.values() for file in score.by_file})
    return to_markdown_table(
        ["candidate", "overall", "tests as independent", *files],
        [
            [
                name,
                _with_interval(score.overall),
                _with_interval(score.overall_public),
                *(percent(score.by_file[f][0] / score.by_file[f][1]) if f in score.by_file else "" for f in files),
            ]
            for name, score in scores.items()
        ],
    )


def floor_line(floors: Floors) -> str:
    """What reading nothing earns on the same tests, as a sentence."""
    levels = {name: percent(of.metrics["pass_rate"].mean) for name, of in floors.levels.items()}
    sentence = f"Reading nothing earns something too: {EMPTY} passes {levels[EMPTY]} % of a page's tests"
    sentence += f", {FOREIGN} {levels[FOREIGN]} %" if FOREIGN in levels else ""
    one = "one of the two" if FOREIGN in levels else "it"
    free = f"{percent(floors.free_share)} % of the {floors.tests} tests are passed by {one}"
    return f"{sentence}; {free}. Above the floor: the pass rate on the tests that need reading, the others."


def above_line(before: Summary, after: Summary, comparison: Comparison, metric: Metric) -> str:
    """What a change of the pass rate is worth above the floor, whose metric is given."""
    change = comparison.metrics.get(ABOVE)
    if change is None:
        return "But both stand at the floor: no test of these pages needs reading."
    levels = f"{percent(before.metrics[ABOVE].mean)} % before and {percent(after.metrics[ABOVE].mean)} % after"
    if change.at_floor:
        return f"But both stand at the floor, they read nothing: of the tests that need reading {levels} pass."
    interval = f"{signed(change.difference.low, '%')} to {signed(change.difference.high, '%')}"
    gain = f"{signed(change.difference.mean, '%')} points (95 % interval {interval}, p = {p_value(change.p)})"
    return f"Of the tests that need reading {levels} pass: {gain}, {verdict(change, metric)}."


def verdict(change: Change, metric: Metric) -> str:
    """`better` or `worse` (`higher` or `lower` where neither is better) only where interval and p-value agree.

    The interval must exclude zero, and p must be below 0.05 (adjusted, where it is one of several). The interval alone
    would not do, because with few pages it is too narrow. `at the floor`: neither candidate reads.
    """
    if change.at_floor:
        return "at the floor"
    low, high = change.difference.low, change.difference.high
    if low <= 0 <= high or (change.p if change.p_holm is None else change.p_holm) >= 0.05:
        return "no clear change"
    if metric.better == 0:
        return "higher" if low > 0 else "lower"
    return "better" if (low > 0) == (metric.better > 0) else "worse"


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def amount(value: float, unit: str) -> str:
    return percent(value) if unit == "%" else f"{value:.0f}"


def signed(value: float, unit: str) -> str:
    scaled = round(100 * value, 1) if unit == "%" else round(value, 1)
    return f"{scaled + 0.0:+.1f}".replace("-", "\u2212")


def p_value(p: float) -> str:
    return f"{p:.4f}" if p >= 5e-5 else "<0.0001"


def _with_interval(interval: Interval | None, unit: str = "%") -> str:
    if interval is None:
        return ""
    return f"{amount(interval.mean, unit)} ({amount(interval.low, unit)}\u2013{amount(interval.high, unit)})"


def cell(text: str) -> str:
    """The text as one line that Markdown shows as it is."""
    text = re.sub(r"([\\`*\[\]|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", " ".join(visible(text).split()))
    return text.replace("&", "&amp;").replace("<", "&lt;")


def visible(text: str) -> str:
    """The text with the code in place of every character that hides, reorders or breaks what stands beside it."""
    return _DISTURBING.sub(lambda match: f"\u27e8U+{ord(match[0]):04X}\u27e9", text)
