"""What both sides of `benchmarks.peers.losses` are given: settings that ought to mean the same, and random numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

import torch

PAGES, SAMPLES, MAX_TOKENS = 6, 4, 24
# TRL's loss type -> our aggregation
AGGREGATION = {"grpo": "sample_mean", "dapo": "token_mean", "dr_grpo": "fixed_length"}

Values = list[list[float]]  # by row, then by token


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What both sides are given; rows are the samples of page 0, then of page 1, and so on."""

    logprobs: Values
    old: Values
    ref: Values
    sampler: Values
    ended: list[bool]
    rewards: Values  # by row, then by reward


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`theirs` configures TRL; `recipe` are fields of config.Grpo, `loss` keyword arguments of ours."""

    name: str
    theirs: Mapping[str, Any]
    kind: Literal["grpo", "dpo"] = "grpo"
    loss: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    reward_weights: Sequence[float] = (1.0,)
    sampler: bool = False  # with the engine's own log-probabilities
    windows: int = 1  # optimiser steps a rollout
    accumulate: int = 1  # TRL's micro-batches of a step
    flat: bool = False  # the first group's rewards are all alike
    batch: int = 1  # pairs that TRL takes at once (DPO)
    alike: str = ""
    equal: bool = True


def grpo_cases() -> list[Case]:
    cases = []
    for kind, aggregation in AGGREGATION.items():
        theirs: dict[str, Any] = {"loss_type": kind, "max_completion_length": MAX_TOKENS, "beta": 0.0}
        recipe: dict[str, Any] = {"aggregation": aggregation}
        if kind == "dr_grpo":  # its paper scales by nothing
            theirs, recipe = theirs | {"scale_rewards": "none"}, recipe | {"advantage": "centred"}
        kl = {"beta": 0.04, "use_bias_correction_kl": False}
        level = {"importance_sampling_level": "sequence"}
        engine = {"vllm_importance_sampling_mode": "token_truncate", "vllm_importance_sampling_clip_max": 2.0}
        masked = {"mask_truncated_completions": True}
        cases += [
            Case(name=kind, theirs=theirs, recipe=recipe),
            Case(name=f"{kind}, micro-batches", theirs=theirs, recipe=recipe, accumulate=3),
            Case(
                name=f"{kind}, sequence ratio (GSPO)",
                theirs=theirs | level,
                recipe=recipe,
                loss={"ratio": "geometric"},
            ),
            Case(
                name=f"{kind}, k3",
                theirs=theirs | kl,
                recipe=recipe,
                loss={"beta": 0.04},
                alike="TRL without use_bias_correction_kl",
            ),
            Case(
                name=f"{kind}, clip-higher",
                theirs=theirs | {"epsilon_high": 0.28},
                recipe=recipe,
                loss={"epsilon_high": 0.28},
            ),
            Case(
                name=f"{kind}, two-sided clip",
                theirs=theirs | {"delta": 1.3},
                recipe=recipe,
                loss={"delta": 1.3},
            ),
            Case(
                name=f"{kind}, unfinished masked",
                theirs=theirs | masked,
                recipe=recipe | {"mask_unfinished": True},
            ),
            Case(
                name=f"{kind}, importance correction",
                theirs=theirs | engine,
                recipe=recipe,
                sampler=True,
                alike="TRL with token_truncate at 2",
            ),
            Case(
                name=f"{kind}, all of these",
                theirs=theirs | kl | level | engine | masked | {"epsilon_high": 0.28},
                recipe=recipe | {"mask_unfinished": True},
                loss={"ratio": "geometric", "beta": 0.04, "epsilon_high": 0.28},
                sampler=True,
                accumulate=3,
                alike="TRL without use_bias_correction_kl, with token_truncate at 2",
            ),
            Case(
                name=f"{kind}, a group without signal",
                theirs=theirs,
                recipe=recipe,
                flat=True,
                alike="ours times the share of live groups (dapo: of their tokens): we drop the others",
            ),
            Case(
                name=f"{kind}, 2 updates a rollout",
                theirs=theirs,
                recipe=recipe,
                windows=2,
                alike=""
                if kind == "grpo"
                else "ours times the update's tokens over their mean: our updates weigh the same",
            ),
            Case(
                name=f"{kind}, k3 as TRL has it by default",
                theirs=theirs | {"beta": 0.04},
                recipe=recipe,
                loss={"beta": 0.04},
                alike="nothing: use_bias_correction_kl multiplies TRL's KL by the ratio",
                equal=False,
            ),
        ]
    plain = {"loss_type": "dapo", "max_completion_length": MAX_TOKENS, "beta": 0.0}
    cispo = plain | {"loss_type": "cispo", "epsilon_high": 1.28}
    return [
        *cases,
        *(
            Case(
                name=name,
                theirs=cispo,
                recipe={"aggregation": "token_mean"},
                loss={"surrogate": "cispo", "epsilon_high": 0.28},
                accumulate=accumulate,
                alike="TRL's epsilon_high is the bound itself, ours comes on top of 1",
            )
            for name, accumulate in (("cispo", 1), ("cispo, micro-batches", 3))
        ),
        Case(
            name="batch_std",
            theirs=plain | {"scale_rewards": "batch"},
            recipe={"aggregation": "token_mean", "advantage": "batch_std"},
        ),
        Case(
            name="centred",
            theirs=plain | {"scale_rewards": "none"},
            recipe={"aggregation": "token_mean", "advantage": "centred"},
        ),
        Case(
            name="two rewards, group_std",
            theirs=plain,
            recipe={"aggregation": "token_mean", "advantage": "group_std"},
            reward_weights=(0.7, 0.3),
        ),
        Case(
            name="two rewards, gdpo",
            theirs=plain | {"multi_objective_aggregation": "normalize_then_sum"},
            recipe={"aggregation": "token_mean", "advantage": "gdpo"},
            reward_weights=(0.7, 0.3),
            alike="ours scaled over the batch afterwards, as TRL does and its paper says",
        ),
    ]


def dpo_cases() -> list[Case]:
    pairs = PAGES * SAMPLES // 2
    smoothed, anchored = {"label_smoothing": 0.1}, {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]}
    one = "TRL on one pair at a time"
    return [
        Case(kind="dpo", name="dpo", theirs={}, batch=pairs),
        Case(kind="dpo", name="dpo, micro-batches", theirs={}, batch=pairs // 3),
        Case(
            kind="dpo",
            name="dpo, length-normalised",
            theirs={"loss_type": ["sigmoid_norm"]},
            loss={"length_normalised": True},
            batch=pairs,
        ),
        Case(
            kind="dpo",
            name="dpo, label smoothing",
            theirs=smoothed | {"loss_type": ["aot"]},
            loss=smoothed,
            alike=f"{one}, loss_type aot (of one pair: the same formula); its sigmoid ignores label_smoothing",
        ),
        Case(kind="dpo", name="dpo, NLL anchor", theirs=anchored, loss={"nll_anchor": 0.5}, alike=one),
        Case(
            kind="dpo",
            name="dpo, label smoothing with TRL's sigmoid",
            theirs=smoothed,
            loss=smoothed,
            batch=pairs,
            alike="nothing: TRL's sigmoid ignores label_smoothing",
            equal=False,
        ),
        Case(
            kind="dpo",
            name="dpo, NLL anchor with TRL's batches",
            theirs=anchored,
            loss={"nll_anchor": 0.5},
            batch=pairs,
            alike="nothing: TRL's sft is a mean over the batch's tokens, ours over its pairs",
            equal=False,
        ),
    ]


def numbers(seed: int, case: Case) -> Numbers:
    """Ratios, gaps and KL wide enough that every clip and cap is met. Python's generator: the same everywhere."""
    random = Random(seed)
    rows, rewards = range(PAGES * SAMPLES), len(case.reward_weights)

    def near(values: Values, spread: float) -> Values:
        return [[float32(min(0.0, value + random.gauss(0, spread))) for value in row] for row in values]

    logprobs = [[float32(-random.expovariate(2.0)) for _ in range(random.randint(1, MAX_TOKENS))] for _ in rows]
    old = near(logprobs, 0.4)
    scores = [[random.random() for _ in range(rewards)] for _ in rows]
    return Numbers(
        logprobs=logprobs,
        old=old,
        ref=near(logprobs, 0.5),
        sampler=near(old, 0.6),
        ended=[random.random() < 0.75 for _ in rows],
        rewards=[[0.5] * rewards if case.flat and k < SAMPLES else scores[k] for k in rows],
    )


def float32(value: float) -> float:
    """What a batch would hold of it."""
    return float(torch.tensor(value, dtype=torch.float32))
