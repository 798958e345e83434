"""Floating-point operations of an update, counted from the shapes; a multiplication with its addition are two.

A linear layer from I to O numbers costs 2 I O a token forward; backward as much again for the gradient by its input,
and once more for that by its weight where it is trained. An adapter of rank r beside it is two layers, I to r and r
to O. Attention costs 4 D a head and pair (query, key) that sees each other forward, and twice that backward. Pairs are
those that count: of a prompt of K tokens K (K + 1) / 2, of a completion of n tokens n K + n (n + 1) / 2. Norms,
rotations, softmaxes and the optimiser are left out, and so is that the first layer's inputs may need no gradient.

Shapes: as in `ocr_rl.models.attention`; `grids` are (rows, columns) of each page's patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ocr_rl.config import Policy

Lengths = Sequence[Sequence[int]]  # of each group the prompt's length, then those of its completions
Grids = Sequence[tuple[int, int]]

# Dense bfloat16 products a second, without sparsity, as the vendor's data sheets say.
PEAK = {"H200": 989e12, "H100": 989e12, "B200": 2250e12, "A100": 312e12, "L40S": 362e12}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Operations by purpose."""

    forward: int = 0
    backward: int = 0
    again: int = 0  # computed a second time: layers that kept no activations, the logits of a trained head

    @property
    def useful(self) -> int:
        """What had to be computed, whatever is kept: what a share of the peak is taken of."""
        return self.forward + self.backward

    def __add__(self, other: Work) -> Work:
        return Work(
            forward=self.forward + other.forward,
            backward=self.backward + other.backward,
            again=self.again + other.again,
        )


def peak_of(device: str) -> float | None:
    """bfloat16 operations a second of a device of that name; None for one that is not in the table."""
    return next((peak for name, peak in PEAK.items() if name in device), None)


def update_work(settings: Any, lengths: Lengths, grids: Grids, policy: Policy) -> Work:
    """Of one update: `settings` is a Qwen2.5-VL's configuration, `policy` says what is trained and kept."""
    return _text(settings.text_config, lengths, policy) + _vision(settings.vision_config, grids, policy)


def _text(text: Any, lengths: Lengths, policy: Policy) -> Work:
    D, M, H, layers = text.hidden_size, text.intermediate_size, text.num_attention_heads, text.num_hidden_layers
    kv = text.num_key_value_heads * (D // H)
    tokens = sum(map(sum, lengths))
    written = sum(sum(some) for _, *some in lengths)
    pairs = sum(K * (K + 1) // 2 + sum(n * K + n * (n + 1) // 2 for n in some) for K, *some in lengths)
    shapes = [(D, D), (D, kv), (D, kv), (D, D), (D, M), (D, M), (M, D)]
    rank = policy.lora_rank
    block = _linear(tokens, shapes, rank) + _attention(4 * D * pairs)
    logits = 2 * written * D * text.vocab_size
    trained = rank == 0
    head = Work(forward=logits, backward=logits * (2 if trained else 1), again=logits if trained else 0)
    return _times(layers, _kept(block, 2 * tokens * (rank or M) * D, policy)) + head


def _vision(vision: Any, grids: Grids, policy: Policy) -> Work:
    D, M, merge = vision.hidden_size, vision.intermediate_size, vision.spatial_merge_size**2
    patches = sum(h * w for h, w in grids)
    side = vision.window_size // vision.patch_size  # of a window, in patches
    patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    rank = 0 if policy.freeze_vision else policy.lora_rank
    linear, last = _linear(patches, [(D, 3 * D), (D, D), (D, M), (D, M), (M, D)], rank), 2 * patches * (rank or M) * D
    whole = linear + _attention(4 * D * sum((h * w) ** 2 for h, w in grids))
    seen = sum((a * b) ** 2 for h, w in grids for a in _cut(h, side) for b in _cut(w, side))
    windows = linear + _attention(4 * D * seen)
    full = len(vision.fullatt_block_indexes)
    blocks = _times(full, _kept(whole, last, policy)) + _times(vision.depth - full, _kept(windows, last, policy))
    embed = 2 * patches * patch * D
    merger = 2 * (patches // merge) * (merge * D * merge * D + merge * D * vision.out_hidden_size)
    if policy.freeze_vision:
        return Work(forward=blocks.forward + embed + merger)
    if rank:  # adapters are in the blocks alone: gradients pass the merger and end before the patches
        return blocks + Work(forward=embed + merger, backward=merger)
    return blocks + Work(forward=embed + merger, backward=embed + 2 * merger)


def _linear(tokens: int, shapes: Sequence[tuple[int, int]], rank: int) -> Work:
    layers = sum(2 * tokens * i * o for i, o in shapes)
    adapters = sum(2 * tokens * rank * (i + o) for i, o in shapes)
    if rank == 0:
        return Work(forward=layers, backward=2 * layers)
    return Work(forward=layers + adapters, backward=layers + 2 * adapters)


def _attention(forward: int) -> Work:
    return Work(forward=forward, backward=2 * forward)


def _kept(block: Work, last: int, policy: Policy) -> Work:
    """With checkpointing a block is computed once more, but for its last product: no gradient needs that."""
    return block + Work(again=block.forward - last) if policy.gradient_checkpointing else block


def _times(n: int, work: Work) -> Work:
    return Work(forward=n * work.forward, backward=n * work.backward, again=n * work.again)


def _cut(length: int, side: int) -> list[int]:
    """Windows along one side of a page: whole ones, then what is left."""
    whole, rest = divmod(length, side)
    return [side] * whole + [rest] * (rest > 0)
