"""A study's results -> study.md with its plots, one self-contained report.html, and the raw rows as JSONL.

    OUT/report/ study.md · study.png · study_<claim>.png · report.html · rows.jsonl · curves.jsonl

Everything shown is computed from the rows; no figure is written by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ocr_rl import outputs
from ocr_rl.config import Typeset
from ocr_rl.evaluate import floors
from ocr_rl.evaluate.figures import Comparison, check_types, compare
from ocr_rl.evaluate.report import Section, write_report
from ocr_rl.evaluate.results import PageResult, to_json
from ocr_rl.evaluate.tables import floor_line, p_value, to_markdown_table
from ocr_rl.pages.images import image_of
from ocr_rl.study.claims import CLAIMS
from ocr_rl.study.findings import Finding, Measured, apart, contrast, per_page, points
from ocr_rl.study.plots import claim_plot, main_plot
from ocr_rl.study.results import Of, Results, at_seconds, bleu, pass_rate
from ocr_rl.study.weak_spots import WEAK_SPOTS

FILES = ("study.md", "study.png", "rows.jsonl", "curves.jsonl", "report.json", "report.md", "report.html")


def write_study(results: Results, out: Path, *, env: Mapping[str, Any], longest_px: int) -> Path:
    """All files below `out`; returns study.md. UserError for one that stands there and that ocr-rl did not write."""
    out.mkdir(parents=True, exist_ok=True)
    seen = [finding for claim in (*CLAIMS, *WEAK_SPOTS) if (finding := claim(results)) is not None]
    plots = {"study": main_plot(results)} | {f"study_{f.key}": claim_plot(f) for f in seen if f.series}
    for name, png in plots.items():
        outputs.write(out / f"{name}.png", png)
    level = floors.judged_here(list(results.pages.values()), results.start, "strict")
    sections = [*_sections(results, plots["study"], level), *(_section(f, plots.get(f"study_{f.key}")) for f in seen)]
    notes = {
        "device": f"{env['cores']} cores, {env['platform']}",
        "began": str(env["date"]),
        "seeds": f"arms {_listed(results.study.seeds)}; claims {_listed(results.study.claim_seeds)}",
        "versions": ", ".join(f"{name} {version}" for name, version in env["packages"].items()),
        **{f"not run: {name}": reason for name, reason in results.failed.items()},
    }
    outputs.write(out / "study.md", _markdown(sections, plots, notes, seen))
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
        floors=level,
    )
    outputs.write(out / "rows.jsonl", "".join(_row(name, rows) for name, rows in _all_rows(results).items()))
    lines = [
        json.dumps({"run": name, **asdict(point)}) + "\n" for name, curve in results.curves.items() for point in curve
    ]
    outputs.write(out / "curves.jsonl", "".join(lines))
    return out / "study.md"


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _all_rows(results: Results) -> dict[str, Sequence[PageResult]]:
    return {"start": results.start, "start-samples": results.samples, **results.rows}


def _row(name: str, rows: Sequence[PageResult]) -> str:
    return "".join(json.dumps({"run": name, **to_json(row)}, ensure_ascii=False) + "\n" for row in rows)


# --- tables ---


def _sections(results: Results, plot: bytes, level: floors.Floors | None) -> list[Section]:
    arms = {arm: measured for arm in results.study.arms if (measured := results.measured(arm)) is not None}
    against = {arm: compare(*_paired(results, arm)) for arm in arms}
    noise = next(iter(arms.values())).noise if arms else None
    runs = (
        f"runs of one arm lie {100 * noise.sd:.1f} points apart (standard deviation over seeds, pooled over arms), "
        "which the intervals hold"
        if noise and noise.freedom
        else "with one seed an arm, the intervals know nothing of how runs differ"
    )
    return [
        Section(
            title="Pass rate against what it cost",
            text=(
                f"Pass rate on {_count(results)} validation pages by tokens generated and by seconds of sampling, "
                "scoring and learning (evaluation left out): the mean over seeds, the band from the lowest seed to the "
                "highest. SFT and the start generate nothing. While a round's samples are drawn nothing is learnt."
            ),
            png=plot,
        ),
        Section(
            title="The arms at the end, on the test pages",
            text=(
                f"{len(results.pages)} pages, opened once, greedy; intervals of 95 % by redrawing pages; {runs}. All "
                "arms had the same pages and start; SFT reads their reference transcripts, all others learn from the "
                "same rewards and see no reference. p, of the change, is of the pages alone."
                + (f" {floor_line(level)}" if level else "")
            ),
            header=("arm", "pass rate, %", "change, points", "p", "BLEU, change", "CER, change", "change by seed"),
            rows=[
                ("start", _level(results.began()), "", "", "", "", ""),
                *(_arm(results, arm, measured, against[arm]) for arm, measured in arms.items()),
                *((name, _level(Measured(pages=per_page(rows))), "", "", "", "", "") for name, rows in _rows_of(level)),
            ],
        ),
        Section(
            title="By test type",
            text=(
                "Change of the share of tests passed, in points; * where Holm's p over an arm's types is below 0.05. "
                "Pages are redrawn, runs are not: these figures speak of the runs that there were."
            ),
            header=("type", *arms),
            rows=[(type_, *(_type(against[arm], type_) for arm in arms)) for type_ in check_types(results.start)],
        ),
        Section(
            title="Each arm against GRPO",
            text="GRPO's pass rate on the test pages less the arm's, in points; seed by seed too.",
            header=("arm", "GRPO ahead by", "by seed"),
            rows=[
                (arm, apart(arms["grpo"], measured), _by_seed(results, "grpo", arm))
                for arm, measured in arms.items()
                if arm != "grpo" and "grpo" in arms
            ],
        ),
        Section(title="The ledger", text=_LEDGER_TEXT, header=_LEDGER, rows=_ledger(results, list(arms))),
        Section(
            title="The tuning trials",
            text=(
                "Pass rate on the validation pages at the end of each trial, at a seed of its own; the best was taken. "
                "Where it is the first or the last of its row, a better one may lie beyond."
            ),
            header=("arm", "trials, %", "taken"),
            rows=[_tuned(results, arm) for arm in results.study.arms],
        ),
    ]


def _rows_of(level: floors.Floors | None) -> list[tuple[str, Sequence[PageResult]]]:
    return list(level.rows.items()) if level else []


def _paired(results: Results, arm: str) -> tuple[list[PageResult], list[PageResult]]:
    """The start and the arm at every seed that ended, each seed a repeat of the page."""
    after, before = [], []
    for k, rows in enumerate(results.runs(arm), 1):
        after += [replace(row, repeat=k) for row in rows]
        before += [replace(row, repeat=k) for row in results.start]
    return before, after


def _level(measured: Measured) -> str:
    level = contrast((1, measured))
    return f"{100 * level.mean:.1f} [{100 * level.low:.1f}, {100 * level.high:.1f}]"


def _arm(results: Results, arm: str, measured: Measured, against: Comparison) -> tuple[str, ...]:
    def change(of: Of) -> str:
        after, before = results.measured(arm, of=of), results.began(of)
        return apart(after, before) if after else ""

    p = p_value(against.metrics["pass_rate"].p)
    seeds = " ".join(f"{100 * (_mean(rows) - _mean(results.start)):+.1f}" for rows in results.runs(arm))
    return (arm, _level(measured), change(pass_rate), p, change(bleu), change(lambda row: row.cer), seeds)


def _mean(rows: Sequence[PageResult]) -> float:
    return float(np.mean(list(per_page(rows).values())))


def _by_seed(results: Results, arm: str, other: str) -> str:
    names = [(f"{arm}-seed{seed}", f"{other}-seed{seed}") for seed in results.study.seeds]
    both = [(results.rows[a], results.rows[b]) for a, b in names if a in results.rows and b in results.rows]
    return " ".join(f"{100 * (_mean(first) - _mean(second)):+.1f}" for first, second in both)


def _type(against: Comparison, type_: str) -> str:
    comparison = against.by_type.get(type_)
    if comparison is None:
        return ""
    star = "*" if comparison.p_holm is not None and comparison.p_holm < 0.05 else ""
    return points(comparison.difference) + star


_LEDGER = ("arm", "updates", "tokens generated", "seconds", "validation then, %", "GRPO's at those seconds, %")
_LEDGER_TEXT = (
    "Means over seeds. Arms that sample generate about as many tokens each; sampling for pairs is charged to DPO. The "
    "last two columns compare at equal seconds: the arm at its end, and GRPO's curve at the same second, read between "
    "its evaluations."
)


def _ledger(results: Results, arms: Sequence[str]) -> list[tuple[str, ...]]:
    rows = []
    for arm in arms:
        curves, grpo = results.curves_of(arm), results.curves_of("grpo")
        last = [curve[-1] for curve in curves]
        seconds = float(np.mean([p.seconds for p in last]))
        then = f"{100 * np.mean([at_seconds(curve, seconds) for curve in grpo]):.1f}" if grpo and arm != "grpo" else ""
        rows.append(
            (
                arm,
                f"{np.mean([p.step for p in last]):.0f}",
                f"{np.mean([p.tokens for p in last]):,.0f}",
                f"{seconds:.0f}",
                f"{100 * np.mean([p.pass_rate for p in last]):.1f}",
                then,
            )
        )
    return rows


def _tuned(results: Results, arm: str) -> tuple[str, str, str]:
    trials = results.study.arms[arm].trials
    scores = [results.trials.get(f"{arm}-trial{k}") for k in range(len(trials))]
    trial_texts = [
        f"{', '.join(trial) or 'as written'}: {'did not end' if score is None else f'{100 * score:.1f}'}"
        for trial, score in zip(trials, scores, strict=True)
    ]
    return arm, "; ".join(trial_texts), ", ".join(trials[results.chosen.get(arm, 0)]) or "as written"


def _count(results: Results) -> str:
    source = results.study.validation
    return str(source.limit or source.n) if isinstance(source, Typeset) else "the"


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
    parts.append(
        "A verdict is read off one interval of 95 %, by one rule; over all the claims nothing is corrected, so one of "
        "twenty such intervals is expected to miss.\n"
    )
    for section in sections:
        parts.append(f"## {section.title}\n\n{section.text}\n")
        if section.png:
            parts.append(f"![{section.title}]({names[section.png]}.png)\n")
        if section.rows:
            parts.append(to_markdown_table(section.header, section.rows))
    parts.append("## How it was run\n\n" + "\n".join(f"- {name}: {value}" for name, value in notes.items()) + "\n")
    return "\n".join(parts)
