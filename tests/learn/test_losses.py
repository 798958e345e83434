"""Losses against numbers worked by hand, in float64."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from torch import Tensor

from ocr_rl import config
from ocr_rl.learn.rows import Batch
from ocr_rl.objectives.losses import Loss, NegativeLogLikelihood, PolicyGradient, PreferenceLoss, kl_k1, kl_k2, kl_k3
from tests.learn.conftest import NLL, batch_of, read_of

LN2, LN3 = math.log(2), math.log(3)


def logs(*ratios: float) -> Tensor:
    return torch.tensor([math.log(ratio) for ratio in ratios], dtype=torch.float64, requires_grad=True)


def value_and_gradient(loss: Loss, logprob_N: Tensor, batch: Batch) -> tuple[float, list[float]]:
    value, _ = loss(read_of(logprob_N), batch)
    (gradient,) = torch.autograd.grad(value, logprob_N)
    return float(value.detach()), gradient.tolist()


def close(values: tuple[float, list[float]], value: float, gradient: list[float]) -> bool:
    return values == (pytest.approx(value, abs=1e-12), pytest.approx(gradient, abs=1e-12))


def test_nll_is_the_weighted_sum() -> None:
    # -(0.5 * -1 + 0.25 * -2 + 0.25 * -4) = 0.5 + 0.5 + 1 = 2; d/dlogp = -weight
    logprob_N = torch.tensor([-1.0, -2.0, -4.0], dtype=torch.float64, requires_grad=True)
    batch = batch_of([1, 2], weight=[0.5, 0.25, 0.25])
    assert close(value_and_gradient(NLL, logprob_N, batch), 2.0, [-0.5, -0.25, -0.25])
    assert NLL(read_of(logprob_N), batch)[1] == {"nll": 7.0}


def test_token_ratio_is_clipped_above_for_a_good_sample() -> None:
    # A = 2, w = 1/2. Ratio 1.5: min(3, 1.2 * 2) = 2.4, flat; 0.9: 1.8, slope A * ratio = 1.8.
    # loss = -(2.4 + 1.8) / 2 = -2.1; gradient 0 and -1.8 / 2
    batch = batch_of([2], weight=[0.5, 0.5], advantage=[2.0, 2.0], old=[0.0, 0.0])
    assert close(value_and_gradient(PolicyGradient(), logs(1.5, 0.9), batch), -2.1, [0.0, -0.9])
    _, sums = PolicyGradient()(read_of(logs(1.5, 0.9)), batch)
    assert sums["clip_share"] == 1.0  # one token; the learner divides by their number


def test_token_ratio_is_clipped_below_for_a_bad_sample() -> None:
    # A = -2, w = 1/2. Ratio 0.5: min(-1, 0.8 * -2) = -1.6, flat; 1.5: min(-3, -2.4) = -3, slope -3.
    # loss = (1.6 + 3) / 2 = 2.3; gradient 0 and 3 / 2
    batch = batch_of([2], weight=[0.5, 0.5], advantage=[-2.0, -2.0], old=[0.0, 0.0])
    assert close(value_and_gradient(PolicyGradient(), logs(0.5, 1.5), batch), 2.3, [0.0, 1.5])


@pytest.mark.parametrize("settings", [{}, {"ratio": "sequence"}, {"ratio": "geometric"}, {"surrogate": "cispo"}])
def test_without_old_log_probabilities_the_policy_is_the_old_one(settings: dict) -> None:
    how = {
        "weight": [0.5, 0.5, 1.0],
        "advantage": [2.0, 2.0, -1.0],
        "sampler": [0.0, -0.1, 0.2],
        "ref": [0.1, 0.0, 0.3],
    }
    now = logs(1.5, 0.9, 0.7)
    given, left_out = batch_of([2, 1], **how, old=now.tolist()), batch_of([2, 1], **how)
    loss = PolicyGradient(beta=0.1, **settings)
    assert close(value_and_gradient(loss, now, left_out), *value_and_gradient(loss, now, given))
    sums = [{n: float(x) for n, x in loss(read_of(now), batch)[1].items()} for batch in (left_out, given)]
    assert sums[0] == pytest.approx(sums[1])


def test_the_upper_clip_can_be_wider() -> None:
    # epsilon_high = 0.6: 1.5 is inside, 3 counts: loss = -(3 + 1.8) / 2 = -2.4
    batch = batch_of([2], weight=[0.5, 0.5], advantage=[2.0, 2.0], old=[0.0, 0.0])
    assert close(value_and_gradient(PolicyGradient(epsilon_high=0.6), logs(1.5, 0.9), batch), -2.4, [-1.5, -0.9])
    # The lower side stays at 0.2: a bad sample at 0.5 is clipped at 0.8 as before.
    bad = batch_of([1], weight=[1.0], advantage=[-2.0], old=[0.0])
    assert close(value_and_gradient(PolicyGradient(epsilon_high=0.6), logs(0.5), bad), 1.6, [0.0])


def test_a_bad_samples_ratio_is_bounded_by_delta() -> None:
    # A = -2. Ratio 5 counts as 4: loss = 8, flat; 3 is inside: loss = 6, slope -A * ratio = 6.
    bad = batch_of([2], weight=[1.0, 1.0], advantage=[-2.0, -2.0], old=[0.0, 0.0])
    assert close(value_and_gradient(PolicyGradient(delta=4.0), logs(5.0, 3.0), bad), 14.0, [0.0, 6.0])
    assert close(value_and_gradient(PolicyGradient(), logs(5.0, 3.0), bad), 16.0, [10.0, 6.0])  # unbounded without it
    # Both tokens of the bad sample that lost their gradient, and no other, are counted as stopped.
    counted = lambda loss: loss(read_of(logs(5.0, 3.0)), bad)[1]["clip_share"]
    assert (counted(PolicyGradient(delta=4.0)), counted(PolicyGradient())) == (1.0, 0.0)
    # A good sample is clipped at 1.2 long before.
    good = batch_of([1], weight=[1.0], advantage=[2.0], old=[0.0])
    assert close(value_and_gradient(PolicyGradient(delta=4.0), logs(5.0), good), -2.4, [0.0])


def test_cispo_clips_the_weight_and_keeps_the_gradient() -> None:
    # A = 2: -min(r, 1.2) * A * log r with the first factor constant. r = 1.5: -2.4 ln 1.5, gradient -2.4 (clip: 0);
    # r = 0.5 with A = -2: weight 0.5: +1 * ln 0.5, gradient +1 (clip: 0).
    batch = batch_of([1, 1], weight=[1.0, 1.0], advantage=[2.0, -2.0], old=[0.0, 0.0])
    values = value_and_gradient(PolicyGradient(surrogate="cispo"), logs(1.5, 0.5), batch)
    assert close(values, -2.4 * math.log(1.5) + math.log(0.5), [-2.4, 1.0])
    assert PolicyGradient(surrogate="cispo")(read_of(logs(1.5, 0.5)), batch)[1]["clip_share"] == 1.0


def test_sequence_ratio_is_the_product_over_the_row() -> None:
    # Row 1: 1.5 * 0.9 = 1.35, inside 1.6: loss = -2 * 1.35 * (1/2 + 1/2) = -2.7, and each token moves the whole
    # product: gradient -2.7 each. Row 2 alone: ratio 0.5, A = 1, w = 1: loss -0.5, gradient -0.5.
    batch = batch_of([2, 1], weight=[0.5, 0.5, 1.0], advantage=[2.0, 2.0, 1.0], old=[0.0, 0.0, 0.0])
    values = value_and_gradient(PolicyGradient(ratio="sequence", epsilon_high=0.6), logs(1.5, 0.9, 0.5), batch)
    assert close(values, -3.2, [-2.7, -2.7, -0.5])
    # With the upper clip at 1.2 row 1 gives -2.4 and no gradient.
    values = value_and_gradient(PolicyGradient(ratio="sequence"), logs(1.5, 0.9, 0.5), batch)
    assert close(values, -2.9, [0.0, 0.0, -0.5])


def test_geometric_ratio_is_the_mean_over_the_row() -> None:
    # Row 1: (1.44 * 0.9025)^(1/2) = 1.2 * 0.95 = 1.14: loss = -2 * 1.14 = -2.28; each token's share of the mean is a
    # half: gradient -1.14 each. Row 2: 0.9, A = 1, w = 1: -0.9.
    batch = batch_of([2, 1], weight=[0.5, 0.5, 1.0], advantage=[2.0, 2.0, 1.0], old=[0.0, 0.0, 0.0])
    values = value_and_gradient(PolicyGradient(ratio="geometric"), logs(1.44, 0.9025, 0.9), batch)
    assert close(values, -3.18, [-1.14, -1.14, -0.9])


def test_old_log_probabilities_are_what_the_ratio_is_taken_to() -> None:
    # exp(-1 - (-1 - ln 1.1)) = 1.1: loss = -1.1
    batch = batch_of([1], weight=[1.0], advantage=[1.0], old=[-1 - math.log(1.1)])
    now = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
    assert close(value_and_gradient(PolicyGradient(), now, batch), -1.1, [-1.1])


def test_k3_by_hand() -> None:
    # d = ref - logp: ln 2 gives 2 - ln 2 - 1 = 0.306853, -ln 2 gives 1/2 + ln 2 - 1 = 0.193147; equal gives 0.
    now, ref = torch.tensor([[-2.0, -2.0, -2.0], [LN2 - 2, -LN2 - 2, -2.0]], dtype=torch.float64)
    kl = kl_k3(now, ref)
    assert kl.tolist() == pytest.approx([1 - LN2, LN2 - 0.5, 0.0], abs=1e-12)


def test_k1_and_k2_by_hand() -> None:
    now, ref = torch.tensor([-2.0, -2.0, -2.0]), torch.tensor([LN2 - 2, -LN2 - 2, -2.0])
    assert kl_k1(now, ref).tolist() == pytest.approx([-LN2, LN2, 0.0], abs=1e-6)
    assert kl_k2(now, ref).tolist() == pytest.approx([LN2**2 / 2, LN2**2 / 2, 0.0], abs=1e-6)


def test_k2s_gradient_is_the_kls_own_and_k1s_is_none_in_the_mean() -> None:
    # Exact expectations over three symbols: sum over tokens of pi(token) * d estimate / d logits, against autograd.
    logits = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64, requires_grad=True)
    ref = torch.tensor([0.1, 0.4, -0.3], dtype=torch.float64).log_softmax(0)
    logp = logits.log_softmax(0)
    pi = logp.detach().exp()
    (true,) = torch.autograd.grad((logp.exp() * (logp - ref)).sum(), logits, retain_graph=True)
    (k2,) = torch.autograd.grad((pi * kl_k2(logp, ref)).sum(), logits, retain_graph=True)
    (k1,) = torch.autograd.grad((pi * kl_k1(logp, ref)).sum(), logits)
    assert k2.tolist() == pytest.approx(true.tolist(), abs=1e-12)
    assert k1.tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-12)


def test_k3_is_unbiased() -> None:
    # KL(p || q) of p = (1/2, 1/2), q = (1/4, 3/4): 1/2 ln 2 + 1/2 ln(2/3) = 1/2 ln(4/3)
    p, q = torch.tensor([0.5, 0.5]).double(), torch.tensor([0.25, 0.75]).double()
    assert float((p * kl_k3(p.log(), q.log())).sum()) == pytest.approx(0.5 * math.log(4 / 3), abs=1e-12)


def test_kl_is_added_with_beta_and_the_token_weight() -> None:
    # A = 0, beta = 0.1, w = 1/2: 0.1 / 2 * (0.306853 + 0.193147) = 0.025.
    # d kl / d logp = 1 - exp(d) = -1 and 1/2: gradient 0.05 * (-1, 1/2)
    batch = batch_of([2], weight=[0.5, 0.5], old=[-2.0, -2.0], ref=[LN2 - 2, -LN2 - 2])
    now = torch.tensor([-2.0, -2.0], dtype=torch.float64, requires_grad=True)
    assert close(value_and_gradient(PolicyGradient(beta=0.1), now, batch), 0.025, [-0.05, 0.025])
    assert PolicyGradient(beta=0.1)(read_of(now), batch)[1]["kl"] == pytest.approx(0.5, abs=1e-12)


def test_the_samplers_rounding_is_corrected_up_to_a_cap() -> None:
    # pi_old / pi_sampler = 3 (capped at 2) and 1/2; ratio 1, A = 1, w = 1/2: loss = -(2 + 1/2) / 2 = -1.25,
    # gradient -2/2 and -0.5/2: the correction itself is constant.
    batch = batch_of([2], weight=[0.5, 0.5], advantage=[1.0, 1.0], old=[-1.0, -1.0], sampler=[-1 - LN3, -1 + LN2])
    now = torch.tensor([-1.0, -1.0], dtype=torch.float64, requires_grad=True)
    assert close(value_and_gradient(PolicyGradient(), now, batch), -1.25, [-1.0, -0.25])
    sums = PolicyGradient()(read_of(now), batch)[1]
    assert sums["gap"] == pytest.approx(LN3 + LN2, abs=1e-12)
    assert sums["gap_max"] == pytest.approx(LN3, abs=1e-12)
    assert sums["truncated_share"] == 1.0
    assert close(value_and_gradient(PolicyGradient(importance_cap=4.0), now, batch), -1.75, [-1.5, -0.25])


def test_trap_6_a_whole_sample_can_be_corrected_by_its_mean() -> None:
    # Log-ratios ln 3 and -ln 2: mean ln 1.5 / 2, so both tokens weigh sqrt(1.5); at a cap of 1.1 both are truncated.
    batch = batch_of([2], weight=[0.5, 0.5], advantage=[1.0, 1.0], old=[-1.0, -1.0], sampler=[-1 - LN3, -1 + LN2])
    now = torch.tensor([-1.0, -1.0], dtype=torch.float64, requires_grad=True)
    root = math.sqrt(1.5)
    loss = PolicyGradient(importance_level="sequence")
    assert close(value_and_gradient(loss, now, batch), -root, [-root / 2, -root / 2])
    sums = PolicyGradient(importance_level="sequence", importance_cap=1.1)(read_of(now), batch)[1]
    assert sums["truncated_share"] == 2.0
    assert sums["importance"] == pytest.approx(2 * root)


def test_the_mask_leaves_out_what_lies_outside_on_either_side() -> None:
    # Importance 0.1, 0.5, 4 and 6; the mask [0.2, 5] leaves the second and the third, of which the cap keeps 0.5 and 2.
    # loss = -(0.5 + 2) / 4; the KL (k1: log-ratio LN2 each, weight 1/4, beta 1) keeps all four: + LN2.
    now = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    sampler = [-math.log(weight) for weight in (0.1, 0.5, 4.0, 6.0)]
    batch = batch_of([1, 3], weight=[0.25] * 4, advantage=[1.0] * 4, sampler=sampler, ref=[-LN2] * 4)
    masked = PolicyGradient(importance_mask=(0.2, 5.0))
    assert close(value_and_gradient(masked, now, batch), -0.625, [0.0, -0.125, -0.5, 0.0])
    assert masked(read_of(now), batch)[1]["masked_share"] == 2.0  # tokens; the learner divides by their number
    assert float(replace(masked, beta=1.0, kl="k1")(read_of(now.detach()), batch)[0]) == pytest.approx(-0.625 + LN2)
    assert "masked_share" not in PolicyGradient()(read_of(now), batch)[1]


def test_the_mask_leaves_out_whole_samples_where_weights_are_those_of_samples() -> None:
    # Geometric means: 0.1 of the first row; (0.5 * 4 * 8) ** (1/3) = 2.52 of the second, which the cap takes to 2.
    now = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    sampler = [-math.log(weight) for weight in (0.1, 0.5, 4.0, 8.0)]
    batch = batch_of([1, 3], weight=[0.25] * 4, advantage=[1.0] * 4, sampler=sampler)
    masked = PolicyGradient(importance_mask=(0.2, 5.0), importance_level="sequence")
    assert close(value_and_gradient(masked, now, batch), -1.5, [0.0, -0.5, -0.5, -0.5])


def test_without_importance_weights_the_ratio_is_to_the_sampler() -> None:
    # Ratios 0.5, 2, 1.1, 2 of good tokens and a bad one: the clip stops the second (1.2), and nothing of the bad one.
    now = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    sampler = [-math.log(ratio) for ratio in (0.5, 2.0, 1.1, 2.0)]
    batch = batch_of([1, 3], weight=[0.25] * 4, advantage=[1.0, 1.0, 1.0, -1.0], sampler=sampler)
    loss = PolicyGradient(importance_level="none")
    assert close(value_and_gradient(loss, now, batch), -(0.5 + 1.2 + 1.1 - 2) / 4, [-0.125, 0.0, -0.275, 0.5])
    sums = loss(read_of(now), batch)[1]
    assert sums["importance"] == 4.0 and sums["truncated_share"] == 0.0 and float(sums["gap"]) > 1  # still told
    same = batch_of([1, 3], weight=[0.25] * 4, advantage=[1.0, 1.0, 1.0, -1.0], sampler=[0.0] * 4)
    assert value_and_gradient(loss, now, same)[0] == value_and_gradient(PolicyGradient(), now, same)[0]


def test_of_stale_samples_the_distance_to_the_sampler_has_another_name() -> None:
    batch = batch_of([2], weight=[0.5, 0.5], advantage=[1.0, 1.0], sampler=[-LN2, LN3])
    now = torch.zeros(2, dtype=torch.float64)
    fresh, stale = (PolicyGradient(stale=stale)(read_of(now), batch) for stale in (False, True))
    assert fresh[0] == stale[0]
    assert (stale[1].pop("drift"), stale[1].pop("drift_max")) == (fresh[1].pop("gap"), fresh[1].pop("gap_max"))
    assert stale[1] == fresh[1]


@pytest.mark.parametrize("kl", ["k1", "k2", "k3"])
def test_the_kl_of_stale_samples_pulls_as_hard_as_that_of_fresh_ones(kl: str) -> None:
    """In the mean over three tokens: those that older weights draw more often must not count more often."""
    logits = torch.tensor([0.4, -0.3, 0.1], dtype=torch.float64, requires_grad=True)
    drawn_by = torch.tensor([0.3, 0.5, 0.2], dtype=torch.float64)  # the older weights
    ref = torch.tensor([0.2, 0.7, 0.1], dtype=torch.float64).log().tolist()

    def gradient(loss: PolicyGradient, share: Tensor) -> Tensor:
        logprob_N = logits.log_softmax(0)
        sampler = drawn_by.log().tolist()
        batch = batch_of([3], weight=share.tolist(), advantage=[0.0] * 3, ref=ref, sampler=sampler)
        return torch.autograd.grad(loss(read_of(logprob_N), batch)[0], logits)[0]

    fresh = gradient(PolicyGradient(beta=1.0, kl=kl), logits.detach().softmax(0))
    stale = gradient(PolicyGradient(beta=1.0, kl=kl, weigh_kl=True), drawn_by)
    assert torch.allclose(stale, fresh, atol=1e-12)
    assert not torch.allclose(gradient(PolicyGradient(beta=1.0, kl=kl), drawn_by), fresh, atol=1e-2)


def test_the_weight_of_a_stale_samples_kl_has_the_cap_and_no_gradient_of_its_own() -> None:
    batch = batch_of([2], weight=[0.5, 0.5], advantage=[0.0] * 2, ref=[math.log(0.5)] * 2, sampler=[math.log(0.1)] * 2)
    loss = PolicyGradient(beta=1.0, kl="k2", weigh_kl=True, importance_cap=2.0)
    # pi / pi_sampler: 8, which the cap makes 2, and 1.5. d/dlogp of k2 is log(pi / ref): ln 1.6 and ln 0.3.
    value, gradient = value_and_gradient(loss, logs(0.8, 0.15), batch)
    assert gradient == pytest.approx([0.5 * 2 * math.log(1.6), 0.5 * 1.5 * math.log(0.3)], abs=1e-12)
    assert value == pytest.approx(0.5 * (2 * math.log(1.6) ** 2 + 1.5 * math.log(0.3) ** 2) / 2, abs=1e-12)


def test_without_the_samplers_log_probabilities_nothing_is_corrected() -> None:
    batch = batch_of([1], weight=[1.0], advantage=[1.0], old=[-1.0])
    now = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
    assert close(value_and_gradient(PolicyGradient(), now, batch), -1.0, [-1.0])


LENGTHS, WEIGHT, ADVANTAGE = [3, 2], [0.1, 0.1, 0.1, 0.2, 0.2], [1.5, 1.5, 1.5, -0.5, -0.5]
NOW = [-0.3, -1.2, -0.7, -2.0, -0.1]


@pytest.mark.parametrize(("ratio", "scale"), [("token", [1, 1]), ("geometric", [1, 1]), ("sequence", [3, 2])])
def test_at_ratio_1_the_gradient_is_reinforce(ratio, scale: list[int]) -> None:
    # d/dlogp of -w * A * logp. A sequence's ratio moves with every token of its row, so there it is T times that.
    batch = batch_of(LENGTHS, weight=WEIGHT, advantage=ADVANTAGE, old=NOW)
    now = torch.tensor(NOW, dtype=torch.float64, requires_grad=True)
    tokens = [scale[0]] * 3 + [scale[1]] * 2
    expected = [-w * a * s for w, a, s in zip(WEIGHT, ADVANTAGE, tokens, strict=True)]
    assert value_and_gradient(PolicyGradient(ratio=ratio), now, batch)[1] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kl", ["k1", "k2", "k3"])
@pytest.mark.parametrize("ratio", ["token", "sequence", "geometric"])
def test_gradients_are_those_of_finite_differences(ratio, kl) -> None:
    # No ratio stands on a kink of the clip: 0.8 and 1.2 are at least 0.01 away.
    old = [now + d for now, d in zip(NOW, [0.05, -0.1, 0.3, 0.1, -0.4], strict=True)]
    ref = [now - 0.2 for now in NOW]
    sampler = [value + 0.03 for value in old]
    batch = batch_of(LENGTHS, weight=WEIGHT, advantage=ADVANTAGE, old=old, sampler=sampler, ref=ref)
    loss = PolicyGradient(ratio=ratio, beta=0.3, kl=kl, delta=3.0)
    now = torch.tensor(NOW, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: loss(read_of(x), batch)[0], now)
    assert torch.autograd.gradcheck(lambda x: NLL(read_of(x), batch)[0], now)


def test_a_geometric_ratio_is_clipped_by_gspos_bounds_unless_others_are_given() -> None:
    """With 0.2 the mean of a sample's log-ratios would never be clipped (arXiv 2507.18071: 3e-4 and 4e-4)."""
    bounds = lambda **given: config.Grpo.model_validate({"pages": {"synth": "nano"}, "steps": 1, **given}).bounds
    assert bounds() == (0.2, 0.2)
    assert bounds(ratio="geometric") == (3e-4, 4e-4)
    assert bounds(ratio="geometric", epsilon=0.1) == (0.1, 0.1)
    assert bounds(epsilon=0.1, epsilon_high=0.28) == (0.1, 0.28)
    batch = batch_of([2], weight=[0.5, 0.5], advantage=[1.0, 1.0], old=[0.0, 0.0])
    low, high = bounds(ratio="geometric")
    loss = PolicyGradient(ratio="geometric", epsilon=low, epsilon_high=high)
    assert close(value_and_gradient(loss, logs(1.01, 1.01), batch), -1.0004, [0.0, 0.0])


