"""The loss of DPO against numbers worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch

from ocr_rl.objectives.losses import PreferenceLoss
from ocr_rl.rollout.flow import Row
from tests.learn.conftest import PROMPT, batch_of, read_of

LN2 = math.log(2)


def pairs_of(ref: list[float], *, weight: float = 0.5, swapped: bool = False):
    """Two pairs: tokens of lengths 2 and 1 (chosen, rejected), then 1 and 3."""
    lengths = [2, 1, 1, 3]
    signs = [-1.0, 1.0, -1.0, 1.0] if swapped else [1.0, -1.0, 1.0, -1.0]
    rows = tuple(
        Row(prompt=PROMPT, completion_ids=(1,) * n, group_id=7 + i // 2, weight=weight, advantage=sign)
        for i, (n, sign) in enumerate(zip(lengths, signs, strict=True))
    )
    return replace(batch_of(lengths, weight=[weight] * 7, ref=ref), rows=rows)


LOGP = torch.tensor([-1.0, -2.0, -1.5, -0.5, -1.0, -1.0, -2.0], dtype=torch.float64)
REF = [-1.5, -2.5, -1.0, -0.5, -1.0, -0.5, -1.0]
# Log-ratios of the rows: 0.5 + 0.5, -0.5, 0, 0 - 0.5 - 1: margins 1.5 and 1.5.


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_dpo_by_hand() -> None:
    value, parts = PreferenceLoss(beta=0.2)(read_of(LOGP), pairs_of(REF))
    assert float(value) == pytest.approx(softplus(-0.3))
    assert parts == pytest.approx(
        {
            "margin_mean": 1.5,
            "accuracy_mean": 1.0,
            "chosen_mean": (-3 - 0.5) / 2,
            "rejected_mean": (-1.5 - 4) / 2,
            "chosen_moved_mean": (1.0 + 0.0) / 2,
            "rejected_moved_mean": (-0.5 - 1.5) / 2,
        }
    )


def test_dpo_is_ln_2_where_policy_and_reference_agree() -> None:
    value, _ = PreferenceLoss(beta=0.7)(read_of(LOGP), pairs_of(LOGP.tolist()))
    assert float(value) == pytest.approx(LN2)


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_a_swapped_pair_costs_beta_times_the_margin_more(beta: float) -> None:
    loss = PreferenceLoss(beta=beta)
    difference = float(loss(read_of(LOGP), pairs_of(REF, swapped=True))[0]) - float(
        loss(read_of(LOGP), pairs_of(REF))[0]
    )
    assert difference == pytest.approx(beta * 1.5)


def test_gradients_of_a_swapped_pair_are_opposite_only_at_margin_0() -> None:
    def gradient(ref: list[float], swapped: bool) -> torch.Tensor:
        logp = LOGP.clone().requires_grad_()
        PreferenceLoss(beta=1.0)(read_of(logp), pairs_of(ref, swapped=swapped))[0].backward()
        assert logp.grad is not None
        return logp.grad

    at_zero = LOGP.tolist()
    assert torch.allclose(gradient(at_zero, False), -gradient(at_zero, True))
    assert not torch.allclose(gradient(REF, False), -gradient(REF, True))


def test_smoothing_length_and_anchor_by_hand() -> None:
    smooth, _ = PreferenceLoss(beta=0.2, label_smoothing=0.25)(read_of(LOGP), pairs_of(REF))
    assert float(smooth) == pytest.approx(0.75 * softplus(-0.3) + 0.25 * softplus(0.3))
    short, parts = PreferenceLoss(beta=1.0, length_normalised=True)(read_of(LOGP), pairs_of(REF))
    assert parts["margin_mean"] == pytest.approx((1.0 + 0.5) / 2)  # 1/2 + 1/2, and 0 + 1.5/3
    assert float(short) == pytest.approx((softplus(-1.0) + softplus(-0.5)) / 2)
    anchored, _ = PreferenceLoss(beta=0.2, nll_anchor=2.0)(read_of(LOGP), pairs_of(REF))
    assert float(anchored) == pytest.approx(softplus(-0.3) + 2 * (3 / 2 + 0.5) / 2)


def test_a_torn_pair_is_an_error() -> None:
    torn = batch_of([2], weight=[1.0, 1.0], ref=[0.0, 0.0])
    with pytest.raises(AssertionError, match="one micro-batch"):
        PreferenceLoss(beta=1.0)(read_of(LOGP[:2]), torn)
