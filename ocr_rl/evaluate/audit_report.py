"""An audit as Markdown for people and JSON for programs; `ocr-rl rewards audit`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from ocr_rl import outputs
from ocr_rl.config import Recipe
from ocr_rl.contract import Transcript, UserError
from ocr_rl.evaluate.audit import MISREAD, Audit, Limits, Outcome, RewardAudit, audit, patient
from ocr_rl.evaluate.audit_pages import cases_of
from ocr_rl.evaluate.damage import LEVELS
from ocr_rl.evaluate.groups import read_groups
from ocr_rl.evaluate.search import FALL, Hole
from ocr_rl.evaluate.tables import cell
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.rollout.reward_pool import RewardPool, weighted

_SHOWN = 1200  # characters of a text that pays


def audit_recipe(
    recipe: Recipe, data: Path, samples: Path | None, out: Path | None, *, n: int, seed: int, evaluations: int = 0
) -> tuple[str, bool]:
    """The audit of a recipe's rewards on a dataset as Markdown, and whether its mix holds.

    `samples`: a file of groups, or a run directory, of which all groups are read. `out` gets audit.md and audit.json.
    `evaluations`: texts a page for the searching attacker; 0: no search.
    """
    if not recipe.mix:
        raise UserError("rewards audit: the recipe has no rewards; give one with [grpo], [dpo] or [best_of_n].")
    if out is not None:  # before the work: a folder that cannot be made would waste it
        outputs.refuse_taken((out / "audit.md", out / "audit.json"))
        with outputs.writing(out):
            out.mkdir(parents=True, exist_ok=True)
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
    with closing(patient(pool, recipe.algorithm.group_size)) as patient_pool:
        result = audit(
            cases,
            pool.rewards,
            patient_pool.score_all,
            notes,
            recipe.algorithm.comparison,
            evaluations=evaluations,
        )
    text = to_markdown(result, {"data": data.name, "seed": str(seed)})
    if out is not None:
        outputs.write(out / "audit.md", text)
        outputs.write(out / "audit.json", json.dumps(to_json(result), indent=1))
    return text, result.holds


def to_markdown(result: Audit, facts: Mapping[str, str]) -> str:
    """`facts` are shown before the audit's own notes."""
    notes = [*(f"{key}: {value}" for key, value in facts.items()), *result.notes]
    holes = result.mix.holes(result.limits)
    parts = [
        "# Audit of rewards\n",
        f"{result.pages} pages, {result.samples} real samples; {'; '.join(notes)}. Every attack is made of a reading: "
        "of the truth, of honest readings with a share of their letters and digits wrong, of real samples. A figure is "
        "what the attack earns more than that reading, mean of the pages and, in brackets, the most on a page; where "
        "the text reads better (by the element score) it counts as 0. An exclamation mark says where it is more than "
        f"{result.limits.gain:g}, which is a hole. What reads nothing must earn {-result.limits.unread:g} less.\n",
        "## The mix\n",
        _lines(result, holes),
        pair_table(result.mix, result.limits),
        "## Each reward\n",
        "The largest mean gain over all readings.\n",
        reward_table(result.rewards[:-1], result.limits),
        "## As damage grows\n",
        curve_table(result.rewards),
        "## Spread and gates\n",
        spread_table(result.rewards),
        search_text(result.searched, result.limits.rise),
    ]
    seen: set[str] = set()
    for hole in holes:
        if hole.attack not in seen:  # of each attack the largest
            parts.append(f"## Pays: {hole.attack}\n\n{hole.gain:+.3f} at {hole.source}. On page {_example(hole)}\n")
        seen.add(hole.attack)
    return "\n".join(part for part in parts if part)


def pair_table(mix: RewardAudit, limits: Limits) -> str:
    """A row an attack, a column a source of readings; above them what the readings earn."""
    sources = list(mix.honest)
    rows = [["the reading itself", *(f"{mix.honest[source]:.3f}" for source in sources)]]
    by_place = {(o.attack, o.source): o for o in mix.outcomes}
    for attack in dict.fromkeys(o.attack for o in mix.outcomes):
        rows.append([attack, *(_gain(by_place.get((attack, source)), limits) for source in sources)])
    return _table(["", *sources], rows)