# --- losses are values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "again", "other"),
    [
        (NLL, NegativeLogLikelihood(), PolicyGradient()),
        (PolicyGradient(beta=0.1, ratio="geometric"), PolicyGradient(ratio="geometric", beta=0.1), PolicyGradient()),
        (PreferenceLoss(beta=0.5), PreferenceLoss(beta=0.5), PreferenceLoss(beta=0.4)),
    ],
    ids=["nll", "policy gradient", "preference"],
)
def test_a_loss_is_compared_printed_and_sent_as_a_value(loss: Loss, again: Loss, other: Loss) -> None:
    assert loss == again != other and hash(loss) == hash(again)
    assert eval(repr(loss)) == loss  # it prints as what makes it
    sent = pickle.loads(pickle.dumps(loss))
    assert sent == loss and sent is not loss
    batch = batch_of([2, 1], weight=[0.5, 0.5, 1.0], advantage=[2.0, 2.0, -1.0], old=[0.0] * 3, ref=[0.1] * 3)
    signs = zip(batch.rows, (1.0, -1.0), strict=True)
    batch = replace(batch, rows=tuple(replace(row, weight=1.0, advantage=sign) for row, sign in signs))  # a pair
    now = logs(1.1, 0.9, 0.7)
    assert value_and_gradient(sent, now, batch) == value_and_gradient(loss, now, batch)
    assert sent(read_of(now), batch)[1] == loss(read_of(now), batch)[1]
