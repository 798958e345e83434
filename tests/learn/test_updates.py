"""An update: what it counts, clips, freezes and refuses, and the reference that stays where the run began."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from torch import Tensor

from ocr_rl.contract import UserError
from ocr_rl.learn.rows import Batch
from ocr_rl.models.fresh import new_policy
from ocr_rl.objectives.losses import Read
from ocr_rl.rollout.flow import Row
from tests.learn.conftest import NLL, MakeLearner, largest_gap, same, weights
from tests.learn.test_learner import gradient_of


def test_an_update_counts_and_lowers_the_loss(make_learner: MakeLearner, rows: list[Row]) -> None:
    learner = make_learner(lr=3e-4)
    losses = [learner.update(rows, NLL)["loss"] for _ in range(4)]
    assert learner.policy == 4
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.9 * losses[0]


def test_metrics_are_means_per_token(make_learner: MakeLearner, rows: list[Row]) -> None:
    learner = make_learner()
    values = [value for row in learner.logprobs(rows) for value in row]
    metrics = learner.update(rows, NLL)
    assert metrics["tokens"] == len(values)
    assert metrics["nll"] == pytest.approx(-sum(values) / len(values), rel=1e-5)
    assert 0 < metrics["entropy"] < math.log(learner.module.config.text_config.vocab_size)


def test_a_gradient_that_is_not_finite_stops_the_run_before_the_weights_change(
    make_learner: MakeLearner, rows: list[Row]
) -> None:
    learner = make_learner()
    before = weights(learner)

    def broken(read: Read, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        return (read.logprob_N * batch.weight_N * float("nan")).sum(), {}

    with pytest.raises(FloatingPointError, match="not finite at update 0"):
        learner.update(rows, broken)
    assert same(weights(learner), before)
    assert learner.policy == 0


def test_the_gradient_is_clipped_at_its_norm(make_learner: MakeLearner, rows: list[Row]) -> None:
    clipped, metrics = gradient_of(make_learner(max_grad_norm=0.25), rows)
    whole, _ = gradient_of(make_learner(max_grad_norm=1e9), rows)
    norm = lambda gradient: math.sqrt(sum(float(g.double().square().sum()) for g in gradient.values()))
    assert metrics["grad_norm"] == pytest.approx(norm(whole), rel=1e-4)
    assert norm(clipped) == pytest.approx(0.25, rel=1e-4)


def test_a_frozen_vision_tower_stays(make_learner: MakeLearner, rows: list[Row]) -> None:
    learner = make_learner(policy={"freeze_vision": True})
    before = weights(learner)
    learner.update(rows, NLL)
    moved = {name for name, weight in weights(learner).items() if not torch.equal(weight, before[name])}
    assert moved == {name for name in before if ".visual." not in name}


def test_without_freezing_every_weight_moves(make_learner: MakeLearner, rows: list[Row]) -> None:
    learner = make_learner(name="muon")
    before = weights(learner)
    learner.update(rows, NLL)
    assert [name for name, weight in weights(learner).items() if torch.equal(weight, before[name])] == []


@pytest.mark.parametrize("policy", [{}, {"lora_rank": 2}], ids=["full", "lora"])
def test_the_reference_stays_where_the_run_began(make_learner: MakeLearner, rows: list[Row], policy: dict) -> None:
    learner = make_learner(policy=policy, reference=True, lr=1e-2)
    start = learner.logprobs(rows)
    learner.update(rows, NLL)
    annotated = learner.annotate(rows, old=True, reference=True)
    assert largest_gap([row.ref_logprobs for row in annotated], start) < 1e-5
    assert largest_gap([row.old_logprobs for row in annotated], start) > 1e-2
    assert all(row.old_logprobs is None for row in rows)  # new rows, nothing filled in
    left_out = learner.annotate(rows[:1], old=False, reference=False)[0]
    assert (left_out.old_logprobs, left_out.ref_logprobs) == (None, None)


@pytest.mark.parametrize("rank", [0, 2], ids=["all weights", "adapters"])
def test_a_reference_of_its_own_stands_in_place_of_the_start(
    make_learner: MakeLearner, rows: list[Row], tmp_path: Path, rank: int
) -> None:
    other = make_learner()
    for _ in range(3):
        other.update(rows, NLL)
    other.save(tmp_path / "other")
    policy = {"reference": str(tmp_path / "other"), "lora_rank": rank}
    learner = make_learner(policy=policy, reference=True)
    expected = other.logprobs(rows)
    for _ in range(2):
        assert largest_gap(learner.logprobs(rows, reference=True), expected) < 1e-6
        assert largest_gap(learner.logprobs(rows), expected) > 0.01
        learner.update(rows, NLL)


def test_a_reference_of_another_shape_is_refused(make_learner: MakeLearner, tmp_path: Path) -> None:
    new_policy(tmp_path / "other", 0, "qwen3_vl")
    with pytest.raises(UserError, match=r"policy\.reference: .* has another shape than the policy"):
        make_learner(policy={"reference": str(tmp_path / "other")}, reference=True)
