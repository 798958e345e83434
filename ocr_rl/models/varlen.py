"""Attention over packed tokens by a kernel for segments of any lengths: no mask, no padding, no prompt read twice.

What a completion sees is its prompt and its own past. That is two calls: every prompt and every completion sees itself,
causally, as they stand in the packed sequence; and all completions of a prompt together, which stand side by side, see
the whole prompt. A softmax over both is the two outputs, weighed by their sums of exponentials: the kernel tells the
logarithm of that sum, `lse`. Backward the kernel needs of a softmax the output and the `lse` alone, so that each call,
given the merged ones, answers its own part of the gradient, and the parts add up (as in Ring Attention, Liu et al.,
arXiv:2310.01889, where the parts are on several devices).

Two pages as in `attention`: [[3, 2, 1], [3, 2]]

    packed X     a a a b b c d d d e e
    own          3, 2, 1, 3, 2 tokens         own_N   0 3 5 6 9 11
    written W    3 4 5 9 10                   written_P  0 3 5          read by 3 and 2 queries
    shared K     0 1 2 6 7 8                  shared_P   0 3 6          keys of 3 and 3

Shapes: X packed tokens, W of them in completions, K in prompts that have some; H heads of queries and fewer of keys, D
their width. Q queries and S keys of a call.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from ocr_rl.models.kernels import FLASH, PLAIN, Call, Kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """What the two calls are told (drawn above). Bounds are int32, and begin with 0."""

    own_N: Tensor
    longest: int
    written_W: Tensor  # packed places
    shared_K: Tensor
    written_P: Tensor
    shared_P: Tensor
    longest_written: int  # queries of a prompt
    longest_shared: int
    causal: bool = True  # of `own`

    def to(self, device: torch.device) -> Segments:
        return self.each(lambda x: x.to(device, non_blocking=True))

    def each(self, act: Callable[[Tensor], Tensor]) -> Segments:
        """With what is made of each tensor."""
        tensors = {f.name: x for f in fields(self) if isinstance(x := getattr(self, f.name), Tensor)}
        return replace(self, **{name: act(x) for name, x in tensors.items()})


def segments(lengths: Sequence[Sequence[int]]) -> Segments:
    """`lengths[p]`: the length of the p-th prompt, then those of its completions; all stand one after the other."""
    written: list[int] = []
    shared: list[int] = []
    counts: list[tuple[int, int]] = []
    start = 0
    for prompt, *completions in lengths:
        n = sum(completions)
        if n:
            shared += range(start, start + prompt)
            written += range(start + prompt, start + prompt + n)
            counts.append((n, prompt))
        start += prompt + n
    each = [n for group in lengths for n in group]
    return Segments(
        own_N=_bounds(each),
        longest=max(each),
        written_W=torch.tensor(written, dtype=torch.long),
        shared_K=torch.tensor(shared, dtype=torch.long),
        written_P=_bounds([n for n, _ in counts]),
        shared_P=_bounds([prompt for _, prompt in counts]),
        longest_written=max((n for n, _ in counts), default=0),
        longest_shared=max((prompt for _, prompt in counts), default=0),
    )


def apart_segments(bounds_N: Tensor, longest: int) -> Segments:
    """Segments that see themselves alone, and all of that: no prompts, and nothing written after them."""
    nothing = bounds_N.new_empty(0, dtype=torch.long)
    return Segments(
        own_N=bounds_N.to(torch.int32),
        longest=longest,
        written_W=nothing,
        shared_K=nothing,
        written_P=nothing,
        shared_P=nothing,
        longest_written=0,
        longest_shared=0,
        causal=False,
    )


def _bounds(sizes: Sequence[int]) -> Tensor:
    return torch.tensor([0, *accumulate(sizes)], dtype=torch.int32)


def by_segments(
    query_XHD: Tensor, key_XHD: Tensor, value_XHD: Tensor, segments: Segments, scale: float, kernel: Kernel
) -> Tensor:
    """(X, H, D): what each token sees of its prompt and of its own past."""
    return _Attention.apply(query_XHD, key_XHD, value_XHD, segments, scale, kernel)  # type: ignore[return-value]


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, segments: Segments, scale: float, kernel: Kernel) -> Tensor:
        out_XHD, lse_HX = attend_forward(q, k, v, segments, scale, kernel)
        ctx.save_for_backward(q, k, v, out_XHD, lse_HX)
        ctx.how = segments, scale, kernel
        return out_XHD

    @staticmethod
    def backward(ctx: Any, grad_XHD: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return (*attend_backward(grad_XHD, *ctx.saved_tensors, *ctx.how), None, None, None)


def attend_forward(
    q: Tensor, k: Tensor, v: Tensor, segments: Segments, scale: float, kernel: Kernel
) -> tuple[Tensor, Tensor]:
    """The merged output (X, H, D), and lse (H, X) of all that a token sees."""
    own, prompts = _calls(segments, scale)
    out_XHD, lse_HX = kernel.forward(q, k, v, own)
    if lse_HX.shape != (q.shape[1], q.shape[0]):  # before a device is asked for places that are not there
        raise RuntimeError(f"the kernel's sums of exponentials have the shape {tuple(lse_HX.shape)}")
    if prompts is None:
        return out_XHD, lse_HX
    W, K = segments.written_W, segments.shared_K
    seen_WHD, seen_HW = kernel.forward(q.index_select(0, W), k.index_select(0, K), v.index_select(0, K), prompts)
    past_HW = lse_HX.index_select(1, W)
    whole_HW = torch.logaddexp(past_HW, seen_HW)
    share = lambda part_HW: (part_HW - whole_HW).exp().T[..., None]
    merged_WHD = out_XHD.index_select(0, W) * share(past_HW) + seen_WHD * share(seen_HW)
    return out_XHD.index_copy_(0, W, merged_WHD.to(out_XHD.dtype)), lse_HX.index_copy_(1, W, whole_HW)


def attend_backward(
    grad_XHD: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out_XHD: Tensor,
    lse_HX: Tensor,
    segments: Segments,
    scale: float,
    kernel: Kernel,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values. No place is in `written_W`, or in `shared_K`, twice."""
    own, prompts = _calls(segments, scale)
    grads = kernel.backward(grad_XHD, q, k, v, out_XHD, lse_HX, own)
    if prompts is None:
        return grads
    W, K = segments.written_W, segments.shared_K
    picked = (grad_XHD.index_select(0, W), q.index_select(0, W), k.index_select(0, K), v.index_select(0, K))
    parts = kernel.backward(*picked, out_XHD.index_select(0, W), lse_HX.index_select(1, W), prompts)
    for grad, where, part in zip(grads, (W, K, K), parts, strict=True):
        grad.index_copy_(0, where, grad.index_select(0, where) + part)
    return grads


