"""Qwen3.5 in vLLM's CPU build in float32: what it samples, what it holds, which adapters it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed")

import torch

from ocr_rl.contract import Page, UserError
from ocr_rl.models.load import load_model
from ocr_rl.rollout.flow import Group, Prompt, Row
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import Sampling
from ocr_rl.rollout.sampler.hf import HfSampler
from tests.contracts.conftest import Weights, weights_of
from tests.contracts.test_adapters_arrive import adapted, adapter_over
from tests.families.conftest import only, plain_logprobs

pytestmark = only("qwen3_5")
HOW = Sampling(n=2, temperature=0.7, max_tokens=16, seed=5)
HEAD, EMBEDDING = "lm_head.weight", "model.language_model.embed_tokens.weight"


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load_model(str(folder))


@pytest.fixture(scope="module")
def asked(tiny_pages: list[Page], prompter: Prompter) -> list[tuple[Page, Prompt]]:
    return [(page, prompter.prompt(page)) for page in tiny_pages[1:]]


@pytest.fixture(scope="module")
def engine(open_engine: Callable[..., Any], folder: Path, prompter: Prompter) -> Any:
    return open_engine(folder, prompter)


@torch.no_grad()
def gap(groups: list[Group], weights: Weights, model: Any, prompter: Prompter) -> float:
    """Largest difference to log-probabilities computed row by row."""
    kept = weights_of(model)
    model.load_state_dict(dict(weights))
    gaps = [
        plain_logprobs(model, prompter, row_of(group, sample)) - torch.tensor(sample.logprobs)
        for group in groups
        for sample in group.samples
    ]
    model.load_state_dict(dict(kept))
    return float(torch.cat(gaps).abs().max())


def row_of(group: Group, sample: Any) -> Row:
    ids, how = sample.token_ids, {"temperature": group.temperature, "banned_ids": group.banned_ids}
    return Row(prompt=group.prompt, completion_ids=ids, group_id=0, weight=1.0, **how)


def noisy(model: Any) -> Weights:
    """All weights changed, the tied head with its embedding; states that do not forget (`A_log`)."""
    torch.manual_seed(1)
    weights = {name: w + 0.02 * torch.randn_like(w) - 5 * ("A_log" in name) for name, w in weights_of(model)}
    return list((weights | {HEAD: weights[EMBEDDING]}).items())


def test_transformers_samples_from_the_layer_as_it_is(folder: Path, prompter: Prompter, model: Any, asked) -> None:
    """Unpacked, with its cache and prompts of three lengths padded on the left."""
    sampler = HfSampler(folder, prompter, max_rows=16)
    assert gap(list(sampler.sample(asked, HOW)), weights_of(model), model, prompter) < 1e-4


def test_vllm_samples_from_what_the_learner_computes_also_after_new_weights(
    engine: Any, model: Any, prompter: Prompter, asked
) -> None:
    """With its prefix cache, so prompts are read in parts, and a second time from kept states."""
    settings = engine._llm.llm_engine.vllm_config
    assert settings.cache_config.enable_prefix_caching and settings.scheduler_config.enable_chunked_prefill
    first, again = (list(engine.sample(asked, HOW)) for _ in range(2))
    assert gap([*first, *again], weights_of(model), model, prompter) < 1e-4
    weights = noisy(model)
    try:
        engine.load(weights, 1)  # refuses where the engine then holds others
        groups = [*engine.sample(asked, HOW), *engine.sample(asked, HOW)]
        assert gap(groups, weights, model, prompter) < 1e-4
        assert gap(groups, weights_of(model), model, prompter) > 1e-2
    finally:
        engine.load(weights_of(model), 0)


def test_vllm_takes_adapters_on_delta_nets_projections(
    engine: Any, folder: Path, model: Any, prompter: Prompter, asked
) -> None:
    """A of `in_proj_qkv` is held three times, and marked so; `in_proj_z` without it is refused."""
    all_of_them = adapter_over(folder, rank=5)

    def only(*names: str) -> Any:
        kept = {name: w for name, w in all_of_them.tensors.items() if set(names) & set(name.split("."))}
        assert kept
        return replace(all_of_them, tensors=kept)

    try:
        for sent in (all_of_them, only("in_proj_qkv", "in_proj_a"), only("in_proj_b", "out_proj")):
            engine.load(sent, 1)
            groups = list(engine.sample(asked, HOW))
            assert gap(groups, adapted(model, sent), model, prompter) < 1e-4
            assert gap(groups, weights_of(model), model, prompter) > 1e-2
        with pytest.raises(UserError, match="vLLM refuses the adapters"):
            engine.load(only("in_proj_z"), 2)
    finally:
        engine.load(weights_of(model), 0)
