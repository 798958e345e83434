"""What a frozen tower says is kept, of each family: all of it, and what comes of it is what comes of a fresh look."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from ocr_rl.models.family import Family
from ocr_rl.rollout.flow import Row
from tests.families.conftest import MakeLearner
from tests.learn.conftest import NLL, largest_gap


def test_kept_features_stand_for_a_look_at_the_page(make_learner: MakeLearner, family: Family, rows: list[Row]) -> None:
    keeping, looking = (make_learner(policy={"freeze_vision": True}) for _ in range(2))
    assert keeping.features is not None
    looking.features = None
    some = rows[::4]  # of two pages
    values = keeping.logprobs(some)
    assert largest_gap(values, looking.logprobs(some)) < family.rounding
    assert keeping.logprobs(some) == values
    layers = keeping._features(some[0].prompt, keeping.features).layers
    assert len(layers) == (3 if family.name == "Qwen3-VL" else 1)  # DeepStack's
    figures = [learner.update(some, NLL)["grad_norm"] for learner in (keeping, looking)]
    assert figures[0] == pytest.approx(figures[1], rel=1e-4)
