"""Advantages against numbers worked by hand."""

from __future__ import annotations

import pytest

from ocr_rl.contract import Score
from ocr_rl.objectives.advantages import (
    ADVANTAGES,
    EPS,
    batch_std,
    centred,
    extremes,
    gdpo,
    group_std,
    leave_one_out,
    order,
    shares,
)
from ocr_rl.rollout.scoring import GroupScores

GROUP = [0.0, 0.25, 0.5, 1.0]  # mean 0.4375; squared deviations sum to 0.546875; ddof-1 variance 0.182291666...
STD = 0.4269562819149866


def test_centred() -> None:
    assert centred([GROUP]) == [(-0.4375, -0.1875, 0.0625, 0.5625)]


def test_group_std() -> None:
    by = STD + EPS
    assert group_std([GROUP])[0] == pytest.approx([-0.4375 / by, -0.1875 / by, 0.0625 / by, 0.5625 / by])
    # Two siblings: 0.2 / (0.4 / sqrt(2) + 0.0001), so 1 / sqrt(2) but for EPS.
    assert group_std([[0.2, 0.6]])[0] == pytest.approx([-0.706857, 0.706857], abs=1e-6)


def test_leave_one_out_is_the_reward_less_the_mean_of_the_others() -> None:
    others = [(0.25 + 0.5 + 1) / 3, (0 + 0.5 + 1) / 3, (0 + 0.25 + 1) / 3, (0 + 0.25 + 0.5) / 3]
    expected = [reward - other for reward, other in zip(GROUP, others, strict=True)]
    assert leave_one_out([GROUP])[0] == pytest.approx(expected)


def test_batch_std_scales_every_group_alike() -> None:
    # All rewards: 0, 1, 0.4, 0.6; mean 0.5, squared deviations 0.52, ddof-1 std sqrt(0.52 / 3) = 0.41633.
    narrow, wide = [0.4, 0.6], [0.0, 1.0]
    by = (0.52 / 3) ** 0.5 + EPS
    assert batch_std([wide, narrow]) == [pytest.approx((-0.5 / by, 0.5 / by)), pytest.approx((-0.1 / by, 0.1 / by))]


def test_gdpo_gives_a_narrow_reward_the_same_say_as_a_wide_one() -> None:
    # Equal weights: wide says sample 1 is better, narrow says sample 0 is; summed rewards would follow wide alone.
    group = {"wide": [0.0, 1.0], "narrow": [0.6, 0.4]}
    both = gdpo([group], [{"wide": 0.5, "narrow": 0.5}])[0]
    assert both == pytest.approx((0.0, 0.0), abs=5e-4)
    weighted = gdpo([group], [{"wide": 0.75, "narrow": 0.25}])[0]
    assert weighted == pytest.approx((-0.5 * 0.70711, 0.5 * 0.70711), abs=5e-4)


def test_order_and_extremes_forget_by_how_much() -> None:
    near, far = [0.0, 0.5, 0.51, 0.6], [0.0, 0.1, 0.2, 1.0]
    assert order([near]) == order([far]) == group_std([[0, 1, 2, 3]])
    assert order([[0.2, 0.9, 0.2]]) == group_std([[0.5, 2, 0.5]])  # equals share their ranks
    assert extremes([near]) == extremes([far]) == group_std([[-1, 0, 0, 1]])
    assert extremes([[0.2, 0.9, 0.2, 0.9]]) == group_std([[-1, 1, 0, 0]])  # the first of equals, as a pair of DPO
    for scale in (order, extremes, group_std):  # and all are as long
        assert sum(advantage**2 for advantage in scale([far])[0]) == pytest.approx(3, rel=1e-3)


@pytest.mark.parametrize("scale", [centred, group_std, batch_std, leave_one_out, order, extremes])
def test_flat_groups_and_single_samples_get_zero(scale) -> None:
    assert scale([[0.3, 0.3, 0.3], [0.7]]) == [pytest.approx((0, 0, 0)), (0.0,)]


@pytest.mark.parametrize("scale", [centred, group_std, batch_std, leave_one_out])
def test_advantages_of_a_group_sum_to_zero_and_keep_its_order(scale) -> None:
    for group in scale([GROUP, [0.9, 0.1, 0.1]]):
        assert sum(group) == pytest.approx(0.0, abs=1e-12)
    first = scale([GROUP])[0]
    assert sorted(first) == list(first)


def test_every_preset_is_reachable() -> None:
    assert set(ADVANTAGES) == {"group_std", "batch_std", "centred", "leave_one_out", "gdpo", "order", "extremes"}


def test_shares_follow_the_scale_that_the_mode_has() -> None:
    """Two rewards, each alone in telling the siblings of one group apart: 1 against 0.01 apart."""

    def grades(a: tuple[float, float], b: tuple[float, float]) -> GroupScores:
        scores = {name: tuple(Score(value=one) for one in values) for name, values in (("a", a), ("b", b))}
        rewards = tuple((x + y) / 2 for x, y in zip(a, b, strict=True))
        return GroupScores(by_reward=scores, weights={"a": 0.5, "b": 0.5}, passes=(True, True), rewards=rewards)

    batch = [grades((0.0, 1.0), (0.5, 0.5)), grades((0.5, 0.5), (0.5, 0.51))]
    assert shares(batch, "centred") == pytest.approx({"a": 1 / 1.01, "b": 0.01 / 1.01})
    assert shares(batch, "group_std") == pytest.approx({"a": 0.5, "b": 0.5}, abs=0.01)
