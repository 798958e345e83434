"""Page results -> report.json (all of them), report.md (tables) and one self-contained report.html.

The page opens from disk, needs no network and trusts no text. Every text is escaped, and characters that could disturb
the layout are made visible. A Content-Security-Policy admits only the style sheet and the script that ship beside this
file, by their hashes. This file knows nothing about models, engines or how transcripts were made.
"""

from __future__ import annotations

import base64
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Template
from markupsafe import Markup
from PIL import Image

from ocr_rl import outputs
from ocr_rl.contract import Page, UserError
from ocr_rl.evaluate.figures import METRICS, ClusterBy, Comparison, Metric, Summary, compare, summary
from ocr_rl.evaluate.floors import ABOVE, Floors
from ocr_rl.evaluate.html import environment, source_hash
from ocr_rl.evaluate.results import PageResult, from_json, to_json
from ocr_rl.evaluate.stats import BenchmarkScore
from ocr_rl.evaluate.tables import (
    above_line,
    amount,
    benchmark_table,
    cell,
    change_table,
    floor_line,
    p_value,
    percent,
    signed,
    summary_table,
    type_table,
    verdict,
)
from ocr_rl.evaluate.view import card, charts

Candidates = Mapping[str, Sequence[PageResult]]
FILES = ("report.json", "report.md", "report.html")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page that the caller supplies: words, a table, a picture."""

    title: str
    text: str
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    png: bytes | None = None

    @property
    def picture(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.png or b"").decode()


_SHOWN_WHY = 400  # characters of a reason, in the HTML page


def write_report(
    out: Path,
    *,
    title: str,
    candidates: Candidates,
    pages: Mapping[str, Page],
    images: Callable[[Page], Image.Image] | None = None,
    curves: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    notes: Mapping[str, str] | None = None,
    benchmark: Mapping[str, BenchmarkScore] | None = None,
    cluster: ClusterBy = "page",
    max_pages: int = 40,
    sections: Sequence[Section] = (),
    floors: Floors | None = None,
) -> None:
    """Write the three files into the folder `out`.

    `candidates`: page results by candidate. The first is the baseline that every other one is compared with, on the
    same pages. `curves`: rows of metrics.jsonl by run, each with a "step". `notes`: seed, device, date, versions, shown
    as they are. `sections` come before the results in the page. `floors`: what transcripts that read nothing earn on
    the same tests; then changes stand above the floor too, and one between two candidates at the floor is none. At most
    `max_pages` pages are shown, evenly spaced from the largest loss to the largest gain.
    Raises UserError where candidates cannot be compared, where `pages` lacks the page of a result, or where one of the
    files stands there and ocr-rl did not write it.
    """
    outputs.refuse_taken(out / name for name in FILES)
    if not candidates:
        raise UserError("a report needs at least one candidate; give page results")
    if lost := sorted({row.page for rows in candidates.values() for row in rows} - pages.keys()):
        raise UserError(f"page {lost[0]} was judged but is not among the pages of the report; give the same folder")
    curves, notes, benchmark = curves or {}, notes or {}, benchmark or {}
    metrics = floors.metrics if floors else METRICS
    summaries = {name: summary(rows, metrics=metrics, cluster=cluster) for name, rows in candidates.items()}
    baseline, *others = candidates
    comparisons = {
        name: compare(candidates[baseline], candidates[name], metrics=metrics, cluster=cluster) for name in others
    }
    above: dict[str, str] = {}
    if floors:
        sides = {name: (summaries[baseline], summaries[name]) for name in others}
        comparisons = {name: floors.grounded(comparisons[name], *both) for name, both in sides.items()}
        above = {name: above_line(*both, comparisons[name], floors.metric) for name, both in sides.items()}

    with outputs.writing(out):
        out.mkdir(parents=True, exist_ok=True)
    data = {
        "title": title,
        "notes": dict(notes),
        "cluster": cluster,
        "candidates": {name: [to_json(row) for row in rows] for name, rows in candidates.items()},
        "pages": {id_: _page_json(page) for id_, page in pages.items()},
        "curves": {run: [dict(row) for row in rows] for run, rows in curves.items()},
        "summaries": {name: asdict(of_candidate) for name, of_candidate in summaries.items()},
        "comparisons": {name: asdict(comparison) for name, comparison in comparisons.items()},
        "benchmark": {name: asdict(score) for name, score in benchmark.items()},
        "floors": floors.to_json() if floors else None,
    }
    outputs.write(out / "report.json", json.dumps(_finite(data), indent=1) + "\n")
    markdown = _markdown(title, summaries, comparisons, baseline, benchmark, notes, cluster, floors, above)
    outputs.write(out / "report.md", markdown)
    view = {
        "title": title,
        "notes": notes,
        "benchmark": benchmark,
        "cluster": cluster,
        "charts": charts(curves),
        "runs": list(curves),
        "sections": sections,
        "floors": floors.levels if floors else {},
        "floor_line": floor_line(floors) if floors else "",
        "above": above,
        **_figures(candidates, summaries, comparisons, metrics),
        "cards": [
            card(pages[id_], {name: _first(rows, id_) for name, rows in candidates.items()}, images)
            for id_ in _shown_pages(candidates, max_pages)
        ],
    }
    outputs.write(out / "report.html", _html(view))


def _figures(
    candidates: Candidates,
    summaries: Mapping[str, Summary],
    comparisons: Mapping[str, Comparison],
    metrics: Sequence[Metric],
) -> dict[str, Any]:
    """What the tables and pictures of the page are drawn from."""
    shown = {name for of_candidate in summaries.values() for name in of_candidate.metrics}
    return {
        "names": list(candidates),
        "summaries": summaries,
        "comparisons": comparisons,
        "metrics": [metric for metric in metrics if metric.name in shown],
        "types": sorted({type_ for of_candidate in summaries.values() for type_ in of_candidate.by_type}),
        "type_tests": _type_tests(next(iter(candidates.values()))),
        "reaches": {name: _reach(comparison) for name, comparison in comparisons.items()},
        "total_pages": len({row.page for rows in candidates.values() for row in rows}),
    }


def read_candidates(path: Path) -> dict[str, list[PageResult]]:
    """The rows of a report.json, by candidate. Raises UserError for any other file."""
    try:
        candidates = json.loads(path.read_text(encoding="utf-8"))["candidates"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as fault:
        raise UserError(f"{path}: not a report.json ({fault}); give one that a report wrote") from None
    return {name: [from_json(row, where=f"{path}, {name}") for row in rows] for name, rows in candidates}


def _markdown(
    title: str,
    summaries: Mapping[str, Summary],
    comparisons: Mapping[str, Comparison],
    baseline: str,
    benchmark: Mapping[str, BenchmarkScore],
    notes: Mapping[str, str],
    cluster: ClusterBy,
    floors: Floors | None,
    above: Mapping[str, str],
) -> str:
    metrics, levels = (floors.metrics, floors.levels) if floors else (METRICS, {})
    any_summary = next(iter(summaries.values()))
    parts = [
        f"# {cell(title)}\n",
        f"{any_summary.pages} pages, {any_summary.tests} unit tests. Percent with 95 % intervals (bootstrap over "
        f"{cluster}s). Pass rate is the mean over pages of the page's share of passed tests.\n",
        summary_table({**summaries, **levels}, metrics),
    ]
    if floors:
        parts.append(floor_line(floors) + "\n")
    if benchmark:
        parts += ["## Benchmark score\n\nMean over files of the share of tests passed.\n", benchmark_table(benchmark)]
    for name, comparison in comparisons.items():
        parts.append(f"## {cell(name)} against {cell(baseline)}\n")
        if name in above:
            change = signed(comparison.metrics["pass_rate"].difference.mean, "%")
            parts.append(f"Pass rate {change} points. {above[name]}\n")
        parts.append(change_table(comparison, metrics))
    if any_summary.by_type:
        parts += ["## By test type\n", type_table({**summaries, **levels})]
    if notes:
        parts.append("\n".join(f"- {cell(key)}: {cell(value)}" for key, value in notes.items()) + "\n")
    return "\n".join(parts)


def _shown_pages(candidates: Candidates, limit: int) -> list[str]:
    """At most `limit` page ids, evenly thinned, from the largest loss to the largest gain of the last candidate."""
    first, last = (candidates[name] for name in (next(iter(candidates)), list(candidates)[-1]))
    gain = {row.page: (row.pass_rate or 0.0) for row in reversed(last)}
    gain = {row.page: gain.get(row.page, 0.0) - (row.pass_rate or 0.0) * (first is not last) for row in reversed(first)}
    ordered = sorted(gain, key=lambda id_: (gain[id_], id_))
    if len(ordered) > limit:
        ordered = [ordered[round(k * (len(ordered) - 1) / max(1, limit - 1))] for k in range(limit)]
    return ordered


def _first(rows: Sequence[PageResult], page: str) -> PageResult | None:
    return next((row for row in rows if row.page == page), None)


def _type_tests(rows: Sequence[PageResult]) -> Counter[str]:
    """How many tests of each type there are."""
    return Counter(type_ for _, _, type_ in {(row.page, check.id, check.type) for row in rows for check in row.checks})


def _reach(comparison: Comparison) -> float:
    """Half the width of the axis for differences: a round number that holds all shares. Error rates may leave it."""
    shares = {metric.name for metric in METRICS if metric.unit == "%" and metric.better == 1} - {"stopped"} | {ABOVE}
    rates = [change for name, change in comparison.metrics.items() if name in shares]
    intervals = [change.difference for change in (*rates, *comparison.by_type.values())]
    widest = max((max(abs(interval.low), abs(interval.high)) for interval in intervals), default=0.0)
    return next((reach for reach in (0.05, 0.1, 0.2, 0.5) if widest <= reach), 1.0)


# ---- the page


def _html(view: Mapping[str, Any]) -> str:
    style, script = _asset("report.css"), _asset("report.js")
    return _template().render(
        style=Markup(style),
        script=Markup(script),
        style_hash=source_hash(style),
        script_hash=source_hash(script),
        **view,
    )


@cache
def _template() -> Template:
    own = environment()
    own.filters |= {"percent": percent, "p_value": p_value}
    own.globals |= {
        "amount": amount,
        "signed": signed,
        "verdict": verdict,
        "why_limit": _SHOWN_WHY,
        "by_type_metric": METRICS[0],
    }
    return own.from_string(_asset("report.html.j2"))


@cache
def _asset(name: str) -> str:
    return resources.files("ocr_rl.evaluate").joinpath(name).read_text(encoding="utf-8")


# ---- JSON


def _page_json(page: Page) -> dict[str, Any]:
    return {"pdf": page.pdf.name, "number": page.number, "reference": page.reference, "tags": sorted(page.tags)}


def _finite(value: Any) -> Any:
    """The value with null for every number that is not finite, at any depth, because JSON has no NaN."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
