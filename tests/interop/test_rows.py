"""Rows with completions become the scores that the mix gives; wrong rows become sentences."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ocr_rl
from ocr_rl.contract import Page, Score, Transcript, UserError
from ocr_rl.interop import rows
from ocr_rl.interop.rows import page_of, score_alone, score_rows, transcript_of
from ocr_rl.rollout.scoring import WeightedReward

TESTS = [{"type": "present", "text": "Pay the total"}, {"type": "absent", "text": "Page 7", "first_n": 20}]
ROW = {"id": "a", "tests": json.dumps(TESTS), "reference": "Pay the total: 7.50"}


def test_a_row_is_scored_as_its_page_is() -> None:
    texts = ["Pay the total: 7.50", "Page 7", "Pay the totl"]
    scores = list(score_rows("nano_grpo", [ROW] * 3, [transcript_of(text) for text in texts]))
    page = ocr_rl.make_page(TESTS, reference=ROW["reference"])
    assert scores == ocr_rl.load_rewards("nano_grpo").score(page, texts)
    assert scores[0].reward == 1.0 > scores[2].reward > scores[1].reward


def test_neighbours_with_one_row_are_siblings_and_others_are_not() -> None:
    other = {**ROW, "id": "b"}
    texts = ["one two three", "one two three", "one two four", "nothing alike here"]
    alone = list(score_alone("medoid", [ROW, other, ROW, other], [transcript_of(text) for text in texts]))
    group = list(score_alone("medoid", [ROW] * 4, [transcript_of(text) for text in texts]))
    page = page_of(ROW)
    assert group == [score.reward for score in ocr_rl.load_rewards(["medoid"]).score(page, texts)]
    assert alone != group


def test_tests_may_be_structs_whose_missing_fields_are_null() -> None:
    fields = {key for test in TESTS for key in test}
    structs = [{field: test.get(field) for field in fields} for test in TESTS]
    assert page_of({**ROW, "tests": structs}) == page_of(ROW)


def test_tests_may_be_arrays_as_pandas_gives_them() -> None:
    rows = [{"tests": np.array(TESTS, dtype=object)} for _ in range(2)]
    transcripts = [transcript_of("Pay the total"), transcript_of("")]
    assert list(score_rows("nano_grpo", rows, transcripts)) == list(
        score_rows("nano_grpo", [{"tests": TESTS}] * 2, transcripts)
    )


def test_arrays_and_null_at_any_depth_are_lists_and_nothing() -> None:
    """As a table of structs comes out of pandas; neighbours with them are siblings."""
    test = {"type": "table", "cell": "a", "left_heading": np.array(["b", "c"]), "up": float("nan")}
    row = {"id": np.int64(0), "tests": np.array([test], dtype=object), "reference": float("nan")}
    other = {**row, "tests": np.array([{**test}], dtype=object)}
    with pytest.raises(UserError, match=r"row 0: test 1: left_heading .* got \['b', 'c'\]"):
        list(score_rows("nano_grpo", [row, other], [transcript_of("a")] * 2))
    del test["left_heading"]
    page = page_of({**row, "tests": np.array([test], dtype=object)})
    assert (page.id, page.reference, len(page.checks)) == ("0", None, 1)


@pytest.mark.parametrize("spec", [None, 5, "", " ", [], [None], [""], b"cer", {"pass_degree": 4}])
def test_a_spec_that_names_nothing_is_a_sentence(spec: Any) -> None:
    with pytest.raises(UserError, match="^spec is .*; name a recipe"):
        rows.mix_of(spec)


def test_a_reward_that_does_not_apply_gives_nothing_alone() -> None:
    assert list(score_alone("bleu", [{"tests": "[]"}], [transcript_of("a")])) == [None]


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that told nothing yet."""
    monkeypatch.setattr(rows, "_told", set())


