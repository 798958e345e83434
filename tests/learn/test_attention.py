"""Attention over packed tokens against one dense mask over all of them, and against each sample on its own."""

from __future__ import annotations

from dataclasses import fields

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ocr_rl.models.attention import attend, packing

H, KV, D = 4, 2, 8
SHAPES: list[list[list[int]]] = [
    [[3, 2]],
    [[1, 1]],
    [[5, 3, 1, 4]],
    [[4, 2, 2], [4, 5]],  # prompts of one length share a mask
    [[6, 2, 7, 1], [2, 3], [9, 1, 1, 1, 8]],
    [[3, 1, 17, 2, 3], [5, 16, 4], [3, 2, 1]],  # one that runs away, and prompts of two lengths in turn
]


def segments(lengths: list[list[int]]) -> Tensor:
    """(group, number in the group) of each token; number 0 is the prompt."""
    return torch.tensor([(p, k) for p, each in enumerate(lengths) for k, n in enumerate(each) for _ in range(n)])


def dense_mask(lengths: list[list[int]]) -> Tensor:
    """Query (dim 0) may look at key (dim 1): causal, in its group, at the prompt or its own completion."""
    group, number = segments(lengths).T
    X = len(group)
    own = number[:, None] == number[None, :]
    return (group[:, None] == group[None, :]) & (own | (number == 0)[None, :]) & torch.ones(X, X).bool().tril()


def inputs(X: int) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(1, heads, X, D, dtype=torch.float64, requires_grad=True) for heads in (H, KV, KV)]


def densely(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    key, value = (x.repeat_interleave(H // KV, dim=1) for x in (key, value))
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.3).transpose(1, 2)


@pytest.mark.parametrize("lengths", SHAPES)
def test_packed_attention_and_its_gradient_are_those_of_the_dense_mask(lengths: list[list[int]]) -> None:
    X = sum(map(sum, lengths))
    given, again = inputs(X), inputs(X)
    ours, weights = attend(torch.nn.Module(), *given, None, 0.3, packing=packing(lengths))
    theirs = densely(*again, dense_mask(lengths))
    assert weights is None
    assert (ours - theirs).abs().max() < 1e-12
    upstream = torch.randn_like(ours)
    (ours * upstream).sum().backward()
    (theirs * upstream).sum().backward()
    for one, other in zip(given, again, strict=True):
        assert one.grad is not None and other.grad is not None
        assert (one.grad - other.grad).abs().max() < 1e-12


def test_a_completion_sees_its_prompt_and_itself_alone() -> None:
    lengths, (group, number) = [[3, 2, 2], [2, 2]], segments([[3, 2, 2], [2, 2]]).T
    given = inputs(11)
    before, _ = attend(torch.nn.Module(), *given, None, 0.3, packing=packing(lengths))
    with torch.no_grad():
        given[1][:, :, 3:5] += 1.0  # keys and values of the first completion of the first group
        given[2][:, :, 3:5] += 1.0
    after, _ = attend(torch.nn.Module(), *given, None, 0.3, packing=packing(lengths))
    changed = (after - before).abs().amax((0, 2, 3)) > 1e-9
    assert changed.tolist() == ((group == 0) & (number == 1)).tolist()


def test_memory_grows_with_the_number_of_completions_and_not_with_its_square() -> None:
    def size(samples: int) -> int:
        drawn = packing([[512, *[256] * samples]])
        masks = [block.visible_TS for block in drawn.blocks]
        tensors = [getattr(part, f.name) for part in (drawn, drawn.segments, *drawn.blocks) for f in fields(part)]
        return sum(x.nbytes for x in (*masks, *tensors) if isinstance(x, Tensor))

    assert size(28) - size(24) == size(8) - size(4)
    assert size(28) < (512 + 28 * 256) ** 2 / 100


def test_one_long_completion_costs_the_short_ones_nothing() -> None:
    """A sample that loops to its limit beside 27 short ones: it pays for itself."""

    def scores(lengths: list[list[int]]) -> int:
        found = packing(lengths)
        prompts = sum(n * longest**2 for n, longest in found.shapes_PK)
        return prompts + sum(block.shape_RT[0] * block.visible_TS.numel() for block in found.blocks)

    short, alone = scores([[100, *[15] * 27]]), scores([[100, 715]])
    assert scores([[100, *[15] * 27, 715]]) < short + alone


def test_the_example_in_the_docstring_is_what_packing_does() -> None:
    drawn = packing([[3, 2, 1], [3, 2]])
    assert drawn.shapes_PK == ((2, 3),)
    assert drawn.source_Y.tolist() == [0, 1, 2, 6, 7, 8, 3, 4, 9, 10, 5]
    assert drawn.place_X.tolist() == [0, 1, 2, 6, 7, 10, 3, 4, 5, 8, 9]
    assert [block.owner_R.tolist() for block in drawn.blocks] == [[0, 1], [0]]
    assert [block.visible_TS.int().tolist() for block in drawn.blocks] == [
        [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]],
        [[1, 1, 1, 1]],
    ]
    assert drawn.is_token_Y.all()
