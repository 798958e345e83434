"""Which weights an optimiser has, and the rate at every step."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from torch import nn

from ocr_rl import config
from ocr_rl.learn.masters import Masters
from ocr_rl.learn.optimizers import open_optimizers, rate_factor
from ocr_rl.rollout.flow import Row
from tests.learn.conftest import NLL, MakeLearner


def test_muon_has_the_matrices_and_adamw_the_rest(make_learner: MakeLearner) -> None:
    learner = make_learner(name="muon", lr=0.01, adam_lr=0.002)
    muon, adam = learner.optimizers
    names = {id(p): name for name, p in learner.module.named_parameters()}
    of = lambda optimizer: {names[id(p)] for group in optimizer.param_groups for p in group["params"]}
    assert of(muon) | of(adam) == set(names.values())
    assert not of(muon) & of(adam)
    assert all(p.ndim == 2 for group in muon.param_groups for p in group["params"])
    assert {name for name in of(adam) if "embed" in name} == {
        "model.language_model.embed_tokens.weight",
        "model.visual.patch_embed.proj.weight",
    }
    assert (muon.param_groups[0]["peak"], adam.param_groups[0]["peak"]) == (0.01, 0.002)


def test_frozen_weights_are_in_no_optimiser() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    for name in ("adamw", "muon"):
        optimizers = open_optimizers(Masters(module).by_name, config.Optim.model_validate({"name": name}))
        held = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
        assert {id(p) for p in held} == {id(p) for p in module[0].parameters()}


def test_adamw_is_fused_on_a_gpu_alone() -> None:
    """Weights that only say that they lie on a GPU: what the optimiser is opened with, and no more."""

    class OnGpu(torch.Tensor):
        is_cuda = True  # type: ignore[assignment]

    on_gpu = lambda: torch.ones(2, 2).as_subclass(OnGpu).requires_grad_()
    here = lambda: torch.ones(2, 2).requires_grad_()
    fused = lambda **learnt: open_optimizers(learnt, config.Optim())[0].param_groups[0]["fused"]
    assert fused(w=on_gpu()) is True
    assert fused(w=here()) is None and fused(w=on_gpu(), o=here()) is None


def test_the_rate_by_hand() -> None:
    optim = config.Optim(lr=1.0, warmup=4, cooldown=0.5, final=0.1)
    rate = lambda step: rate_factor(step, 20, optim)
    # Up by quarters; flat until half the run is left; then 0.1 + 0.9 * (20 - step) / 10.
    assert [rate(step) for step in (0, 1, 3, 4, 10)] == pytest.approx([0.25, 0.5, 1, 1, 1])
    assert [rate(step) for step in (11, 15, 19)] == pytest.approx([0.91, 0.55, 0.19])
    assert rate_factor(7, 20, config.Optim()) == 1.0


def test_a_schedule_by_hand() -> None:
    optim = config.Optim(lr=1.0, schedule=((2, 1.0), (6, 0.2), (8, 0.6)))
    # Flat at 1; down by 0.2 a step; up by 0.2 a step; flat at 0.6.
    assert [rate_factor(step, 20, optim) for step in (0, 2, 3, 6, 7, 8, 19)] == pytest.approx(
        [1, 1, 0.8, 0.2, 0.4, 0.6, 0.6]
    )


def test_the_rate_is_set_before_the_step(make_learner: MakeLearner, rows: list[Row]) -> None:
    learner = make_learner(name="muon", lr=0.01, adam_lr=0.002, warmup=2)
    assert learner.update(rows[:1], NLL)["lr"] == pytest.approx(0.005)
    assert [o.param_groups[0]["lr"] for o in learner.optimizers] == pytest.approx([0.005, 0.001])
    assert learner.update(rows[:1], NLL)["lr"] == pytest.approx(0.01)
