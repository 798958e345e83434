"""What a learner's own pass through a step's rows says of their tokens, kept for the log: it costs no second pass."""

from __future__ import annotations

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
    kept: dict[Key, Tokens] = field(default_factory=dict)

    def __call__(self, read: Any, batch: Batch) -> tuple[Tensor, Sums]:
        if isinstance(read, Read):
            self._keep(read, batch)
        return self.loss(read, batch)

    def _keep(self, read: Read, batch: Batch) -> None:
        logprobs, entropies = read.logprob_N.detach().tolist(), read.entropy_N.tolist()
        ends = accumulate(len(row.completion_ids) for row in batch.rows)
        for row, end in zip(batch.rows, ends, strict=True):
            own = slice(end - len(row.completion_ids), end)
            learner = row.old_logprobs if row.old_logprobs is not None else tuple(logprobs[own])
            self.kept[key_of(row)] = Tokens(learner=learner, entropy=tuple(entropies[own]))


def key_of(row: Row) -> Key:
    return row.group_id, row.completion_ids
