"""Cases of RLHF (a reward model's loss, PPO with a critic): settings that ought to mean the same, random numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from benchmarks.peers.cases import Values, float32

PAIRS, ROWS, LONGEST = 12, 12, 8
NO_CLIP = 1e6  # TRL's clip of values is always on; so far none of ours goes


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """What both sides are given of pairs; scores are of chosen, rejected, chosen, ..."""

    scores: list[float]
    margins: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairCase:
    """`theirs` configures TRL's RewardTrainer."""

    name: str
    kind: Literal["reward_model"] = "reward_model"
    theirs: Mapping[str, Any] = field(default_factory=dict)
    margins: bool = False
    label_smoothing: float = 0.0
    batch: int = PAIRS  # pairs that TRL takes at once
    alike: str = ""
    equal: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """What both sides are given of a rollout, by row; values have one more place: after the last token."""

    logprobs: Values
    old: Values
    ref: Values
    values: Values
    old_values: Values
    rewards: list[float]
    ended: list[bool]  # with EOS; the others were cut off


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutCase:
    """`kind` says which loss is compared. The settings stand as ours are named; `theirs` adds what only TRL has."""

    name: str
    kind: Literal["ppo", "critic"]
    gamma: float = 0.99
    gae_lambda: float = 0.95
    beta: float = 0.05
    clip: float | None = 0.2  # of values
    theirs: Mapping[str, Any] = field(default_factory=dict)
    even: bool = False  # every row is as long as the longest
    after_end: bool = False  # ours with one more place after the end of a shorter row, as TRL has it
    penalty: float = 0.0  # off our reward of a row that was cut off
    minibatches: int = 1
    accumulate: int = 1  # TRL's micro-batches of a step
    alike: str = ""
    equal: bool = True


def pair_cases() -> list[PairCase]:
    return [
        PairCase(name="reward model"),
        PairCase(name="reward model, micro-batches", batch=PAIRS // 3),
        PairCase(name="reward model, margins", margins=True),
        PairCase(
            name="reward model, margins, label smoothing",
            margins=True,
            label_smoothing=0.1,
            alike="TRL's loss of the pairs and, for that share, of the pairs turned round: it has no label smoothing",
        ),
        PairCase(
            name="reward model with TRL's centring",
            theirs={"center_rewards_coefficient": 0.01},
            alike="nothing: center_rewards_coefficient pulls TRL's scores to 0; ours are centred after training",
            equal=False,
        ),
    ]


def rollout_cases() -> list[RolloutCase]:
    one_more = "ours with one more place after a sample shorter than the batch's longest: TRL has the score there"
    half = "TRL's doubled: it has 0.5 in front"
    return [
        RolloutCase(kind="ppo", name="ppo, equal lengths", even=True),
        RolloutCase(kind="ppo", name="ppo, equal lengths, no KL", even=True, beta=0.0),
        RolloutCase(kind="ppo", name="ppo, equal lengths, 2 minibatches", even=True, minibatches=2),
        RolloutCase(
            kind="ppo",
            name="ppo, equal lengths, missing EOS",
            even=True,
            theirs={"missing_eos_penalty": 0.5},
            penalty=0.5,
            alike="ours with rewards of cut-off samples lowered by missing_eos_penalty",
        ),
        RolloutCase(
            kind="ppo",
            name="ppo, gamma and lambda 1",
            gamma=1.0,
            gae_lambda=1.0,
            alike="TRL's score counted at the last token: it stands one place later, which nothing discounts here",
        ),
        RolloutCase(kind="ppo", name="ppo", after_end=True, alike=one_more),
        RolloutCase(kind="ppo", name="ppo, lambda 0", gae_lambda=0.0, after_end=True, alike=one_more),
        RolloutCase(kind="ppo", name="ppo, 2 minibatches", minibatches=2, after_end=True, alike=one_more),
        RolloutCase(
            kind="ppo",
            name="ppo with TRL's place of the score",
            alike="nothing: TRL's score of a shorter sample comes a place late, after what the critic expects there",
            equal=False,
        ),
        RolloutCase(
            kind="ppo",
            name="ppo with TRL's micro-batches",
            accumulate=3,
            after_end=True,
            alike="nothing: TRL takes the mean of micro-batches' token means, so it depends on their cut",
            equal=False,
        ),
        RolloutCase(kind="critic", name="critic, equal lengths", even=True, alike=half),
        RolloutCase(
            kind="critic",
            name="critic, equal lengths, no clip",
            even=True,
            clip=None,
            alike=f"{half}, and a clip that is always on, here at {NO_CLIP:.0g}",
        ),
        RolloutCase(kind="critic", name="critic", after_end=True, alike=f"{half}; {one_more}"),
        RolloutCase(
            kind="critic", name="critic, 2 minibatches", minibatches=2, after_end=True, alike=f"{half}; {one_more}"
        ),
        RolloutCase(
            kind="critic",
            name="critic with TRL's place of the score",
            alike="nothing: TRL's critic learns one more value of a shorter sample, after its end",
            equal=False,
        ),
    ]


def pair_numbers(seed: int, case: PairCase) -> Pairs:
    """The last pair is a tie."""
    random = Random(f"pairs/{seed}")
    scores = [float32(random.gauss(0, 1.5)) for _ in range(2 * PAIRS)]
    return Pairs(scores=[*scores[:-1], scores[-2]], margins=[float32(random.expovariate(1.0)) for _ in range(PAIRS)])


def rollout_numbers(seed: int, case: RolloutCase) -> Rollout:
    """Ratios and values far enough apart that both clips are met; at least one row is cut off, at the longest."""
    random = Random(f"rollout/{seed}")
    lengths = [LONGEST, *(LONGEST if case.even else random.randint(1, LONGEST) for _ in range(ROWS - 1))]

    def near(values: Values, spread: float, most: float) -> Values:
        return [[float32(min(most, value + random.gauss(0, spread))) for value in row] for row in values]

    logprobs = [[float32(-random.expovariate(1.0)) for _ in range(n)] for n in lengths]
    old = near(logprobs, 0.4, 0.0)
    old_values = [[float32(random.gauss(0.5, 0.3)) for _ in range(n + 1)] for n in lengths]
    return Rollout(
        logprobs=logprobs,
        old=old,
        ref=near(old, 0.5, 0.0),
        old_values=old_values,
        values=near(old_values, 0.3, 2.0),
        rewards=[float32(random.random()) for _ in lengths],
        ended=[n < LONGEST or (case.even and k % 3 == 1) for k, n in enumerate(lengths)],
    )
