"""Figures of `benchmarks.fidelity.ordering`, worked out by hand."""

from __future__ import annotations

import pytest

from benchmarks.fidelity.ordering import Group, figures


def test_a_reward_that_orders_as_the_measure_realises_all() -> None:
    group = Group(rewards=(0.1, 0.2, 0.9), measures=(0.2, 0.5, 0.8))
    assert (group.tau, group.realised, group.possible) == pytest.approx((1.0, 0.3, 0.3))


def test_the_opposite_order_loses() -> None:
    group = Group(rewards=(0.9, 0.2, 0.1), measures=(0.2, 0.5, 0.8))
    assert (group.tau, group.realised) == pytest.approx((-1.0, -0.3))


def test_a_flat_group_realises_nothing() -> None:
    group = Group(rewards=(0.5, 0.5, 0.5), measures=(0.2, 0.5, 0.8))
    assert group.flat and (group.tau, group.realised) == pytest.approx((0.0, 0.0))


def test_ties_take_their_mean_and_count_in_tau_b() -> None:
    group = Group(rewards=(1.0, 1.0, 0.0), measures=(0.8, 0.4, 0.0))
    assert group.realised == pytest.approx(0.6 - 0.4)
    assert group.tau == pytest.approx(2 / (2 * 3) ** 0.5)  # 2 of 3 pairs agree, one is tied in the reward


def test_shares_are_of_all_groups_together() -> None:
    large = Group(rewards=(0, 1), measures=(0.0, 1.0))
    small = Group(rewards=(1, 0), measures=(0.0, 0.1))
    tau, share, flat = figures([large, small])
    assert (tau, share, flat) == pytest.approx((0.0, (0.5 - 0.05) / (0.5 + 0.05), 0.0))
