"""Pairs of two bad answers, made on purpose: a file of preferences that runs of DPO learn from alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from ocr_rl import config
from ocr_rl.contract import Page
from ocr_rl.learn.algos.pairs import Pair, best_and_worst
from ocr_rl.learn.network import named_weights
from ocr_rl.models.load import load_model, model_folder
from ocr_rl.pages.source import open_pages
from ocr_rl.rollout.compare import with_advantages
from ocr_rl.rollout.flow import ComparedGroup
from ocr_rl.rollout.page_limits import page_limits
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import Sampler, Sampling, seed_for
from ocr_rl.rollout.scoring import ScoredGroup, score_groups
from ocr_rl.run import Run, write_atomically
from ocr_rl.train.session import open_pool

BAD = 0.5  # an answer whose reward is below is a bad one
PAGES = 400  # to draw from: about a quarter of them have two bad answers that differ


def write_both_bad(path: Path, recipe: config.Recipe, sampler: Sampler, prompter: Prompter, pages_root: Path) -> None:
    """A pair a page, where samples of the recipe's policy have one, as `dpo.preferences`; `.why.json` counts them.

    What scoring leaves lies beside them. The sampler is left with the policy's weights.
    """
    run = path.with_suffix("")
    run.mkdir(parents=True, exist_ok=True)
    assert isinstance(recipe.algorithm, config.Dpo)
    every = open_pages(recipe.algorithm.pages, pages_root)
    pages = {page.id: page for page in every[:PAGES]}
    limits = page_limits(recipe.sampling, run, every, prompter, begun=True, workers=recipe.scoring.workers)
    scored = _scored(list(pages.values()), limits, run, recipe, sampler, prompter)
    found = {group.group.page.id: both_bad(group) for group in with_advantages(scored, "centred")}
    pairs = [pair for page in pages if (pair := found[page]) is not None]
    lines = [
        {
            "pdf": str(pages[pair.page_id].pdf.relative_to(_pdfs(pages[pair.page_id]))),
            "page": pages[pair.page_id].number,
            "chosen": prompter.decode(pair.chosen_ids),
            "rejected": prompter.decode(pair.rejected_ids),
        }
        for pair in pairs
    ]
    kept = [line for line in lines if line["chosen"] != line["rejected"]]
    write_atomically(path.with_suffix(".why.json"), json.dumps({"pages": len(pages), "kept": len(kept)}))
    write_atomically(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))


def _scored(
    pages: Sequence[Page],
    limits: Mapping[str, int],
    run: Path,
    recipe: config.Recipe,
    sampler: Sampler,
    prompter: Prompter,
) -> list[ScoredGroup]:
    assert isinstance(recipe.algorithm, config.Dpo) and recipe.policy.path is not None
    sampler.load(named_weights(load_model(model_folder(recipe.policy.path), dtype=recipe.policy.dtype)), 0)
    how = Sampling(
        n=recipe.algorithm.samples_per_page,
        temperature=recipe.sampling.temperature,
        max_tokens=recipe.sampling.max_tokens,
        seed=seed_for(recipe.seed, "both_bad"),
        page_limits=limits,
    )
    groups = list(sampler.sample([(page, prompter.prompt(page)) for page in pages], how))
    with closing(open_pool(recipe, Run(run))) as pool:
        return list(score_groups(groups, pool.score_all))


def both_bad(group: ComparedGroup) -> Pair | None:
    """The best and the worst of its bad samples; None for a tie, or where there are no two."""
    bad = [k for k, reward in enumerate(group.rewards) if reward < BAD]
    samples = tuple(group.group.samples[k] for k in bad)
    rewards = tuple(group.rewards[k] for k in bad)
    return best_and_worst(replace(group, group=replace(group.group, samples=samples), rewards=rewards), 0.0)


def _pdfs(page: Page) -> Path:
    return next(parent for parent in page.pdf.parents if parent.name == "pdfs")
