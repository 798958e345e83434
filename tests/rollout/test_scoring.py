"""Weights, silence and faults of rewards, with rewards small enough to see through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from ocr_rl.config import RewardChoice
from ocr_rl.contract import Page, Score, Transcript, UserError
from ocr_rl.objectives.advantages import columns, shares
from ocr_rl.pages.raster import ImageRef
from ocr_rl.rollout.compare import has_signal, with_advantages
from ocr_rl.rollout.coverage import require_rewards
from ocr_rl.rollout.flow import Group, Prompt, Sample
from ocr_rl.rollout.reward_pool import weighted
from ocr_rl.rollout.scoring import (
    FaultBudget,
    RewardFault,
    WeightedReward,
    score,
    score_or_fault,
    score_page,
)
from ocr_rl.text.checks import load_check

PAGE = Page(id="0a1b2c3d:p1", pdf=Path("a.pdf"), number=1, reference="ab")


@dataclass(frozen=True)
class Says:
    """A reward that says what it is told, one value per transcript."""

    values: Sequence[float | None]

    def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
        return [Score(value=value) for value in self.values]


@dataclass(frozen=True)
class Length:
    def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
        return [Score(value=len(each.raw) / 10) for each in group]


class Breaks:
    def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
        raise KeyError("no such table")


def asked(weight: float = 1.0, /, **rewards: Callable) -> list[WeightedReward]:
    return [WeightedReward(name=name, reward=reward, weight=weight) for name, reward in rewards.items()]


def transcripts(*texts: str) -> list[Transcript]:
    return [Transcript(raw=text, body=text, finish="stop", num_tokens=1) for text in texts]


def group_of(*texts: str) -> Group:
    prompt = Prompt(page_id=PAGE.id, image=ImageRef(pdf=PAGE.pdf, number=1), token_ids=(1, 2), expanded_ids=(1, 2, 2))
    samples = tuple(Sample(token_ids=(3,), logprobs=(-1.0,), text=t, finish="stop", policy=0) for t in texts)
    return Group(page=PAGE, prompt=prompt, samples=samples, temperature=1.0, banned_ids=())


def test_reward_is_the_weighted_mean() -> None:
    both = asked(3.0, good=Says([1.0, 0.5])) + asked(1.0, poor=Says([0.0, 0.5]))
    scores = score_page(PAGE, transcripts("a", "b"), both)
    assert scores.rewards == pytest.approx((0.75, 0.5))
    assert scores.weights == {"good": 0.75, "poor": 0.25}


def test_weights_renormalise_over_the_rewards_that_apply() -> None:
    both = asked(3.0, silent=Says([None, None])) + asked(1.0, speaks=Says([0.2, 0.6]))
    scores = score_page(PAGE, transcripts("a", "b"), both)
    assert scores.rewards == pytest.approx((0.2, 0.6))
    assert [one.value for one in scores.by_reward["silent"]] == [None, None]


def test_weight_0_is_shown_and_not_counted() -> None:
    scores = score_page(PAGE, transcripts("a"), asked(1.0, counts=Says([0.5])) + asked(0.0, shown=Says([1.0])))
    assert scores.rewards == (0.5,)
    assert scores.by_reward["shown"][0].value == 1.0


def test_values_are_clamped() -> None:
    assert score_page(PAGE, transcripts("a", "b"), asked(wild=Says([-3.0, 1.00000004]))).rewards == (0.0, 1.0)


def test_order_is_kept() -> None:
    assert score_page(PAGE, transcripts("aaaa", "a", "aa"), asked(length=Length())).rewards == (0.4, 0.1, 0.2)


@pytest.mark.parametrize(
    ("reward", "reason"),
    [
        (Breaks(), "KeyError: 'no such table'"),
        (Says([0.5]), "1 scores for 2 transcripts"),
        (Says([0.5, None]), "None for some siblings"),
        (Says([0.5, float("nan")]), "not a number"),
        (Says([0.5, float("inf")]), "infinite"),
    ],
)
def test_a_broken_reward_is_a_grader_fault_with_its_name_and_page(reward, reason: str) -> None:
    with pytest.raises(RewardFault) as caught:
        score_page(PAGE, transcripts("a", "b"), asked(mine=reward))
    assert str(caught.value).startswith(f"Reward mine failed on page {PAGE.id}: ")
    assert reason in str(caught.value)


def here(rewards: Sequence[WeightedReward]) -> Callable:
    return lambda asked: [score_or_fault(page, group, rewards) for page, group in asked]


def test_a_page_to_which_no_reward_applies_is_a_user_error() -> None:
    silent = asked(silent=Says([None])) + asked(0.0, shown=Says([1.0]))
    with pytest.raises(UserError, match="0a1b2c3d:p1"):
        require_rewards([PAGE], here(silent))
    require_rewards([PAGE], here(asked(speaks=Says([0.0]))))


def gate(least: float, values: Sequence[float | None]) -> WeightedReward:
    return WeightedReward(name="gate", reward=Says(values), weight=0.0, gate=least)


def test_below_a_gate_nothing_counts() -> None:
    scores = score_page(
        PAGE, transcripts("a", "b", "c"), [*asked(good=Says([1.0, 0.8, 0.6])), gate(0.5, [0.49, 0.5, 1.0])]
    )
    assert scores.passes == (False, True, True)
    assert scores.rewards == (0.0, 0.8, 0.6)
    assert scores.weights == {"good": 1.0}


def test_a_gate_that_does_not_apply_is_open() -> None:
    scores = score_page(PAGE, transcripts("a"), [*asked(good=Says([0.7])), gate(0.5, [None])])
    assert scores.rewards == (0.7,)


def test_a_gate_may_hold_back_one_reward_alone() -> None:
    page_parses = WeightedReward(name="gate", reward=Says([0.4, 1.0]), weight=0.0, gate=0.5, holds=("formulas",))
    asked_for = asked(formulas=Says([0.8, 0.8]), text=Says([0.6, 0.6]))
    scores = score_page(PAGE, transcripts("a", "b"), [*asked_for, page_parses])
    assert scores.passes == (True, True)
    assert [one.value for one in scores.by_reward["formulas"]] == [0.0, 0.8]
    assert scores.by_reward["formulas"][0].why == "held back by gate"
    assert scores.rewards == pytest.approx((0.3, 0.7))


def test_gdpo_sees_what_a_gate_took_away() -> None:
    groups = list(score([group_of("aaa", "aaaa", "aa")], [*asked(length=Length()), gate(0.5, [1.0, 0.0, 1.0])]))
    (scored,) = with_advantages(groups, "gdpo")
    assert scored.advantages[0] > scored.advantages[2] > 0 > scored.advantages[1]


@dataclass(frozen=True)
class Types:
    """Parts 0/1 for two test types, and a value that is their mean over ten tests of one and one of the other."""

    def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
        pairs = [(float(each.raw[0]), float(each.raw[1])) for each in group]
        return [Score(value=(10 * a + b) / 11, parts={"present": a, "table": b}) for a, b in pairs]


def test_gdpo_over_parts_gives_a_rare_type_the_same_say() -> None:
    rewards = [WeightedReward(name="tests", reward=Types(), by_part=True)]
    graded = list(score([group_of("10", "01")], rewards))
    assert with_advantages(graded, "gdpo")[0].advantages == pytest.approx((0.0, 0.0))  # one type each: a draw
    assert with_advantages(graded, "group_std")[0].advantages[0] > 0.5  # by number of tests the first is far better
    assert shares([graded[0].scores], "gdpo") == pytest.approx({"tests/present": 0.5, "tests/table": 0.5})


def test_parts_keep_the_weights_and_floors_of_their_reward() -> None:
    """Weighted, the columns make the reward's own value again; so a type below its floor costs as much as there."""
    tests = [
        {"type": kind, "text": word, "max_diffs": 0} for kind, word in (("present", "harbour"), ("absent", "page"))
    ]
    checks = [load_check({"pdf": "a.pdf", "page": 1, "id": test["type"], **test}) for test in tests]
    options = {"by": "weighted", "weights": {"present": 3.0}, "floors": {"absent": 0.5}}
    chosen = [RewardChoice(name="ocr_rl.rewards.pass_rate:PassRate", options=options, by_part=True)]
    group = transcripts("the harbour is deep", "the harbour of the page", "nothing")
    scores = score_page(replace(PAGE, checks=checks), group, weighted(chosen))
    values, weights = columns(scores)
    name = chosen[0].name
    assert weights == {f"{name}/present": 0.75, f"{name}/absent": 0.25}
    assert values[f"{name}/present"] == [1.0, 0.0, 0.0]  # the second passes it, and lacks the other type
    assert values[f"{name}/absent"] == [1.0, 0.0, 1.0]
    assert scores.by_reward[name][1].parts == {"present": 1.0, "absent": 0.0}  # what is logged stays as it is
    made = [sum(weights[key] * column[k] for key, column in values.items()) for k in range(3)]
    assert made == pytest.approx(scores.rewards)


