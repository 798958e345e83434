"""What a sampler is: prompts in, groups of sibling samples out, new weights in between.

It knows nothing about engines, rewards or losses. Log-probabilities are those of the distribution really sampled:
banned ids masked, temperature applied, then log-softmax over the whole vocabulary; at temperature 0 the token is the
largest logit and its log-probability that of the masked distribution at temperature 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ocr_rl.contract import Page, UserError
from ocr_rl.rollout.flow import Group, Prompt

if TYPE_CHECKING:
    from ocr_rl.models.family import Family
    from ocr_rl.models.weights import Weights

GPU_SHARE_ALONE = 0.9  # of a GPU's memory, what an engine takes where there is no learner
CPU_CACHE_GIB = 1.0  # without a GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to sample. There is no top_p: a truncated distribution is not the one that the learner differentiates."""

    n: int = 1  # samples per page
    temperature: float = 1.0  # 0 = greedy
    max_tokens: int  # per sample, EOS included
    seed: int = 0  # of the step; every page derives its own from it (`seed_for`)
    page_limits: Mapping[str, int] = field(
        default_factory=dict, hash=False
    )  # by page id: instead of max_tokens, and not above it

    def __post_init__(self) -> None:
        if self.n < 1 or self.max_tokens < 1:
            raise ValueError(f"n and max_tokens must be at least 1, got {self.n} and {self.max_tokens}")
        if self.temperature != 0 and not 0.01 <= self.temperature <= 10:
            # Below 0.01 engines clamp or go greedy, and their log-probabilities would not say so.
            raise ValueError(f"temperature must be 0 (greedy) or from 0.01 to 10, got {self.temperature}")
        if self.greedy and self.n > 1:
            raise ValueError(f"n must be 1 at temperature 0, where siblings are equal, got {self.n}")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    def limit(self, page_id: str) -> int:
        """Tokens of a page's longest sample, EOS included: the same sample as with more, cut."""
        return min(self.max_tokens, self.page_limits.get(page_id, self.max_tokens))


class Sampler(Protocol):
    """One policy ready to write. `policy` is the version of its weights, stamped on every sample."""

    policy: int
    engines: int  # that share the pages of a call

    def sample(self, prompts: Sequence[tuple[Page, Prompt]], how: Sampling) -> Iterator[Group]:
        """One group of `how.n` samples per page, as they finish: the caller restores the order it needs."""
        ...

    def load(self, weights: Weights, policy: int) -> None:
        """Take over all weights (checkpoint names), or adapters over those of the folder that they name.

        Nothing computed with the old ones is used again. UserError where it then holds other numbers than it was given.
        """
        ...

    def close(self) -> None:
        """Give back memory and processes. Calling it twice does no harm."""
        ...


def require_room(prompt: Prompt, how: Sampling, max_model_len: int) -> None:
    """UserError where an engine would cut a sample short and call it finished by length."""
    limit = how.limit(prompt.page_id)
    needed = len(prompt.expanded_ids) + limit
    if needed > max_model_len:
        raise UserError(
            f"Page {prompt.page_id}: its prompt ({len(prompt.expanded_ids)} tokens) and its samples ({limit}) "
            f"need a max_model_len of {needed}, the sampler's is {max_model_len}."
        )


def require_adapters(family: Family, *, in_tower: bool) -> None:
    """UserError where vLLM would leave adapters out, or die of them."""
    if family.engine_adapters == "nowhere":
        raise UserError(
            f'vLLM has no adapters for {family.name}: set policy.lora_rank = 0, or sampling.engine = "transformers".'
        )
    if in_tower and family.engine_adapters == "text":
        raise UserError(
            f"vLLM has no adapters on all of the vision tower of {family.name}: set policy.lora_vision = false, or "
            'sampling.engine = "transformers".'
        )


def seed_for(*key: int | str) -> int:
    """A seed from (run seed, step, page id, ...), at least 0 and below 2**62.

    By hashing: engines give sibling k the seed + k, so neighbouring seeds would make siblings of two pages twins.
    """
    digest = hashlib.sha256(repr(key).encode()).digest()
    return int.from_bytes(digest[:8]) >> 2
