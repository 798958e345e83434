"""What a run keeps of its tokens: a byte a figure, read back to the step that it was rounded to."""

from __future__ import annotations

import math

import pytest

from ocr_rl.rollout.token_trace import NATS, pack, unpack


def test_lengths_are_exact_and_nats_rounded_to_their_step() -> None:
    row = pack(lengths=(0, 3, 254, 255, 256, 600, 1), sampler=(0, -0.02, -0.03, -1, -12.75, -99, -math.inf))
    trace = unpack(row)
    assert trace is not None
    assert trace.lengths == (0, 3, 254, 255, 256, 600, 1)
    assert trace.sampler == pytest.approx((0, 0, -NATS, -1, -12.75, -12.75, -12.75))
    assert trace.gap is None and trace.entropy is None


def test_gaps_keep_their_sign_and_their_size_to_an_eighteenth_of_a_decade() -> None:
    gaps = (0.0, 1e-9, 2e-6, -2e-6, 1e-3, -0.5, 3.0, -40.0)
    trace = unpack(pack(lengths=(1,) * 8, sampler=(-1.0,) * 8, learner=[gap - 1.0 for gap in gaps]))
    assert trace is not None and trace.gap is not None
    assert trace.gap[:2] == (0.0, 0.0)
    for kept, gap in zip(trace.gap[2:7], gaps[2:7], strict=True):
        assert kept * gap > 0 and abs(math.log10(kept / gap)) <= 0.5 / 18 + 1e-4
    assert -12 < trace.gap[7] < -10  # the largest that there is


def test_what_is_no_number_is_the_largest_step() -> None:
    trace = unpack(pack(lengths=(1, 1), sampler=(-1.0, -1.0), learner=(math.nan, -1.0), entropy=(math.nan, 0.3)))
    assert trace is not None and trace.gap is not None and trace.entropy is not None
    assert trace.gap[0] > 10 and trace.gap[1] == 0.0
    assert trace.entropy == pytest.approx((12.75, 0.3))


def test_it_takes_about_four_bytes_a_token() -> None:
    n = 1500
    row = pack(lengths=(4,) * n, sampler=(-0.1,) * n, learner=(-0.1,) * n, entropy=(0.2,) * n)
    assert sum(map(len, row.values())) <= 4 * n * 4 / 3 + 16  # four bytes, in base64


@pytest.mark.parametrize(
    "row",
    [{}, {"chars": 7}, {"chars": "not base64!"}, {"chars": "AQE=", "sampler": "AQ=="}, {"chars": "AQ==", "gap": None}],
)
def test_anything_else_is_no_trace(row: dict) -> None:
    assert unpack(row) is None
