"""Losses: pure functions of flat token tensors. Normalisation is in the weights, so every loss only sums.

Shapes: N tokens of a micro-batch, B its rows; `row_N` maps tokens to rows. A micro-batch holds whole rows. Each loss
returns the scalar to differentiate and sums to log (divided by whole-step counts elsewhere).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ocr_rl.learn.rows import Batch

LossAndSums = tuple[Tensor, dict[str, float]]
Loss = Callable[[Tensor, Batch], LossAndSums]


def nll(logprob_N: Tensor, batch: Batch) -> LossAndSums:
    """Negative log-likelihood, each token times its weight."""
    loss = -(logprob_N * batch.weight_N).sum()
    return loss, {"nll": float(-logprob_N.detach().sum())}


Ratio = Literal["token", "sequence", "geometric"]


def grpo(
    *,
    ratio: Ratio = "token",
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    beta: float = 0.0,
    cap: float = 2.0,
) -> Loss:
    """Clipped surrogate with group-relative advantages (Shao et al. 2024, arXiv 2402.03300, eq. 3) and k3 KL.

    `ratio`: per token (DeepSeek), of the whole response (METHODS), or its geometric mean over tokens (GSPO, arXiv
    2507.18071); the clip is the same code. The truncated importance correction min(pi_old / pi_sampler, cap), per
    token and without gradient, weighs each token for the engine's own rounding; it differs from the paper, which has
    one engine.
    """
    high = epsilon if epsilon_high is None else epsilon_high

    def loss(logprob_N: Tensor, batch: Batch) -> LossAndSums:
        assert batch.old_N is not None
        log_ratio_N = _level(logprob_N - batch.old_N, batch.row_N, len(batch.rows), ratio)
        ratio_N = log_ratio_N.exp()
        clipped_N = ratio_N.clamp(1 - epsilon, 1 + high)
        surrogate_N = torch.minimum(ratio_N * batch.advantage_N, clipped_N * batch.advantage_N)
        correction_N = torch.ones_like(surrogate_N)
        gap_N = torch.zeros_like(surrogate_N)
        if batch.sampler_N is not None:
            gap_N = batch.old_N - batch.sampler_N
            correction_N = gap_N.exp().clamp(max=cap)
        kl_N = torch.zeros_like(surrogate_N) if batch.ref_N is None else kl_k3(logprob_N, batch.ref_N)
        total = ((beta * kl_N - surrogate_N * correction_N) * batch.weight_N).sum()
        outside_N = (ratio_N * batch.advantage_N > clipped_N * batch.advantage_N).float()
        return total, {
            "kl": float(kl_N.detach().sum()),
            "clip_share": float(outside_N.sum()),
            "gap": float(gap_N.abs().sum()),
            "gap_max": float(gap_N.abs().max()),
            "truncated_share": float((gap_N.exp() > cap).float().sum()),
        }

    return loss


def kl_k3(logprob_N: Tensor, ref_N: Tensor) -> Tensor:
    """Schulman's k3 estimator of KL(pi || ref), per token: exp(d) - d - 1, d = ref - pi; unbiased, never negative."""
    d_N = ref_N - logprob_N
    return d_N.exp() - d_N - 1


def _level(log_ratio_N: Tensor, row_N: Tensor, B: int, ratio: Ratio) -> Tensor:
    """Log-ratios at token, sequence (sum) or geometric-mean level, spread back over the tokens."""
    if ratio == "token":
        return log_ratio_N
    sum_B = torch.zeros(B, dtype=log_ratio_N.dtype, device=log_ratio_N.device).index_add(0, row_N, log_ratio_N)
    if ratio == "sequence":
        return sum_B[row_N]
    count_B = torch.bincount(row_N, minlength=B).clamp(min=1)
    return (sum_B / count_B)[row_N]
