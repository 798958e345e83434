"""Reward functions as TRL's GRPOTrainer calls them. `benchmarks.peers.rewards` asks TRL itself."""

from __future__ import annotations

from typing import Any

import pytest

import ocr_rl
from ocr_rl.contract import UserError
from ocr_rl.interop.trl import reward_funcs

TESTS = '[{"type": "present", "text": "Pay the total"}]'
TEXTS = ["Pay the total: 7.50", "Pay the totl", "Pay the total: 7.50", "nothing"]


def called(function, texts, **columns):  # type: ignore[no-untyped-def]
    """With all that TRL 1.16 passes."""
    return function(
        prompts=["Read."] * len(texts),
        completions=[[{"role": "assistant", "content": text}] for text in texts],
        completion_ids=[[1, 2]] * len(texts),
        trainer_state=None,
        log_extra=lambda column, values: None,
        image=[b""] * len(texts),
        **columns,
    )


def test_a_mix_is_one_function_that_bears_the_recipes_name_and_logs_its_parts() -> None:
    logged: dict[str, float] = {}
    (mix,) = reward_funcs("nano_grpo")
    assert mix.__name__ == "nano_grpo"
    rewards = called(mix, TEXTS, tests=[TESTS] * 4, log_metric=logged.__setitem__)
    scores = ocr_rl.load_rewards("nano_grpo").score(ocr_rl.make_page(TESTS), TEXTS)
    assert rewards == [score.reward for score in scores]
    assert logged["nano_grpo/pass_degree"] == pytest.approx(sum(s.parts["pass_degree"] for s in scores) / 4, abs=1e-12)
    assert set(logged) == {f"nano_grpo/{name}" for name in scores[0].parts}


def test_single_rewards_are_a_function_each_and_say_nothing_of_pages_they_do_not_know() -> None:
    degree, cer = reward_funcs(["pass_degree", "cer"])
    assert (degree.__name__, cer.__name__) == ("pass_degree", "cer")
    columns = {"tests": [TESTS, TESTS, None, None], "reference": [None, None, TEXTS[0], TEXTS[0]]}
    assert [value is None for value in called(degree, TEXTS, **columns)] == [False, False, True, True]
    assert called(cer, TEXTS, **columns)[:3] == [None, None, 1.0]


def test_ends_of_texts_count_where_they_are_named() -> None:
    (eos,) = reward_funcs(["eos"], eos_ids=[2])
    (cut,) = reward_funcs(["eos"], eos_ids=[9])
    columns = {"reference": ["a"]}
    assert called(eos, ["a"], **columns) == [1.0] > called(cut, ["a"], **columns)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ({"tests": None}, "column tests is NoneType, not a list"),
        ({"tests": TESTS}, "column tests is str, not a list"),
        ({"completion_ids": [[1]]}, "completion_ids has 1 values for 2 completions"),
        ({"completion_ids": [1, 2]}, "the tokens of a completion are int"),
        ({"completions": "ab"}, "completions is str, not a list"),
        ({"completions": None}, "completions is NoneType, not a list"),
    ],
)
def test_a_call_out_of_step_is_a_sentence(call: dict[str, Any], sentence: str) -> None:
    (mix,) = reward_funcs("nano_grpo")
    with pytest.raises(UserError, match=sentence):
        mix(**{"completions": ["a", "b"], "tests": [TESTS] * 2, **call})


@pytest.mark.parametrize("eos_ids", [None, 2, [None], ["</s>"]])
def test_ends_of_texts_are_numbers_of_tokens(eos_ids: Any) -> None:
    with pytest.raises(UserError, match="eos_ids is .*; give a list of token numbers"):
        reward_funcs("nano_grpo", eos_ids=eos_ids)


def test_wrong_calls_are_sentences() -> None:
    (mix,) = reward_funcs("nano_grpo")
    with pytest.raises(UserError, match="neither a column `tests` nor `reference`"):
        called(mix, TEXTS)
    with pytest.raises(UserError, match="column tests has 3 values for 4 completions"):
        called(mix, TEXTS, tests=[TESTS] * 3)
    with pytest.raises(UserError, match="did you mean"):
        reward_funcs("nano_grop")
    with pytest.raises(UserError, match="none of the rewards with a weight applies"):
        (bleu,) = reward_funcs("nano_grpo")
        called(bleu, TEXTS, reference=[None] * 4, tests=["[]"] * 4)