@dataclass(frozen=True)
class Parts:
    part: object
    value: object = 0.5
    why: object = ""

    def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
        return [Score(value=self.value, parts={"order": self.part}, why=self.why) for _ in group]  # type: ignore[arg-type]


@pytest.mark.parametrize("part", [float("nan"), float("inf"), "x", None])
def test_a_part_that_is_no_share_is_a_fault_with_its_name(part: object) -> None:
    with pytest.raises(RewardFault, match="Reward mine failed on page 0a1b2c3d:p1: .*part 'order'"):
        score_page(PAGE, transcripts("a", "b"), asked(mine=Parts(part)))


def test_scores_are_plain_once_they_are_checked() -> None:
    """What crosses processes and is printed is a number or one line of text, whatever the plug-in made of it."""
    (score,) = score_page(
        PAGE, transcripts("a"), asked(mine=Parts(True, np.float32(0.5), "a\ud800b\nc\x1b"))
    ).by_reward["mine"]
    assert (type(score.value), type(score.parts["order"])) == (float, float)
    assert score.why == r"a\ud800b c\x1b"


def test_shares_of_the_advantage_by_reward() -> None:
    wide_and_narrow = [*asked(1.0, wide=Says([0.0, 1.0])), *asked(1.0, narrow=Says([0.4, 0.6]))]
    scores = score_page(PAGE, transcripts("a", "b"), wide_and_narrow)
    assert shares([scores], "group_std") == pytest.approx({"wide": 5 / 6, "narrow": 1 / 6}, abs=1e-3)
    assert shares([scores], "gdpo") == pytest.approx({"wide": 0.5, "narrow": 0.5}, abs=1e-3)
    assert shares([score_page(PAGE, transcripts("a", "b"), asked(flat=Says([0.5, 0.5])))], "group_std") == {}


