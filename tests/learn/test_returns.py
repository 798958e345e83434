"""Returns and advantages against numbers worked by hand."""

from __future__ import annotations

import pytest

from ocr_rl.objectives.returns import explained_variance, gae, token_rewards, whitened

REWARDS, VALUES = (0.0, -0.25, 1.0), (0.5, 0.25, 1.0)


def test_gae_by_hand() -> None:
    # gamma 0.5, lam 0.5; deltas: 0 + .125 - .5, -.25 + .5 - .25, 1 - 1; then A_2 = 0, A_1 = 0, A_0 = -.375
    advantages, returns = gae(REWARDS, VALUES, gamma=0.5, lam=0.5)
    assert advantages == pytest.approx((-0.375, 0.0, 0.0), abs=1e-15)
    assert returns == pytest.approx((0.125, 0.25, 1.0), abs=1e-15)
    # lam 1: what really came, discounted: 1, -.25 + .5, 0 + .125
    advantages, returns = gae(REWARDS, VALUES, gamma=0.5, lam=1.0)
    assert returns == pytest.approx((0.125, 0.25, 1.0), abs=1e-15)
    # gamma 1, lam 0.5: deltas -.25, .5, 0: A_1 = .5, A_0 = -.25 + .25
    advantages, returns = gae(REWARDS, VALUES, gamma=1.0, lam=0.5)
    assert advantages == pytest.approx((0.0, 0.5, 0.0), abs=1e-15)
    assert returns == pytest.approx((0.5, 0.75, 1.0), abs=1e-15)


def test_with_lambda_and_gamma_1_an_advantage_is_return_less_value() -> None:
    advantages, returns = gae(REWARDS, VALUES, gamma=1.0, lam=1.0)
    assert returns == pytest.approx((0.75, 0.75, 1.0), abs=1e-15)
    assert advantages == pytest.approx(tuple(r - v for r, v in zip(returns, VALUES, strict=True)), abs=1e-15)


def test_with_lambda_0_the_critic_right_after_the_token_is_the_judge() -> None:
    advantages, _ = gae(REWARDS, VALUES, gamma=1.0, lam=0.0)
    assert advantages == pytest.approx((0.25 - 0.5, -0.25 + 1.0 - 0.25, 1.0 - 1.0), abs=1e-15)


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.95, 1.0])
def test_a_perfect_critic_leaves_no_advantage(lam: float) -> None:
    rewards = (0.25, -0.5, 1.0)
    perfect = (0.75, 0.5, 1.0)
    advantages, returns = gae(rewards, perfect, gamma=1.0, lam=lam)
    assert advantages == pytest.approx((0.0, 0.0, 0.0), abs=1e-15)
    assert returns == pytest.approx(perfect, abs=1e-15)


def test_nothing_is_expected_after_the_last_token() -> None:
    assert gae((0.5,), (0.125,), gamma=1.0, lam=0.95) == ((0.375,), (0.5,))


def test_the_reward_stands_at_the_last_token_and_the_drift_at_each() -> None:
    assert token_rewards(0.75, (0.5, -1.0, 2.0), 0.1) == pytest.approx((-0.05, 0.1, -0.2 + 0.75), abs=1e-15)
    assert token_rewards(0.75, (0.5,), 0.0) == (0.75,)


def test_whitened_by_hand() -> None:
    # mean 2, variance (ddof 1) of 1, 2, 3 is 1
    rows = whitened([(1.0, 2.0), (3.0,)])
    assert rows[0] == pytest.approx((-1.0, 0.0), abs=1e-7)
    assert rows[1] == pytest.approx((1.0,), abs=1e-7)
    assert whitened([(5.0,)]) == [(0.0,)]
    assert whitened([(0.5, 0.5), (0.5,)]) == [(0.0, 0.0), (0.0,)]  # nothing differs, nothing is made of it


def test_explained_variance_by_hand() -> None:
    returns = (0.0, 1.0, 2.0, 3.0)
    assert explained_variance(returns, returns) == 1.0
    assert explained_variance((0.4,) * 4, returns) == pytest.approx(0.0)
    assert explained_variance((3.0, 2.0, 1.0, 0.0), returns) == pytest.approx(-3.0)  # errors -3, -1, 1, 3: 5 / 1.25
    assert explained_variance((0.0, 0.5), (1.0, 1.0)) == 0.0
