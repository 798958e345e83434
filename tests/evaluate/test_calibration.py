"""Accuracy and calibration of pair scores, against numbers worked by hand."""

from __future__ import annotations

import math

import pytest

from ocr_rl.evaluate.calibration import calibration, reliability_plot


def gap_of(chance: float) -> float:
    return math.log(chance / (1 - chance))


def test_a_calibrated_model_has_no_error() -> None:
    pairs = [(f"p{i}", gap_of(0.75) if i % 4 else -gap_of(0.75)) for i in range(40)]  # right in 3 of 4
    result = calibration(pairs)
    assert result.accuracy.mean == 0.75 and result.accuracy.clusters == 40
    assert result.ece == pytest.approx(0.0, abs=1e-12)
    assert [(b.chance, b.right, b.pairs) for b in result.bins] == [(pytest.approx(0.75), 0.75, 40)]
    assert result.nll == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))


def test_too_sure_a_model_has_one() -> None:
    pairs = [("a", gap_of(0.9)), ("a", -gap_of(0.9)), ("b", gap_of(0.6)), ("b", gap_of(0.6))]
    result = calibration(pairs)
    # one bin around 0.9, right in half: 0.4 off; one around 0.6, always right: 0.4 off
    assert result.ece == pytest.approx(0.4)
    assert result.accuracy.mean == 0.75 and result.accuracy.clusters == 2
    assert reliability_plot(result)[:4] == b"\x89PNG"


def test_a_tie_is_half_right_and_no_pairs_are_an_error() -> None:
    assert calibration([("a", 0.0)]).accuracy.mean == 0.5
    assert calibration([("a", 800.0)]).nll == pytest.approx(0.0)  # no overflow
    assert calibration([("a", -800.0)]).nll == pytest.approx(800.0)
    with pytest.raises(ValueError, match="no clusters"):
        calibration([])
