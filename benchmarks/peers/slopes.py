"""Our half of every comparison: a loss over rows and micro-batches, and how far two gradients lie apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.peers.cases import MAX_TOKENS, Values
from ocr_rl.learn.rows import Batch, collate, micro_batches, packed_length
from ocr_rl.objectives.losses import Loss, Read, Scalars, Sums
from ocr_rl.pages.raster import ImageRef
from ocr_rl.rollout.flow import Prompt, Row

BUDGET = 3 * MAX_TOKENS  # padded tokens of our micro-batches: a group is cut into several
PROMPT = Prompt(page_id="p", image=ImageRef(pdf=Path("a.pdf"), number=1), token_ids=(5,), expanded_ids=(5,))


def as_logprobs(value_N: Tensor) -> Read:
    return Read(logprob_N=value_N, entropy_N=torch.zeros_like(value_N))


def as_values(value_N: Tensor) -> Scalars:
    return Scalars(value_N=value_N, score_B=value_N[:0])


def as_scores(score_B: Tensor) -> Scalars:
    return Scalars(value_N=score_B[:0], score_B=score_B)


def loss_and_gradient(
    loss: Loss,
    rows: Sequence[Row],
    values: Values,
    dtype: torch.dtype,
    read: Callable[[Tensor], Read | Scalars] = as_logprobs,
) -> tuple[float, Values, Sums]:
    """Summed over our micro-batches, as the learner does; the gradient by row, then as `values` are; the loss's sums.

    `values[k]` are of row k what `read` takes for the model's: one of each token, or one of the row.
    """
    place = {id(row): k for k, row in enumerate(rows)}
    gradient: Values = [[] for _ in rows]
    total, numbers = 0.0, dict[str, float]()
    for groups in micro_batches(rows, max(BUDGET, 2 * max(map(packed_length, ([row] for row in rows))))):
        pixels = torch.zeros(0), torch.zeros(len(groups), 3)
        batch = _as(collate(groups, pixels, lambda row, grid: torch.zeros(3, 1, dtype=torch.long)), dtype)
        pieces = [values[place[id(row)]] for row in batch.rows]
        leaf_N = torch.tensor([value for row in pieces for value in row], dtype=dtype, requires_grad=True)
        value, more = loss(read(leaf_N), batch)
        (slope_N,) = torch.autograd.grad(value, leaf_N)
        total += float(value.detach())
        numbers = {name: numbers.get(name, 0.0) + float(part) for name, part in more.items()}
        for row, piece in zip(batch.rows, slope_N.split([len(row) for row in pieces]), strict=True):
            gradient[place[id(row)]] = piece.tolist()
    return total, gradient, {**numbers}


def _as(batch: Batch, dtype: torch.dtype) -> Batch:
    names = ("weight_N", "advantage_N", "sampler_N", "old_N", "ref_N", "value_N", "return_N")
    tensors = {name: getattr(batch, name) for name in names}
    return replace(batch, **{name: None if value is None else value.to(dtype) for name, value in tensors.items()})


def farthest(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """The largest difference."""
    return max(abs(a - b) for mine, other in zip(ours, theirs, strict=True) for a, b in zip(mine, other, strict=True))


def relative(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """The largest difference over their largest component."""
    return farthest(ours, theirs) / max(abs(value) for row in theirs for value in row)
