"""The transformers sampler: a page's image is seen once for all its samples, whatever shape its features have."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch

from ocr_rl.rollout.sampler.base import Sampling
from ocr_rl.rollout.sampler.hf import HfSampler, seen_once


class Inner:
    """Two images of two and one patches; features are the patches and, of an earlier layer, their negatives."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def get_image_features(self, pixel_values, image_grid_thw, **more) -> SimpleNamespace:
        self.seen.append((len(pixel_values), len(image_grid_thw)))
        parts = torch.split(pixel_values, image_grid_thw.prod(-1).tolist())
        return SimpleNamespace(pooler_output=parts, deepstack_features=[[-part for part in parts]], more=more)


def given(n: int) -> dict[str, torch.Tensor]:
    images, sizes = (torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0]])), torch.tensor([[1, 1, 2], [1, 1, 1]])
    repeated = torch.cat([image for image in images for _ in range(n)])
    return {"pixel_values": repeated, "image_grid_thw": sizes.repeat_interleave(n, 0)}


@pytest.mark.parametrize("by_name", [True, False])
def test_features_are_those_of_each_copy(by_name: bool) -> None:
    inner, inputs = Inner(), given(3)
    expected = inner.get_image_features(**inputs)
    with seen_once(inner, given(1), 3):
        seen = inner.get_image_features(**inputs) if by_name else inner.get_image_features(*inputs.values(), a=1)
    assert inner.seen == [(9, 6), (3, 2)]
    for own, other in ((seen.pooler_output, expected.pooler_output), *zip(*map(deep, (seen, expected)), strict=True)):
        assert torch.equal(torch.cat(list(own)), torch.cat(list(other))) and len(own) == 6
    assert seen.more == ({} if by_name else {"a": 1})
    inner.get_image_features(**inputs)
    assert inner.seen[-1] == (9, 6)  # as before


def deep(seen: SimpleNamespace) -> list:
    return seen.deepstack_features


def test_images_without_sizes_are_left_alone() -> None:
    inner = Inner()
    with seen_once(inner, {"pixel_values": torch.zeros(2, 1)}, 3):
        assert inner.get_image_features(**given(3)).pooler_output[0].tolist() == [[1.0], [2.0]]
    assert inner.seen == [(9, 6)]


def test_the_tower_sees_a_page_once(nano_dir, prompter, tiny_pages) -> None:
    sampler = HfSampler(nano_dir, prompter, max_rows=8)
    seen = []
    tower = sampler._model.model.visual
    tower.register_forward_pre_hook(lambda module, args, more: seen.append(len(more["grid_thw"])), with_kwargs=True)
    asked = [(page, prompter.prompt(page)) for page in tiny_pages]
    assert len(list(sampler.sample(asked, Sampling(n=3, max_tokens=2)))) == 4
    assert seen == [2, 2]  # two pages at a time, for six samples
