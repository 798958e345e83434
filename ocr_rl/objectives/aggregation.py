"""How much a token counts: a step's loss is a weighted sum over tokens, and the weights are these.

A weight is a share of the *whole* optimiser step, so micro-batches and ranks cannot change the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The sizes that a sample's weight depends on."""

    tokens: int  # of the sample
    siblings: int  # samples of its page, masked ones too
    groups: int  # pages of the step
    step_tokens: int  # of all samples of the step
    max_tokens: int  # the longest that a sample may be


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregation:
    weight: Callable[[Sizes], float]  # of each token of a sample
    by_tokens: bool = False  # whether a minibatch is worth its share of tokens; otherwise its share of samples


def sample_mean(sizes: Sizes) -> float:
    """Each group, then each sample, then each token counts the same (GRPO: 1/J, 1/G, 1/T; arXiv 2402.03300)."""
    return 1 / (sizes.groups * sizes.siblings) / sizes.tokens


def token_mean(sizes: Sizes) -> float:
    """Each token of the step counts the same (DAPO, arXiv 2503.14476)."""
    return 1 / sizes.step_tokens


def fixed_length(sizes: Sizes) -> float:
    """Each sample counts as if it were as long as a sample may be (Dr. GRPO, arXiv 2503.20783)."""
    return 1 / (sizes.groups * sizes.siblings) / sizes.max_tokens


# A minibatch of `fixed_length` is weighed by samples: by tokens, a token's weight would hang on its neighbours.
AGGREGATIONS: Mapping[str, Aggregation] = {
    "sample_mean": Aggregation(weight=sample_mean),
    "token_mean": Aggregation(weight=token_mean, by_tokens=True),
    "fixed_length": Aggregation(weight=fixed_length),
}
