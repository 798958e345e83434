"""Each family broken on purpose, one way at a time: the canary meant for it sings, and none where all is well."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch

from benchmarks.robustness.canaries import BOTH_SIDES, BROKEN, OTHER, SAME, outcome, reading_policy, sight
from ocr_rl.contract import Page
from ocr_rl.learn.learner import Learner
from ocr_rl.models.family import Family
from ocr_rl.rollout.flow import Row

Reading = tuple[Learner, list[Row]]
HAVE_ROWS = {"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "glm_ocr", "paddleocr_vl"}
NOT_FOR = {  # what a family has nothing of: a canary that is passed over by mistake would not be missed
    "rows of positions swapped": lambda family: family.model_type not in HAVE_ROWS,
    "rows of positions dropped": lambda family: family.model_type not in HAVE_ROWS,
    "DeepStack left out": lambda family: family.model_type != "qwen3_vl",
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_caught_by_the_canary_that_is_meant_for_it(
    family: Family, folder: Path, tiny_pages: list[Page], what: str
) -> None:
    result = outcome(folder, [tiny_pages[0], tiny_pages[3]], BROKEN[what])
    if what in NOT_FOR and NOT_FOR[what](family):
        assert result is None
        return
    assert result is not None
    assert result.caught_by == BROKEN[what].caught_by
    # In Qwen3.5 one layer of four goes by positions, with a quarter of each head.
    least = OTHER / 10 if family.model_type == "qwen3_5" and what.startswith("rows of positions") else OTHER
    if result.gap is not None:
        assert result.gap > least if "gap" in result.caught_by else result.gap < SAME


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    """The embedded policy and references of a few pages."""
    pytest.importorskip("typst", reason="typst is not installed")
    torch.set_num_threads(1)
    return reading_policy(tmp_path_factory.mktemp("notices"), pages=4)


def test_trap_24_a_policy_that_reads_loses_the_text_that_moved(reading: Reading) -> None:
    page_gain, place_gain = sight(*reading, order=BOTH_SIDES["as they are"])
    assert page_gain > 2 and place_gain > 1


@pytest.mark.parametrize("what", [name for name in BOTH_SIDES if name != "as they are"])
def test_trap_24_broken_positions_on_both_sides_show_in_places_alone(reading: Reading, what: str) -> None:
    """No gap shows them, and a blank page still costs a lot: the text is fluent, and about the page."""
    page_gain, place_gain = sight(*reading, order=BOTH_SIDES[what])
    assert page_gain > 1
    assert place_gain < 0.3
