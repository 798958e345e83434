"""Qwen3.5 packed: exact, pages apart, siblings from their own prompt's state; its template, its optimiser, its plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from torch import Tensor

from ocr_rl.contract import Page
from ocr_rl.learn.network import PolicyNetwork, base
from ocr_rl.learn.optimizers import muon_matrices
from ocr_rl.learn.rows import collate
from ocr_rl.models.attention import packing
from ocr_rl.models.families.qwen3_5 import PackedDeltaNet
from ocr_rl.models.family import Family
from ocr_rl.models.load import load_model
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Prompter
from tests.families.conftest import MakeLearner, only, plain_logprobs, rows_of
from tests.learn.conftest import NLL, apart, largest_gap, weights

pytestmark = only("qwen3_5")
Begin = Sequence[Tensor] | None  # what a sequence goes on from
End = Sequence[Tensor]


@pytest.fixture(scope="session")
def three_pages(tiny_pages: list[Page], prompter: Prompter) -> list[Row]:
    """Four completions of each; the prompts of the first two are of one length."""
    return rows_of([tiny_pages[0], tiny_pages[1], tiny_pages[3]], prompter)


@torch.no_grad()
def remember(model: Any) -> None:
    """Slower decay, as of a trained model: a random one has forgotten its page a few tokens later."""
    for layer in model.model.language_model.layers[:3]:
        layer.linear_attn.A_log.sub_(5)


def gradients(model: torch.nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """transformers casts to float32 in many places: from its call on, those become casts to float64."""

    def switch() -> None:
        for name in ("float32", "float"):
            monkeypatch.setattr(torch, name, torch.float64)
        monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)

    return switch


def packed_logprobs(model: Any, family: Family, prompter: Prompter, groups: Sequence[Sequence[Row]]) -> Tensor:
    """Of the completions of one page after the other, by a model that is packed from now on."""
    family.pack(model)
    pixels, sizes = map(torch.from_numpy, prompter.pixels([prompter.image(group[0].prompt) for group in groups]))
    positions = lambda row, size: family.positions(model, row.prompt.expanded_ids, size.tolist())
    return PolicyNetwork(model, family, autocast=False)(collate(groups, (pixels, sizes), positions)).logprob_N


def test_in_float64_packing_is_exact(
    family: Family, folder: Path, prompter: Prompter, rows: list[Row], in_float64: Callable[[], None]
) -> None:
    model: Any = load_model(str(folder)).double()
    remember(model)
    in_float64()
    expected = torch.cat([plain_logprobs(model, prompter, row) for row in rows])
    weight = torch.cat([torch.full((len(row.completion_ids),), row.weight).double() for row in rows])
    gradient = gradients(model, (weight * expected).sum())
    packed = packed_logprobs(model, family, prompter, [rows[i : i + 4] for i in (0, 4)])
    assert packed.dtype == torch.float64
    assert (packed - expected).abs().max() < 1e-12
    assert apart(gradients(model, (weight * packed).sum()), gradient) < 1e-12


@torch.no_grad()
def test_a_long_transcript_is_within_rounding_of_float64(
    family: Family, folder: Path, prompter: Prompter, rows: list[Row], in_float64: Callable[[], None]
) -> None:
    """500 tokens, a random model's fast decay: transformers' own rule in float32 is farther from it (2.6e-5)."""
    random = torch.Generator().manual_seed(1)
    ids = tuple(torch.randint(20, 250, (500,), generator=random).tolist())
    row = replace(rows[0], completion_ids=ids)
    packed = packed_logprobs(load_model(str(folder)), family, prompter, [[row]])
    exact: Any = load_model(str(folder)).double()
    in_float64()
    gap = (packed.double() - plain_logprobs(exact, prompter, row)).abs()
    assert gap.max() < family.rounding and gap.mean() < family.rounding / 5


LEAKS: dict[str, Callable[[Begin, End], Begin]] = {
    "a prompt goes on from another page": lambda begin, end: begin or [x.roll(1, 0) for x in end],
    "pages of one length are exchanged": lambda begin, end: begin and [x.flip(0) for x in begin],
    "the state is not handed over": lambda begin, end: begin and [begin[0], torch.zeros_like(begin[1])],
    "the convolution starts anew": lambda begin, end: begin and [torch.zeros_like(begin[0]), begin[1]],
}


def test_packed_pages_know_nothing_of_each_other(
    make_learner: MakeLearner, three_pages: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a state that leaks is seen."""
    learner = make_learner(micro_tokens=4096)
    remember(learner.module)
    alone = [values for i in (0, 4, 8) for values in learner.logprobs(three_pages[i : i + 4])]
    assert largest_gap(learner.logprobs(three_pages), alone) < 2e-5
    read: Any = PackedDeltaNet._read
    for name, broken in LEAKS.items():

        def leaky(layer: PackedDeltaNet, *inputs: Any, broken: Callable[[Begin, End], Begin] = broken) -> Any:
            *mixed, begin = inputs
            return read(layer, *mixed, broken(begin, read(layer, *mixed, None)[1]))

        monkeypatch.setattr(PackedDeltaNet, "_read", leaky)
        assert largest_gap(learner.logprobs(three_pages), alone) > 1e-3, name


