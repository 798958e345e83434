"""The algorithms: generators of steps, one file each. A section of a recipe is worked by the function of its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ocr_rl.config import BestOfN, Dpo, Grpo, Ppo, RewardModel, Sft
from ocr_rl.learn.algos.best_of_n import best_of_n
from ocr_rl.learn.algos.dpo import dpo
from ocr_rl.learn.algos.grpo import grpo
from ocr_rl.learn.algos.ppo import ppo
from ocr_rl.learn.algos.reward_model import reward_model
from ocr_rl.learn.algos.sft import sft
from ocr_rl.learn.step import Step

# section -> (section, setting, state) -> its steps from that state on
STEPS: Mapping[type, Callable[[Any, Any, Mapping[str, Any]], Iterator[Step]]] = {
    Sft: sft,
    Grpo: grpo,
    Ppo: ppo,
    Dpo: dpo,
    BestOfN: best_of_n,
    RewardModel: reward_model,
}
