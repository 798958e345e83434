"""DPO: the best and the worst sample of each page are a pair, and the policy learns to prefer the first.

Rafailov et al. 2023 (arXiv 2305.18290). The reference is the policy at the beginning of each round. Pairs may also be
somebody's own (`dpo.preferences`): then nothing is sampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ocr_rl import config
from ocr_rl.learn.algos.pairs import flipped, pair_rows, require_room, with_prompts, with_reference
from ocr_rl.learn.algos.rounds import Drawn, given_or_sampled, rounds
from ocr_rl.learn.algos.setting import Setting
from ocr_rl.learn.step import Step
from ocr_rl.objectives.losses import PreferenceLoss
from ocr_rl.rollout.asking import with_left_out
from ocr_rl.rollout.collect import Refused, timed


def dpo(cfg: config.Dpo, setting: Setting, state: Mapping[str, Any]) -> Iterator[Step]:
    """Steps from `learner.policy` to `cfg.steps`; where to go on is that number alone, so `state` is not read."""
    learner = setting.learner

    def draw_pairs(number: int, refused: Refused) -> Drawn:
        pairs, figures = given_or_sampled(cfg, setting, number, refused)
        prompted = with_prompts(flipped(pairs, cfg.flip, setting.seed), setting.pages, learner.prompter, refused)
        require_room(prompted, learner.settings.micro_tokens)
        clock = dict[str, float]()
        with timed(clock, "annotate_s"):
            annotated = with_reference(prompted, learner)
        return annotated, with_left_out({**figures, **clock}, len(pairs) - len(annotated))

    loss = PreferenceLoss(
        beta=cfg.beta,
        label_smoothing=cfg.label_smoothing,
        length_normalised=cfg.length_normalised,
        nll_anchor=cfg.nll_anchor,
    )
    return rounds(cfg, setting, draw_pairs, pair_rows, loss)
