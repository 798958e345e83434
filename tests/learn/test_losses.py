"""Losses against numbers worked by hand, in float64."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from torch import Tensor

from ocr_rl import config
from ocr_rl.contract import Page
from ocr_rl.learn.algos.grpo import to_rows
from ocr_rl.learn.attention import packing
from ocr_rl.learn.rows import Batch
from ocr_rl.objectives.losses import Loss, grpo, kl_k1, kl_k2, kl_k3, nll
from ocr_rl.pages.raster import ImageRef
from ocr_rl.rollout.flow import ComparedGroup, Group, Prompt, Row, Sample

PROMPT = Prompt(page_id="ab:p1", image=ImageRef(pdf=Path("a.pdf"), number=1), token_ids=(5, 6), expanded_ids=(5, 5, 6))
LN2, LN3 = math.log(2), math.log(3)


def row(tokens: int) -> Row:
    return Row(prompt=PROMPT, completion_ids=(1,) * tokens, group_id=0, weight=0.0)


def batch_of(
    lengths: list[int],
    *,
    weight: list[float],
    advantage: list[float] | None = None,
    old: list[float] | None = None,
    sampler: list[float] | None = None,
    ref: list[float] | None = None,
) -> Batch:
    """Only what losses look at; one value a token."""
    values = lambda xs: None if xs is None else torch.tensor(xs, dtype=torch.float64)
    nothing = torch.empty(0)
    return Batch(
        input_ids_1X=nothing,
        position_ids_31X=nothing,
        packing=packing([[1, 1]]),
        pixel_values=nothing,
        image_grid_thw=nothing,
        source_N=nothing,
        target_N=nothing,
        row_N=torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)),
        rows=tuple(map(row, lengths)),
        weight_N=torch.tensor(weight, dtype=torch.float64),
        advantage_N=torch.tensor(advantage or [0.0] * sum(lengths), dtype=torch.float64),
        sampler_N=values(sampler),
        old_N=values(old),
        ref_N=values(ref),
    )


def logs(*ratios: float) -> Tensor:
    return torch.tensor([math.log(ratio) for ratio in ratios], dtype=torch.float64, requires_grad=True)


def value_and_gradient(loss: Loss, logprob_N: Tensor, batch: Batch) -> tuple[float, list[float]]:
    value, _ = loss(logprob_N, batch)
    (gradient,) = torch.autograd.grad(value, logprob_N)
    return float(value.detach()), gradient.tolist()


def close(found: tuple[float, list[float]], value: float, gradient: list[float]) -> bool:
    return found == (pytest.approx(value, abs=1e-12), pytest.approx(gradient, abs=1e-12))


def test_nll_is_the_weighted_sum() -> None:
    # -(0.5 * -1 + 0.25 * -2 + 0.25 * -4) = 0.5 + 0.5 + 1 = 2; d/dlogp = -weight
    logprob_N = torch.tensor([-1.0, -2.0, -4.0], dtype=torch.float64, requires_grad=True)
    batch = batch_of([1, 2], weight=[0.5, 0.25, 0.25])
    assert close(value_and_gradient(nll, logprob_N, batch), 2.0, [-0.5, -0.25, -0.25])
    assert nll(logprob_N, batch)[1] == {"nll": 7.0}


def test_token_ratio_is_clipped_above_for_a_good_sample() -> None:
    # A = 2, w = 1/2. Ratio 1.5: min(3, 1.2 * 2) = 2.4, flat; 0.9: 1.8, slope A * ratio = 1.8.
    # loss = -(2.4 + 1.8) / 2 = -2.1; gradient 0 and -1.8 / 2
    batch = batch_of([2], weight=[0.5, 0.5], advantage=[2.0, 2.0], old=[0.0, 0.0])
    assert close(value_and_gradient(grpo(), logs(1.5, 0.9), batch), -2.1, [0.0, -0.9])
    assert grpo()(logs(1.5, 0.9), batch)[1]["clip_share"] == 1.0  # one token; the learner divides by their number


def test_token_ratio_is_clipped_below_for_a_bad_sample() -> None:
    # A = -2, w = 1/2. Ratio 0.5: min(-1, 0.8 * -2) = -1.6, flat; 1.5: min(-3, -2.4) = -3, slope -3.
    # loss = (1.6 + 3) / 2 = 2.3; gradient 0 and 3 / 2
    batch = batch_of([2], weight=[0.5, 0.5], advantage=[-2.0, -2.0], old=[0.0, 0.0])
    assert close(value_and_gradient(grpo(), logs(0.5, 1.5), batch), 2.3, [0.0, 1.5])


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
    loss = grpo(beta=0.1, **settings)
    assert close(value_and_gradient(loss, now, left_out), *value_and_gradient(loss, now, given))
    assert loss(now, left_out)[1] == pytest.approx(loss(now, given)[1])


def test_the_upper_clip_can_be_wider() -> None:
    # epsilon_high = 0.6: 1.5 is inside, 3 counts: loss = -(3 + 1.8) / 2 = -2.4
    batch = batch_of([2], weight=[0.5, 0.5], advantage=[2.0, 2.0], old=[0.0, 0.0])
    assert close(value_and_gradient(grpo(epsilon_high=0.6), logs(1.5, 0.9), batch), -2.4, [-1.5, -0.9])
    # The lower side stays at 0.2: a bad sample at 0.5 is clipped at 0.8 as before.
    bad = batch_of([1], weight=[1.0], advantage=[-2.0], old=[0.0])
    assert close(value_and_gradient(grpo(epsilon_high=0.6), logs(0.5), bad), 1.6, [0.0])


def test_a_bad_samples_ratio_is_bounded_by_delta() -> None:
    # A = -2. Ratio 5 counts as 4: loss = 8, flat; 3 is inside: loss = 6, slope -A * ratio = 6.
    bad = batch_of([2], weight=[1.0, 1.0], advantage=[-2.0, -2.0], old=[0.0, 0.0])
    assert close(value_and_gradient(grpo(delta=4.0), logs(5.0, 3.0), bad), 14.0, [0.0, 6.0])
    assert close(value_and_gradient(grpo(), logs(5.0, 3.0), bad), 16.0, [10.0, 6.0])  # unbounded without it
    # A good sample is clipped at 1.2 long before.
    good = batch_of([1], weight=[1.0], advantage=[2.0], old=[0.0])
    assert close(value_and_gradient(grpo(delta=4.0), logs(5.0), good), -2.4, [0.0])


def test_cispo_clips_the_weight_and_keeps_the_gradient() -> None:
    # A = 2: -min(r, 1.2) * A * log r with the first factor constant. r = 1.5: -2.4 ln 1.5, gradient -2.4 (clip: 0);
    # r = 0.5 with A = -2: weight 0.5: +1 * ln 0.5, gradient +1 (clip: 0).
    batch = batch_of([1, 1], weight=[1.0, 1.0], advantage=[2.0, -2.0], old=[0.0, 0.0])
    found = value_and_gradient(grpo(surrogate="cispo"), logs(1.5, 0.5), batch)
    assert close(found, -2.4 * math.log(1.5) + math.log(0.5), [-2.4, 1.0])
    assert grpo(surrogate="cispo")(logs(1.5, 0.5), batch)[1]["clip_share"] == 1.0


def test_sequence_ratio_is_the_product_over_the_row() -> None:
    # Row 1: 1.5 * 0.9 = 1.35, inside 1.6: loss = -2 * 1.35 * (1/2 + 1/2) = -2.7, and each token moves the whole
    # product: gradient -2.7 each. Row 2 alone: ratio 0.5, A = 1, w = 1: loss -0.5, gradient -0.5.
    batch = batch_of([2, 1], weight=[0.5, 0.5, 1.0], advantage=[2.0, 2.0, 1.0], old=[0.0, 0.0, 0.0])
    found = value_and_gradient(grpo(ratio="sequence", epsilon_high=0.6), logs(1.5, 0.9, 0.5), batch)
    assert close(found, -3.2, [-2.7, -2.7, -0.5])
    # With the upper clip at 1.2 row 1 gives -2.4 and no gradient.
    found = value_and_gradient(grpo(ratio="sequence"), logs(1.5, 0.9, 0.5), batch)
    assert close(found, -2.9, [0.0, 0.0, -0.5])


def test_geometric_ratio_is_the_mean_over_the_row() -> None:
    # Row 1: (1.44 * 0.9025)^(1/2) = 1.2 * 0.95 = 1.14: loss = -2 * 1.14 = -2.28; each token's share of the mean is a
    # half: gradient -1.14 each. Row 2: 0.9, A = 1, w = 1: -0.9.
    batch = batch_of([2, 1], weight=[0.5, 0.5, 1.0], advantage=[2.0, 2.0, 1.0], old=[0.0, 0.0, 0.0])
    found = value_and_gradient(grpo(ratio="geometric"), logs(1.44, 0.9025, 0.9), batch)
    assert close(found, -3.18, [-1.14, -1.14, -0.9])


def test_old_log_probabilities_are_what_the_ratio_is_taken_to() -> None:
    # exp(-1 - (-1 - ln 1.1)) = 1.1: loss = -1.1
    batch = batch_of([1], weight=[1.0], advantage=[1.0], old=[-1 - math.log(1.1)])
    now = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
    assert close(value_and_gradient(grpo(), now, batch), -1.1, [-1.1])


def test_k3_by_hand() -> None:
    # d = ref - logp: ln 2 gives 2 - ln 2 - 1 = 0.306853, -ln 2 gives 1/2 + ln 2 - 1 = 0.193147; equal gives 0.
    now, ref = torch.tensor([[-2.0, -2.0, -2.0], [LN2 - 2, -LN2 - 2, -2.0]], dtype=torch.float64)
    found = kl_k3(now, ref)
    assert found.tolist() == pytest.approx([1 - LN2, LN2 - 0.5, 0.0], abs=1e-12)


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
    assert close(value_and_gradient(grpo(beta=0.1), now, batch), 0.025, [-0.05, 0.025])
    assert grpo(beta=0.1)(now, batch)[1]["kl"] == pytest.approx(0.5, abs=1e-12)


def test_the_samplers_rounding_is_corrected_up_to_a_cap() -> None:
    # pi_old / pi_sampler = 3 (capped at 2) and 1/2; ratio 1, A = 1, w = 1/2: loss = -(2 + 1/2) / 2 = -1.25,
    # gradient -2/2 and -0.5/2: the correction itself is constant.
    batch = batch_of([2], weight=[0.5, 0.5], advantage=[1.0, 1.0], old=[-1.0, -1.0], sampler=[-1 - LN3, -1 + LN2])
    now = torch.tensor([-1.0, -1.0], dtype=torch.float64, requires_grad=True)
    assert close(value_and_gradient(grpo(), now, batch), -1.25, [-1.0, -0.25])
    sums = grpo()(now, batch)[1]
    assert sums["gap"] == pytest.approx(LN3 + LN2, abs=1e-12)
    assert sums["gap_max"] == pytest.approx(LN3, abs=1e-12)
    assert sums["truncated_share"] == 1.0
    assert close(value_and_gradient(grpo(cap=4.0), now, batch), -1.75, [-1.5, -0.25])


def test_trap_6_a_whole_sample_can_be_corrected_by_its_mean() -> None:
    # Log-ratios ln 3 and -ln 2: mean ln 1.5 / 2, so both tokens weigh sqrt(1.5); at a cap of 1.1 both are truncated.
    batch = batch_of([2], weight=[0.5, 0.5], advantage=[1.0, 1.0], old=[-1.0, -1.0], sampler=[-1 - LN3, -1 + LN2])
    now = torch.tensor([-1.0, -1.0], dtype=torch.float64, requires_grad=True)
    root = math.sqrt(1.5)
    assert close(value_and_gradient(grpo(level="sequence"), now, batch), -root, [-root / 2, -root / 2])
    sums = grpo(level="sequence", cap=1.1)(now, batch)[1]
    assert sums["truncated_share"] == 2.0
    assert sums["importance"] == pytest.approx(2 * root)


def test_without_the_samplers_log_probabilities_nothing_is_corrected() -> None:
    batch = batch_of([1], weight=[1.0], advantage=[1.0], old=[-1.0])
    now = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
    assert close(value_and_gradient(grpo(), now, batch), -1.0, [-1.0])


LENGTHS, WEIGHT, ADVANTAGE = [3, 2], [0.1, 0.1, 0.1, 0.2, 0.2], [1.5, 1.5, 1.5, -0.5, -0.5]
NOW = [-0.3, -1.2, -0.7, -2.0, -0.1]


@pytest.mark.parametrize(("ratio", "scale"), [("token", [1, 1]), ("geometric", [1, 1]), ("sequence", [3, 2])])
def test_at_ratio_1_the_gradient_is_reinforce(ratio, scale: list[int]) -> None:
    # d/dlogp of -w * A * logp. A sequence's ratio moves with every token of its row, so there it is T times that.
    batch = batch_of(LENGTHS, weight=WEIGHT, advantage=ADVANTAGE, old=NOW)
    now = torch.tensor(NOW, dtype=torch.float64, requires_grad=True)
    tokens = [scale[0]] * 3 + [scale[1]] * 2
    expected = [-w * a * s for w, a, s in zip(WEIGHT, ADVANTAGE, tokens, strict=True)]
    assert value_and_gradient(grpo(ratio=ratio), now, batch)[1] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kl", ["k1", "k2", "k3"])
@pytest.mark.parametrize("ratio", ["token", "sequence", "geometric"])
def test_gradients_are_those_of_finite_differences(ratio, kl) -> None:
    # No ratio stands on a kink of the clip: 0.8 and 1.2 are at least 0.01 away.
    old = [now + d for now, d in zip(NOW, [0.05, -0.1, 0.3, 0.1, -0.4], strict=True)]
    ref = [now - 0.2 for now in NOW]
    sampler = [one + 0.03 for one in old]
    batch = batch_of(LENGTHS, weight=WEIGHT, advantage=ADVANTAGE, old=old, sampler=sampler, ref=ref)
    loss = grpo(ratio=ratio, beta=0.3, kl=kl, delta=3.0)
    now = torch.tensor(NOW, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: loss(x, batch)[0], now)
    assert torch.autograd.gradcheck(lambda x: nll(x, batch)[0], now)


# --- the weights of a whole step --------------------------------------------------------------------------------------


def scored(lengths: list[int], advantages: list[float], finishes: list[str] | None = None) -> ComparedGroup:
    samples = [
        Sample(token_ids=(1,) * n, logprobs=(-1.0,) * n, text="x", finish=finish, policy=0)  # type: ignore[arg-type]
        for n, finish in zip(lengths, finishes or ["stop"] * len(lengths), strict=True)
    ]
    page = Page(id="ab:p1", pdf=Path("a.pdf"), number=1)
    group = Group(page=page, prompt=PROMPT, samples=tuple(samples), temperature=0.7, banned_ids=(9,))
    return ComparedGroup(group=group, scores={}, rewards=tuple(advantages), advantages=tuple(advantages))


def settings(**changes) -> config.Grpo:
    return config.Grpo.model_validate(
        {"pages": {"synth": "nano"}, "steps": 1, "rewards": [{"name": "pass_rate"}], **changes}
    )


TWO_GROUPS = [scored([2, 4], [2.0, -1.0]), scored([1, 3], [1.0, -3.0])]


@pytest.mark.parametrize(
    ("aggregation", "weights", "value"),
    [
        # 1 / (2 groups * 2 samples * T); at ratio 1 the loss is -(2 - 1 + 1 - 3) / 4
        ("grpo", [1 / 8, 1 / 16, 1 / 4, 1 / 12], 0.25),
        # 1 / 10 tokens; -(2 * 2 - 4 * 1 + 1 * 1 - 3 * 3) / 10
        ("dapo", [1 / 10] * 4, 0.8),
        # 1 / (4 samples * 8 tokens at most); -(4 - 4 + 1 - 9) / 32
        ("dr_grpo", [1 / 32] * 4, 0.25),
    ],
)
def test_what_a_token_counts(aggregation: str, weights: list[float], value: float) -> None:
    rows = to_rows(TWO_GROUPS, settings(aggregation=aggregation), max_tokens=8)
    assert [row.weight for row in rows] == pytest.approx(weights)
    tokens = [row for row in rows for _ in row.completion_ids]
    batch = batch_of(
        [len(row.completion_ids) for row in rows],
        weight=[row.weight for row in tokens],
        advantage=[row.advantage for row in tokens],
        old=[-1.0] * 10,
    )
    now = torch.full((10,), -1.0, dtype=torch.float64, requires_grad=True)
    assert float(grpo()(now, batch)[0].detach()) == pytest.approx(value, abs=1e-12)


def test_rows_carry_what_their_samples_were_drawn_with() -> None:
    rows = to_rows(TWO_GROUPS, settings(), max_tokens=8)
    assert [row.group_id for row in rows] == [0, 0, 1, 1]
    assert [row.advantage for row in rows] == [2.0, -1.0, 1.0, -3.0]
    assert {(row.temperature, row.banned_ids, row.prompt) for row in rows} == {(0.7, (9,), PROMPT)}
    assert [row.sampler_logprobs for row in rows] == [(-1.0,) * n for n in (2, 4, 1, 3)]
    assert {(row.old_logprobs, row.ref_logprobs) for row in rows} == {(None, None)}


def test_samples_cut_off_can_be_left_out() -> None:
    groups = [scored([2, 4], [2.0, -1.0], ["stop", "length"]), scored([1, 3], [1.0, -3.0])]
    assert len(to_rows(groups, settings(), max_tokens=8)) == 4
    left = to_rows(groups, settings(mask_unfinished=True), max_tokens=8)
    assert [len(row.completion_ids) for row in left] == [2, 1, 3]
    assert [row.weight for row in left] == pytest.approx([1 / 8, 1 / 4, 1 / 12])  # the others count as before
    dapo = to_rows(groups, settings(mask_unfinished=True, aggregation="dapo"), max_tokens=8)
    assert [row.weight for row in dapo] == pytest.approx([1 / 6] * 3)  # 6 tokens are left
