"""Attention over packed tokens: completions follow the prompt that they share, and see it and themselves.

A mask over all packed tokens would cost the square of their number. Instead tokens are sorted into rectangles: prompts
of one length attend side by side, and so do completions of about one length. Time and memory then grow with the number
of completions, and a short completion is not padded to the longest one of the batch. On a GPU, in 16 bits, a kernel for
segments of any lengths needs no rectangles (`varlen`).

Two pages, the first with completions of 2 and 1 tokens, the second with one of 2: `packing([[3, 2, 1], [3, 2]])`.

    packed X          a a a b b c d d d e e        a, d prompts; b, c, e completions      X = 11
                      0 1 2 3 4 5 6 7 8 9 10
    sorted Y          a a a     b b     c          shapes_PK  ((2, 3),)   2 prompts of 3 tokens
                      d d d     e e                blocks     of 2 and of 1 completions
                      (2, 3)    (2, 2)  (1, 1)
    source_Y          0 1 2 6 7 8  3 4 9 10  5     which packed token stands there
    place_X           0 1 2 6 7 10 3 4 5 8 9       where a packed token stands among the sorted ones
    owner_R           b: 0, e: 1        c: 0       whose prompt a completion sees
    visible_TS        1 1 1 1 0    1 1 1 1         the prompt's K columns, then the completion's own past
                      1 1 1 1 1
    is_token_Y        all true here; a completion that is shorter than its block's longest repeats its last token

Shapes: X packed tokens, Y sorted ones; P prompts of length K; R completions of at most T tokens, S = K + T; H heads of
width D.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ocr_rl.models.varlen import Segments, by_segments, kernel_for, segments

PACKED = "packed"  # its name among transformers' attention functions


@dataclass(frozen=True, kw_only=True)
class Block:
    """Completions side by side: of prompts of one length, and none less than half as long as the longest."""

    prompts: int  # which of the packing's `shapes_PK` has their prompts
    seen: int  # K, the length of these
    shape_RT: tuple[int, int]
    owner_R: Tensor  # whose prompt, among the P, a completion sees

    @cached_property
    def visible_TS(self) -> Tensor:
        """Bool: the prompt, and the completion up to the token itself. Made when a layer first asks."""
        T = self.shape_RT[1]
        return torch.ones(T, self.seen + T, dtype=torch.bool, device=self.owner_R.device).tril(self.seen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """Which token stands where (drawn above)."""

    shapes_PK: tuple[tuple[int, int], ...]
    blocks: tuple[Block, ...]
    source_Y: Tensor  # the packed token of each sorted place: prompts shape by shape, then completions block by block
    is_token_Y: Tensor  # bool: no repeated token
    place_X: Tensor  # the sorted place of each packed token
    segments: Segments  # the same without sorting

    def to(self, device: torch.device) -> Packing:
        return self.each(lambda x: x.to(device, non_blocking=True))

    def each(self, act: Callable[[Tensor], Tensor]) -> Packing:
        """With what is made of each tensor."""
        blocks = [replace(block, owner_R=act(block.owner_R)) for block in self.blocks]
        return replace(
            self,
            blocks=tuple(blocks),
            source_Y=act(self.source_Y),
            is_token_Y=act(self.is_token_Y),
            place_X=act(self.place_X),
            segments=self.segments.each(act),
        )


def packing(lengths: Sequence[Sequence[int]]) -> Packing:
    """`lengths[p]`: the length of the p-th prompt, then those of its completions; all stand one after the other."""
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
        shape_RT = (len(some), max(sizes))
        where = list(prompts).index(K)
        blocks.append(Block(prompts=where, seen=K, shape_RT=shape_RT, owner_R=torch.tensor(owners)))
    source_Y, is_token_Y = (torch.cat([pair[i].flatten() for pair in places]) for i in (0, 1))
    place_X = torch.empty(start, dtype=torch.long)
    place_X[source_Y[is_token_Y]] = is_token_Y.nonzero()[:, 0]
    return Packing(
        shapes_PK=shapes_PK,
        blocks=tuple(blocks),
        source_Y=source_Y,
        is_token_Y=is_token_Y,
        place_X=place_X,
        segments=segments(lengths),
    )


def _places(starts: Sequence[int], sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(n, longest) indices of packed tokens, and which of them are no repetitions."""
    start_N1, size_N1 = torch.tensor(starts)[:, None], torch.tensor(sizes)[:, None]
    offset = torch.arange(max(sizes))
    return start_N1 + torch.minimum(offset, size_N1 - 1), offset < size_N1


