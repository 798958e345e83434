"""Kernels for attention over segments of any lengths, forward and backward: Flash Attention, and the same in torch.

Flash Attention is what `torch.nn.attention.varlen.varlen_attn` calls. Both its halves are asked for here, since the
gradient of that function is one of the output alone, and merged outputs need that of their weights too (`varlen`).

Shapes: Q queries and S keys of all segments; H heads of queries and fewer of keys, D their width. In `_pieces` and what
uses it, those of one segment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Who sees whom in a call of a kernel: the n-th segment of queries all of the n-th of keys, or itself, causally."""

    queries_N: Tensor  # bounds
    keys_N: Tensor
    most_queries: int  # of a segment
    most_keys: int
    causal: bool
    scale: float


@dataclass(frozen=True, slots=True)
class Kernel:
    """Two functions, as Flash Attention has them."""

    forward: Callable[[Tensor, Tensor, Tensor, Call], tuple[Tensor, Tensor]]  # q, k, v -> output (Q, H, D), lse (H, Q)
    # gradient of the output, q, k, v, output, lse -> gradients of q, k and v
    backward: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Call], tuple[Tensor, Tensor, Tensor]]


def _flash_forward(q: Tensor, k: Tensor, v: Tensor, call: Call) -> tuple[Tensor, Tensor]:
    bounds = (call.queries_N, call.keys_N, call.most_queries, call.most_keys)
    return torch.ops.aten._flash_attention_forward(q, k, v, *bounds, 0.0, call.causal, False, scale=call.scale)[:2]


def _flash_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, call: Call
) -> tuple[Tensor, Tensor, Tensor]:
    bounds = (call.queries_N, call.keys_N, call.most_queries, call.most_keys)
    no_dropout = torch.zeros(2, dtype=torch.uint64, device=q.device), torch.empty(0, device=q.device)
    return torch.ops.aten._flash_attention_backward(
        grad, q, k, v, out, lse, *bounds, 0.0, call.causal, *no_dropout, scale=call.scale
    )


FLASH = Kernel(_flash_forward, _flash_backward)  # on CUDA, in 16 bits


def _plain_forward(q: Tensor, k: Tensor, v: Tensor, call: Call) -> tuple[Tensor, Tensor]:
    outs, lses = [], []
    for queries, keys in _pieces(call):
        scores_HQS, (_, _, v_HSD) = _scores(q[queries], k[keys], v[keys], call)
        lses.append(scores_HQS.logsumexp(-1))
        outs.append((scores_HQS - lses[-1][..., None]).exp() @ v_HSD)
    return torch.cat(outs, dim=1).transpose(0, 1).contiguous(), torch.cat(lses, dim=1)


def _plain_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, call: Call
) -> tuple[Tensor, Tensor, Tensor]:
    """With p = exp(scores - lse) and the gradient g: dv = p' g, ds = p (g v' - sum(g out)), dq = ds k, dk = ds' q."""
    grads = tuple(map(torch.zeros_like, (q, k, v)))
    for queries, keys in _pieces(call):
        scores_HQS, (q_HQD, k_HSD, v_HSD) = _scores(q[queries], k[keys], v[keys], call)
        grad_HQD, out_HQD = (x[queries].transpose(0, 1) for x in (grad, out))
        p_HQS = (scores_HQS - lse[:, queries, None]).exp()
        slope_HQS = p_HQS * (grad_HQD @ v_HSD.mT - (grad_HQD * out_HQD).sum(-1, keepdim=True)) * call.scale
        parts = slope_HQS @ k_HSD, slope_HQS.mT @ q_HQD, p_HQS.mT @ grad_HQD
        for whole, part, where in zip(grads, parts, (queries, keys, keys), strict=True):
            whole[where] += part.unflatten(0, (whole.shape[1], -1)).sum(1).transpose(0, 1)
    return grads  # type: ignore[return-value]


PLAIN = Kernel(_plain_forward, _plain_backward)  # the same in torch, a segment at a time: what FLASH is compared with


def _pieces(call: Call) -> list[tuple[slice, slice]]:
    bounds = zip(call.queries_N.tolist(), call.keys_N.tolist(), strict=True)
    edges = list(bounds)
    return [(slice(a, c), slice(b, d)) for (a, b), (c, d) in zip(edges, edges[1:], strict=False)]


def _scores(q: Tensor, k: Tensor, v: Tensor, call: Call) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Scores (H, Q, S) of a segment, and queries, keys and values of each of the H heads."""
    repeat = q.shape[1] // k.shape[1]
    q_HQD, k_HSD, v_HSD = (x.transpose(0, 1) for x in (q, *(x.repeat_interleave(repeat, 1) for x in (k, v))))
    scores_HQS = q_HQD @ k_HSD.mT * call.scale
    if call.causal:
        future = torch.ones_like(scores_HQS[0], dtype=torch.bool).triu(1)
        scores_HQS = scores_HQS.masked_fill(future, float("-inf"))
    return scores_HQS, (q_HQD, k_HSD, v_HSD)
