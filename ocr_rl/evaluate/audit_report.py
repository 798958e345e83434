"""An audit as Markdown for people and JSON for programs; `ocr-rl rewards audit`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from ocr_rl.config import Recipe
from ocr_rl.contract import Transcript, UserError
from ocr_rl.evaluate.audit import Audit, Outcome, RewardAudit, audit, patient
from ocr_rl.evaluate.audit_pages import cases_of
from ocr_rl.evaluate.damage import LEVELS, WRONG
from ocr_rl.evaluate.groups import read_groups
from ocr_rl.evaluate.tables import cell
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.rollout.reward_pool import RewardPool, weighted
from ocr_rl.run import write_atomically

_SHOWN = 1200  # characters of a winning attack


def audit_recipe(
    recipe: Recipe, data: Path, samples: Path | None, out: Path | None, *, n: int, seed: int
) -> tuple[str, bool]:
    """The audit of a recipe's rewards on a dataset as Markdown, and whether a cheat beats its mix.

    `samples`: a file of groups, or a run directory, of which all groups are read. `out` gets audit.md and audit.json.
    """
    if not recipe.mix:
        raise UserError("rewards audit: the recipe has no rewards; give one with [grpo], [dpo] or [best_of_n].")
    if out is not None:  # before the work: a folder that cannot be made would waste it
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out {out}: cannot be a folder ({error.strerror}); name another.") from None
    groups: dict[str, Sequence[Transcript]] = {}
    for group in read_groups(samples) if samples is not None else ():
        groups[group.page_id] = group.samples  # a page's latest group alone, so that siblings are of one policy
    cases, notes = cases_of(load_dataset(data), groups, n=n, seed=seed)
    if samples is not None and not any(case.samples for case in cases):
        raise UserError(
            f"{samples}: none of its groups is of a page of {data} that has a reference, or has a sample that ended by "
            "itself; give their dataset, or samples of a better policy."
        )
    pool = RewardPool(
        choices=recipe.mix,
        rewards=weighted(recipe.mix, timeout_s=recipe.scoring.timeout_s),
        workers=recipe.scoring.workers,
        timeout_s=recipe.scoring.timeout_s,
    )
    with closing(patient(pool, recipe.algorithm.group_size, cases)) as patient_pool:
        result = audit(cases, pool.rewards, patient_pool.score_all, notes, recipe.algorithm.comparison)
    text = to_markdown(result, {"data": data.name, "seed": str(seed)})
    if out is not None:
        write_atomically(out / "audit.md", text)
        write_atomically(out / "audit.json", json.dumps(to_json(result), indent=1))
    return text, bool(result.mix.beaten_by())


def to_markdown(result: Audit, facts: Mapping[str, str]) -> str:
    """`facts` are shown before the audit's own notes."""
    notes = [*(f"{key}: {value}" for key, value in facts.items()), *result.notes]
    parts = [
        "# Audit of rewards\n",
        f"{result.pages} pages, {result.samples} real samples; {'; '.join(notes)}. Honest transcripts have {WRONG:.0%} "
        "of their letters and digits wrong (mean of four). A cheat is to score below them, damage below the reference; "
        "an exclamation mark says where it does not on the mean of the pages.\n",
        "## The mix\n",
        attack_table([result.mix]),
        _lines(result.mix),
        "## Each reward\n",
        attack_table(result.rewards[:-1]),
        "## As damage grows\n",
        curve_table(result.rewards),
        "## Spread and agreement\n",
        spread_table(result.rewards),
        agreement_table(result),
    ]
    for cheat in result.mix.beaten_by():
        heading = f"## Beaten by: {cheat.attack}\n\n{cheat.value:.3f} against {cheat.fair:.3f}."
        parts.append(f"{heading} On page {_example(cheat)}\n")
    return "\n".join(part for part in parts if part)


def attack_table(rewards: Sequence[RewardAudit]) -> str:
    """Mean value of every attack (a row) under every reward (a column), beside the honest and the true transcript."""
    heads = ["", *(cell(reward.name) for reward in rewards)]
    rows = [["the reference", *(_shown(reward.reference) for reward in rewards)]]
    rows += [["honest", *(_shown(reward.honest) for reward in rewards)]]
    for kind, attack in dict.fromkeys((o.kind, o.attack) for reward in rewards for o in reward.outcomes):
        rows.append([f"{kind}: {attack}", *(_value(_outcome(reward, kind, attack)) for reward in rewards)])
    ties = ["what a caption on the other side of its table costs"]
    rows.append([*ties, *(_shown(reward.tie) for reward in rewards)])
    return _table(heads, rows)


def _outcome(reward: RewardAudit, kind: str, attack: str) -> Outcome | None:
    return next((o for o in reward.outcomes if (o.kind, o.attack) == (kind, attack)), None)


def _value(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    above = f", above on {outcome.above:.0%}" if outcome.above else ""
    return f"{outcome.value:.3f}{' !' if outcome.wins else ''}{above}"


def curve_table(rewards: Sequence[RewardAudit]) -> str:
    """One row a reward and kind of damage: its mean value at every level, and whether it falls."""
    heads = ["reward", "damage", "0", *(f"{level:.0%}" for level in LEVELS), "falls"]
    rows = [
        [cell(reward.name), curve.kind, *(f"{value:.2f}" for value in curve.values), "yes" if curve.falls else "no"]
        for reward in rewards
        for curve in reward.curves
    ]
    return _table(heads, rows)


def spread_table(rewards: Sequence[RewardAudit]) -> str:
    """One row a reward: how far it parts real siblings, and what its gate holds back."""
    heads = ["reward", "pages", "standard deviation in real groups", "honest below its gate", "real below its gate"]
    rows = [
        [
            cell(reward.name),
            str(reward.pages),
            _shown(reward.spread),
            _shown(reward.honest_held),
            _shown(reward.samples_held),
        ]
        for reward in rewards
    ]
    return _table(heads, rows)


def agreement_table(result: Audit) -> str:
    """Rank correlations of every two rewards; "" with fewer than two."""
    names = [reward.name for reward in result.rewards[:-1]]
    if len(names) < 2:
        return ""
    pairs = result.correlation
    rows = [
        [cell(a), *("" if (r := pairs.get((a, b), pairs.get((b, a)))) is None else f"{r:.2f}" for b in names)]
        for a in names
    ]
    return "Rank correlation (Spearman) within a page:\n\n" + _table(["", *map(cell, names)], rows)


def to_json(result: Audit) -> dict[str, object]:
    """The content of audit.json."""
    return {
        "pages": result.pages,
        "samples": result.samples,
        "notes": list(result.notes),
        "judged": [asdict(reward) for reward in result.rewards],
        "correlation": [[a, b, value] for (a, b), value in result.correlation.items()],
        "beaten_by": [cheat.attack for cheat in result.mix.beaten_by()],
    }


def _shown(mean: float | None) -> str:
    return "" if mean is None else f"{mean:.3f}"  # None: of nothing, as of a reward that applies to no page


def _lines(mix: RewardAudit) -> str:
    lines = [f"- beaten by {cheat.attack}: {cheat.value:.3f} against {cheat.fair:.3f}" for cheat in mix.beaten_by()]
    lines += [f"- blind to {damage.attack}" for damage in mix.blind_to()]
    return "\n".join(lines or ["No cheat beats honest transcripts, and no damage goes unseen."]) + "\n"


def _example(outcome: Outcome) -> str:
    page, _, text = outcome.example.partition("\n")
    quoted = "\n".join(f"    {line}" for line in text[:_SHOWN].splitlines())
    return f"{cell(page)}:\n\n{quoted}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
