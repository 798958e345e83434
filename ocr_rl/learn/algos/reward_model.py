"""A reward model: the policy's own shape learns which of two transcripts of a page is the better one.

Ouyang et al. 2022 (arXiv 2203.02155). Pairs are the policy's own, told apart by the recipe's rewards, or somebody's;
those of some pages are held out and never learnt from. What is learnt is a score without a zero: `learned_reward`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.learn.algos.pairs import Pair, Prompted, flipped, pair_of, pair_rows, require_room, with_prompts
from ocr_rl.learn.algos.rounds import Drawn, given_or_sampled, rounds
from ocr_rl.learn.algos.setting import Setting
from ocr_rl.learn.step import Step
from ocr_rl.objectives.scalar_losses import BradleyTerry
from ocr_rl.rollout.asking import with_left_out
from ocr_rl.rollout.collect import Refused
from ocr_rl.rollout.flow import Row
from ocr_rl.run import write_atomically


def reward_model(cfg: config.RewardModel, setting: Setting, state: Mapping[str, Any]) -> Iterator[Step]:
    """Steps from `learner.policy` to `cfg.steps`; where to go on is that number alone, so `state` is not read."""

    def draw_pairs(number: int, refused: Refused) -> Drawn:
        learner = setting.learner
        pairs, figures = given_or_sampled(cfg, setting, number, refused, pairs_per_page=cfg.pairs_per_page)
        prompted = with_prompts(pairs, setting.pages, learner.prompter, refused)
        require_room(prompted, learner.settings.micro_tokens)
        with_page = [pair for pair, _ in prompted]
        learnt, held_out = split_by_page(with_page, cfg.held_out, setting.seed)
        write_atomically(held_out_path(setting.folder), json.dumps([asdict(pair) for pair in held_out]))
        figures = with_left_out({**figures, "pairs_held_out": len(held_out)}, len(pairs) - len(with_page))
        return flipped(learnt, cfg.flip, setting.seed), figures

    rows_of = partial(with_margins, graded_margin=cfg.graded_margin)
    return rounds(cfg, setting, draw_pairs, rows_of, BradleyTerry(label_smoothing=cfg.label_smoothing))


def split_by_page(pairs: Sequence[Pair], share: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """(to learn from, held out): all pairs of a page on one side, `share` of the pages (at least one) held out.

    UserError where there is only one page.
    """
    pages = sorted({pair.page_id for pair in pairs})
    if len(pages) < 2:
        raise UserError(
            f"reward_model: {len(pages)} page{'' if len(pages) == 1 else 's'} gave pairs, and those of one are held "
            "out; use more pages, or more samples per page."
        )
    kept = set(Random(f"held out/{seed}").sample(pages, min(len(pages) - 1, max(1, round(share * len(pages))))))
    return [pair for pair in pairs if pair.page_id not in kept], [pair for pair in pairs if pair.page_id in kept]


def with_margins(prompted: Prompted, graded_margin: float) -> list[Row]:
    """Rows of pairs; a chosen row's margin is its share of the difference in reward, 0 for somebody's preference."""
    rows = pair_rows(prompted)
    for i, (pair, _) in enumerate(prompted):
        if graded_margin and pair.chosen_reward is not None and pair.rejected_reward is not None:
            margin = graded_margin * abs(pair.chosen_reward - pair.rejected_reward)  # wrong labels ask for as much
            rows[2 * i] = replace(rows[2 * i], margin=margin)
    return rows


def held_out_path(folder: Path) -> Path:
    return folder / "pairs" / "held_out.json"


def held_out_pairs(folder: Path) -> list[Pair]:
    """Of a run's folder."""
    return [pair_of(row) for row in json.loads(held_out_path(folder).read_text(encoding="utf-8"))]
