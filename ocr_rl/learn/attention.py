"""Attention over packed tokens: prompts, each followed by the completions that share it and see it and themselves.

A mask over all of them would cost the square of their number. Here prompts of one length attend side by side, and so do
completions of about one length, to their prompts and to themselves: time and memory grow with the number of
completions, and a long one costs the short ones nothing.

Shapes: X packed tokens; P prompts of length K; R completions of at most T tokens; H heads of D.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

PACKED = "packed"  # its name among transformers' attention functions


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Completions side by side: of prompts of one length, and none less than half as long as the longest."""

    prompts: int  # which of the packing's `shapes_PK` has their prompts
    shape_RT: tuple[int, int]
    owner_R: Tensor  # whose prompt, among the P, a completion sees
    visible_TS: Tensor  # bool, S = K + T: the prompt, and what the completion wrote so far


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """Which token stands where; a completion that is shorter than the longest of its block repeats its last token."""

    shapes_PK: tuple[tuple[int, int], ...]
    blocks: tuple[Block, ...]
    apart_Y: Tensor  # the tokens of prompts, shape by shape, then those of completions, block by block
    real_Y: Tensor  # bool: not a repeated one
    packed_X: Tensor  # the way back: of each token, its place among the Y

    def to(self, device: torch.device) -> Packing:
        def moved(x: Tensor) -> Tensor:
            return x.to(device, non_blocking=True)

        blocks = [replace(b, owner_R=moved(b.owner_R), visible_TS=moved(b.visible_TS)) for b in self.blocks]
        return replace(
            self,
            blocks=tuple(blocks),
            apart_Y=moved(self.apart_Y),
            real_Y=moved(self.real_Y),
            packed_X=moved(self.packed_X),
        )


def packing(lengths: Sequence[Sequence[int]]) -> Packing:
    """`lengths[p]`: of the p-th prompt, then of its completions; all stand one after the other."""
    prompts: dict[int, list[int]] = {}  # where prompts start, by their length
    completions: dict[tuple[int, int], list[tuple[int, int, int]]] = {}  # (start, length, owner) by block
    start = 0
    for K, *written in lengths:
        starts = prompts.setdefault(K, [])
        starts.append(start)
        start += K
        for n in written:
            completions.setdefault((K, n.bit_length()), []).append((start, n, len(starts) - 1))
            start += n
    places = [_places(starts, [K] * len(starts)) for K, starts in prompts.items()]
    shapes_PK = tuple((len(starts), K) for K, starts in prompts.items())
    blocks = []
    for (K, _), some in completions.items():
        begins, sizes, owners = zip(*some, strict=True)
        places.append(_places(begins, sizes))
        T = max(sizes)
        own_TT = torch.ones(T, T, dtype=torch.bool).tril()
        blocks.append(
            Block(
                prompts=list(prompts).index(K),
                shape_RT=(len(some), T),
                owner_R=torch.tensor(owners),
                visible_TS=torch.cat([torch.ones(T, K, dtype=torch.bool), own_TT], dim=1),
            )
        )
    apart_Y, real_Y = (torch.cat([pair[i].flatten() for pair in places]) for i in (0, 1))
    packed_X = torch.empty(start, dtype=torch.long)
    packed_X[apart_Y[real_Y]] = real_Y.nonzero()[:, 0]
    return Packing(shapes_PK=shapes_PK, blocks=tuple(blocks), apart_Y=apart_Y, real_Y=real_Y, packed_X=packed_X)


def _places(starts: Sequence[int], sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(n, longest) indices of tokens, and which of them are real."""
    start_N1, size_N1 = torch.tensor(starts)[:, None], torch.tensor(sizes)[:, None]
    offset = torch.arange(max(sizes))
    return start_N1 + torch.minimum(offset, size_N1 - 1), offset < size_N1


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
    shapes = (*where.shapes_PK, *(block.shape_RT for block in where.blocks))
    sizes = [n * longest for n, longest in shapes]

    def apart(x_1HXD: Tensor) -> list[Tensor]:
        """(n, heads, length, D) of each shape."""
        x_YHD = _Pick.apply(x_1HXD[0].transpose(0, 1), where.apart_Y, where.packed_X, None)
        repeat = query_1HXD.shape[1] // x_1HXD.shape[1]
        x_YHD = x_YHD if repeat == 1 else x_YHD.repeat_interleave(repeat, 1)
        parts = zip(x_YHD.split(sizes), shapes, strict=True)
        return [part.unflatten(0, shape).transpose(1, 2) for part, shape in parts]

    queries, keys, values = (apart(x) for x in (query_1HXD, key_1HXD, value_1HXD))
    found = [
        scaled_dot_product_attention(queries[i], keys[i], values[i], is_causal=True, scale=scaling)
        for i in range(len(where.shapes_PK))
    ]
    for i, block in enumerate(where.blocks, len(where.shapes_PK)):
        seen = [torch.cat([x[block.prompts].index_select(0, block.owner_R), x[i]], dim=2) for x in (keys, values)]
        found.append(scaled_dot_product_attention(queries[i], *seen, attn_mask=block.visible_TS, scale=scaling))
    found_YHD = torch.cat([x.transpose(1, 2).flatten(0, 1) for x in found])
    return _Pick.apply(found_YHD, where.packed_X, where.apart_Y, where.real_Y)[None], None


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