def told(spec: Any, row: dict[str, Any]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        score = (lambda: score_rows(spec, [row], [transcript_of("")])) if isinstance(spec, str) else None
        list(score() if score else score_alone(spec[0], [row], [transcript_of("")]))
    return [str(warning.message) for warning in caught]


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("tests", [None, "", "[]", [], float("nan")])
def test_a_reward_that_does_not_apply_to_a_row_is_told_once_with_what_counts_instead(tests: Any) -> None:
    row = {**ROW, "tests": tests}
    (line,) = told("nano_grpo", row)
    assert line.startswith(
        "row a: the reward pass_degree does not apply (the page has no tests), so the score is that of budget alone"
    )
    assert "take it out of nano_grpo" in line
    assert told("nano_grpo", {**row, "id": "b"}) == []
    (line,) = told(["pass_degree"], row)
    assert "so it has no value" in line
    assert told("nano_grpo", ROW) == []


@pytest.mark.usefixtures("silent")
def test_a_gate_that_does_not_apply_is_told_as_open(tmp_path: Path) -> None:
    recipe = tmp_path / "own.toml"
    text = (Path(ocr_rl.__file__).parent / "recipes/nano_grpo.toml").read_text()
    gate = '[[gates]]\nname = "bleu"\nat_least = 0.1\n\n'
    recipe.write_text(text.replace("[evaluation]", f"{gate}[evaluation]", 1))
    lines = told(str(recipe), {"id": 7, "tests": TESTS})
    assert [line.split(" does not apply")[0] for line in lines] == [
        "row 7: the reward budget",
        "row 7: the gate bleu",
    ]
    assert "so it stands open" in lines[1]


CONVERSATION = [
    {"role": "assistant", "content": "Pay "},
    {"role": "tool", "content": "no"},
    {"role": "assistant", "content": [{"type": "text", "text": "the total"}, {"type": "image"}]},
]


@pytest.mark.parametrize("completion", ["Pay the total", CONVERSATION, [{"content": "Pay the total"}]])
def test_the_text_of_a_completion_is_the_assistants(completion: Any) -> None:
    assert transcript_of(completion).raw == "Pay the total"


@pytest.mark.parametrize(
    ("ids", "eos_ids", "finish"),
    [
        ([5, 2], [2, 3], "stop"),
        ([5, 7], [2, 3], "length"),
        ([], [2], "length"),
        ([5, 7], [], "stop"),
        (None, [2], "stop"),
    ],
)
def test_a_completion_without_an_end_was_cut_off_where_ends_are_known(
    ids: list[int] | None, eos_ids: list[int], finish: str
) -> None:
    transcript = transcript_of("text", ids, eos_ids)
    assert (transcript.finish, transcript.num_tokens) == (finish, len(ids or []))


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"id": "x"}, "row x: it has neither tests nor a reference"),
        ({"tests": "["}, "a row: the tests are neither a JSON list nor JSON lines"),
        ({"id": "x", "tests": '[{"type": "presnt"}]'}, "row x: test 1: type 'presnt' is unknown; did you mean"),
        ({"id": "x", "tests": [3]}, "row x: test 1: "),
        ({"id": "x", "tests": 7}, "row x: tests are a list, JSON or JSON lines, not int."),
        ({"id": "x", "tests": b"[]"}, "row x: tests are a list, JSON or JSON lines, not bytes."),
        ({"id": "x", "tests": {"type": "present"}}, "row x: tests are a list, JSON or JSON lines, not dict."),
        ({"id": "x", "tests": "[]", "reference": 7}, "row x: reference is int, not text"),
    ],
)
def test_a_row_that_is_no_page_is_a_sentence(row: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        page_of(row)
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize("completion", [7, None, [3], [{"role": "assistant", "content": 7}]])
def test_a_completion_that_is_no_text_is_a_sentence(completion: Any) -> None:
    with pytest.raises(UserError, match="is text or a list of"):
        transcript_of(completion)


def test_a_reward_that_fails_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def bad(page: Page, group: Sequence[Transcript]) -> list[Score]:
        raise ZeroDivisionError("0")

    mix = ocr_rl.Mix(rewards=[WeightedReward(name="bad", reward=bad)])
    monkeypatch.setattr(rows, "mix_of", lambda spec: mix)
    for scores in (score_alone("bad", [ROW], [transcript_of("a")]), score_rows("bad", [ROW], [transcript_of("a")])):
        with pytest.raises(UserError, match="Reward bad failed on page a: ZeroDivisionError: 0."):
            list(scores)
