"""What a run keeps of its tokens: a byte a figure, read back to the step that it was rounded to."""

from __future__ import annotations

import base64
import json
import math
import zlib
from random import Random
from typing import Any

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


def test_it_takes_at_most_four_bytes_a_token() -> None:
    rng = Random(0)  # as a policy writes: mostly sure, tokens of one to eight characters
    sampler = [-rng.expovariate(6) for _ in range(1500)]
    learner = [logprob + rng.gauss(0, 1e-4) for logprob in sampler]
    lengths = [rng.randint(1, 8) for _ in sampler]
    row = pack(lengths=lengths, sampler=sampler, learner=learner, entropy=[-2 * logprob for logprob in sampler])
    assert len(json.dumps(row)) <= 4 * len(sampler)


GOOD = pack(lengths=(1, 2), sampler=(-1.0, -2.0))


@pytest.mark.parametrize(
    "row",
    [
        None,
        7,
        {},
        GOOD | {"n": 3},
        GOOD | {"n": -1},
        GOOD | {"n": 10**9},
        GOOD | {"keeps": []},
        GOOD | {"keeps": ["sampler", "gap"]},
        GOOD | {"keeps": ["sampler", "sampler"]},
        GOOD | {"keeps": ["__proto__"]},
        GOOD | {"keeps": 3},
        GOOD | {"data": "not base64!"},
        GOOD | {"data": "AQE="},
        GOOD | {"data": 3},
    ],
)
def test_anything_else_is_no_trace(row: Any) -> None:
    assert unpack(row) is None


def test_a_bomb_is_not_unpacked() -> None:
    bomb = base64.b64encode(zlib.compress(bytes(2**28))).decode()
    assert unpack({"n": 1, "keeps": ["sampler"], "data": bomb}) is None
