"""A study's results -> study.md with its plots, one self-contained report.html, and the raw rows as JSONL.

    OUT/report/ study.md · study.png · study_<claim>.png · report.html · rows.jsonl · curves.jsonl

Everything shown is computed from the rows; no figure is written by hand.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ocr_rl.evaluate.grade import Comparison, Graded, check_types, compare, to_json
from ocr_rl.evaluate.report import Section, write_report
from ocr_rl.evaluate.stats import bootstrap_mean
from ocr_rl.evaluate.tables import p_value, to_markdown_table
from ocr_rl.pages.images import image_of
from ocr_rl.run import write_atomically
from ocr_rl.study.claims import findings
from ocr_rl.study.findings import Finding, Series, apart, per_page, points
from ocr_rl.study.results import Point, Results, at_seconds


def write_study(results: Results, out: Path, *, env: Mapping[str, Any], longest_px: int) -> Path:
    """All files below `out`; returns study.md."""
    out.mkdir(parents=True, exist_ok=True)
    seen = findings(results)
    plots = {"study": _main_plot(results)} | {f"study_{f.key}": _claim_plot(f) for f in seen if f.series}
    for name, png in plots.items():
        (out / f"{name}.png").write_bytes(png)
    sections = [*_sections(results, plots["study"]), *(_section(f, plots.get(f"study_{f.key}")) for f in seen)]
    notes = {
        "device": f"{env['cores']} cores, {env['platform']}",
        "began": str(env["date"]),
        "seeds": f"arms {_listed(results.study.seeds)}; claims {_listed(results.study.claim_seeds)}",
        "versions": ", ".join(f"{name} {version}" for name, version in env["packages"].items()),
        **{f"not run: {name}": reason for name, reason in results.failed.items()},
    }
    write_atomically(out / "study.md", _markdown(sections, plots, notes, seen))
    first = results.study.seeds[0]
    arms = {arm: rows for arm in results.study.arms if (rows := results.rows.get(f"{arm}-seed{first}"))}
    write_report(
        out,
        title="Study: preference training against rewards",
        candidates={"start": results.start, **{f"{arm}, seed {first}": rows for arm, rows in arms.items()}},
        pages=results.pages,
        images=partial(image_of, longest_px=longest_px),
        curves={arm: results.metrics[f"{arm}-seed{first}"] for arm in arms},
        notes=notes,
        sections=sections,
    )
    write_atomically(out / "rows.jsonl", "".join(_row(name, rows) for name, rows in _all_rows(results).items()))
    lines = [
        json.dumps({"run": name, **asdict(point)}) + "\n" for name, curve in results.curves.items() for point in curve
    ]
    write_atomically(out / "curves.jsonl", "".join(lines))
    return out / "study.md"


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _all_rows(results: Results) -> dict[str, Sequence[Graded]]:
    return {"start": results.start, "start-samples": results.samples, **results.rows}


def _row(name: str, rows: Sequence[Graded]) -> str:
    return "".join(json.dumps({"run": name, **to_json(row)}, ensure_ascii=False) + "\n" for row in rows)


# --- tables ---


def _sections(results: Results, plot: bytes) -> list[Section]:
    arms = [arm for arm in results.study.arms if results.of(arm)]
    against = {arm: compare(*_paired(results, arm)) for arm in arms}
    return [
        Section(
            title="Pass rate against what it cost",
            text=(
                f"Pass rate on {_count(results)} validation pages by tokens generated and by seconds of sampling, "
                "scoring and learning (evaluation left out): the mean over seeds, the band from the lowest seed to the "
                "highest. SFT and the start generate nothing."
            ),
            png=plot,
        ),
        Section(
            title="The arms at the end, on the test pages",
            text=(
                f"{len(results.pages)} pages, opened once, greedy; all seeds of an arm together, intervals of 95 % by "
                "redrawing pages. Arms had the same pages and start; SFT reads their reference transcripts, all others "
                "learn from the same rewards and see no reference. p is of the change; Holm's, over test types, is "
                "behind the stars of the next table."
            ),
            header=("arm", "pass rate, %", "change, points", "p", "BLEU, change", "CER, change"),
            rows=[
                ("start", _share(results.start), "", "", "", ""),
                *(_arm(results, arm, against[arm]) for arm in arms),
            ],
        ),
        Section(
            title="By test type",
            text="Change of the share of tests passed, in points; * where Holm's p over the types is below 0.05.",
            header=("type", *arms),
            rows=[(type_, *(_type(against[arm], type_) for arm in arms)) for type_ in check_types(results.start)],
        ),
        Section(
            title="Each arm against GRPO",
            text="GRPO's pass rate on the test pages less the arm's, in points.",
            header=("arm", "GRPO ahead by"),
            rows=[
                (arm, apart(per_page(results.of("grpo")), per_page(results.of(arm))))
                for arm in arms
                if arm != "grpo" and "grpo" in arms
            ],
        ),
        Section(title="The ledger", text=_ledger_text(results), header=_LEDGER, rows=_ledger(results, arms)),
    ]


def _paired(results: Results, arm: str) -> tuple[list[Graded], list[Graded]]:
    """The start and the arm at every seed that ended, each seed a repeat of the page."""
    after, before = [], []
    for k, seed in enumerate(results.study.seeds, 1):
        if rows := results.rows.get(f"{arm}-seed{seed}"):
            after += [replace(row, repeat=k) for row in rows]
            before += [replace(row, repeat=k) for row in results.start]
    return before, after


def _share(rows: Sequence[Graded]) -> str:
    found = bootstrap_mean({page: [value] for page, value in per_page(rows).items()}, seed=0)
    return f"{100 * found.mean:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _arm(results: Results, arm: str, against: Comparison) -> tuple[str, ...]:
    change = against.metrics["pass_rate"]
    others = [points(against.metrics[name].difference) if name in against.metrics else "" for name in ("bleu", "cer")]
    return (arm, _share(results.of(arm)), points(change.difference), p_value(change.p), *others)


def _type(against: Comparison, type_: str) -> str:
    found = against.by_type.get(type_)
    if found is None:
        return ""
    star = "*" if found.p_holm is not None and found.p_holm < 0.05 else ""
    return points(found.difference) + star


_LEDGER = ("arm", "tuning trials", "chosen", "updates", "tokens generated", "seconds", "validation at equal seconds, %")


def _ledger_text(results: Results) -> str:
    return (
        "Means over seeds. Arms that sample generate about the same number of tokens; sampling for pairs is charged to "
        f"DPO. The last column reads every arm's curve at {_equal_seconds(results):.0f} s, the shortest arm's length."
    )


def _equal_seconds(results: Results) -> float:
    return min((curve[-1].seconds for name, curve in _main_curves(results).items() if curve), default=0.0)


def _main_curves(results: Results) -> dict[str, Sequence[Point]]:
    wanted = {f"{arm}-seed{seed}" for arm in results.study.arms for seed in results.study.seeds}
    return {name: curve for name, curve in results.curves.items() if name in wanted}


def _ledger(results: Results, arms: Sequence[str]) -> list[tuple[str, ...]]:
    rows = []
    for arm in arms:
        curves = [
            results.curves[name] for seed in results.study.seeds if (name := f"{arm}-seed{seed}") in results.curves
        ]
        last = [curve[-1] for curve in curves]
        trials = results.study.arms[arm].trials
        rows.append(
            (
                arm,
                str(len(trials)),
                ", ".join(trials[results.chosen.get(arm, 0)]) or "as written",
                f"{np.mean([p.step for p in last]):.0f}",
                f"{np.mean([p.tokens for p in last]):,.0f}",
                f"{np.mean([p.seconds for p in last]):.0f}",
                f"{100 * np.mean([at_seconds(curve, _equal_seconds(results)) for curve in curves]):.1f}",
            )
        )
    return rows


def _count(results: Results) -> str:
    source = results.study.validation
    return str(source.limit or source.n) if source.dir is None else "the"


# --- pictures ---


def _main_plot(results: Results) -> bytes:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), dpi=110, sharey=True, layout="constrained")
    for axis, what, label in ((axes[0], "tokens", "tokens generated"), (axes[1], "seconds", "seconds")):
        for arm in results.study.arms:
            curves = [results.curves[n] for s in results.study.seeds if (n := f"{arm}-seed{s}") in results.curves]
            if curves:
                _band(axis, arm, _over_seeds(curves, what))
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("pass rate on the validation pages, %")
    axes[1].legend(fontsize=8)
    return _png(figure)


def _over_seeds(curves: Sequence[Sequence[Point]], what: str) -> Series:
    """Evaluations of the seeds side by side: they came after equally many steps."""
    together = list(zip(*curves, strict=False))
    rates = [[100 * point.pass_rate for point in points_] for points_ in together]
    return Series(
        x=[float(np.mean([getattr(point, what) for point in points_])) for points_ in together],
        y=[float(np.mean(each)) for each in rates],
        low=[min(each) for each in rates],
        high=[max(each) for each in rates],
    )


def _claim_plot(finding: Finding) -> bytes:
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3.4), dpi=110, layout="constrained")
    for k, (name, series) in enumerate(finding.series.items()):
        if finding.ticks:
            _whiskers(axis, name, series, 0.12 * (k - (len(finding.series) - 1) / 2))
        else:
            _band(axis, name, series)
    if finding.ticks:
        axis.set_xticks(range(len(finding.ticks)), finding.ticks, fontsize=8)
    axis.axhline(0, color="0.5", linewidth=0.8)
    axis.set_xlabel(finding.x_label)
    axis.set_ylabel(finding.y_label)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return _png(figure)


def _band(axis, name: str, series: Series) -> None:  # type: ignore[no-untyped-def]
    (line,) = axis.plot(series.x, series.y, marker="o" if len(series.x) < 30 else None, markersize=3, label=name)
    if series.low:
        axis.fill_between(series.x, series.low, series.high, alpha=0.15, color=line.get_color())


def _whiskers(axis, name: str, series: Series, shift: float) -> None:  # type: ignore[no-untyped-def]
    y, low, high = map(np.asarray, (series.y, series.low, series.high))
    axis.errorbar(np.asarray(series.x) + shift, y, [y - low, high - y], fmt="o", markersize=4, capsize=3, label=name)


def _png(figure) -> bytes:  # type: ignore[no-untyped-def]
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


# --- words ---


def _section(finding: Finding, png: bytes | None) -> Section:
    return Section(
        title=f"{finding.claim}: {finding.verdict}",
        text=finding.seen,
        header=finding.header,
        rows=finding.table,
        png=png,
    )


def _markdown(
    sections: Sequence[Section], plots: Mapping[str, bytes], notes: Mapping[str, str], seen: Sequence[Finding]
) -> str:
    names = {png: name for name, png in plots.items()}
    parts = ["# Study: preference training against rewards\n"]
    parts.append(to_markdown_table(("claim", "verdict"), [(finding.claim, finding.verdict) for finding in seen]))
    for section in sections:
        parts.append(f"## {section.title}\n\n{section.text}\n")
        if section.png:
            parts.append(f"![{section.title}]({names[section.png]}.png)\n")
        if section.rows:
            parts.append(to_markdown_table(section.header, section.rows))
    parts.append("## How it was run\n\n" + "\n".join(f"- {name}: {value}" for name, value in notes.items()) + "\n")
    return "\n".join(parts)
