"""Weights in bfloat16 learn through float32 masters; without them they would hardly move."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from torch import Tensor, nn

from ocr_rl import config
from ocr_rl.config import load_recipe
from ocr_rl.learn import logprobs
from ocr_rl.learn import masters as masters_module
from ocr_rl.learn.logprobs import token_logprobs
from ocr_rl.learn.masters import HALF, Masters, dithered
from ocr_rl.learn.optimizers import open_optimizers
from ocr_rl.models.load import sampling_dtype, use_dtype
from ocr_rl.policy import open_policy, open_sampler
from ocr_rl.rollout.flow import Row
from ocr_rl.train.session import with_engines_dtype
from tests.learn.conftest import NLL, MakeLearner

STEPS = 300
RATE = 2e-6


def _layer(dtype: torch.dtype) -> nn.Linear:
    layer = nn.Linear(64, 64, bias=False)
    with torch.no_grad():
        layer.weight.copy_(0.02 * torch.randn(64, 64, generator=torch.Generator().manual_seed(0)))
    return layer.to(dtype)


def _moved(layer: nn.Linear, masters: Masters | None) -> Tensor:
    """How far 300 equal AdamW steps move each weight."""
    learnt = dict(layer.named_parameters()) if masters is None else masters.by_name
    (optimizer,) = open_optimizers(learnt, config.Optim(lr=RATE))
    before = layer.weight.detach().float().clone()
    for _ in range(STEPS):
        layer.weight.grad = torch.ones_like(layer.weight)
        if masters:
            masters.take_gradients()
        for group in optimizer.param_groups:
            group["lr"] = RATE
        optimizer.step()
        optimizer.zero_grad()
        if masters:
            masters.hand_back()
    return (layer.weight.detach().float() - before).abs()


def test_trap_26_small_steps_arrive_through_masters_and_are_lost_without() -> None:
    """The mean move is what float32 makes of it; without masters nearly all weights stay where they are."""
    exact = _layer(torch.float32)
    expected = float(_moved(exact, Masters(exact)).mean())
    assert expected == pytest.approx(STEPS * RATE, rel=0.01)
    layer = _layer(torch.bfloat16)
    masters = Masters(layer)
    start = masters.by_name["weight"].detach().clone()
    _moved(layer, masters)
    assert float((masters.by_name["weight"] - start).abs().mean().detach()) == pytest.approx(expected, rel=0.01)
    assert layer.weight.dtype == torch.bfloat16
    lost = _moved(_layer(torch.bfloat16), None)
    assert float(lost.mean()) < 0.1 * expected and float((lost > 0).float().mean()) < 0.1


def test_a_master_begins_anywhere_among_what_is_rounded_to_its_weight() -> None:
    """Of every finite bfloat16 number, at both ends and between; and one step further another number begins."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    finite = every[every.isfinite()]
    assert len(finite) == 65_280
    between = torch.randint(
        -HALF + 1, HALF, finite.shape, generator=torch.Generator().manual_seed(0), dtype=torch.int32
    )
    for offset in (between, torch.full_like(between, HALF - 1), torch.full_like(between, 1 - HALF)):
        assert torch.equal(dithered(finite, offset).bfloat16().view(torch.int16), finite.view(torch.int16))
    beyond = dithered(finite, torch.full_like(between, HALF + 1)).bfloat16()
    assert bool((beyond != finite)[finite != 0].all())


