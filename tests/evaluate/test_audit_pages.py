"""The pages of an audit: with a reference, composed, or with real samples alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ocr_rl.config import Gate, RewardChoice
from ocr_rl.contract import Page, UserError
from ocr_rl.evaluate.audit_before import require_honest
from ocr_rl.evaluate.audit_pages import READERS, SAMPLE, TRUTH, cases_of, composed_pages, readings
from ocr_rl.evaluate.audit_trials import groups_of
from ocr_rl.rollout.reward_pool import RewardPool, weighted
from ocr_rl.rollout.scoring import WeightedReward
from tests.evaluate.simple_rewards import OTHERS, PAGES, Longer, audits, check, sample


def test_without_references_composed_pages_stand_in_and_keep_theirs_to_themselves() -> None:
    cases, notes = cases_of([replace(page, reference=None) for page in PAGES], {}, n=2, seed=0)
    assert len(cases) == 2 and "no page has a reference" in notes[0]
    assert all(case.page.reference is None and case.page.checks and case.truth for case in cases)


def test_without_references_real_samples_are_attacked_too() -> None:
    bare = [replace(page, reference=None) for page in PAGES]
    samples = {
        "a:p1": [sample("cut off", "length"), sample(""), sample(OTHERS[0]), sample("x")],
        "a:p2": [sample("cut off", "length")],  # none that ended
        "a:p3": [sample(OTHERS[2]), sample("y")],
    }
    cases, notes = cases_of(bare, samples, n=2, seed=0)
    assert len(cases) == 4 and "on 2 pages without reference real samples are attacked" in notes[-1]
    real = [case for case in cases if case.truth is None]
    assert {case.page.id for case in real} == {"a:p1", "a:p3"} and all(case.page.reference is None for case in real)
    assert {case.other for case in real} == {OTHERS[0], OTHERS[2]}
    (first,) = [case for case in real if case.page.id == "a:p1"]
    attacked = list(readings(first))
    assert [reading.transcript.body for reading in attacked] == [OTHERS[0], "x"]
    assert [[t.body for t in reading.siblings] for reading in attacked] == [["x"], [OTHERS[0]]]
    assert attacked[0].front == "---\na: b\n---\n"  # the sample's own
    (group, _) = groups_of(first, (0.1,))
    before, after = group.attacks["page twice"]
    assert before == 0 and group.transcripts[after].raw == f"---\na: b\n---\n{OTHERS[0]}\n\n{OTHERS[0]}"

    mix = audits(WeightedReward(name="longer", reward=Longer()), pages=bare, samples=samples)[-1]
    outcomes = {outcome.attack: outcome for outcome in mix.outcomes if outcome.source == SAMPLE}
    assert outcomes["page twice"] in mix.holes() and outcomes["first line only"] not in mix.holes()
    assert mix.spread is not None and mix.honest.keys() == {TRUTH, "0.5 %", "1 %", "2 %", "5 %", "10 %", SAMPLE}


def test_readings_have_their_share_of_errors_and_siblings_with_others() -> None:
    (case, *_), _ = cases_of(PAGES, {}, n=1, seed=0)
    truth, misread = readings(case, (0.0, 0.1))
    assert truth.source == TRUTH and {truth.transcript.body, *(t.body for t in truth.siblings)} == {case.truth}
    texts = {misread.transcript.body, *(t.body for t in misread.siblings)}
    assert misread.source == "10 %" and len(texts) == READERS and case.truth not in texts


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
    """Pages with a reference say nothing about those without: there half a page may earn more than a misread one."""
    with_reference = composed_pages("notice", 4, 0)
    bare = [replace(page, reference=None, checks=[check("present", text="Some words here")]) for page in PAGES]
    _require_honest(SAFE, with_reference)
    with pytest.raises(UserError, match=r"reads no better .*give the pages .*`ocr-rl pages mine PDFS --out DATA`"):
        _require_honest(SAFE, [*with_reference, *bare])


def test_before_training_a_blank_page_is_no_case() -> None:
    """There, nothing is the right answer; composed pages in its place would have its single test, and let it win."""
    pages = composed_pages("notice", 4, 0)
    empty = [check("baseline", max_length=0)]
    blank = [replace(pages[0], reference="", checks=empty), replace(pages[0], reference=None, checks=empty)]
    _require_honest(SAFE, [*pages, *blank])


def test_before_training_a_page_whose_own_truth_fails_is_named_with_its_test() -> None:
    page, *others = composed_pages("notice", 3, 0)
    wrong = replace(page, pdf=Path("ledger.pdf"), number=4, checks=[check("present", text="Nowhere to be read")])
    with pytest.raises(UserError, match=r"true transcript of ledger.pdf, page 4 earns 0\.\d+, least of pass_degree"):
        _require_honest(SAFE, [wrong, *others])
    looping = replace(
        page, pdf=Path("ledger.pdf"), reference=f"{page.reference}\n\n" + "again and again " * 50, checks=()
    )
    with pytest.raises(
        UserError, match=r"true transcript of ledger.pdf, page 1 is held back by the gate repetition \("
    ):
        _require_honest(SAFE, [looping, *others])


SAFE = [
    RewardChoice(name="pass_degree", weight=4.0),
    RewardChoice(name="budget"),
    Gate(name="repetition", at_least=0.7),
    Gate(name="distinct", at_least=0.7),
]


def _require_honest(choices: Sequence[RewardChoice | Gate], pages: Sequence[Page]) -> None:
    pool = RewardPool(choices=choices, rewards=weighted(choices), workers=1, timeout_s=60)
    with closing(pool):
        require_honest(pages, pool, 8, 0, "centred")
