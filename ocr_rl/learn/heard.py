"""What a learner's own pass through a step's rows says of their tokens, kept for the log: it costs no second pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ocr_rl.learn.rows import Batch
from ocr_rl.objectives.losses import Loss, Read, Sums
from ocr_rl.rollout.flow import Row

if TYPE_CHECKING:
    from torch import Tensor

Key = tuple[int, tuple[int, ...]]  # number of the group, token ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Of each token of a row, in nats."""

    learner: tuple[float, ...]  # log-probability before the rollout's first update
    entropy: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Listening:
    """A loss that keeps what it is shown. With several processes, of the rows of this one alone."""

    loss: Loss
    shown: list[tuple[Sequence[Row], Tensor, Tensor]] = field(
        default_factory=list
    )  # rows, log-probabilities, entropies

    def __call__(self, read: Any, batch: Batch) -> tuple[Tensor, Sums]:
        if isinstance(read, Read):
            self.shown.append((batch.rows, read.logprob_N.detach(), read.entropy_N))
        return self.loss(read, batch)

    @property
    def kept(self) -> dict[Key, Tokens]:
        """Read off the device here, after the passes: amid one the host would wait."""
        return {key_of(row): tokens for shown in self.shown for row, tokens in _tokens(*shown)}


def _tokens(rows: Sequence[Row], logprob_N: Tensor, entropy_N: Tensor) -> Iterator[tuple[Row, Tokens]]:
    logprobs, entropies = logprob_N.tolist(), entropy_N.tolist()
    ends = accumulate(len(row.completion_ids) for row in rows)
    for row, end in zip(rows, ends, strict=True):
        own = slice(end - len(row.completion_ids), end)
        learner = row.old_logprobs if row.old_logprobs is not None else tuple(logprobs[own])
        yield row, Tokens(learner=learner, entropy=tuple(entropies[own]))


def key_of(row: Row) -> Key:
    return row.group_id, row.completion_ids
