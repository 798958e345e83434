"""An audit as Markdown for people and JSON for programs; `ocr-rl rewards audit`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from ocr_rl.config import Recipe
from ocr_rl.contract import Transcript, UserError
from ocr_rl.evaluate.attacks import LEVELS, WRONG
from ocr_rl.evaluate.audit import Audit, Judged, Outcome, audit, patient
from ocr_rl.evaluate.cases import cases_of
from ocr_rl.evaluate.groups import read_groups
from ocr_rl.evaluate.tables import cell
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.rollout.reward_pool import RewardPool, weighted
from ocr_rl.run import write_atomically

_SHOWN = 1200  # characters of a winning attack


def audit_recipe(
    recipe: Recipe, data: Path, samples: Path | None, out: Path | None, *, n: int, seed: int
) -> tuple[str, bool]:
    """The report of a recipe's rewards on a dataset, and whether a cheat beats its mix; `out` gets audit.md and .json.

    `samples`: a file of groups, or a run directory whose groups are then all read.
    """
    if not recipe.rewards:
        raise UserError("rewards audit: the recipe has no rewards; give one with [grpo], [dpo] or [best_of_n].")
    if out is not None:  # before the work, which its lack would waste
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out {out}: cannot be a folder ({error.strerror}); name another.") from None
    groups: dict[str, Sequence[Transcript]] = {}
    for group in read_groups(samples) if samples is not None else ():
        groups[group.page_id] = group.samples  # the latest of a page: siblings are of one policy
    cases, notes = cases_of(load_dataset(data), groups, n=n, seed=seed)
    if samples is not None and not any(case.samples for case in cases):
        raise UserError(
            f"{samples}: none of its groups is of a page of {data} that has a reference, or has a sample that ended by "
            "itself; give their dataset, or samples of a better policy."
        )
    graders = RewardPool(
        choices=recipe.mix,
        rewards=weighted(recipe.mix, timeout_s=recipe.scoring.timeout_s),
        workers=recipe.scoring.workers,
        timeout_s=recipe.scoring.timeout_s,
    )
    with closing(patient(graders, recipe.algorithm.group_size, cases)) as asked:
        found = audit(cases, asked.rewards, asked.score_all, notes, recipe.algorithm.comparison)
    text = to_markdown(found, {"data": data.name, "seed": str(seed)})
    if out is not None:
        write_atomically(out / "audit.md", text)
        write_atomically(out / "audit.json", json.dumps(to_json(found), indent=1))
    return text, bool(found.mix.beaten_by())


def to_markdown(found: Audit, said: Mapping[str, str]) -> str:
    notes = [*(f"{key}: {value}" for key, value in said.items()), *found.notes]
    parts = [
        "# Audit of rewards\n",
        f"{found.pages} pages, {found.samples} real samples; {'; '.join(notes)}. Honest transcripts have {WRONG:.0%} "
        "of their letters and digits wrong (mean of four). A cheat is to score below them, damage below the reference; "
        "an exclamation mark says where it does not on the mean of the pages.\n",
        "## The mix\n",
        attack_table([found.mix]),
        _lines(found.mix),
        "## Each reward\n",
        attack_table(found.judged[:-1]),
        "## As damage grows\n",
        curve_table(found.judged),
        "## Spread and agreement\n",
        spread_table(found.judged),
        agreement_table(found),
    ]
    for one in found.mix.beaten_by():
        parts.append(f"## Beaten by: {one.attack}\n\n{one.value:.3f} against {one.fair:.3f}. On page {_example(one)}\n")
    return "\n".join(part for part in parts if part)


def attack_table(judged: Sequence[Judged]) -> str:
    """Mean value of every attack (a row) under every reward (a column), beside the honest and the true transcript."""
    heads = ["", *(cell(one.name) for one in judged)]
    rows = [["the reference", *(_shown(one.reference) for one in judged)]]
    rows += [["honest", *(_shown(one.honest) for one in judged)]]
    names = list(dict.fromkeys((o.kind, o.attack) for one in judged for o in one.outcomes))
    for kind, attack in names:
        found = [next((o for o in one.outcomes if (o.kind, o.attack) == (kind, attack)), None) for one in judged]
        rows.append([f"{kind}: {attack}", *(_value(o) for o in found)])
    ties = ["what a caption on the other side of its table costs"]
    rows.append([*ties, *("" if one.tie is None else f"{one.tie:.3f}" for one in judged)])
    return _table(heads, rows)


def _value(one: Outcome | None) -> str:
    if one is None:
        return ""
    above = f", above on {one.above:.0%}" if one.above else ""
    return f"{one.value:.3f}{' !' if one.wins else ''}{above}"


def curve_table(judged: Sequence[Judged]) -> str:
    heads = ["reward", "damage", "0", *(f"{level:.0%}" for level in LEVELS), "falls"]
    rows = [
        [cell(one.name), curve.kind, *(f"{value:.2f}" for value in curve.values), "yes" if curve.falls else "no"]
        for one in judged
        for curve in one.curves
    ]
    return _table(heads, rows)


def spread_table(judged: Sequence[Judged]) -> str:
    def share(value: float | None) -> str:
        return "" if value is None else f"{value:.3f}"

    heads = ["reward", "pages", "standard deviation in real groups", "honest below its gate", "real below its gate"]
    rows = [
        [cell(one.name), str(one.pages), share(one.spread), share(one.honest_held), share(one.samples_held)]
        for one in judged
    ]
    return _table(heads, rows)


def agreement_table(found: Audit) -> str:
    names = [one.name for one in found.judged[:-1]]
    if len(names) < 2:
        return ""
    pairs = found.correlation
    rows = [
        [cell(a), *("" if (r := pairs.get((a, b), pairs.get((b, a)))) is None else f"{r:.2f}" for b in names)]
        for a in names
    ]
    return "Rank correlation (Spearman) within a page:\n\n" + _table(["", *map(cell, names)], rows)


def to_json(found: Audit) -> dict[str, object]:
    return {
        "pages": found.pages,
        "samples": found.samples,
        "notes": list(found.notes),
        "judged": [asdict(one) for one in found.judged],
        "correlation": [[a, b, value] for (a, b), value in found.correlation.items()],
        "beaten_by": [one.attack for one in found.mix.beaten_by()],
    }


def _shown(mean: float | None) -> str:
    return "" if mean is None else f"{mean:.3f}"  # a reward that applies to none of the pages says nothing


def _lines(mix: Judged) -> str:
    beaten, blind = mix.beaten_by(), mix.blind_to()
    lines = [f"- beaten by {one.attack}: {one.value:.3f} against {one.fair:.3f}" for one in beaten]
    lines += [f"- blind to {one.attack}" for one in blind]
    return "\n".join(lines or ["No cheat beats honest transcripts, and no damage goes unseen."]) + "\n"


def _example(one: Outcome) -> str:
    page, _, text = one.example.partition("\n")
    quoted = "\n".join(f"    {line}" for line in text[:_SHOWN].splitlines())
    return f"{cell(page)}:\n\n{quoted}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
