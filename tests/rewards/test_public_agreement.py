"""The reward plug-ins against recorded outputs of the public olmOCR reward functions, where these are at hand."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ocr_rl.contract import Page, Reward, Transcript
from ocr_rl.rewards.diff_ratio import DiffRatio
from ocr_rl.rewards.element_count import ElementCount
from ocr_rl.rewards.eos import Eos
from ocr_rl.rewards.front_matter import FrontMatterReward
from ocr_rl.rewards.medoid import Medoid
from ocr_rl.rewards.rectangular import Rectangular
from ocr_rl.text.front_matter import FIELDS, split_front_matter

FILE = Path(__file__).resolve().parents[3] / "shared" / "oracle" / "dev" / "rewards.jsonl"


Case = tuple[str, float | None, float]


@dataclass(slots=True)
class Compared:
    """Outputs of one public function beside ours, each as (case id, ours, theirs)."""

    scored: list[Case] = field(default_factory=list)
    no_reference: list[Case] = field(default_factory=list)
    outer_space: list[Case] = field(default_factory=list)  # in the transcript or the reference
    raised: list[tuple[str, list[float | None]]] = field(default_factory=list)


@cache
def compared() -> Mapping[str, Compared]:
    if not FILE.is_file():
        pytest.skip("the folder shared/oracle/dev is not beside the checkout")
    by_function: dict[str, Compared] = defaultdict(Compared)
    for line in FILE.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["fn"] in ASK:
            compare(by_function[row["fn"]], row)
    return by_function


def compare(into: Compared, row: Mapping[str, Any]) -> None:
    ours = ASK[row["fn"]](row["inputs"])
    if row["raises"]:
        into.raised.append((row["case_id"], ours))
        return
    texts = list(row["inputs"].get("completions") or [""] * len(ours))
    references = of_reference(row["inputs"], len(ours))
    for mine, theirs, text, reference in zip(ours, row["output"], map(text_of, texts), references, strict=True):
        outer_space = any(side != side.strip() for side in (text, reference or ""))
        if row["fn"] in AGAINST_REFERENCE and reference is None:
            into.no_reference.append((row["case_id"], mine, theirs))
        elif row["fn"] == "bench_edit_distance_reward" and outer_space:
            into.outer_space.append((row["case_id"], mine, theirs))
        else:
            into.scored.append((row["case_id"], mine, theirs))


def of_reference(inputs: Mapping[str, Any], count: int) -> list[str | None]:
    given = list(inputs.get("claude_original") or ())
    return (given + [None] * count)[:count]


def text_of(completion: Any) -> str:
    if isinstance(completion, list) and completion and isinstance(completion[0], Mapping):
        completion = completion[0].get("content")
    return completion if isinstance(completion, str) else ""


def transcript(text: str, *, ended: bool = True) -> Transcript:
    # the public functions judge the whole completion, front matter included
    return Transcript(raw=text, body=text, finish="stop" if ended else "length", num_tokens=0)


def scores_of(reward: Reward, group: Sequence[Transcript], **fields: Any) -> list[float | None]:
    return [score.value for score in reward(Page(id="oracle:p1", pdf=Path("oracle.pdf"), number=1, **fields), group)]


def siblings(reward: Reward, inputs: Mapping[str, Any]) -> list[float | None]:
    return scores_of(reward, [transcript(text_of(completion)) for completion in inputs["completions"]])


def against_references(reward: Reward, inputs: Mapping[str, Any]) -> list[float | None]:
    texts = [text_of(completion) for completion in inputs["completions"]]
    pairs = zip(texts, of_reference(inputs, len(texts)), strict=True)
    return [scores_of(reward, [transcript(text)], reference=reference)[0] for text, reference in pairs]


def front_matter(inputs: Mapping[str, Any]) -> list[float | None]:
    texts = [text_of(completion) for completion in inputs["completions"]]
    scores = []
    for text, reference in zip(texts, of_reference(inputs, len(texts)), strict=True):
        truth, _ = split_front_matter(reference or "")
        truths = {name: getattr(truth, name, "?") for name in FIELDS}  # "?": no value is true, as without a reference
        tags = frozenset(f"{name}={'null' if value is None else value}" for name, value in truths.items())
        scores += scores_of(FrontMatterReward(), [transcript(text)], tags=tags)
    return scores


def eos(inputs: Mapping[str, Any]) -> list[float | None]:
    end = inputs["eos_token_id"]
    return scores_of(Eos(), [transcript("", ended=bool(ids) and ids[-1] == end) for ids in inputs["completion_ids"]])


ASK = {
    "medoid_reward": lambda inputs: siblings(Medoid(text="written"), inputs),
    "reward_rect_tables": lambda inputs: siblings(Rectangular(), inputs),
    "reward_element_count": lambda inputs: against_references(ElementCount(), inputs),
    "bench_edit_distance_reward": lambda inputs: against_references(DiffRatio(text="written"), inputs),
    "reward_front_matter": front_matter,
    "reward_eos": eos,
}
AGAINST_REFERENCE = {"bench_edit_distance_reward", "reward_element_count", "reward_front_matter"}


@pytest.mark.parametrize("function", sorted(ASK))
def test_every_score_of_a_page_that_can_be_scored(function: str) -> None:
    scored = compared()[function].scored
    assert len(scored) > 80
    assert [case for case in scored if case[1] is None or abs(case[1] - case[2]) > 1e-6] == []


@pytest.mark.parametrize("function", ["bench_edit_distance_reward", "reward_element_count"])
def test_without_reference_the_public_0_is_no_score_here(function: str) -> None:
    assert {(ours, theirs) for _, ours, theirs in compared()[function].no_reference} == {(None, 0.0)}


def test_front_matter_without_a_true_field_is_half() -> None:
    cases = compared()["reward_front_matter"].no_reference
    assert {ours for _, ours, _ in cases} == {0.0, 0.5}
    assert all(ours == theirs for _, ours, theirs in cases)


def test_outer_white_space_is_the_only_difference_of_diff_ratio() -> None:
    cases = compared()["bench_edit_distance_reward"].outer_space
    assert any(ours != theirs for _, ours, theirs in cases)
    assert all(ours is not None and abs(ours - theirs) < 0.01 for _, ours, theirs in cases)


def test_tables_that_stop_the_public_parser_are_not_rectangular() -> None:
    assert [ours for _, ours in compared()["reward_rect_tables"].raised] == [[0.0], [1.0, 0.0]]
