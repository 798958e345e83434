"""The audit finds what is known to be wrong with simple rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from ocr_rl.config import Gate
from ocr_rl.contract import Page, Score, Transcript, UserError
from ocr_rl.evaluate.audit import audit
from ocr_rl.evaluate.audit_pages import cases_of
from ocr_rl.rollout.reward_pool import weighted
from ocr_rl.rollout.scoring import WeightedReward
from tests.evaluate.simple_rewards import OTHERS, PAGES, REFERENCE, Longer, True_, audits, named, sample, scorer


def test_a_reward_for_length_is_beaten_by_what_is_long_and_by_nothing_else() -> None:
    mix = audits(WeightedReward(name="longer", reward=Longer()))[-1]
    assert {"page twice", "reference + junk", "endless loop", "equation spam"} <= named(mix.beaten_by())
    assert not {"empty", "first line only"} & named(mix.beaten_by())
    assert {"digits changed", "upper-cased"} <= named(mix.blind_to())
    assert not next(curve for curve in mix.curves if curve.kind == "characters wrong").falls


def test_a_reward_that_reads_is_beaten_by_nothing_and_blind_to_nothing() -> None:
    mix = audits(WeightedReward(name="true", reward=True_()))[-1]
    assert named(mix.beaten_by()) == named(mix.blind_to()) == set()
    assert mix.reference == 1.0 > mix.honest
    assert all(curve.falls for curve in mix.curves)
    assert mix.tie is not None and mix.tie > 0.1  # it takes a caption on the other side for an error


def test_a_mix_that_trains_on_normalised_rewards_is_judged_by_them() -> None:
    """`longer` tells little apart, until gdpo makes that as much as what `true` does."""
    rewards = (WeightedReward(name="longer", reward=Longer(), weight=1.2), WeightedReward(name="true", reward=True_()))
    weighed, normalised = (audits(*rewards, advantage=advantage) for advantage in ("group_std", "gdpo"))
    assert not named(weighed[-1].beaten_by())
    assert "page twice" in named(normalised[-1].beaten_by())
    assert "empty" not in named(normalised[-1].beaten_by())
    assert [reward.outcomes for reward in normalised[:-1]] == [
        reward.outcomes for reward in weighed[:-1]
    ]  # each by itself
    gate = WeightedReward(name="gate", reward=True_(), weight=0.0, gate=0.8)
    assert "page twice" not in named(audits(*rewards, gate, advantage="gdpo")[-1].beaten_by())

    samples = {"a:p1": [sample(OTHERS[0]), sample(OTHERS[0][:-20]), sample(OTHERS[0][:-50])]}
    of_samples = audits(*rewards, pages=[replace(PAGES[0], reference=None)], samples=samples, advantage="gdpo")[-1]
    assert "page twice" in named([cheat for cheat in of_samples.beaten_by() if cheat.kind == "cheat (samples)"])


def test_a_gate_changes_the_mix_and_not_the_reward_itself() -> None:
    gate = WeightedReward(name="true", reward=True_(), weight=0.0, gate=0.8)
    longer, true, mix = audits(WeightedReward(name="longer", reward=Longer()), gate)
    assert "page twice" in named(longer.beaten_by()) - named(mix.beaten_by())
    assert true.honest_held == 0.0 and true.samples_held is None and longer.honest_held is None


def test_real_samples_are_a_bar_of_their_own_and_give_spread_and_agreement() -> None:
    half = REFERENCE[: len(REFERENCE) // 2]
    samples = [Transcript(raw=t, body=t, finish="stop", num_tokens=9) for t in (half, half[:100], "x")]
    rewards = [WeightedReward(name="true", reward=True_()), WeightedReward(name="longer", reward=Longer())]
    cases, notes = cases_of(PAGES, {"a:p2": samples}, n=1, seed=0)
    assert [case.page.id for case in cases] == ["a:p2"]  # pages with samples come first
    result = audit(cases, rewards, scorer(rewards), notes)
    assert result.mix.spread is not None and result.mix.spread > 0
    assert result.correlation["true", "longer"] == pytest.approx(1.0)
    assert {outcome.kind for outcome in result.mix.outcomes} == {"cheat", "cheat (samples)", "damage"}
    assert "reference + junk" in named([cheat for cheat in result.mix.beaten_by() if cheat.kind == "cheat (samples)"])


def test_a_gate_that_is_silent_on_some_pages_is_named_with_the_reason() -> None:
    (gate,) = weighted([Gate(name="budget", at_least=1.0)])
    cases, notes = cases_of([replace(page, checks=()) for page in PAGES], {}, n=2, seed=0)
    silent = [replace(case, page=replace(case.page, reference=None)) for case in cases]
    rewards = [gate, WeightedReward(name="longer", reward=Longer())]
    result = audit(silent, rewards, scorer(rewards), notes)
    assert result.notes == [
        "the gate budget applies to 0 of 2 pages (the page has neither a reference nor a baseline test with max_length)"
    ]


def test_a_reward_that_fails_under_attack_is_one_sentence() -> None:
    @dataclass(frozen=True)
    class Breaks:
        def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
            raise ValueError("no")

    with pytest.raises(UserError, match="Reward breaks failed on page .*: ValueError: no; mend the reward"):
        audits(WeightedReward(name="breaks", reward=Breaks()))
