"""Losses: pure functions of flat token tensors. Normalisation is in the weights, so every loss only sums.

Shapes: N tokens of a micro-batch, B its rows; `row_N` maps tokens to rows. A micro-batch holds whole rows. Each loss
returns the scalar to differentiate and sums to log: over tokens (divided by the step's tokens elsewhere), the largest
value where the name ends in `_max`, already weighted where it ends in `_mean`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Literal, ParamSpec

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ocr_rl.learn.rows import Batch

LossAndSums = tuple[Tensor, dict[str, float]]
Loss = Callable[[Tensor, Batch], LossAndSums]
P = ParamSpec("P")


def nll(logprob_N: Tensor, batch: Batch) -> LossAndSums:
    """Negative log-likelihood, each token times its weight."""
    loss = -(logprob_N * batch.weight_N).sum()
    return loss, {"nll": float(-logprob_N.detach().sum())}


class _Made:
    """A loss with settings, pickled as the call that made it: every rank gets it, which an inner function could not."""

    def __init__(self, loss: Loss, again: Callable[[], Loss]) -> None:
        self.loss, self.again = loss, again

    def __call__(self, logprob_N: Tensor, batch: Batch) -> LossAndSums:
        return self.loss(logprob_N, batch)

    def __reduce__(self) -> tuple[Callable[[], Loss], tuple[()]]:
        return self.again, ()


def _sendable(make: Callable[P, Loss]) -> Callable[P, Loss]:
    @wraps(make)
    def made(*args: P.args, **options: P.kwargs) -> Loss:
        return _Made(make(*args, **options), partial(made, *args, **options))

    return made


Ratio = Literal["token", "sequence", "geometric"]
KlEstimator = Literal["k1", "k2", "k3"]


@_sendable
def grpo(
    *,
    ratio: Ratio = "token",
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    surrogate: Literal["clip", "cispo"] = "clip",
    delta: float | None = None,
    beta: float = 0.0,
    kl: KlEstimator = "k3",
    level: Literal["token", "sequence"] = "token",
    cap: float = 2.0,
) -> Loss:
    """Clipped surrogate with group-relative advantages (Shao et al. 2024, arXiv 2402.03300, eq. 3), and KL.

    `ratio`: per token (DeepSeek), of the whole response (METHODS), or its geometric mean over tokens (GSPO, arXiv
    2507.18071); the clip is the same code. `epsilon_high`: clip-higher (DAPO, arXiv 2503.14476). `delta`: a two-sided
    clip, no ratio above it counts, a bad sample's neither (INTELLECT-2, arXiv 2505.07291). "cispo" (MiniMax-M1, arXiv
    2506.13585): the ratio, clipped above, is a constant weight of A * log pi, so no token loses its gradient.

    The truncated importance correction min(pi_old / pi_sampler, cap), without gradient, weighs each token (or each
    sample, by the geometric mean over its tokens) for the engine's own rounding; it differs from the paper, which has
    one engine.
    """
    high = epsilon if epsilon_high is None else epsilon_high

    def loss(logprob_N: Tensor, batch: Batch) -> LossAndSums:
        old_N = logprob_N.detach() if batch.old_N is None else batch.old_N  # None: no update since the rollout
        ratio_N = _level(logprob_N - old_N, batch.row_N, len(batch.rows), ratio).exp()
        clipped_N = ratio_N.clamp(1 - epsilon, 1 + high)
        if surrogate == "cispo":
            surrogate_N = ratio_N.detach().clamp(max=1 + high) * batch.advantage_N * logprob_N
            outside_N = (ratio_N > 1 + high).float()
        else:
            bounded_N = ratio_N if delta is None else ratio_N.clamp(max=delta)
            surrogate_N = torch.minimum(bounded_N * batch.advantage_N, clipped_N * batch.advantage_N)
            outside_N = (ratio_N * batch.advantage_N > surrogate_N).float()
        gap_N = torch.zeros_like(surrogate_N) if batch.sampler_N is None else old_N - batch.sampler_N
        importance_N = _level(gap_N, batch.row_N, len(batch.rows), "geometric" if level == "sequence" else level).exp()
        kl_N = torch.zeros_like(surrogate_N) if batch.ref_N is None else KL[kl](logprob_N, batch.ref_N)
        total = ((beta * kl_N - surrogate_N * importance_N.clamp(max=cap)) * batch.weight_N).sum()
        return total, {
            "kl": float(kl_N.detach().sum()),
            "clip_share": float(outside_N.sum()),
            "gap": float(gap_N.abs().sum()),
            "gap_max": float(gap_N.abs().max()),
            "importance": float(importance_N.sum()),
            "truncated_share": float((importance_N > cap).float().sum()),
        }

    return loss


@_sendable
def dpo(*, beta: float, label_smoothing: float = 0.0, length_normalised: bool = False, nll_anchor: float = 0.0) -> Loss:
    """-log sigmoid(beta * margin) per pair (Rafailov et al. 2023, arXiv 2305.18290, eq. 7), the mean over pairs.

    A pair is the two rows of one group, advantage +1 the chosen and -1 the rejected one; the margin is the difference
    of their log-ratios to the reference, summed over tokens (`length_normalised`: the mean over tokens).
    `label_smoothing` takes that share of the labels to be wrong (Mitchell 2023, conservative DPO). `nll_anchor` adds
    that many times the chosen answer's negative log-likelihood per token (Pang et al. 2024, arXiv 2404.19733).
    """

    def loss(logprob_N: Tensor, batch: Batch) -> LossAndSums:
        assert batch.ref_N is not None
        sign_B = logprob_N.new_tensor([row.advantage for row in batch.rows])
        weight_B = logprob_N.new_tensor([row.weight for row in batch.rows])
        count_B = torch.bincount(batch.row_N, minlength=len(batch.rows)).clamp(min=1)
        logp_B, ref_B = (_per_row(each, batch.row_N, len(batch.rows)) for each in (logprob_N, batch.ref_N))
        ratio_B = (logp_B - ref_B) / count_B if length_normalised else logp_B - ref_B
        ids = sorted({row.group_id for row in batch.rows})
        pair_B = torch.tensor([ids.index(row.group_id) for row in batch.rows], device=logprob_N.device)
        assert len(batch.rows) == 2 * len(ids), "the two rows of a pair belong into one micro-batch"
        chosen_B = sign_B > 0
        margin_P = _per_row(sign_B * ratio_B, pair_B, len(ids))
        weight_P = _per_row(weight_B * chosen_B, pair_B, len(ids))
        right_P, wrong_P = logsigmoid(beta * margin_P), logsigmoid(-beta * margin_P)
        preference = -((1 - label_smoothing) * right_P + label_smoothing * wrong_P) * weight_P
        anchor = -(logp_B / count_B * weight_B)[chosen_B].sum()
        total = preference.sum() + nll_anchor * anchor
        with torch.no_grad():
            return total, {
                "margin_mean": float((margin_P * weight_P).sum()),
                "accuracy_mean": float(((margin_P > 0) * weight_P).sum()),
                "chosen_mean": float((logp_B * weight_B)[chosen_B].sum()),
                "rejected_mean": float((logp_B * weight_B)[~chosen_B].sum()),
                # against the reference: what learning did to each answer (likelihood displacement, arXiv 2410.08847)
                "chosen_moved_mean": float(((logp_B - ref_B) * weight_B)[chosen_B].sum()),
                "rejected_moved_mean": float(((logp_B - ref_B) * weight_B)[~chosen_B].sum()),
            }

    return loss


def kl_k1(logprob_N: Tensor, ref_N: Tensor) -> Tensor:
    """log pi - log ref, per token: unbiased, of large variance. As a loss its gradient is zero in the mean."""
    return logprob_N - ref_N


def kl_k2(logprob_N: Tensor, ref_N: Tensor) -> Tensor:
    """Half the squared log-ratio, per token: biased, but in the mean its gradient is the KL's own."""
    return (ref_N - logprob_N).square() / 2


def kl_k3(logprob_N: Tensor, ref_N: Tensor) -> Tensor:
    """Schulman's k3 estimator of KL(pi || ref), per token: exp(d) - d - 1, d = ref - pi; unbiased, never negative."""
    d_N = ref_N - logprob_N
    return d_N.exp() - d_N - 1


KL: dict[KlEstimator, Callable[[Tensor, Tensor], Tensor]] = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}


def _level(log_ratio_N: Tensor, row_N: Tensor, B: int, ratio: Ratio) -> Tensor:
    """Log-ratios at token, sequence (sum) or geometric-mean level, spread back over the tokens."""
    if ratio == "token":
        return log_ratio_N
    sum_B = _per_row(log_ratio_N, row_N, B)
    if ratio == "sequence":
        return sum_B[row_N]
    count_B = torch.bincount(row_N, minlength=B).clamp(min=1)
    return (sum_B / count_B)[row_N]


def _per_row(value_N: Tensor, row_N: Tensor, B: int) -> Tensor:
    """Sums over the tokens of each row, shape (B,)."""
    return torch.zeros(B, dtype=value_N.dtype, device=value_N.device).index_add(0, row_N, value_N)