def test_checkpointed_layers_have_the_same_gradient_and_muon_moves_every_weight(
    make_learner: MakeLearner, rows: list[Row]
) -> None:
    moved = []
    for policy in ({}, {"gradient_checkpointing": True}):
        learner = make_learner(policy=policy, name="muon", adam_lr=1e-3)
        before = weights(learner)
        learner.update(rows, NLL)
        after = weights(learner)
        assert all(not torch.equal(after[name], before[name]) for name in before)
        moved.append({name: after[name] - before[name] for name in before})
    assert apart(moved[1], moved[0]) < 1e-6
    matrices = {id(p) for p in muon_matrices([*learner.module.named_parameters()])}
    layer = base(learner.module).model.language_model.layers[0].linear_attn
    turned = {name for name, p in layer.named_parameters() if id(p) in matrices}
    assert turned == {f"{name}.weight" for name in ("in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a", "out_proj")}


def test_the_plan_knows_what_a_delta_net_keeps(family: Family, folder: Path) -> None:
    """For the backward pass, tensor by tensor, against the estimate; attention's would be half of it."""
    model: Any = load_model(str(folder))
    family.pack(model)
    layer = model.model.language_model.layers[0].linear_attn
    weights = {p.untyped_storage().data_ptr() for p in layer.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return x

    lengths = [128, 64, 64, 50, 40]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        layer(torch.randn(1, sum(lengths), 256, requires_grad=True), packing=packing([lengths]))
    measured = sum(storage.nbytes() for storage in kept.values()) / sum(lengths)
    linear, *_, full = family.kept_by_mixers(model.config.text_config, 4, 2.5)
    assert linear == pytest.approx(measured, rel=0.25)
    assert full < 0.55 * measured


def test_adapters_on_delta_nets_projections_learn(make_learner: MakeLearner, rows: list[Row]) -> None:
    learner = make_learner(policy={"lora_rank": 2})
    before = weights(learner)
    learner.update(rows, NLL)
    lora_b = {name: w for name, w in weights(learner).items() if "linear_attn" in name and "lora_B" in name}
    assert len(lora_b) == 3 * 5  # layers and projections
    assert all(not torch.equal(w, before[name]) for name, w in lora_b.items())


def test_an_answer_does_not_think(prompter: Prompter) -> None:
    tokenizer = prompter.processor.tokenizer
    assert tokenizer.decode(prompter.token_ids).endswith("<think>\n\n</think>\n\n")
    tags = tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    assert set(tags) <= set(prompter.banned_ids)