def test_a_reward_that_breaks_before_training_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"Reward mine failed on page 0a1b2c3d:p1: KeyError.*mend the reward"):
        require_rewards([PAGE], here(asked(mine=Breaks())))


def test_without_a_budget_a_fault_is_raised_with_one_the_group_is_dropped_and_counted() -> None:
    with pytest.raises(RewardFault):
        list(score([group_of("a")], asked(mine=Breaks())))
    budget = FaultBudget()
    assert list(score([group_of("a")], asked(mine=Breaks()), budget)) == []
    assert budget.total == 1
    assert len(list(score([group_of("a")], asked(mine=Length()), budget))) == 1


def test_the_budget_ends_at_five_faults_and_more_than_one_per_cent() -> None:
    fault = RewardFault("mine", PAGE.id, "boom")
    early = FaultBudget()
    for _ in range(4):
        early.note(fault)
    with pytest.raises(UserError, match="5 of the last 5 groups.*mine"):
        early.note(fault)

    rare = FaultBudget()
    for _ in range(20):  # one fault in a hundred, for ever: 10 of the last 1,000 is not more than 1 %
        for _ in range(99):
            rare.note(None)
        rare.note(fault)
    assert rare.total == 20
    with pytest.raises(UserError, match="11 of the last 1000"):
        rare.note(fault)


def test_graded_groups_become_scored_groups() -> None:
    graded = list(score([group_of("aaaa", "aa"), group_of("a", "a")], asked(length=Length())))
    wide, flat = with_advantages(graded, "centred")
    assert wide.rewards == (0.4, 0.2)
    assert wide.advantages == pytest.approx((0.1, -0.1))
    assert (has_signal(wide), has_signal(flat)) == (True, False)


def test_gdpo_leaves_out_rewards_that_do_not_apply_or_do_not_count() -> None:
    rewards = asked(1.0, length=Length(), silent=Says([None, None])) + asked(0.0, shown=Says([1.0, 0.0]))
    (scored,) = with_advantages(list(score([group_of("a", "aaa")], rewards)), "gdpo")
    assert scored.advantages == pytest.approx((-0.7071, 0.7071), abs=1e-3)


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="mine"):
        WeightedReward(name="mine", reward=Length(), weight=-1.0)
