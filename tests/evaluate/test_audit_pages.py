"""The pages of an audit: with a reference, composed, or with real samples alone."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import replace

import pytest

from ocr_rl.config import load_recipe
from ocr_rl.contract import UserError
from ocr_rl.evaluate.audit import require_honest
from ocr_rl.evaluate.audit_pages import cases_of, composed_pages, transcripts
from ocr_rl.rollout.reward_pool import RewardPool, weighted
from ocr_rl.rollout.scoring import WeightedReward
from tests.evaluate.simple_rewards import OTHERS, PAGES, Longer, audits, check, sample


def test_without_references_composed_pages_stand_in_and_keep_theirs_to_themselves() -> None:
    cases, notes = cases_of([replace(page, reference=None) for page in PAGES], {}, n=2, seed=0)
    assert len(cases) == 2 and "no page has a reference" in notes[0]
    assert all(case.page.reference is None and case.page.checks and case.target.reference for case in cases)


def test_without_references_cheats_are_made_of_real_samples_too() -> None:
    bare = [replace(page, reference=None) for page in PAGES]
    samples = {
        "a:p1": [sample("cut off", "length"), sample(""), sample(OTHERS[0]), sample("x")],
        "a:p2": [sample("cut off", "length")],  # none that ended
        "a:p3": [sample(OTHERS[2]), sample("y")],
    }
    cases, notes = cases_of(bare, samples, n=2, seed=0)
    assert len(cases) == 4 and "on 2 pages without reference cheats are made of a real sample" in notes[-1]
    own = [case for case in cases if case.own is not None]
    assert {case.page.id: case.target.reference for case in own} == {"a:p1": OTHERS[0], "a:p3": OTHERS[2]}
    assert {case.target.other for case in own} == {OTHERS[0], OTHERS[2]}
    assert all(case.page.reference is None for case in own)
    labelled = dict(transcripts(own[0]))
    assert {sort for sort, _ in labelled} == {"own", "attack", "sample"}
    assert labelled["attack", "page twice"].raw.startswith("---\na: b\n---\n")  # the sample's own front matter

    mix = audits(WeightedReward(name="longer", reward=Longer()), pages=bare, samples=samples)[-1]
    outcomes = {outcome.attack: outcome for outcome in mix.outcomes if outcome.kind == "cheat (samples)"}
    assert "page twice" in outcomes and outcomes["page twice"].wins and outcomes["page twice"].pages == 2
    assert outcomes["page twice"].fair == pytest.approx((len(OTHERS[0]) + len(OTHERS[2])) / 2 / 5000)  # no sibling's
    assert not outcomes["first line only"].wins
    assert [outcome for outcome in mix.outcomes if outcome.kind == "cheat"] and mix.spread is not None
    assert {outcome.kind for outcome in mix.outcomes} == {"cheat", "cheat (samples)", "damage"}  # of the composed pages


def test_composed_pages_have_no_test_of_a_sort_that_the_data_lack() -> None:
    """A budget that real pages lack would let a mix that relies on it pass."""
    data = [replace(page, reference=None, checks=[check("present", text="Some words here")]) for page in PAGES]
    cases, _ = cases_of(data, {}, n=3, seed=0)
    assert {check.type for case in cases for check in case.page.checks} == {"present"}
    formulas = [replace(page, checks=[check("math", math="x^2 + y^2")]) for page in data]
    cases, _ = cases_of(formulas, {}, n=2, seed=0)
    assert {check.type for case in cases for check in case.page.checks} == {"math"}


def test_composed_pages_have_no_more_tests_of_a_sort_than_the_data() -> None:
    """More order tests than the data have would make a gate on them look better than it is."""
    data = [
        replace(page, reference=None, checks=[check("order", before="one two", after="three"), check("baseline")])
        for page in PAGES
    ]
    cases, _ = cases_of(data, {}, n=3, seed=0)
    for case in cases:
        assert Counter(check.type for check in case.page.checks) == {"order": 1, "baseline": 1}


def test_before_training_pages_without_reference_are_tried_by_themselves() -> None:
    """One page with a reference says nothing about those without: there junk costs nothing."""
    choices = load_recipe("nano_grpo").mix
    with_reference = composed_pages("report", 4, 0)
    bare = [replace(page, reference=None, checks=[check("present", text="Some words here")]) for page in PAGES]
    pool = RewardPool(choices=choices, rewards=weighted(choices), workers=1, timeout_s=60)
    with closing(pool):
        require_honest(with_reference, pool, 8, 0, "centred")
        with pytest.raises(UserError, match=r"the gate budget applies to 0 of \d+ pages"):
            require_honest([*with_reference, *bare], pool, 8, 0, "centred")