def apart(x_XF: Tensor, packing: Packing) -> list[Tensor]:
    """Packed vectors (X, ...) by rectangle: prompts (P, K, ...) of each length, then each block's (R, T, ...)."""
    shapes = (*packing.shapes_PK, *(block.shape_RT for block in packing.blocks))
    x_YF = _Pick.apply(x_XF, packing.source_Y, packing.place_X, None)
    parts = x_YF.split([n * longest for n, longest in shapes])
    return [part.unflatten(0, shape) for part, shape in zip(parts, shapes, strict=True)]


def together(parts: Sequence[Tensor], packing: Packing) -> Tensor:
    """(X, ...): what was taken `apart`, as it was packed. What stands at a repeated token goes nowhere."""
    x_YF = torch.cat([part.flatten(0, 1) for part in parts])
    return _Pick.apply(x_YF, packing.place_X, packing.source_Y, packing.is_token_Y)


def attend(
    module: torch.nn.Module,
    query_1HXD: Tensor,
    key_1HXD: Tensor,
    value_1HXD: Tensor,
    attention_mask: None,
    scaling: float,
    *,
    packing: Packing,
    **_: Any,
) -> tuple[Tensor, None]:
    """As transformers asks for it: (1, heads, X, D) in, fewer heads of keys and values; (1, X, heads, D) out.

    `packing` comes as a keyword through every layer: text models make masks of their own, of what kinds they know.
    """
    device = query_1HXD.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query_1HXD.dtype
    query, key, value = (x[0].transpose(0, 1) for x in (query_1HXD, key_1HXD, value_1HXD))
    if kernel := kernel_for(query, key, dtype):
        output = by_segments(query.to(dtype), key.to(dtype), value.to(dtype), packing.segments, scaling, kernel)
        return output[None], None
    return by_rectangles(query, key, value, packing, scaling)[None], None


def by_rectangles(query_XHD: Tensor, key_XHD: Tensor, value_XHD: Tensor, packing: Packing, scale: float) -> Tensor:
    """(X, heads, D), on any device and in any dtype."""

    def sort(x_XHD: Tensor) -> list[Tensor]:
        """(n, heads, length, D) of each rectangle."""
        repeat = query_XHD.shape[1] // x_XHD.shape[1]
        parts = apart(x_XHD, packing)
        return [(x if repeat == 1 else x.repeat_interleave(repeat, 2)).transpose(1, 2) for x in parts]

    queries, keys, values = (sort(x) for x in (query_XHD, key_XHD, value_XHD))
    outputs = [
        scaled_dot_product_attention(queries[i], keys[i], values[i], is_causal=True, scale=scale)
        for i in range(len(packing.shapes_PK))
    ]
    for i, block in enumerate(packing.blocks, len(packing.shapes_PK)):
        seen = [torch.cat([x[block.prompts].index_select(0, block.owner_R), x[i]], dim=2) for x in (keys, values)]
        outputs.append(scaled_dot_product_attention(queries[i], *seen, attn_mask=block.visible_TS, scale=scale))
    return together([x.transpose(1, 2) for x in outputs], packing)


class _Pick(torch.autograd.Function):
    """x.index_select(0, index), whose gradient is picked too, by the inverse: adding up at indices runs on one core.

    Where `keep` (bool) is given, the gradient is 0 where it is false: nobody looks at a repeated token.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor, keep: Tensor | None) -> Tensor:
        ctx.inverse, ctx.keep = inverse, keep
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        picked = grad.index_select(0, ctx.inverse)
        if ctx.keep is not None:
            picked = picked * ctx.keep.view(-1, *[1] * (grad.ndim - 1))
        return picked, None, None, None
