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

    prompt_PK: Tensor
    completion_RT: Tensor
    owner_R: Tensor  # whose prompt a completion sees
    visible_RTS: Tensor  # bool, S = K + T: its prompt, and what it wrote so far; R is 1 where all prompts are as long
    order_X: Tensor  # of each token: its place among all P x K and then all R x T

    def to(self, device: torch.device) -> Packing:
        return replace(self, **{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)})


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
    order_X = torch.empty(int(sizes.sum()), dtype=torch.long)
    order_X[prompt_PK[real_PK]] = real_PK.flatten().nonzero()[:, 0]
    order_X[completion_RT[real_RT]] = real_PK.numel() + real_RT.flatten().nonzero()[:, 0]
    return Packing(
        prompt_PK=prompt_PK,
        completion_RT=completion_RT,
        owner_R=owner[~prompt],
        visible_RTS=torch.cat([seen_RK[:, None].expand(-1, T, -1), own_TT.expand(len(seen_RK), -1, -1)], dim=2),
        order_X=order_X,
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
    times = query_1HXD.shape[1] // key_1HXD.shape[1]
    query_XHD, key_XHD, value_XHD = (x[0].transpose(0, 1) for x in (query_1HXD, key_1HXD, value_1HXD))

    def heads(x_XHD: Tensor, places: Tensor, times: int = 1) -> Tensor:
        picked = x_XHD.index_select(0, places.flatten()).unflatten(0, places.shape).transpose(1, 2)
        return picked.repeat_interleave(times, dim=1) if times > 1 else picked

    prompt_key, prompt_value = (heads(x, where.prompt_PK, times) for x in (key_XHD, value_XHD))
    prompts_PHKD = scaled_dot_product_attention(
        heads(query_XHD, where.prompt_PK), prompt_key, prompt_value, is_causal=True, scale=scaling
    )
    own_key, own_value = (heads(x, where.completion_RT, times) for x in (key_XHD, value_XHD))
    completions_RHTD = scaled_dot_product_attention(
        heads(query_XHD, where.completion_RT),
        torch.cat([prompt_key.index_select(0, where.owner_R), own_key], dim=2),
        torch.cat([prompt_value.index_select(0, where.owner_R), own_value], dim=2),
        attn_mask=where.visible_RTS[:, None],
        scale=scaling,
    )
    found = torch.cat([x.transpose(1, 2).flatten(0, 1) for x in (prompts_PHKD, completions_RHTD)])
    return found.index_select(0, where.order_X)[None], None
