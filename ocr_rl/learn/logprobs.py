"""Log-probabilities of target tokens from hidden states: logits exist a chunk at a time, never as (B, T, V).

Shapes: N tokens, C of them in a chunk, D the width, V the vocabulary.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

CHUNK_LOGITS = 2**25  # that exist at a time, 128 MiB: 220 tokens of the largest vocabularies


def token_logprobs(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    target_N: Tensor,
    *,
    temperature: float = 1.0,
    banned_ids: tuple[int, ...] = (),
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities (N,) of the targets under what was really sampled from, and the entropies (N,), float32.

    `weight_VD` is the head's. Logits exist for `chunk` tokens at a time, never as (B, T, V). Only the
    log-probabilities have a gradient.
    """
    device = hidden_ND.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight_VD.dtype
    chunk = chunk or max(1, CHUNK_LOGITS // len(weight_VD))
    with torch.autocast(device, enabled=False):
        values = _Logprobs.apply(hidden_ND.to(dtype), weight_VD.to(dtype), target_N, temperature, banned_ids, chunk)
    return values  # type: ignore[return-value]


class _Logprobs(torch.autograd.Function):
    """Of token n: d logprob / d hidden = (weight[target] - softmax @ weight) / temperature, known once the logits are.

    Kept from the forward pass, it leaves the backward pass one product a token; logits are made again only for a head
    that is trained.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        target_N: Tensor,
        temperature: float,
        banned_ids: tuple[int, ...],
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        to_hidden, to_weight = ctx.needs_input_grad[:2]
        picked, entropy, slopes = [], [], []
        for hidden_CD, target_C in zip(hidden_ND.split(chunk), target_N.split(chunk), strict=True):
            logprobs_CV = _log_softmax(hidden_CD, weight_VD, temperature, banned_ids)
            picked.append(logprobs_CV.gather(1, target_C[:, None])[:, 0])
            share_CV = logprobs_CV.exp()
            entropy.append(-(logprobs_CV.clamp_(min=-1e4).mul_(share_CV)).sum(-1))
            if to_hidden:
                slopes.append(_slope(share_CV, target_C, weight_VD) / temperature)
        ctx.save_for_backward(
            torch.cat(slopes) if to_hidden else None, *((hidden_ND, weight_VD, target_N) if to_weight else ())
        )
        ctx.how = temperature, banned_ids, chunk
        logprob_N, entropy_N = torch.cat(picked), torch.cat(entropy)
        ctx.mark_non_differentiable(entropy_N)
        return logprob_N, entropy_N

    @staticmethod
    def backward(ctx: Any, grad_N: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        slope_ND, *kept = ctx.saved_tensors
        grad_ND = None if slope_ND is None else (grad_N[:, None] * slope_ND).to(slope_ND.dtype)
        grad_VD = _weight_gradient(grad_N, *kept, *ctx.how) if kept else None
        return grad_ND, grad_VD, None, None, None, None


def _weight_gradient(
    grad_N: Tensor,
    hidden_ND: Tensor,
    weight_VD: Tensor,
    target_N: Tensor,
    temperature: float,
    banned_ids: tuple[int, ...],
    chunk: int,
) -> Tensor:
    grad_VD = torch.zeros_like(weight_VD, dtype=torch.float32)
    pieces = (tensor.split(chunk) for tensor in (grad_N / temperature, hidden_ND, target_N))
    for grad_C, hidden_CD, target_C in zip(*pieces, strict=True):
        pull_CV = _log_softmax(hidden_CD, weight_VD, temperature, banned_ids).exp_().mul_(-grad_C[:, None])
        pull_CV.scatter_add_(1, target_C[:, None], grad_C[:, None])
        if weight_VD.dtype == torch.float32:
            grad_VD.addmm_(pull_CV.T, hidden_CD)
        else:
            grad_VD += _product(pull_CV.T.to(weight_VD.dtype), hidden_CD)
    return grad_VD.to(weight_VD.dtype)


def _slope(share_CV: Tensor, target_C: Tensor, weight_VD: Tensor) -> Tensor:
    """weight[target] - share @ weight; `share_CV` is used up.

    In bfloat16 it is one product with (one-hot - share): of a sure token both terms are all but equal, and what is left
    of their difference would be rounding.
    """
    if weight_VD.dtype == torch.float32:
        return weight_VD[target_C] - share_CV @ weight_VD
    pull_CV = share_CV.neg_().scatter_add_(1, target_C[:, None], share_CV.new_ones(len(target_C), 1))
    return pull_CV.to(weight_VD.dtype) @ weight_VD


def _product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right in float32, whatever the dtype that both are in: sums of products are not rounded to it."""
    if left.dtype == torch.float32:
        return left @ right
    return torch.mm(left, right, out_dtype=torch.float32) if left.is_cuda else left.float() @ right.float()


def _log_softmax(hidden_CD: Tensor, weight_VD: Tensor, temperature: float, banned_ids: tuple[int, ...]) -> Tensor:
    logits_CV = _product(hidden_CD, weight_VD.T)
    if temperature != 1:
        logits_CV = logits_CV / temperature
    if banned_ids:
        logits_CV.index_fill_(1, _on(logits_CV.device, banned_ids), float("-inf"))
    return logits_CV.log_softmax(-1)


@lru_cache(maxsize=64)
def _on(device: torch.device, ids: tuple[int, ...]) -> Tensor:
    """Sent once: the host waits for the device then."""
    return torch.tensor(ids, device=device)