def test_each_seed_begins_elsewhere_and_every_time_there() -> None:
    layer = _layer(torch.bfloat16)
    first, again, other = (Masters(layer, seed=seed).by_name["weight"] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_trap_26_weights_move_as_far_as_their_masters_from_the_first_step_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moves of a twentieth of what lies between two bfloat16 numbers: begun in the middle, nothing moves at first."""
    weight = (0.5 + torch.rand(400, 500, generator=torch.Generator().manual_seed(0)) / 2).bfloat16()
    move = 2**-8 / 20

    def moved() -> list[float]:
        layer = nn.Linear(500, 400, bias=False, dtype=torch.bfloat16)
        with torch.no_grad():
            layer.weight.copy_(weight)
            masters = Masters(layer)
            assert torch.equal(layer.weight, weight)
            far: list[float] = []
            for _ in range(3):
                masters.by_name["weight"].sub_(move)
                masters.hand_back()
                far.append(float((weight.double() - layer.weight.double()).mean()))
        return far

    assert moved() == pytest.approx([move, 2 * move, 3 * move], rel=0.03)
    monkeypatch.setattr(masters_module, "dithered", lambda weight, offset: weight.float())
    assert moved() == [0.0, 0.0, 0.0]


def test_gradients_of_a_steps_passes_are_summed_in_float32() -> None:
    layer = _layer(torch.bfloat16)
    masters = Masters(layer)
    for value in (1.0, *[2**-10] * 512):  # in bfloat16 each of these would vanish beside the 1
        layer.weight.grad = torch.full_like(layer.weight, value)
        masters.take_gradients()
    total = masters.by_name["weight"].grad
    assert total is not None and total.dtype == torch.float32 and bool((total == 1.5).all())
    assert layer.weight.grad is None


def test_a_float32_weight_is_its_own_master() -> None:
    layer = _layer(torch.float32)
    assert Masters(layer).by_name["weight"] is layer.weight


def test_masters_are_saved_and_a_run_goes_on_to_the_bit(
    make_learner: MakeLearner, rows: list[Row], tmp_path: Path
) -> None:
    policy = {"dtype": "bfloat16"}
    whole, half, later = (make_learner(policy=policy, lr=1e-5) for _ in range(3))
    for _ in range(4):
        whole.update(rows, NLL)
    for _ in range(2):
        half.update(rows, NLL)
    half.save_state(tmp_path / "optim.pt")
    state = torch.load(tmp_path / "optim.pt", weights_only=True)
    assert {weight.dtype for weight in state["weights"].values()} == {torch.float32}
    later.load_state(tmp_path / "optim.pt")
    for _ in range(2):
        later.update(rows, NLL)
    for name, master in whole.masters.by_name.items():
        assert torch.equal(master, later.masters.by_name[name]), name
    weights = dict(later.module.named_parameters())
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    for name, master in later.masters.by_name.items():
        assert torch.equal(weights[name], master.bfloat16()), name  # the weights follow their masters


def test_the_engine_takes_float32_weights_in_a_dtype_of_its_own(make_learner: MakeLearner, policy_dir: Path) -> None:
    learner = make_learner()
    sampling = config.Sampling(engine="transformers", dtype="bfloat16")
    sampler: Any = open_sampler(sampling, learner.origin, config.Policy(path=str(policy_dir)))
    with torch.no_grad():
        for weight in learner.module.parameters():
            weight.mul_(1.01)
    sampler.load(learner.weights(), 1)
    own, given = sampler._model.state_dict(), dict(learner.weights())
    assert {weight.dtype for weight in own.values()} == {torch.bfloat16}
    assert all(torch.equal(own[name], given[name].bfloat16()) for name in own)


def test_an_engine_beside_a_learner_is_bfloat16_on_a_gpu_and_one_alone_what_its_model_is(
    policy_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for said, on_gpu, expected in ((None, True, "bfloat16"), (None, False, "float32"), ("float32", True, "float32")):
        sampling, policy = config.Sampling(dtype=said), config.Policy(path=str(policy_dir))
        assert sampling_dtype(sampling, policy, on_gpu=on_gpu) == expected
        # What watches the run knows of it: only where all is float32 a gap of 0.01 means that something is wrong.
        monkeypatch.setattr(torch.cuda, "is_available", partial(bool, on_gpu))
        recipe = with_engines_dtype(load_recipe("nano_grpo", [f'sampling.dtype="{said}"'] if said else []))
        assert recipe.sampling.dtype == expected
        assert (recipe.watched.gap_max is not None) == (expected == "float32")
    monkeypatch.undo()
    asked: list[config.Sampling] = []
    monkeypatch.setattr(
        "ocr_rl.policy.open_sampler", lambda sampling, *_: asked.append(sampling) or SimpleNamespace(close=lambda: None)
    )
    with open_policy(str(policy_dir), engine="transformers"):
        assert asked[0].dtype == use_dtype(str(policy_dir)) == "float32"


@pytest.fixture
def sure() -> tuple[Tensor, Tensor, Tensor]:
    """(hidden, head, target) of 40 tokens, of most of which the policy is sure (p > 0.99)."""
    generator = torch.Generator().manual_seed(0)
    head = torch.randn(50, 32, generator=generator).bfloat16()
    target = torch.arange(40)
    hidden = (0.30 * head[target].float() + 0.05 * torch.randn(40, 32, generator=generator)).bfloat16()
    return hidden, head, target


def _gradient(hidden: Tensor, head: Tensor, target: Tensor) -> Tensor:
    leaf = hidden.clone().requires_grad_()
    token_logprobs(leaf, head, target)[0].sum().backward()
    assert leaf.grad is not None
    return leaf.grad.double()


def test_a_sure_tokens_gradient_is_not_rounded_away(sure: tuple[Tensor, Tensor, Tensor], monkeypatch) -> None:
    hidden, head, target = sure
    exact = _gradient(hidden.float(), head.float(), target)
    sure_N = token_logprobs(hidden.float(), head.float(), target)[0].exp() > 0.99
    assert int(sure_N.sum()) > 10
    error = lambda ours: float(((ours - exact).norm(dim=1) / exact.norm(dim=1))[sure_N].mean())
    assert error(_gradient(hidden, head, target)) < 0.02
    apart = lambda share, target, weight: weight[target] - share.to(weight.dtype) @ weight
    monkeypatch.setattr(logprobs, "_slope", apart)
    assert error(_gradient(hidden, head, target)) > 0.2  # what the difference of two rounded terms leaves
