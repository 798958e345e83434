"""Best-of-N: SFT on the best sample of each page (rejection sampling). Pages without a best one are left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from ocr_rl import config
from ocr_rl.learn.algos.pairs import best_rows
from ocr_rl.learn.algos.rounds import rounds, sample_pairs
from ocr_rl.learn.algos.setting import SamplingSetting
from ocr_rl.learn.step import Step
from ocr_rl.objectives.losses import NegativeLogLikelihood


def best_of_n(cfg: config.BestOfN, setting: SamplingSetting, state: Mapping[str, Any]) -> Iterator[Step]:
    """Steps from `learner.policy` to `cfg.steps`; where to go on is that number alone, so `state` is not read."""
    return rounds(cfg, setting, partial(sample_pairs, cfg, setting), best_rows, NegativeLogLikelihood())
