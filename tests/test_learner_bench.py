"""The learner's benchmark, at the sizes of a test: both ways must agree, whatever they cost."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from benchmarks.speed.learner import main


@pytest.mark.slow
def test_both_ways_give_the_same_gradients(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--small", "--rounds", "1"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    trained, frozen, *pages = lines
    assert set(trained["relative_difference"]) == {"logprobs", "hidden_gradient", "weight_gradient"}
    assert set(frozen["relative_difference"]) == {"logprobs", "hidden_gradient"}
    assert all(value < 1e-5 for line in (trained, frozen) for value in line["relative_difference"].values())
    assert [line["samples"] for line in pages] == [8, 28, 28]
    assert all(line["relative_difference_of_gradients"] < 1e-5 for line in pages)