def _calls(segments: Segments, scale: float) -> tuple[Call, Call | None]:
    own = Call(
        queries_N=segments.own_N,
        keys_N=segments.own_N,
        most_queries=segments.longest,
        most_keys=segments.longest,
        causal=segments.causal,
        scale=scale,
    )
    if not segments.longest_written:
        return own, None
    return own, Call(
        queries_N=segments.written_P,
        keys_N=segments.shared_P,
        most_queries=segments.longest_written,
        most_keys=segments.longest_shared,
        causal=False,
        scale=scale,
    )


# --- which one --------------------------------------------------------------------------------------------------------


def kernel_for(query_XHD: Tensor, key_XHD: Tensor, dtype: torch.dtype) -> Kernel | None:
    """FLASH where it takes such numbers, once they are in `dtype`, and computes them right; None elsewhere."""
    if not query_XHD.is_cuda or dtype not in (torch.bfloat16, torch.float16):
        return None
    shape = (query_XHD.shape[1], key_XHD.shape[1], query_XHD.shape[2])
    return FLASH if _serves(FLASH, shape, dtype, query_XHD.device) else None


@lru_cache(maxsize=16)
def _serves(kernel: Kernel, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the kernel answers a small question as PLAIN does; a warning where it does not.

    Its two halves are no public functions of torch, and builds differ in what they take: heads' widths, devices.
    """
    try:
        distance = distance_from_plain(kernel, shape, dtype, device)
        why = "" if distance < 0.02 else f"it is {distance:.2g} away from what it should say"  # 16 bits: 0.004 a number
    except torch.OutOfMemoryError:
        raise  # tells nothing of the kernel
    except (RuntimeError, AttributeError, TypeError) as error:
        why = str(error).strip().splitlines()[0]
    if why:
        warnings.warn(f"Flash Attention is not used, for heads {shape} in {dtype}: {why}", stacklevel=2)
    return not why


@torch.no_grad()
def distance_from_plain(kernel: Kernel, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> float:
    """The largest distance, over the length of the right answer, of the output and the three gradients.

    `shape`: heads of queries, heads of keys, their width. By no graph: it may be asked amid a pass that makes one.
    """
    heads, fewer, width = shape
    where = segments([[70, 20, 9, 33], [5], [13, 90, 1]]).to(device)
    generator = torch.Generator().manual_seed(0)
    numbers = [torch.randn(int(where.own_N[-1]), n, width, generator=generator) for n in (heads, fewer, fewer, heads)]
    answers = []
    with torch.autocast(device.type, enabled=False):
        for some, form in ((kernel, dtype), (PLAIN, torch.float32)):
            q, k, v, grad = (x.to(device, dtype).to(form) for x in numbers)
            out, lse = attend_forward(q, k, v, where, width**-0.5, some)
            answers.append((out, *attend_backward(grad, q, k, v, out, lse, where, width**-0.5, some)))
    ours, right = answers
    return float(torch.stack([(x.float() - y).norm() / y.norm() for x, y in zip(ours, right, strict=True)]).max())