def _gain(outcome: Outcome | None, limits: Limits) -> str:
    if outcome is None:
        return ""
    return f"{outcome.gain:+.3f}{' !' if outcome.gain > limits.of(outcome.attack) else ''} ({outcome.most:+.3f})"


def reward_table(rewards: Sequence[RewardAudit], limits: Limits) -> str:
    """A row an attack, a column a reward: its largest mean gain over all sources of readings."""
    gains: dict[str, dict[str, float]] = {}
    for reward in rewards:
        for outcome in reward.outcomes:
            of_attack = gains.setdefault(outcome.attack, {})
            of_attack[reward.name] = max(outcome.gain, of_attack.get(reward.name, outcome.gain))
    rows = [
        [attack, *(_marked(of_attack.get(reward.name), limits.gain) for reward in rewards)]
        for attack, of_attack in gains.items()
    ]
    ties = ["what a caption on the other side of its table costs", *(_shown(reward.tie) for reward in rewards)]
    return _table(["", *(cell(reward.name) for reward in rewards)], [*rows, ties])


def _marked(gain: float | None, most: float) -> str:
    return "" if gain is None else f"{gain:+.3f}{' !' if gain > most else ''}"


def curve_table(rewards: Sequence[RewardAudit]) -> str:
    """A row a reward and kind of damage: its mean value at every level, and whether it falls."""
    heads = ["reward", "damage", "0", *(f"{level:.0%}" for level in LEVELS), "falls"]
    rows = [
        [cell(reward.name), curve.kind, *(f"{value:.2f}" for value in curve.values), "yes" if curve.falls else "no"]
        for reward in rewards
        for curve in reward.curves
    ]
    return _table(heads, rows)


def spread_table(rewards: Sequence[RewardAudit]) -> str:
    """A row a reward: how far it parts real siblings, and what its gate holds back."""
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


def search_text(holes: Sequence[Hole], most: float) -> str:
    """What the searching attacker found, with the text of the largest hole; "" where nothing was searched."""
    if not holes:
        return ""
    mean = sum(hole.rise for hole in holes) / len(holes)
    largest = holes[0]
    verdict = f"Mean of {len(holes)} pages {mean:+.3f}{' !' if mean > most else ''}, the most {largest.rise:+.3f}."
    head = (
        "## The attacker that searches\n\nIt composes edits of real samples, or of readings with "
        f"{MISREAD:.0%} of their letters wrong. What counts are texts whose element score fell by {FALL:g} or more: by "
        f"how much they earn more. {verdict}\n"
    )
    if largest.rise <= 0:
        return head
    edits = ", ".join(f"{name} ({n} times)" if n > 1 else name for name, n in Counter(largest.edits).items())
    fell = f"On page {largest.page_id} the reward rose by {largest.rise:.3f} and the element score fell by"
    return f"{head}\n{fell} {largest.fall:.3f}, after: {edits}.\n\n{_quoted(largest.text)}\n"


def to_json(result: Audit) -> dict[str, object]:
    """The content of audit.json."""
    return {
        "pages": result.pages,
        "samples": result.samples,
        "notes": list(result.notes),
        "limits": asdict(result.limits),
        "rewards": [asdict(reward) for reward in result.rewards],
        "holes": [{"attack": o.attack, "source": o.source, "gain": o.gain} for o in result.mix.holes(result.limits)],
        "searched": [asdict(hole) for hole in result.searched],
        "holds": result.holds,
    }


def _shown(mean: float | None) -> str:
    return "" if mean is None else f"{mean:.3f}"  # None: of nothing, as of a reward that applies to no page


def _lines(result: Audit, holes: Sequence[Outcome]) -> str:
    lines = [f"- {hole.attack} pays at {hole.source}: {hole.gain:+.3f} (the most {hole.most:+.3f})" for hole in holes]
    if free := result.mix.free():
        lines.append(f"- free on the truth: {', '.join(free)}")
    return "\n".join([*([] if holes else ["No attack pays.\n"]), *lines]) + "\n"


def _example(outcome: Outcome) -> str:
    page, _, text = outcome.example.partition("\n")
    return f"{cell(page)}:\n\n{_quoted(text)}"


def _quoted(text: str) -> str:
    return "\n".join(f"    {line}" for line in text[:_SHOWN].splitlines())


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
