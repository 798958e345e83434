"""What the bench of one rollout ahead makes of its seconds."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("httpx", reason="httpx is not installed")

from benchmarks.speed.overlap import medians, verdict


def test_the_bound_is_what_is_serial_and_the_longer_half() -> None:
    # 6 s a step: 0.5 s of loads and the like, 3 s to sample and score, 2.5 s to annotate and update
    plain = {"step_s": 6.0, "rollout_s": 2.75, "score_s": 0.25, "annotate_s": 0.5, "update_s": 2.0}
    figures = verdict(plain, {"step_s": 4.0})
    assert figures["bound_s"] == 3.5
    assert figures["gain"] == 1.5 and figures["bound_gain"] == pytest.approx(6 / 3.5, abs=1e-3)
    assert figures["share_of_bound"] == 0.875


def test_a_part_that_some_steps_lack_is_that_of_the_others() -> None:
    assert medians([{"step_s": 1.0}, {"step_s": 3.0, "wait_s": 2.0}, {"step_s": 2.0}]) == {"step_s": 2.0, "wait_s": 2.0}
