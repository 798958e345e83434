"""Some of a DPO run's own pairs, as a file of preferences that another run learns from alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from ocr_rl import config
from ocr_rl.contract import Page, UserError
from ocr_rl.learn.algos import pairs as learnt
from ocr_rl.learn.network import named_weights
from ocr_rl.models.load import load_model, model_folder
from ocr_rl.pages.source import open_pages
from ocr_rl.rollout.compare import with_advantages
from ocr_rl.rollout.flow import ComparedGroup
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import Sampler, Sampling, seed_for
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
        kept = sample_both_bad([pages[pair["page_id"]] for pair in pairs], recipe, sampler, prompter, run)
        why = {"pages": len(pairs), "kept": len(kept)}
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


def sample_both_bad(
    pages: Sequence[Page], recipe: config.Recipe, sampler: Sampler, prompter: Prompter, run: Path
) -> list[Pair]:
    """A pair a page, where the start's samples have one, whose better answer is worse than the start's greedy one.

    By the recipe's rewards. The sampler is left with the start's weights.
    """
    assert isinstance(recipe.algorithm, config.Dpo) and recipe.policy.path is not None
    sampler.load(named_weights(load_model(model_folder(recipe.policy.path), dtype=recipe.policy.dtype)), 0)
    asked = [(page, prompter.prompt(page)) for page in pages]
    greedy = Sampling(n=1, temperature=0.0, max_tokens=recipe.sampling.max_tokens)
    drawn = replace(
        greedy,
        n=recipe.algorithm.samples_per_page,
        temperature=recipe.sampling.temperature,
        seed=seed_for(recipe.seed, "both_bad"),
    )
    with closing(open_pool(recipe, Run(run))) as pool:
        best = {
            scored.group.page.id: scored.scores.rewards[0]
            for scored in score_groups(list(sampler.sample(asked, greedy)), pool.score_all)
        }
        scored = list(score_groups(list(sampler.sample(asked, drawn)), pool.score_all))
    of_pages = {group.group.page.id: group for group in with_advantages(scored, "centred")}
    pairs = [both_bad(of_pages[page.id], best[page.id]) for page in pages]
    return [asdict(pair) for pair in pairs if pair is not None]


def both_bad(group: ComparedGroup, greedy: float) -> learnt.Pair | None:
    """The best and the worst of the samples whose reward is below `greedy`; None for a tie, or where none is."""
    bad = [k for k, reward in enumerate(group.rewards) if reward < greedy - 1e-9]
    samples = tuple(group.group.samples[k] for k in bad)
    rewards = tuple(group.rewards[k] for k in bad)
    return learnt.best_and_worst(replace(group, group=replace(group.group, samples=samples), rewards=rewards), 0.0)


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
