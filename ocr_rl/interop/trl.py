"""Rewards for TRL's GRPOTrainer (and whoever else calls reward functions as it does).

trainer = GRPOTrainer(model, reward_funcs=reward_funcs("nano_grpo"), train_dataset=rows, args=args)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from statistics import fmean
from typing import Any

from ocr_rl.api import MixScore
from ocr_rl.contract import Transcript, UserError
from ocr_rl.interop.rows import COLUMNS, Spec, in_step, mix_of, score_alone, score_rows, transcript_of

RewardFunc = Callable[..., Sequence[float | None]]  # called by keyword: completions, completion_ids, columns


def reward_funcs(spec: Spec, *, eos_ids: Collection[int] = ()) -> list[RewardFunc]:
    """What `GRPOTrainer(reward_funcs=...)` takes: one function for a recipe's mix, or one for each single reward.

    `spec` is a shipped recipe, a TOML file, or a list of rewards as in ["pass_degree", "my_file.py:MyReward"]. A mix
    keeps its weights and gates, and logs its rewards one by one. A single reward gives None where it does not apply to
    the page; weigh several with `GRPOConfig(reward_weights=...)`. With `eos_ids` (those of the tokenizer) a completion
    that does not end in one of them counts as cut off, which the reward `eos` needs. UserError for a spec that cannot
    be loaded, and, when called, for a row that cannot be scored.
    """
    mix_of(spec)
    if not isinstance(eos_ids, Collection) or not all(isinstance(token, Integral) for token in eos_ids):
        raise UserError(f"eos_ids is {eos_ids!r}; give a list of token numbers, as in [tokenizer.eos_token_id].")
    if isinstance(spec, str | Path):
        return [_of_mix(spec, eos_ids)]
    return [_of_reward(name, eos_ids) for name in spec]


def _of_mix(spec: str | Path, eos_ids: Collection[int]) -> RewardFunc:
    name = Path(spec).stem

    def rewards(completions: Sequence[Any], **asked: Any) -> list[float]:
        scores = list(score_rows(spec, *_batch(completions, asked, eos_ids)))
        if log := asked.get("log_metric"):
            for part, mean in _means(scores).items():
                log(f"{name}/{part}", mean)
        return [score.reward for score in scores]

    return _named(rewards, name)


def _of_reward(name: str, eos_ids: Collection[int]) -> RewardFunc:
    def rewards(completions: Sequence[Any], **asked: Any) -> list[float | None]:
        return list(score_alone(name, *_batch(completions, asked, eos_ids)))

    return _named(rewards, name.rsplit(":", 1)[-1])


def _named(rewards: RewardFunc, name: str) -> RewardFunc:
    """The name is what the trainer logs."""
    rewards.__name__ = rewards.__qualname__ = name
    return rewards


def _batch(
    completions: Sequence[Any], asked: Mapping[str, Any], eos_ids: Collection[int]
) -> tuple[list[dict[str, Any]], list[Transcript]]:
    """Rows and transcripts of a call: TRL gives completions, their tokens, and the data set's columns by keyword."""
    number = len(in_step("completions", completions))
    rows = _rows(asked, number)
    ids = asked.get("completion_ids")
    ids = [None] * number if ids is None else in_step("completion_ids", ids, number)
    return rows, [transcript_of(text, own, eos_ids) for text, own in zip(completions, ids, strict=True)]


def _rows(columns: Mapping[str, Any], number: int) -> list[dict[str, Any]]:
    known = {column: in_step(f"column {column}", columns[column], number) for column in COLUMNS if column in columns}
    if not known.keys() & {"tests", "reference"}:
        raise UserError("the data set has neither a column `tests` nor `reference`; add what pages are scored by.")
    return [{column: values[k] for column, values in known.items()} for k in range(number)]


def _means(scores: Sequence[MixScore]) -> dict[str, float]:
    parts = dict.fromkeys(part for score in scores for part in score.parts)
    return {part: fmean(score.parts[part] for score in scores if part in score.parts) for part in parts}
