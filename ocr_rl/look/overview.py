"""What the page shows of a run as a whole, as one JSON value: curves, numbers of every group, findings."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from ocr_rl.look.findings import (
    CLEAR,
    Change,
    Visit,
    never_read,
    page_changes,
    partings,
    teaching,
    test_changes,
)
from ocr_rl.look.pace import PARTS, pace_of, seconds_of, tripped_in
from ocr_rl.look.records import visit_row
from ocr_rl.look.run_log import Row, RunFolder, number

_LISTED = 40  # of a list
_DIGITS = 5  # significant ones of a figure in a curve


def overview(
    run: RunFolder, visits: Sequence[Visit], numbers: Mapping[str, int], sets: Mapping[str, int], notes: Sequence[str]
) -> dict[str, Any]:
    """`numbers` of the pages by id, `sets` by name ("" for those that are learnt from)."""
    rows = run.metrics()
    pace = pace_of(run, rows)
    return {
        "run": run.name,
        "algorithm": run.algorithm,
        "total": run.total,
        "done": pace.done,
        "state": pace.sentence,
        "facts": _facts(run, rows, visits),
        "holds": _holds(run, visits),
        "notes": list(notes),
        "tripwires": tripped_in(rows),
        "rewards": [_kept(reward, "name", "weight") for reward in run.recipe.get("rewards") or ()],
        "gates": [_kept(gate, "name", "at_least", "holds") for gate in run.recipe.get("gates") or ()],
        "curves": _curves(rows, visits),
        "pages": sorted(numbers, key=lambda page: numbers[page]),
        "sets": sorted(sets, key=lambda name: sets[name]),
        "visits": [visit_row(visit, numbers[visit.page], sets[visit.set]) for visit in visits],
        "findings": _findings(visits, numbers, sets),
    }


def _facts(run: RunFolder, rows: Sequence[Row], visits: Sequence[Visit]) -> dict[str, str]:
    learning = [visit for visit in visits if not visit.set]
    samples, hours = sum(visit.samples for visit in learning), sum(map(seconds_of, rows)) / 3600
    facts = {
        "algorithm": run.algorithm,
        "policy": str((run.recipe.get("policy") or {}).get("path") or "new"),
        "seed": str(run.recipe.get("seed")),
        "groups": f"{len(learning):,} of {len({visit.page for visit in learning}):,} pages" if learning else "",
        "samples": f"{samples:,}" if samples else "",
        "time in steps": f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min",
    }
    try:
        env = json.loads((run.folder / "env.json").read_text(encoding="utf-8"))
        facts["begun"] = str(env["date"]).replace("T", " ")[:16]
        facts["version"] = f"ocr-rl {env['packages']['ocr-rl']}, torch {env['packages'].get('torch', '–')}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return {name: fact for name, fact in facts.items() if fact}


def _holds(run: RunFolder, visits: Sequence[Visit]) -> str:
    """What a run without groups of samples has instead."""
    if any(not visit.set for visit in visits):
        return ""
    held_out = " and transcripts of held-out pages" if visits else ""
    rounds = sorted((run.folder / "pairs").glob("round_*.json"))
    if rounds:
        return f"{_pairs(rounds)}; the page shows its curves{held_out}, not the samples themselves."
    if run.algorithm == "sft":
        return f"SFT learns from references and samples nothing: the page shows its curves{held_out}."
    return f"This run has no groups of samples yet: the page shows its curves{held_out}."


def _pairs(rounds: Sequence[Any]) -> str:
    counts = []
    for path in rounds:
        try:
            pairs = json.loads(path.read_text(encoding="utf-8"))["pairs"]
            gaps = [pair["chosen_reward"] - pair["rejected_reward"] for pair in pairs if pair.get("chosen_reward")]
            counts.append(f"{len(pairs)}" + (f" (rewards {fmean(gaps):.2f} apart)" if gaps else ""))
        except (OSError, ValueError, KeyError, TypeError):
            counts.append("?")
    return f"This run learns from pairs of token ids, by round: {', '.join(counts)}"


def _curves(rows: Sequence[Row], visits: Sequence[Visit]) -> dict[str, list[tuple[int, float]]]:
    """(step, value) by figure: those of metrics.jsonl, and some that are computed from the samples."""
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in rows:
        for name, value in row.items():
            if name != "step" and (figure := number(value)) is not None:
                curves[name].append((row["step"], _short(figure)))
        if seconds_of(row):
            curves["step_s"].append((row["step"], _short(seconds_of(row))))
    by_step: dict[int, list[Visit]] = defaultdict(list)
    for visit in visits:
        if not visit.set:
            by_step[visit.step].append(visit)
    for step, of_step in sorted(by_step.items()):
        truths = [visit.truth for visit in of_step if visit.truth is not None]
        against, ordered = (sum(visit.against[k] for visit in of_step) for k in range(2))
        if truths:
            curves["tests passed"].append((step, _short(fmean(truths))))
        if ordered:
            curves["reward against tests"].append((step, _short(against / ordered)))
    for name in {visit.set for visit in visits if visit.set}:
        of_set = [visit for visit in visits if visit.set == name]
        for step in sorted({visit.step for visit in of_set}):
            truths = [visit.truth for visit in of_set if visit.step == step and visit.truth is not None]
            if truths:
                curves[f"held out: {name}"].append((step, _short(fmean(truths))))
    return {name: points for name, points in curves.items() if len(points) > 1 or name not in PARTS}


def _findings(visits: Sequence[Visit], numbers: Mapping[str, int], sets: Mapping[str, int]) -> dict[str, Any]:
    def listed(changes: Sequence[Change]) -> dict[str, Any]:
        rows = [
            [numbers[c.page], sets[c.set], c.test, c.type, round(c.before, 4), round(c.after, 4), c.visits, c.step]
            for c in changes[:_LISTED]
        ]
        return {"rows": rows, "all": len(changes)}

    changes = page_changes(visits)
    learnt, forgotten, never = test_changes(visits)
    return {
        "pages_worse": listed([change for change in changes if change.by <= -CLEAR]),
        "pages_better": listed([change for change in reversed(changes) if change.by >= CLEAR]),
        "pages_never": listed(never_read(visits)),
        "tests_forgotten": listed(forgotten),
        "tests_learnt": listed(learnt),
        "tests_never": listed(never),
        "compared": len(changes),
        "types": [{**asdict(row), "stopped": row.stopped, "ever": row.ever} for row in teaching(visits)],
        "partings": [asdict(parting) for parting in partings(visits)],
    }


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _kept(section: Row, *names: str) -> dict[str, Any]:
    return {name: section.get(name) for name in names}
