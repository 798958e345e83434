"""Rows -> a packed batch. The page's prompt and image stand once per group, followed by the group's completions.

All groups stand one after the other, without padding. A completion sees its prompt and itself (`attention`), and its
M-RoPE positions go on from the prompt's largest, so every sample is computed as if it stood alone.

Shapes: X packed tokens, P groups, N completion tokens of the whole batch (flat), B rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ocr_rl.models.attention import Packing, packing
from ocr_rl.rollout.flow import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    input_ids_1X: Tensor
    position_ids_31X: Tensor
    packing: Packing  # who sees whom
    pixel_values: Tensor  # of the P images; of none where it is known what the tower says of them (`seen`)
    image_sizes: Tensor  # (P, ...), as the family's tower reads them
    source_N: Tensor  # which of the X positions predicts token n
    target_N: Tensor
    row_N: Tensor  # index of token n's row in `rows`
    last_B: Tensor  # which of the X positions is the row's last token
    rows: tuple[Row, ...]
    weight_N: Tensor
    advantage_N: Tensor
    sampler_N: Tensor | None
    old_N: Tensor | None
    ref_N: Tensor | None
    value_N: Tensor | None = None
    return_N: Tensor | None = None
    seen: tuple[Tensor, ...] = ()

    def to(self, device: torch.device) -> Batch:
        return self._each(lambda x: x.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """In memory that a GPU reads by itself: only then does `to` not keep the host waiting."""
        return self._each(Tensor.pin_memory)

    def _each(self, act: Callable[[Tensor], Tensor]) -> Batch:
        tensors = {name: x for name in self.__slots__ if isinstance(x := getattr(self, name), Tensor)}
        made = {name: act(x) for name, x in tensors.items()}
        return replace(self, packing=self.packing.each(act), seen=tuple(map(act, self.seen)), **made)


Positions = Callable[[Row, Tensor], Tensor]  # (row, its image's size) -> positions of its prompt, (3, prompt length)


def collate(groups: Sequence[Sequence[Row]], pixels: tuple[Tensor, Tensor], positions: Positions) -> Batch:
    """`groups[p]` are rows that share a prompt; `pixels` = (pixel_values, image_sizes) of their P images."""
    pixel_values, sizes = pixels
    ids: list[int] = []
    positions_3: list[Tensor] = []
    source, target, row_index, last = [], [], [], []
    rows: list[Row] = []
    for p, group in enumerate(groups):
        prompt = group[0].prompt.expanded_ids
        assert all(row.prompt.expanded_ids == prompt for row in group), "rows of one group must share their prompt"
        ids += prompt
        positions_3.append(positions(group[0], sizes[p]))
        before, start = len(ids) - 1, int(positions_3[-1].max()) + 1
        for row in group:
            n = len(row.completion_ids)
            # The first token is predicted from the prompt's last position, the others from their predecessor.
            source += [before, *range(len(ids), len(ids) + n - 1)]
            target += row.completion_ids
            row_index += [len(rows)] * n
            ids += row.completion_ids
            last.append(len(ids) - 1)
            positions_3.append((start + torch.arange(n)).expand(3, -1))
            rows.append(row)
    return Batch(
        input_ids_1X=torch.tensor([ids]),
        position_ids_31X=torch.cat(positions_3, dim=1)[:, None],
        packing=packing([[len(g[0].prompt.expanded_ids), *(len(row.completion_ids) for row in g)] for g in groups]),
        pixel_values=pixel_values,
        image_sizes=sizes,
        source_N=torch.tensor(source),
        target_N=torch.tensor(target),
        row_N=torch.tensor(row_index),
        last_B=torch.tensor(last),
        rows=tuple(rows),
        weight_N=_spread(rows, [row.weight for row in rows]),
        advantage_N=_advantages(rows),
        sampler_N=_joined([row.sampler_logprobs for row in rows]),
        old_N=_joined([row.old_logprobs for row in rows]),
        ref_N=_joined([row.ref_logprobs for row in rows]),
        value_N=_joined([row.values for row in rows]),
        return_N=_joined([row.returns for row in rows]),
    )


def packed_length(group: Sequence[Row]) -> int:
    return len(group[0].prompt.expanded_ids) + sum(len(row.completion_ids) for row in group)


def micro_batches(rows: Sequence[Row], budget: int) -> list[list[list[Row]]]:
    """Groups of rows cut into micro-batches of at most `budget` tokens, a group kept together where it fits.

    A group larger than the budget is cut into parts, each with the prompt again. Sorted by length: alike side by side.
    """
    by_group: dict[int, list[Row]] = {}
    for row in rows:
        by_group.setdefault(row.group_id, []).append(row)
    parts = [part for group in by_group.values() for part in _cut(group, budget)]
    batches: list[list[list[Row]]] = []
    for part in sorted(parts, key=packed_length):
        if batches and sum(map(packed_length, batches[-1])) + packed_length(part) <= budget:
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


def _advantages(rows: Sequence[Row]) -> Tensor:
    pieces = [
        row.advantage if isinstance(row.advantage, tuple) else (row.advantage,) * len(row.completion_ids)
        for row in rows
    ]
    return torch.tensor([value for piece in pieces for value in piece], dtype=torch.float32)


def _joined(pieces: Sequence[tuple[float, ...] | None]) -> Tensor | None:
    if any(piece is None for piece in pieces):
        return None
    return torch.tensor([value for piece in pieces if piece is not None for value in piece], dtype=torch.float32)
