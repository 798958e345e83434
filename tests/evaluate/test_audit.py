"""The audit finds what is known to be wrong with simple rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from ocr_rl.config import Gate
from ocr_rl.contract import Page, Score, Transcript, UserError
from ocr_rl.evaluate.audit import Limits, audit
from ocr_rl.evaluate.audit_pages import SAMPLE, TRUTH, cases_of
from ocr_rl.evaluate.audit_trials import OMISSION
from ocr_rl.rollout.reward_pool import weighted
from ocr_rl.rollout.scoring import WeightedReward
from tests.evaluate.simple_rewards import OTHERS, PAGES, REFERENCE, Longer, True_, audits, named, sample, scorer

LONGER = WeightedReward(name="longer", reward=Longer())
TRUE = WeightedReward(name="true", reward=True_())


def test_a_reward_for_length_is_beaten_by_what_is_long_and_by_nothing_else() -> None:
    mix = audits(LONGER)[-1]
    assert {"page twice", "junk added", "endless loop", "equation spam", "both readings"} <= named(mix.holes())
    assert not {"first line only", "tables dropped", OMISSION} & named(mix.holes())
    assert {"digits changed", "upper-cased"} <= set(mix.free())
    assert not next(curve for curve in mix.curves if curve.kind == "characters wrong").falls


def test_a_gain_is_what_an_attack_earns_more_than_its_own_start() -> None:
    mix = audits(LONGER)[-1]
    sources = [outcome.source for outcome in mix.outcomes if outcome.attack == "page twice"]
    assert sources == [TRUTH, "0.5 %", "1 %", "2 %", "5 %", "10 %"] == list(mix.honest)
    twice = next(outcome for outcome in mix.outcomes if outcome.attack == "page twice")
    lengths = [len(text) for text in OTHERS]
    assert twice.gain == pytest.approx(sum(length + 2 for length in lengths) / len(lengths) / 5000)
    assert twice.most == pytest.approx((max(lengths) + 2) / 5000)
    assert twice.pages == 3
    header = next(o for o in mix.outcomes if o.attack == "header kept, upper-cased")
    assert header.gain == 0.0  # against the same text with the header as it is


def test_a_reward_that_reads_is_beaten_by_nothing_and_blind_to_little() -> None:
    mix = audits(TRUE)[-1]
    assert not mix.holes(Limits(gain=0.0))
    assert not {"digits changed", "one wrong digit in a table", "paragraphs shuffled"} & set(mix.free())
    assert mix.honest[TRUTH] == 1.0 > mix.honest["1 %"] > mix.honest["10 %"]
    assert all(curve.falls for curve in mix.curves)
    assert mix.tie is not None and mix.tie > 0.1  # it takes a caption on the other side for an error


def test_what_reads_better_is_no_hole() -> None:
    """The first lines of a sample that loops at its end are a better transcript, and may earn more."""
    looping = sample(REFERENCE + "\n\n" + "\n\n".join(f"again {k} and again" for k in range(20)))
    mix = audits(TRUE, samples={"a:p1": [looping, looping]})[-1]
    first = next(o for o in mix.outcomes if (o.attack, o.source) == ("first 60 % of the lines", SAMPLE))
    assert first.gain == 0.0
    unknown = [replace(page, reference=None) for page in PAGES]
    blind = WeightedReward(name="short", reward=Shorter())
    mix = audits(blind, pages=unknown, samples={"a:p1": [looping]})[-1]
    assert "first 60 % of the lines" in {o.attack for o in mix.holes() if o.source == SAMPLE}  # nobody can say


@dataclass(frozen=True)
class Shorter:
    def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
        return [Score(value=1 - min(1.0, len(transcript.body) / 5000)) for transcript in group]


def test_leaving_out_must_earn_less_than_misreading() -> None:
    (omission,) = [outcome for outcome in audits(TRUE)[-1].outcomes if outcome.attack == OMISSION]
    assert omission.source == "10 %" and omission.gain < -0.1
    (omission,) = [
        o for o in audits(WeightedReward(name="short", reward=Shorter()))[-1].holes() if o.attack == OMISSION
    ]
    assert omission.gain > 0.01


def test_a_mix_that_trains_on_normalised_rewards_is_judged_by_them() -> None:
    """`longer` tells little apart, until gdpo makes that as much as what `true` does."""
    rewards = (WeightedReward(name="longer", reward=Longer(), weight=1.2), TRUE)
    weighed, normalised = (audits(*rewards, advantage=advantage) for advantage in ("group_std", "gdpo"))
    assert "page twice" not in named(weighed[-1].holes())
    assert "page twice" in named(normalised[-1].holes())
    assert "empty" not in named(normalised[-1].holes())
    assert [r.outcomes for r in normalised[:-1]] == [r.outcomes for r in weighed[:-1]]  # each by itself
    gate = WeightedReward(name="gate", reward=True_(), weight=0.0, gate=0.8)
    assert "page twice" not in named(audits(*rewards, gate, advantage="gdpo")[-1].holes())

    samples = {"a:p1": [sample(OTHERS[0]), sample(OTHERS[0][:-20]), sample(OTHERS[0][:-50])]}
    of_samples = audits(*rewards, pages=[replace(PAGES[0], reference=None)], samples=samples, advantage="gdpo")[-1]
    assert "page twice" in named([hole for hole in of_samples.holes() if hole.source == SAMPLE])


def test_a_gate_changes_the_mix_and_not_the_reward_itself() -> None:
    gate = WeightedReward(name="true", reward=True_(), weight=0.0, gate=0.8)
    longer, true, mix = audits(LONGER, gate)
    assert "page twice" in named(longer.holes()) - named(mix.holes())
    assert true.honest_held == 0.0 and true.samples_held is None and longer.honest_held is None


def test_real_samples_are_attacked_too_and_give_spread() -> None:
    half = REFERENCE[: len(REFERENCE) // 2]
    samples = [Transcript(raw=t, body=t, finish="stop", num_tokens=9) for t in (half, half[:100], "x")]
    cases, notes = cases_of(PAGES, {"a:p2": samples}, n=1, seed=0)
    assert [case.page.id for case in cases] == ["a:p2"]  # pages with samples come first
    result = audit(cases, [TRUE, LONGER], scorer([TRUE, LONGER]), notes)
    assert result.mix.spread is not None and result.mix.spread > 0
    assert {outcome.source for outcome in result.mix.outcomes} == {TRUTH, "0.5 %", "1 %", "2 %", "5 %", "10 %", SAMPLE}
    assert "junk added" in named([hole for hole in result.rewards[1].holes() if hole.source == SAMPLE])


def test_the_search_is_part_of_what_holds() -> None:
    cases, _ = cases_of(PAGES, {}, n=2, seed=0)
    result = audit(
        cases, [LONGER], scorer([LONGER]), [], errors=(0.05,), evaluations=60, limits=Limits(gain=9.0, unread=9.0)
    )
    assert len(result.searched) == 2 and result.searched[0].rise >= result.searched[1].rise > 0
    assert result.rise == pytest.approx(sum(hole.rise for hole in result.searched) / 2) and not result.mix.curves
    assert not replace(result, limits=Limits(gain=9.0, unread=9.0, rise=result.rise - 1e-6)).holds
    assert replace(result, limits=Limits(gain=9.0, unread=9.0, rise=result.rise + 1e-6)).holds


def test_a_gate_that_is_silent_on_some_pages_is_named_with_the_reason() -> None:
    (gate,) = weighted([Gate(name="budget", at_least=1.0)])
    cases, notes = cases_of([replace(page, checks=()) for page in PAGES], {}, n=2, seed=0)
    silent = [replace(case, page=replace(case.page, reference=None)) for case in cases]
    result = audit(silent, [gate, LONGER], scorer([gate, LONGER]), notes, errors=(0.1,))
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


def test_a_reward_that_is_blind_has_a_hole_though_nothing_pays() -> None:
    """Of `eos` an empty transcript earns as much as any reading."""
    mix = audits(WeightedReward(name="constant", reward=Constant()))[-1]
    assert named(mix.holes()) == {"empty", "another page", "random words of the same length"}


@dataclass(frozen=True)
class Constant:
    def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
        return [Score(value=1.0) for _ in group]
