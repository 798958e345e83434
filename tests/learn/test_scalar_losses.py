"""The losses of a critic and of a reward model against numbers worked by hand, in float64."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from torch import Tensor

from ocr_rl.learn.rows import Batch
from ocr_rl.objectives.losses import PolicyGradient, Read, Scalars
from ocr_rl.objectives.scalar_losses import BradleyTerry, ValueLoss, WithCritic
from ocr_rl.rollout.flow import Row
from tests.learn.conftest import PROMPT, batch_of, read_of

VALUES = torch.tensor([0.5, 0.0, 1.0], dtype=torch.float64)
OLD, RETURNS = [0.25, 0.0, 0.25], [1.0, 0.5, 0.75]


def f64(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def with_returns() -> Batch:
    return replace(batch_of([2, 1], weight=[0.25, 0.25, 0.5]), value_N=f64(OLD), return_N=f64(RETURNS))


def scalars_of(value_N: Tensor | None = None, score_B: Tensor | None = None) -> Scalars:
    return Scalars(
        value_N=torch.empty(0) if value_N is None else value_N, score_B=torch.empty(0) if score_B is None else score_B
    )


def test_value_loss_by_hand() -> None:
    value_N = VALUES.clone().requires_grad_()
    loss, sums = ValueLoss()(scalars_of(value_N), with_returns())
    assert float(loss.detach()) == pytest.approx(0.25 * 0.25 + 0.25 * 0.25 + 0.5 * 0.0625, abs=1e-15)
    assert sums == pytest.approx({"value_loss": 0.5625, "value": 1.5})
    loss.backward()
    assert value_N.grad is not None and value_N.grad.tolist() == pytest.approx([-0.25, -0.25, 0.25], abs=1e-15)


def test_clipped_value_loss_by_hand() -> None:
    # near: .25 + .125 = .375, 0, .25 + .125 = .375; squares .390625, .25, .140625: the larger of the two counts
    value_N = VALUES.clone().requires_grad_()
    loss, sums = ValueLoss(clip=0.125)(scalars_of(value_N), with_returns())
    assert float(loss.detach()) == pytest.approx(0.25 * 0.390625 + 0.25 * 0.25 + 0.5 * 0.140625, abs=1e-15)
    assert sums["value_clip_share"] == 2
    loss.backward()
    assert value_N.grad is not None and value_N.grad.tolist() == pytest.approx([0.0, -0.25, 0.0], abs=1e-15)


def test_a_head_on_the_trunk_adds_its_share_to_the_policys_loss() -> None:
    batch = replace(with_returns(), advantage_N=f64([1.0, 1.0, -1.0]))
    logprob_N = f64([-1.0, -2.0, -3.0])
    read = Read(logprob_N=logprob_N, entropy_N=torch.zeros(3), scalars=scalars_of(VALUES))
    value, critic = ValueLoss()(scalars_of(VALUES), batch)
    policy, parts = PolicyGradient()(read_of(logprob_N), batch)
    both, sums = WithCritic(policy=PolicyGradient(), critic=ValueLoss(), weight=0.5)(read, batch)
    assert float(both) == pytest.approx(float(policy) + 0.5 * float(value), abs=1e-15)
    assert sums == {**parts, **critic}
    warm, sums = WithCritic(policy=None, critic=ValueLoss(), weight=0.5)(read, batch)
    assert float(warm) == pytest.approx(0.5 * float(value), abs=1e-15) and sums == critic


def pairs_batch(margins: tuple[float, float] = (0.0, 0.0)) -> Batch:
    """Two pairs of rows; the second one's rejected row stands first."""
    signs, groups = (1.0, -1.0, -1.0, 1.0), (3, 3, 8, 8)
    rows = tuple(
        Row(
            prompt=PROMPT,
            completion_ids=(1,),
            group_id=group,
            weight=0.5,
            advantage=sign,
            margin=margins[i // 2] if sign > 0 else 0.0,
        )
        for i, (sign, group) in enumerate(zip(signs, groups, strict=True))
    )
    return replace(batch_of([1] * 4, weight=[0.5] * 4), rows=rows)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


SCORES = [2.0, 0.5, 1.0, 0.25]  # gaps 1.5 and -0.75


def test_bradley_terry_by_hand() -> None:
    score_B = f64(SCORES).requires_grad_()
    loss, sums = BradleyTerry()(scalars_of(score_B=score_B), pairs_batch())
    assert float(loss.detach()) == pytest.approx(0.5 * softplus(-1.5) + 0.5 * softplus(0.75), abs=1e-15)
    assert sums == pytest.approx(
        {
            "accuracy_mean": 0.5,
            "score_gap_mean": (1.5 - 0.75) / 2,
            "score_chosen_mean": (2.0 + 0.25) / 2,
            "score_rejected_mean": (0.5 + 1.0) / 2,
        }
    )
    loss.backward()
    first, second = 0.5 / (1 + math.exp(1.5)), 0.5 / (1 + math.exp(-0.75))
    assert score_B.grad is not None
    assert score_B.grad.tolist() == pytest.approx([-first, first, second, -second], abs=1e-15)


def test_margin_and_label_smoothing_by_hand() -> None:
    loss, _ = BradleyTerry()(scalars_of(score_B=f64(SCORES)), pairs_batch((0.5, 1.0)))
    assert float(loss.detach()) == pytest.approx(0.5 * softplus(-1.0) + 0.5 * softplus(1.75), abs=1e-15)
    loss, _ = BradleyTerry(label_smoothing=0.1)(scalars_of(score_B=f64(SCORES)), pairs_batch())
    right = 0.5 * softplus(-1.5) + 0.5 * softplus(0.75)
    wrong = 0.5 * softplus(1.5) + 0.5 * softplus(-0.75)
    assert float(loss.detach()) == pytest.approx(0.9 * right + 0.1 * wrong, abs=1e-15)


def test_a_score_has_no_zero() -> None:
    score_B = f64(SCORES)
    loss, _ = BradleyTerry()(scalars_of(score_B=score_B), pairs_batch())
    moved, _ = BradleyTerry()(scalars_of(score_B=score_B + 17), pairs_batch())
    assert float(moved) == pytest.approx(float(loss.detach()), abs=1e-14)


def test_a_pair_belongs_into_one_micro_batch() -> None:
    batch = pairs_batch()
    with pytest.raises(AssertionError, match="one micro-batch"):
        BradleyTerry()(scalars_of(score_B=f64(SCORES[:3])), replace(batch, rows=batch.rows[:3]))
