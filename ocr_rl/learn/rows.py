"""Rows -> a packed batch. The page's prompt and image stand once per group, followed by the group's completions.

One packed sequence per group: prompt, then sample 1, sample 2, ... A sample sees the prompt and itself (block mask),
and its M-RoPE positions go on from the prompt's largest, so every sample is computed as if it stood alone. With one
row a group this is an ordinary causal batch.

Shapes: P packed sequences, L packed length, N completion tokens of the whole batch (flat, no padding), B rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ocr_rl.rollout.flow import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    input_ids_PL: Tensor
    position_ids_3PL: Tensor
    visible_PLL: Tensor  # bool: query (dim 1) may look at key (dim 2)
    pixel_values: Tensor  # (patches, patch values) of the P images
    image_grid_thw: Tensor  # (P, 3)
    source_N: Tensor  # index into the flattened (P, L) of the position that predicts token n
    target_N: Tensor
    row_N: Tensor  # index of token n's row in `rows`
    rows: tuple[Row, ...]
    weight_N: Tensor
    advantage_N: Tensor
    sampler_N: Tensor | None
    old_N: Tensor | None
    ref_N: Tensor | None

    def to(self, device: torch.device) -> Batch:
        names = [name for name in self.__slots__ if isinstance(getattr(self, name), Tensor)]
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})


Positions = Callable[[Row, Tensor], Tensor]  # (row, grid (3,)) -> M-RoPE positions of its prompt, (3, prompt length)


def collate(
    groups: Sequence[Sequence[Row]],
    pixels: tuple[Tensor, Tensor],
    positions: Positions,
    pad_id: int,
) -> Batch:
    """`groups[p]` are rows that share a prompt; `pixels` = (pixel_values, image_grid_thw) of their P images."""
    pixel_values, grid_P3 = pixels
    lengths = [packed_length(group) for group in groups]
    P, L = len(groups), max(lengths)
    ids_PL = torch.full((P, L), pad_id)
    positions_3PL = torch.zeros((3, P, L), dtype=torch.long)
    segment_PL = torch.full((P, L), -1)  # 0 the prompt, k the k-th completion, -1 padding
    source, target, row_index = [], [], []
    rows: list[Row] = []
    for p, group in enumerate(groups):
        prompt = group[0].prompt.expanded_ids
        assert all(row.prompt.expanded_ids == prompt for row in group), "rows of one group must share their prompt"
        at = len(prompt)
        ids_PL[p, :at] = torch.tensor(prompt)
        segment_PL[p, :at] = 0
        positions_3PL[:, p, :at] = positions(group[0], grid_P3[p])
        start = int(positions_3PL[:, p, :at].max()) + 1
        for k, row in enumerate(group, 1):
            n = len(row.completion_ids)
            ids_PL[p, at : at + n] = torch.tensor(row.completion_ids)
            segment_PL[p, at : at + n] = k
            positions_3PL[:, p, at : at + n] = start + torch.arange(n)
            # The first token is predicted from the prompt's last position, the others from their predecessor.
            source += [p * L + len(prompt) - 1, *range(p * L + at, p * L + at + n - 1)]
            target += row.completion_ids
            row_index += [len(rows)] * n
            rows.append(row)
            at += n
    return Batch(
        input_ids_PL=ids_PL,
        position_ids_3PL=positions_3PL,
        visible_PLL=visibility(segment_PL),
        pixel_values=pixel_values,
        image_grid_thw=grid_P3,
        source_N=torch.tensor(source),
        target_N=torch.tensor(target),
        row_N=torch.tensor(row_index),
        rows=tuple(rows),
        weight_N=_spread(rows, [row.weight for row in rows]),
        advantage_N=_spread(rows, [row.advantage for row in rows]),
        sampler_N=_joined([row.sampler_logprobs for row in rows]),
        old_N=_joined([row.old_logprobs for row in rows]),
        ref_N=_joined([row.ref_logprobs for row in rows]),
    )


def packed_length(group: Sequence[Row]) -> int:
    return len(group[0].prompt.expanded_ids) + sum(len(row.completion_ids) for row in group)


def visibility(segment_PL: Tensor) -> Tensor:
    """Causal, and across segments only towards the prompt (segment 0). Padding sees the prompt, so no row is empty."""
    L = segment_PL.shape[1]
    causal_LL = torch.ones(L, L, dtype=torch.bool).tril()
    key, query = segment_PL[:, None, :], segment_PL[:, :, None]
    return causal_LL & ((key == 0) | (key == query))


def micro_batches(rows: Sequence[Row], budget: int) -> list[list[list[Row]]]:
    """Groups of rows cut into micro-batches of at most `budget` padded tokens, a group kept together where it fits.

    A group larger than the budget is cut into parts, each with the prompt again. Sorted by length: little padding.
    """
    by_group: dict[int, list[Row]] = {}
    for row in rows:
        by_group.setdefault(row.group_id, []).append(row)
    parts = [part for group in by_group.values() for part in _cut(group, budget)]
    batches: list[list[list[Row]]] = []
    for part in sorted(parts, key=packed_length):
        length = packed_length(part)  # the longest so far: what the others would be padded to
        if batches and (len(batches[-1]) + 1) * length <= budget:
            batches[-1].append(part)
        else:
            batches.append([part])
    return batches


def _cut(group: list[Row], budget: int) -> list[list[Row]]:
    parts: list[list[Row]] = []
    for row in group:
        if parts and packed_length([*parts[-1], row]) <= budget:
            parts[-1].append(row)
        else:
            parts.append([row])
    return parts


def _spread(rows: Sequence[Row], values: Sequence[float]) -> Tensor:
    counts = torch.tensor([len(row.completion_ids) for row in rows])
    return torch.tensor(values, dtype=torch.float32).repeat_interleave(counts)


def _joined(pieces: Sequence[tuple[float, ...] | None]) -> Tensor | None:
    if any(piece is None for piece in pieces):
        return None
    return torch.tensor([value for piece in pieces if piece is not None for value in piece], dtype=torch.float32)
