"""Our reward model's loss and our PPO (rewards of tokens to both losses) beside what TRL's trainers answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch

from benchmarks.peers.cases import Values
from benchmarks.peers.rlhf_cases import NO_CLIP, PairCase, Pairs, Rollout, RolloutCase
from benchmarks.peers.slopes import PROMPT, as_scores, as_values, farthest, loss_and_gradient, relative
from ocr_rl import config
from ocr_rl.learn.algos.ppo import drift_of, losses_of, with_critic
from ocr_rl.learn.algos.rollouts import reweighted
from ocr_rl.objectives import returns
from ocr_rl.objectives.losses import Sums
from ocr_rl.objectives.scalar_losses import BradleyTerry
from ocr_rl.rollout.flow import Row

Answer = Mapping[str, Any]
Gaps = dict[str, float]


def asked_pairs(case: PairCase, given: Pairs) -> dict[str, Any]:
    return {
        "kind": case.kind,
        "config": dict(case.theirs),
        "batch": case.batch,
        "turned": case.label_smoothing,
        "scores": given.scores,
        "margins": given.margins if case.margins else None,
    }


def compare_pairs(case: PairCase, given: Pairs, answer: Answer, dtype: torch.dtype) -> Gaps:
    pairs = len(given.margins)
    rows = [
        Row(
            prompt=PROMPT,
            completion_ids=(1,),
            group_id=k // 2,
            weight=1 / pairs,
            advantage=1.0 if k % 2 == 0 else -1.0,
            margin=given.margins[k // 2] if case.margins and k % 2 == 0 else 0.0,
        )
        for k in range(2 * pairs)
    ]
    loss = BradleyTerry(label_smoothing=case.label_smoothing)
    value, slopes, sums = loss_and_gradient(loss, rows, [[s] for s in given.scores], dtype, as_scores)
    return {
        "loss": abs(value - answer["loss"]),
        "gradient": relative(slopes, [[slope] for slope in answer["gradient"]]),
        "accuracy": abs(sums["accuracy_mean"] - answer["accuracy"]),
    }


def asked_rollout(case: RolloutCase, given: Rollout) -> dict[str, Any]:
    settings = {
        "gamma": case.gamma,
        "lam": case.gae_lambda,
        "kl_coef": case.beta,
        "cliprange": 0.2,
        "cliprange_value": NO_CLIP if case.clip is None else case.clip,
        "vf_coef": 1.0,
    }
    return {
        "kind": case.kind,
        "config": {**settings, **case.theirs},
        "minibatches": case.minibatches,
        "accumulate": case.accumulate,
        **asdict(given),
    }


def settings_of(case: RolloutCase) -> config.Ppo:
    return config.Ppo.model_validate(
        {
            "pages": {"synth": "report", "n": 1},
            "steps": 1,
            "gamma": case.gamma,
            "gae_lambda": case.gae_lambda,
            "beta": case.beta,
            "epsilon": 0.2,
            "aggregation": "token_mean",
            "whiten": not case.after_end,  # then afterwards: what stands after the end is not whitened
            "critic": {"clip": case.clip},
        }
    )


def rows_of(case: RolloutCase, given: Rollout, *, after_end: bool = False) -> list[Row]:
    """As `ppo` has them before the critic judges; with `after_end` a shorter row has one place more, without drift."""
    lengths = [len(row) for row in given.logprobs]
    more = [(0.0,) * (after_end and n < max(lengths)) for n in lengths]
    tokens = sum(n + len(extra) for n, extra in zip(lengths, more, strict=True))
    earned = rewards_of(case, given)
    return [
        Row(
            prompt=PROMPT,
            completion_ids=(1,) * (n + len(extra)),
            group_id=k,
            weight=1 / tokens,
            advantage=earned[k],
            old_logprobs=(*given.old[k], *extra),
            ref_logprobs=(*given.ref[k], *extra),
        )
        for k, (n, extra) in enumerate(zip(lengths, more, strict=True))
    ]


def rewards_of(case: RolloutCase, given: Rollout) -> list[float]:
    return [reward - (0.0 if ended else case.penalty) for reward, ended in zip(given.rewards, given.ended, strict=True)]


def judged(case: RolloutCase, given: Rollout) -> list[Row]:
    """With advantages and returns, also after the end where the case says so."""
    rows = rows_of(case, given, after_end=case.after_end)
    before = [tuple(values[: len(row.completion_ids)]) for row, values in zip(rows, given.old_values, strict=True)]
    return with_critic(rows, before, settings_of(case))[0]


def compare_policy(case: RolloutCase, given: Rollout, answer: Answer, dtype: torch.dtype) -> Gaps:
    """Rewards and returns of tokens, whitened advantages, the clipped loss of each update and its gradient."""
    cfg, lengths, rows = settings_of(case), [len(row) for row in given.logprobs], judged(case, given)
    came, advantages = cut([row.returns or () for row in rows], lengths), cut(advantages_of(rows), lengths)
    if case.after_end:
        advantages = [list(row) for row in returns.whitened(advantages)]
    plain = rows_of(case, given)
    rewards = [
        returns.token_rewards(reward, drift_of(row), case.beta)
        for reward, row in zip(rewards_of(case, given), plain, strict=True)
    ]
    at_last = [[*row[: n - 1], sum(row[n - 1 :])] for row, n in zip(answer["rewards"], lengths, strict=True)]
    learnt = [replace(row, advantage=tuple(values)) for row, values in zip(plain, advantages, strict=True)]
    loss, _ = losses_of(cfg, warm=False)
    assert loss is not None
    windows = [(window["rows"], window["loss"]) for window in answer["windows"]]
    gap, gradient = updates(windows, learnt, given.logprobs, partial(loss_and_gradient, loss, dtype=dtype))
    return {
        "rewards": farthest(rewards, at_last),
        "returns": farthest(came, cut(answer["returns"], lengths)),
        "advantages": farthest(advantages, answer["advantages"]),
        "loss": gap,
        "gradient": relative(gradient, answer["gradient"]),
    }


def compare_critic(case: RolloutCase, given: Rollout, answer: Answer, dtype: torch.dtype) -> Gaps:
    """The critic's loss of each update and its gradient beside twice TRL's."""
    rows = judged(case, given)
    lengths = [len(row.completion_ids) for row in rows]
    _, loss = losses_of(settings_of(case), warm=False)
    assert loss is not None
    windows = [(window["rows"], 2 * window["loss"]) for window in answer["windows"]]
    slopes = partial(loss_and_gradient, loss, dtype=dtype, read=as_values)
    gap, gradient = updates(windows, rows, cut(given.values, lengths), slopes)
    twice = [[2 * slope for slope in row] for row in cut(answer["gradient"], lengths)]
    return {"loss": gap, "gradient": relative(gradient, twice)}


def updates(
    windows: Sequence[tuple[Sequence[int], float]],
    rows: Sequence[Row],
    values: Values,
    slopes_of: Callable[[Sequence[Row], Values], tuple[float, Values, Sums]],
) -> tuple[float, Values]:
    """Over the updates of a rollout: the largest difference of our loss to TRL's, and our gradients, by row."""
    gap, gradient = 0.0, [[0.0] * len(row) for row in values]
    for places, theirs in windows:
        part = reweighted([rows[k] for k in places], rows, "token_mean")
        value, slopes, _ = slopes_of(part, [values[k] for k in places])
        gap = max(gap, abs(value - theirs))
        for k, row in zip(places, slopes, strict=True):
            gradient[k] = row
    return gap, gradient


def advantages_of(rows: Sequence[Row]) -> list[tuple[float, ...]]:
    return [row.advantage for row in rows if isinstance(row.advantage, tuple)]


def cut(rows: Sequence[Sequence[float]], lengths: Sequence[int]) -> Values:
    return [list(row[:n]) for row, n in zip(rows, lengths, strict=True)]
