"""`ocr-rl sample`: samples of a policy in a file, to look at, to score, to audit rewards or to train elsewhere with.

Groups as JSON lines are what `ocr-rl score` and `ocr-rl rewards audit` read; as parquet, `datasets` loads them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

from ocr_rl import outputs
from ocr_rl.config import load_recipe
from ocr_rl.contract import Transcript, UserError
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.pages.hub.exported import JUDGED, PAIRS, PLACE, Asking, drawn, pair_columns
from ocr_rl.pages.hub.parquet import Columns, write_table
from ocr_rl.pages.hub.rows import rows_of
from ocr_rl.rollout.flow import Group
from ocr_rl.rollout.reward_pool import as_json, weighted
from ocr_rl.rollout.sampler.base import Sampling
from ocr_rl.rollout.scoring import WeightedReward, score_page

GROUPS: Columns = {
    **PLACE,
    "prompt": "messages",
    "image": "image",
    **JUDGED,
    "completions": "texts",
    "finishes": "texts",
    "num_tokens": "numbers",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """Which pages are asked about, and how."""

    data: Path
    model: str
    engine: Literal["vllm", "transformers"]
    pages: int
    n: int
    temperature: float
    seed: int
    preset: str | None = None
    instruction: str | None = None


def sample_pages(drawing: Drawing, out: Path) -> int:
    """Write groups of n samples for some pages of a dataset, drawn by `seed`, as a run keeps its groups.

    Returns the number of pages. Raises UserError for a page that cannot be drawn, and where `out` is a file that ocr-rl
    did not write.
    """
    outputs.refuse_taken([out])
    groups = [group for group, _ in _sampled(drawing)]
    rows = ({"page": g.page.id, "samples": [as_json(sample.transcript()) for sample in g.samples]} for g in groups)
    outputs.write(out, "".join(f"{json.dumps(row)}\n" for row in rows))
    return len(groups)


def sample_table(drawing: Drawing, out: Path, pairs_by: str | None = None) -> int:
    """Write the same as parquet: a row a group, with the page's image, its tests and reference, and its completions.

    `pairs_by` names a recipe: then a row is a pair as TRL's DPO takes it, of a group's best and worst sample by the
    recipe's rewards; a group whose samples all score the same has none. Returns the number of rows.
    """
    outputs.refuse_taken([out])
    mix = _mix(pairs_by) if pairs_by else []
    rows = {page.id: row for page, row in rows_of(drawing.data)}
    return write_table(out, _table(drawing, rows, mix), PAIRS if mix else GROUPS)


def _table(drawing: Drawing, rows: dict[str, Any], mix: Sequence[WeightedReward]) -> Iterator[dict[str, Any]]:
    number = 0
    for group, ask in list(_sampled(drawing)):
        page, transcripts = group.page, [sample.transcript() for sample in group.samples]
        answers = _pair(group, transcripts, mix, ask) if mix else _completions(transcripts)
        for _, image in drawn([page], ask, []) if answers else ():
            yield {**rows[page.id], "prompt": ask.prompt, "image": image, **answers}
            number += 1
    if not number:
        raise UserError("--pairs: the samples of every page score the same, so there is no pair; take more --pages.")


def _completions(transcripts: Sequence[Transcript]) -> dict[str, Any]:
    return {
        "completions": [transcript.raw for transcript in transcripts],
        "finishes": [transcript.finish for transcript in transcripts],
        "num_tokens": [transcript.num_tokens for transcript in transcripts],
    }


def _pair(
    group: Group, transcripts: Sequence[Transcript], mix: Sequence[WeightedReward], ask: Asking
) -> dict[str, Any]:
    """The best and the worst sample, the first of several; nothing where all score the same."""
    rewards = score_page(group.page, transcripts, mix).rewards
    best, worst = (rewards.index(end) for end in (max(rewards), min(rewards)))
    if rewards[best] == rewards[worst]:
        return {}
    return pair_columns(ask.prompt, transcripts[best].raw, transcripts[worst].raw)


def _mix(recipe: str) -> list[WeightedReward]:
    loaded = load_recipe(recipe)
    if not (mix := weighted(loaded.mix, timeout_s=loaded.scoring.timeout_s)):
        raise UserError(f"--pairs: the recipe {recipe} has no rewards; give one that learns from its own samples.")
    return mix


def _sampled(drawing: Drawing) -> Iterator[tuple[Group, Asking]]:
    """Groups with what the policy was asked."""
    from ocr_rl.policy import open_policy

    all_pages = load_dataset(drawing.data)
    chosen = Random(drawing.seed).sample(all_pages, min(drawing.pages, len(all_pages)))
    with open_policy(
        drawing.model, engine=drawing.engine, preset=drawing.preset, instruction=drawing.instruction
    ) as policy:
        settings = policy.settings
        ask = Asking(instruction=settings.instruction, longest_px=settings.longest_px)
        prompts = [(page, policy.prompter.prompt(page)) for page in chosen]
        how = Sampling(n=drawing.n, temperature=drawing.temperature, max_tokens=settings.max_tokens, seed=drawing.seed)
        for group in policy.sampler.sample(prompts, how):
            yield group, ask
