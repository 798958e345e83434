"""Attention over packed tokens: prompts, each followed by the completions that share it and see it and themselves.

A mask over all of them would cost the square of their number. Here prompts attend among themselves, and completions,
side by side, to their prompt and to themselves: time and memory grow with the number of completions.

Shapes: X packed tokens, of P prompts and R completions; K the longest prompt, T the longest completion; H heads of D.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

PACKED = "packed"  # its name among transformers' attention functions


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """Which token stands where; a prompt or completion that is shorter than the longest repeats its last token."""

    shape_PK: torch.Size
    shape_RT: torch.Size
    owner_R: Tensor  # whose prompt a completion sees
    visible_RTS: Tensor  # bool, S = K + T: its prompt, and what it wrote so far; R is 1 where all prompts are as long
    apart_Y: Tensor  # Y = P x K + R x T: the tokens of prompts, then of completions
    real_Y: Tensor  # bool: not a repeated one
    packed_X: Tensor  # the way back: of each token, its place among the Y

    def to(self, device: torch.device) -> Packing:
        tensors = {f.name: x for f in fields(self) if isinstance(x := getattr(self, f.name), Tensor)}
        return replace(self, **{name: x.to(device, non_blocking=True) for name, x in tensors.items()})


def packing(lengths: Sequence[Sequence[int]]) -> Packing:
    """`lengths[p]`: of the p-th prompt, then of its completions; all stand one after the other."""
    sizes = torch.tensor([n for each in lengths for n in each])
    starts = sizes.cumsum(0) - sizes
    prompt = torch.tensor([k == 0 for each in lengths for k in range(len(each))])
    owner = torch.tensor([p for p, each in enumerate(lengths) for _ in each])
    prompt_PK, real_PK = _places(starts[prompt], sizes[prompt])
    completion_RT, real_RT = _places(starts[~prompt], sizes[~prompt])
    seen_RK = real_PK[owner[~prompt]]
    if bool(real_PK.all()):
        seen_RK = seen_RK[:1]
    T = completion_RT.shape[1]
    own_TT = torch.ones(T, T, dtype=torch.bool).tril()
    apart_Y = torch.cat([prompt_PK.flatten(), completion_RT.flatten()])
    real_Y = torch.cat([real_PK.flatten(), real_RT.flatten()])
    packed_X = torch.empty(int(sizes.sum()), dtype=torch.long)
    packed_X[apart_Y[real_Y]] = real_Y.nonzero()[:, 0]
    return Packing(
        shape_PK=prompt_PK.shape,
        shape_RT=completion_RT.shape,
        owner_R=owner[~prompt],
        visible_RTS=torch.cat([seen_RK[:, None].expand(-1, T, -1), own_TT.expand(len(seen_RK), -1, -1)], dim=2),
        apart_Y=apart_Y,
        real_Y=real_Y,
        packed_X=packed_X,
    )


def _places(starts: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """(n, longest) indices of tokens, and which of them are real."""
    offset = torch.arange(int(sizes.max()))
    return starts[:, None] + torch.minimum(offset, sizes[:, None] - 1), offset < sizes[:, None]


def attend(
    module: torch.nn.Module,
    query_1HXD: Tensor,
    key_1HXD: Tensor,
    value_1HXD: Tensor,
    attention_mask: Packing,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """As transformers asks for it: (1, heads, X, D) in, fewer heads of keys and values; (1, X, heads, D) out."""
    where = attention_mask
    P, K = where.shape_PK

    def apart(x_1HXD: Tensor) -> tuple[Tensor, Tensor]:
        x_YHD = _Pick.apply(x_1HXD[0].transpose(0, 1), where.apart_Y, where.packed_X, None)
        parts = x_YHD[: P * K].unflatten(0, where.shape_PK), x_YHD[P * K :].unflatten(0, where.shape_RT)
        prompt, own = (part.transpose(1, 2) for part in parts)
        repeat = query_1HXD.shape[1] // x_1HXD.shape[1]
        return (prompt, own) if repeat == 1 else (prompt.repeat_interleave(repeat, 1), own.repeat_interleave(repeat, 1))

    (prompt_query, own_query), (prompt_key, own_key), (prompt_value, own_value) = (
        apart(x) for x in (query_1HXD, key_1HXD, value_1HXD)
    )
    prompts_PHKD = scaled_dot_product_attention(prompt_query, prompt_key, prompt_value, is_causal=True, scale=scaling)
    completions_RHTD = scaled_dot_product_attention(
        own_query,
        torch.cat([prompt_key.index_select(0, where.owner_R), own_key], dim=2),
        torch.cat([prompt_value.index_select(0, where.owner_R), own_value], dim=2),
        attn_mask=where.visible_RTS[:, None],
        scale=scaling,
    )
    found = torch.cat([x.transpose(1, 2).flatten(0, 1) for x in (prompts_PHKD, completions_RHTD)])
    return _Pick.apply(found, where.packed_X, where.apart_Y, where.real_Y)[None], None


class _Pick(torch.autograd.Function):
    """x.index_select(0, there), whose gradient comes back by picking too: adding up at indices runs on one core.

    `back` is the way back. Where `real` is given, what is not has no gradient: nobody looks at a repeated token.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: Tensor, back: Tensor, real: Tensor | None) -> Tensor:
        ctx.back, ctx.real = back, real
        return x.index_select(0, there)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        picked = grad.index_select(0, ctx.back)
        if ctx.real is not None:
            picked = picked * ctx.real.view(-1, *[1] * (grad.ndim - 1))
        return picked, None, None, None
