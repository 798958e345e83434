"""`doctor --parity`: the sampler/learner gap in the dtype of training, and what a damaged weight makes of it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from torch import Tensor

from ocr_rl.cli import main
from ocr_rl.doctor import GAP_LIMIT, ROUNDINGS, TF32_LIMIT, Dtype, Parity, parity
from ocr_rl.rollout.sampler.hf import HfSampler


def measured(dtype: Dtype) -> Parity:
    return parity("nano", dtype=dtype, engine="transformers", max_tokens=32, pages=1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "autocast"])
def test_a_sound_sampler_holds_and_a_damaged_weight_is_caught(dtype: Dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = measured(dtype)
    assert sound.holds and sound.tokens > 50 and sound.dtype == dtype
    assert (sound.rounding > 1e-4) == (dtype != "float32")
    load = HfSampler.load

    def load_damaged(sampler: HfSampler, weights: Iterable[tuple[str, Tensor]], policy: int) -> None:
        changed = ((name, w * (1 - 0.1 * name.endswith("visual.merger.mlp.2.weight"))) for name, w in weights)
        load(sampler, changed, policy)

    monkeypatch.setattr(HfSampler, "load", load_damaged)
    assert not measured(dtype).holds


def test_each_dtype_has_its_own_bound_and_says_why() -> None:
    gap = {"tokens": 10, "largest": 1.1 * GAP_LIMIT, "mean": 1e-5}
    exact = Parity(dtype="float32", **gap)
    assert not exact.holds and "largest gap" in exact.to_text() and "the order of sums" in exact.to_text()
    tf32 = Parity(dtype="float32", **gap, tf32=True)
    assert tf32.holds and tf32.limit == TF32_LIMIT and "TF32" in tf32.to_text()
    short = Parity(dtype="bfloat16", tokens=10, largest=0.3, mean=0.015, rounding=0.011)
    assert short.limit == pytest.approx(ROUNDINGS * 0.011) and short.holds and "mean gap" in short.to_text()
    assert not Parity(dtype="bfloat16", tokens=10, largest=0.3, mean=0.02, rounding=0.011).holds


def test_the_verb_takes_dtype_and_engine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = []

    def answer(model: str, **how: str) -> Parity:
        asked.append((model, how))
        return Parity(dtype="bfloat16", tokens=10, largest=0.3, mean=0.03, rounding=0.011)

    monkeypatch.setattr("ocr_rl.doctor.parity", answer)
    assert main(["doctor", "--parity", "nano", "--dtype", "bfloat16", "--engine", "transformers"]) == 1
    assert asked == [("nano", {"dtype": "bfloat16", "engine": "transformers"})]
    assert "!!  parity in bfloat16: mean gap" in capsys.readouterr().out


def test_a_dtype_without_a_parity_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--dtype", "bfloat16"]) == 2
    assert "--dtype is of the parity: name a model" in capsys.readouterr().err


def test_what_the_page_is_worth_is_said_too() -> None:
    seen = parity("nano", dtype="float32", engine="transformers", max_tokens=2, pages=4)
    assert seen.page_gain > 2 and seen.place_gain > 1
    assert f"costs references {seen.page_gain:.2f} nats a token, text that moved" in seen.sight()
