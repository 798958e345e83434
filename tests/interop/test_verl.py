"""The reward function as verl calls it. `benchmarks.peers.peer_verl` asks verl's managers themselves."""

from __future__ import annotations

import math
from typing import Any

import pytest

import ocr_rl
from ocr_rl.contract import UserError
from ocr_rl.interop.verl import compute_score, compute_scores, verl_row

TESTS = '[{"type": "present", "text": "Pay the total"}]'
ROW = verl_row({"id": "a", "tests": TESTS, "reference": "Pay the total"}, prompt=[], images=[b"png"])


def test_a_response_is_scored_by_the_mix_and_by_each_of_its_rewards() -> None:
    info = {**ROW["extra_info"], "num_turns": None, "rollout_reward_scores": {}}  # verl adds these
    score = compute_score(
        data_source="ocr",
        solution_str="Pay the totl",
        ground_truth=ROW["reward_model"]["ground_truth"],
        extra_info=info,
        spec="nano_grpo",
        reward_router_address=None,
    )
    page = ocr_rl.make_page(TESTS, reference="Pay the total")
    (ours,) = ocr_rl.load_rewards("nano_grpo").score(page, ["Pay the totl"])
    assert score == {"score": ours.reward, **ours.parts}
    assert 0 < score["score"] < 1


def test_every_row_of_a_batch_has_the_same_keys() -> None:
    known, unknown = compute_scores(
        ["ocr"] * 2, ["Pay the total"] * 2, ["Pay the total", None], [{"tests": TESTS}] * 2, spec=["pass_degree", "cer"]
    )
    assert known == {"score": 1.0, "pass_degree": 1.0, "cer": 1.0}
    assert unknown.keys() == known.keys() and math.isnan(unknown["cer"]) and unknown["score"] == 1.0


def test_siblings_of_a_batch_see_each_other() -> None:
    texts = ["one two three", "one two three", "nothing alike"]
    batch = compute_scores(["ocr"] * 3, texts, ["x"] * 3, [{}] * 3, spec=["medoid"])
    alone = [compute_score("ocr", text, "x", {}, spec=["medoid"])["score"] for text in texts]
    assert batch[0]["score"] > batch[2]["score"]
    assert len(set(alone)) == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"extra_infos": ['{"tests": "[]"}', None]}, "extra_info is str; give the row's object"),
        ({"ground_truths": [None]}, "ground_truths has 1 values for 2 completions"),
        ({"extra_infos": [{}]}, "extra_infos has 1 values for 2 completions"),
        ({"solution_strs": None}, "solution_strs is NoneType, not a list"),
    ],
)
def test_a_call_out_of_step_is_a_sentence(change: dict[str, Any], sentence: str) -> None:
    call = {
        "data_sources": ["ocr"] * 2,
        "solution_strs": ["a", "b"],
        "ground_truths": ["a"] * 2,
        "extra_infos": [None] * 2,
    }
    with pytest.raises(UserError, match=sentence):
        compute_scores(**{**call, **change})


def test_a_row_without_tests_and_truth_is_a_sentence() -> None:
    with pytest.raises(UserError, match="row b: it has neither tests nor a reference"):
        compute_score("ocr", "text", None, {"id": "b"})
