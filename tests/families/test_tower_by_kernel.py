"""Each family's tower by a kernel for segments, as on a GPU, against transformers' way: the kernel's rule in torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from torch import Tensor

from ocr_rl.models import tower
from ocr_rl.models.families.lighton_ocr import LightOnOcr
from ocr_rl.models.family import Family
from ocr_rl.models.kernels import PLAIN, Call, Kernel
from ocr_rl.models.load import load_model
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Prompter
from tests.families.conftest import MakeLearner
from tests.learn.conftest import apart, largest_gap
from tests.learn.test_learner import gradient_of


class Played:
    """A kernel as PLAIN, and its calls."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.kernel = Kernel(self.forward, PLAIN.backward)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, call: Call) -> tuple[Tensor, Tensor]:
        self.calls.append(call)
        return PLAIN.forward(q, k, v, call)


@pytest.fixture
def with_bounds(family: Family) -> bool:
    """Whether the family's tower has anything to gain: InternVL's tiles stand side by side."""
    return family.tower_has_bounds or isinstance(family, LightOnOcr)


@pytest.fixture
def pixels(rows: list[Row], prompter: Prompter) -> tuple[Tensor, Tensor]:
    """Of two images."""
    images = [prompter.image(row.prompt) for row in (rows[0], rows[4])]
    values, sizes = prompter.pixels(images)
    return torch.from_numpy(values), torch.from_numpy(sizes).long()


def opened(family: Family, folder: Path, monkeypatch: pytest.MonkeyPatch, kernel: Kernel | None) -> Any:
    """A packed model: as on a GPU, with that kernel, or as on a CPU."""
    monkeypatch.setattr(tower, "kernel_for", lambda query, key, dtype: kernel)
    model: Any = load_model(str(folder)).train()
    with monkeypatch.context() as gpu:
        gpu.setattr(torch.cuda, "is_available", lambda: kernel is not None)
        family.pack(model)
    return model


def narrowed(model: Any) -> Any:
    """Windows in all layers but the second, where the tower has windows: the smallest shape has none."""
    if hasattr(model.model, "visual") and hasattr(model.model.visual, "fullatt_block_indexes"):
        model.model.visual.fullatt_block_indexes = [1]
    return model


def answer(family: Family, model: Any, pixels: tuple[Tensor, Tensor]) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Features and the gradient of the sum of their squares."""
    seen = family.see(model, *pixels)
    torch.stack([x.square().sum() for x in seen]).sum().backward()
    return [x.detach() for x in seen], {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_a_tower_sees_and_learns_alike_by_the_kernel(
    family: Family, folder: Path, pixels: tuple[Tensor, Tensor], with_bounds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = Played()
    theirs, their_gradient = answer(family, narrowed(opened(family, folder, monkeypatch, None)), pixels)
    model = narrowed(opened(family, folder, monkeypatch, played.kernel))
    ours, gradient = answer(family, model, pixels)
    for x, y in zip(ours, theirs, strict=True):
        assert (x - y).norm() / y.norm() < 1e-5
    assert gradient.keys() == their_gradient.keys() and apart(gradient, their_gradient) < 1e-5
    layers = len(model.model.get_submodule(family.tower_layers))
    assert len(played.calls) == (layers if with_bounds else 0), "one call a layer"
    assert not any(call.causal for call in played.calls)
    if with_bounds:
        assert all(len(call.queries_N) >= 3 for call in played.calls), "two images at least"
    if hasattr(getattr(model.model, "visual", None), "fullatt_block_indexes"):
        assert len({len(call.queries_N) for call in played.calls}) == 2, "windows and whole images"


def test_images_do_not_see_each_other(
    family: Family, folder: Path, pixels: tuple[Tensor, Tensor], with_bounds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the comparison above can fail: with the bounds of one image only, the features are others.

    Where the kernel is not called (InternVL's tiles), no bounds can change them.
    """
    model, played = opened(family, folder, monkeypatch, None), Played()
    right = family.see(model, *pixels)[0]

    def blind(q: Tensor, k: Tensor, v: Tensor, call: Call) -> tuple[Tensor, Tensor]:
        ends = call.queries_N[[0, -1]]
        whole = {"queries_N": ends, "keys_N": ends, "most_queries": len(q), "most_keys": len(q)}
        return played.forward(q, k, v, Call(**whole, causal=False, scale=call.scale))

    model = opened(family, folder, monkeypatch, Kernel(blind, PLAIN.backward))
    wrong = family.see(model, *pixels)[0]
    assert bool(played.calls) == with_bounds
    assert ((wrong - right).norm() / right.norm() > 1e-3) == with_bounds


def test_without_a_kernel_for_such_numbers_it_is_transformers_way_to_the_bit(
    family: Family, folder: Path, pixels: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU in float32."""
    theirs, gradient = answer(family, narrowed(opened(family, folder, monkeypatch, None)), pixels)
    model = opened(family, folder, monkeypatch, PLAIN)
    monkeypatch.setattr(tower, "kernel_for", lambda query, key, dtype: None)
    ours, again = answer(family, narrowed(model), pixels)
    assert all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True))
    assert all(torch.equal(gradient[name], again[name]) for name in gradient)


def test_on_a_cpu_transformers_is_asked_as_before(
    family: Family, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = opened(family, folder, monkeypatch, None)
    assert model.config.vision_config._attn_implementation != tower.BY_BOUNDS


@pytest.mark.parametrize("policy", [{}, {"gradient_checkpointing": True}, {"autocast": True}], ids=str)
def test_a_learner_goes_by_the_kernel(
    family: Family,
    make_learner: MakeLearner,
    rows: list[Row],
    with_bounds: bool,
    policy: dict,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = make_learner(policy=policy)
    theirs, expected = plain.logprobs(rows), gradient_of(plain, rows)[0]
    played = Played()
    monkeypatch.setattr(tower, "kernel_for", lambda query, key, dtype: played.kernel)
    pack = type(family).pack

    def on_gpu(self: Family, model: Any) -> None:
        with monkeypatch.context() as gpu:
            gpu.setattr(torch.cuda, "is_available", lambda: True)
            pack(self, model)

    monkeypatch.setattr(type(family), "pack", on_gpu)
    learner = make_learner(policy=policy)
    rounding = 0.1 if policy.get("autocast") else family.rounding
    assert largest_gap(learner.logprobs(rows), theirs) < rounding
    assert apart(gradient_of(learner, rows)[0], expected) < (0.1 if policy.get("autocast") else 1e-5)
    assert bool(played.calls) is with_bounds
