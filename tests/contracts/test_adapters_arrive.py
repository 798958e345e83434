"""Adapters on real samplers: switched on, replaced, checked against what was sent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch

from ocr_rl.contract import UserError
from ocr_rl.learn.network import adapter_of
from ocr_rl.models.families import family_of
from ocr_rl.models.load import load_model
from ocr_rl.models.weights import BASE_DTYPE, Adapter, marks_of
from tests.contracts.conftest import HOW, Weights, changed, gap, in_order, weights_of, written


def adapter_over(folder: Path, rank: int, seed: int = 0, only: str = "") -> Adapter:
    """Random adapters on all linear layers of both towers, or those whose name contains `only`; alpha is 7."""
    from peft import LoraConfig, get_peft_model

    policy = load_model(str(folder))
    marks = marks_of(policy.state_dict().items(), BASE_DTYPE)
    family = family_of(policy.config)
    everywhere = family.lora_targets(family.lora_names(policy, text=True, tower=True), tower=True)
    lora = LoraConfig(r=rank, lora_alpha=7, target_modules=everywhere)
    module = get_peft_model(policy, lora)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if "lora_B" in name and only in name:
                weight.normal_(std=0.1)
    return adapter_of(module, str(folder), marks)


def adapted(model: torch.nn.Module, adapter: Adapter) -> Weights:
    """The model's weights with the adapters added on, in float32."""
    weights, scale = dict(weights_of(model)), adapter.config.lora_alpha / adapter.config.r
    for name, up in adapter.tensors.items():
        if name.endswith(".lora_B.weight"):
            down = adapter.tensors[name.replace("lora_B", "lora_A")]
            weights[name.removeprefix("base_model.model.").replace(".lora_B", "")] += scale * up @ down
    return list(weights.items())


@pytest.mark.parametrize("part", ["language_model", "visual"])
def test_trap_21_adapters_are_switched_on_and_the_next_ones_take_their_place(
    real, asked, model, nano_dir, prompter, part
) -> None:
    """In the tower too: embeddings that the old adapters saw are not used again."""
    before = in_order(real, asked, HOW)
    try:
        for seed in (1, 2):
            sent = adapter_over(nano_dir, rank=5, seed=seed, only=part)
            real.load(sent, seed)
            groups = in_order(real, asked, HOW)
            assert gap(groups, adapted(model, sent), model, prompter) < 1e-4
            assert gap(groups, weights_of(model), model, prompter) > 1e-3, "the change is too small to prove anything"
    finally:
        real.load(weights_of(model), 3)
    assert written(in_order(real, asked, HOW)) == written(before)


def test_trap_8_vllm_says_what_it_holds(vllm_sampler: Any, model, nano_dir, monkeypatch) -> None:
    """Weights and adapters that do not arrive, and adapters over other weights than they learnt on."""
    sent = adapter_over(nano_dir, rank=5)
    names = [name for name, _ in weights_of(model) if "norm" in name]
    try:
        with pytest.raises(UserError, match=r"does not hold the base weights .* differs \(1 of "):
            vllm_sampler.load(replace(sent, marks={**sent.marks, names[0]: 0}), 1)
        vllm_sampler.load(weights_of(model), 1)
        vllm_sampler.load(sent, 2)
        lora_b = next(name for name in sent.tensors if "lora_B" in name)
        other = replace(sent, tensors={**sent.tensors, lora_b: 2 * sent.tensors[lora_b]})
        save = Adapter.save
        monkeypatch.setattr(Adapter, "save", lambda adapter, folder: save(sent, folder))  # what is read is an older one
        with pytest.raises(UserError, match=r"does not hold the adapters .* differs \(1 of "):
            vllm_sampler.load(other, 3)
        monkeypatch.undo()
        rpc = vllm_sampler._llm.collective_rpc

        def deaf(method, **given):
            """Reads what it is given and keeps what it had."""
            return list(*given["kwargs"].values()) if method == "reload_weights" else rpc(method, **given)

        monkeypatch.setattr(vllm_sampler._llm, "collective_rpc", deaf)
        with pytest.raises(UserError, match="does not hold the weights that it was given: .*norm"):
            vllm_sampler.load(changed(model, "norm", 0.1), 4)
    finally:
        monkeypatch.undo()
        vllm_sampler.load(weights_of(model), 0)


def test_vllm_refuses_adapters_that_it_has_no_room_for(vllm_sampler: Any, model, nano_dir) -> None:
    try:
        with pytest.raises(UserError, match="vLLM refuses the adapters .*rank 9"):
            vllm_sampler.load(adapter_over(nano_dir, rank=9), 1)
    finally:
        vllm_sampler.load(weights_of(model), 0)
