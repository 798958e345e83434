"""Attention over packed tokens by several kernels: time forward and backward, and how far each is from float32.

By rectangles (`ocr_rl.models.attention`) under each of torch's kernels for scaled_dot_product_attention; by segments,
as a learner does on a GPU in 16 bits (`ocr_rl.models.varlen`: two calls, a prompt read once); and by one call of
`varlen_attn`: there a completion's keys are its prompt's and its own, picked side by side, and a causal mask that is
aligned to the last key is all that it needs. Of each the memory too that a layer takes over what it is given.

Shapes: X packed tokens, S picked keys, H heads of queries and KV of keys, D their width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.gpu.update import peak_mib, timed
from ocr_rl.models.attention import by_rectangles, packing
from ocr_rl.models.kernels import FLASH
from ocr_rl.models.varlen import by_segments, segments

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
BACKENDS = {
    "torch's choice": None,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """Of a published shape."""

    queries: int
    keys: int
    width: int


def attention_kernels(heads: Heads, lengths: Sequence[Sequence[int]], rounds: int) -> dict[str, Any]:
    """Seconds of one layer in bfloat16 and the largest distances (output, gradients) from float32's, by kernel."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    exact = _answer(_rectangles(lengths, device, None), _inputs(heads, lengths, device, torch.float32))
    ways = {f"rectangles, {name}": _rectangles(lengths, device, backend) for name, backend in BACKENDS.items()}
    ways |= {"segments": _segments(lengths, device), "varlen_attn": partial(by_varlen, lengths, kernel=None)}
    cases = [_case(name, attention, heads, lengths, exact, rounds) for name, attention in ways.items()]
    return {"lengths": [list(group) for group in lengths], "cases": cases}


def _case(
    name: str, attention: Attention, heads: Heads, lengths: Sequence[Sequence[int]], exact: list[Tensor], rounds: int
) -> dict[str, Any]:
    given = _inputs(heads, lengths, exact[0].device, torch.bfloat16)
    try:
        apart = [_distance(ours, theirs) for ours, theirs in zip(_answer(attention, given), exact, strict=True)]
        seconds = median(timed(lambda: _answer(attention, given)) for _ in range(rounds))
        memory = peak_mib(lambda: _answer(attention, given))
    except (RuntimeError, NotImplementedError, ImportError, AssertionError) as error:
        return {"kernel": name, "not_measured": str(error).strip().splitlines()[0][:200]}
    return {"kernel": name, "seconds": seconds, "distance": max(apart), "memory_mib": memory}


def _rectangles(lengths: Sequence[Sequence[int]], device: torch.device, backend: SDPBackend | None) -> Attention:
    where = packing(lengths).to(device)

    def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        with nullcontext() if backend is None else sdpa_kernel(backend):
            return by_rectangles(*_packed(query, key, value), where, query.shape[-1] ** -0.5)[None]

    return attention


def _segments(lengths: Sequence[Sequence[int]], device: torch.device) -> Attention:
    where = segments(lengths).to(device)
    return lambda query, key, value: by_segments(*_packed(query, key, value), where, query.shape[-1] ** -0.5, FLASH)[
        None
    ]


def _packed(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As (X, heads, D)."""
    return query[0].transpose(0, 1), key[0].transpose(0, 1), value[0].transpose(0, 1)


def by_varlen(
    lengths: Sequence[Sequence[int]], query: Tensor, key: Tensor, value: Tensor, *, kernel: Any = None
) -> Tensor:
    """As `attend` does, by one call; `kernel` stands in for `varlen_attn`, which needs CUDA."""
    if kernel is None:
        from torch.nn.attention.varlen import varlen_attn as kernel
    seen, sizes, counts = picked_keys(lengths)
    cumulated = lambda values: torch.tensor([0, *accumulate(values)], dtype=torch.int32, device=query.device)
    seen_S = torch.tensor(seen, device=query.device)
    q, k, v = _packed(query, key, value)
    output_XHD = kernel(
        q,
        k.index_select(0, seen_S),
        v.index_select(0, seen_S),
        cumulated(sizes),
        cumulated(counts),
        max(sizes),
        max(counts),
        scale=query.shape[-1] ** -0.5,
        window_size=(-1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return output_XHD[None]


def picked_keys(lengths: Sequence[Sequence[int]]) -> tuple[list[int], list[int], list[int]]:
    """(packed places of the keys, queries of each segment, keys of each): a prompt sees itself, a completion both."""
    seen: list[int] = []
    sizes, counts, start = [], [], 0
    for K, *written in lengths:
        prompt = range(start, start + K)
        seen += prompt
        sizes.append(K)
        counts.append(K)
        start += K
        for n in written:
            seen += [*prompt, *range(start, start + n)]
            sizes.append(n)
            counts.append(K + n)
            start += n
    return seen, sizes, counts


def one_by_one(
    q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, max_q: int, max_k: int, *, scale: float, **_: Any
) -> Tensor:
    """What `varlen_attn` computes, a segment at a time: causal, aligned to the last key."""
    outputs = []
    for a, b, c, d in zip(cu_q[:-1], cu_q[1:], cu_k[:-1], cu_k[1:], strict=True):
        size, count = int(b - a), int(d - c)
        mask = torch.ones(size, count, dtype=torch.bool, device=q.device).tril(count - size)
        segment = [x[None].transpose(1, 2) for x in (q[a:b], k[c:d], v[c:d])]
        outputs.append(scaled_dot_product_attention(*segment, attn_mask=mask, scale=scale, enable_gqa=True)[0])
    return torch.cat([x.transpose(0, 1) for x in outputs])


def _inputs(heads: Heads, lengths: Sequence[Sequence[int]], device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Queries, keys and values (1, heads, X, D): the same numbers in every dtype, to its rounding."""
    generator = torch.Generator().manual_seed(0)
    X = sum(map(sum, lengths))
    numbers = [torch.randn(1, n, X, heads.width, generator=generator) for n in (heads.queries, heads.keys, heads.keys)]
    return [x.bfloat16().to(device, dtype).requires_grad_() for x in numbers]


def _answer(attention: Attention, given: Sequence[Tensor]) -> list[Tensor]:
    """The output, and the gradients of the sum of its squares."""
    for x in given:
        x.grad = None
    output = attention(*given)
    output.float().square().sum().backward()
    return [output.detach(), *(x.grad for x in given if x.grad is not None)]


def _distance(ours: Tensor, theirs: Tensor) -> float:
    """Length of the difference over length."""
    return float((ours.float() - theirs.float()).norm() / theirs.float().norm())
