"""Some of a DPO run's own pairs, as a file of preferences that another run learns from alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from ocr_rl import config
from ocr_rl.contract import Page, UserError
from ocr_rl.learn.network import named_weights
from ocr_rl.models.load import load_model, model_folder
from ocr_rl.pages.source import open_pages
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import Sampler, Sampling
from ocr_rl.rollout.scoring import score_groups
from ocr_rl.run import Run, write_atomically
from ocr_rl.study.jobs import PairChoice
from ocr_rl.train.session import open_pool

Pair = Mapping[str, Any]  # as rounds.py writes it


def read_pairs(run: Path) -> list[dict[str, Any]]:
    """Of a run's first round. Raises UserError for a run that has none."""
    try:
        return json.loads((run / "pairs" / "round_000.json").read_text(encoding="utf-8"))["pairs"]
    except OSError:
        raise UserError(f"the run {run.name}, whose pairs this one learns from, has none") from None


def write_pairs(
    path: Path,
    choice: PairChoice,
    run: Path,
    recipe: config.Recipe,
    sampler: Sampler,
    prompter: Prompter,
    pages_root: Path,
) -> None:
    """The chosen pairs as `dpo.preferences`, and beside them what they were chosen by (`.why.json`)."""
    assert isinstance(recipe.algorithm, config.Dpo)
    pages = {page.id: page for page in open_pages(recipe.algorithm.pages, pages_root)}
    pairs = read_pairs(run)
    if choice == "both_bad":
        rewards = greedy_rewards([pages[pair["page_id"]] for pair in pairs], recipe, sampler, prompter, run)
        kept = both_bad(pairs, rewards)
        why = {"pairs": len(pairs), "kept": len(kept)}
    elif choice == "random_quarter":
        kept = Random(f"quarter/{recipe.seed}").sample(pairs, (len(pairs) + 3) // 4)
        why = {"pairs": len(pairs), "kept": len(kept)}
    else:
        number = int(choice.removeprefix("quartile"))
        distances = [distance(pair, prompter) for pair in pairs]
        kept = quartile(pairs, distances, number)
        edges = np.quantile(distances, [(number - 1) / 4, number / 4]).tolist()
        why = {"pairs": len(pairs), "kept": len(kept), "distance": edges}
    rows = [
        {
            "pdf": str(pages[pair["page_id"]].pdf.relative_to(_pdfs(pages[pair["page_id"]]))),
            "page": pages[pair["page_id"]].number,
            "chosen": prompter.decode(pair["chosen_ids"]),
            "rejected": prompter.decode(pair["rejected_ids"]),
        }
        for pair in kept
    ]
    write_atomically(path.with_suffix(".why.json"), json.dumps(why))
    write_atomically(
        path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows if row["chosen"] != row["rejected"])
    )


def greedy_rewards(
    pages: Sequence[Page], recipe: config.Recipe, sampler: Sampler, prompter: Prompter, run: Path
) -> dict[str, float]:
    """The start's greedy answer to each page, by the recipe's rewards. The sampler is left with the start's weights."""
    assert recipe.policy.path is not None
    sampler.load(named_weights(load_model(model_folder(recipe.policy.path), dtype=recipe.policy.dtype)), 0)
    how = Sampling(n=1, temperature=0.0, max_tokens=recipe.sampling.max_tokens)
    groups = list(sampler.sample([(page, prompter.prompt(page)) for page in pages], how))
    with closing(open_pool(recipe, Run(run))) as pool:
        scored = list(score_groups(groups, pool.score_all))
    return {group.group.page.id: group.scores.rewards[0] for group in scored}


def both_bad(pairs: Sequence[Pair], greedy: Mapping[str, float]) -> list[Pair]:
    """Pairs whose better answer is worse than what the policy would have written without sampling."""
    return [pair for pair in pairs if pair["chosen_reward"] < greedy[pair["page_id"]] - 1e-9]


def distance(pair: Pair, prompter: Prompter) -> float:
    """Between the two answers: edits over the longer one's length, in [0, 1]."""
    return Levenshtein.normalized_distance(prompter.decode(pair["chosen_ids"]), prompter.decode(pair["rejected_ids"]))


def quartile(pairs: Sequence[Pair], distances: Sequence[float], number: int) -> list[Pair]:
    """The pairs of one quarter by distance, 1 the most alike; quarters differ by one pair at most."""
    order = np.argsort(distances, kind="stable")
    chosen = set(np.array_split(order, 4)[number - 1].tolist())
    return [pair for k, pair in enumerate(pairs) if k in chosen]


def _pdfs(page: Page) -> Path:
    return next(parent for parent in page.pdf.parents if parent.name == "pdfs")
