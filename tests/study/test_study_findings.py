"""The arithmetic that a study's verdicts rest on, against hand-made numbers."""

from __future__ import annotations

from random import Random

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from benchmarks.policy.terrains import compared
from ocr_rl.evaluate.stats import Interval
from ocr_rl.study.findings import Measured, Noise, contrast, contrast_p, noise_of, unpaired, verdict_of
from ocr_rl.study.results import Point, at_seconds
from ocr_rl.study.tables import Lead


def test_verdicts_are_read_off_the_interval() -> None:
    def interval(low: float, high: float) -> Interval:
        return Interval(mean=(low + high) / 2, low=low, high=high, clusters=9)

    assert verdict_of(interval(0.001, 0.2)) == "supported"
    assert verdict_of(interval(-0.2, -0.001)) == "not supported"
    assert verdict_of(interval(-0.02, 0.029)) == "not supported"  # an effect that matters is excluded
    assert verdict_of(interval(0.001, 0.02)) == "supported"  # a small one is one
    assert verdict_of(interval(-0.02, 0.031)) == "undecided with this budget"
    assert verdict_of(interval(-0.05, 0.2)) == "undecided with this budget"


def lead(low: float, high: float, holm: float) -> Lead:
    return Lead(Interval(mean=(low + high) / 2, low=low, high=high, clusters=9), holm / 3, holm)


def test_who_leads_is_read_off_holms_p_and_the_interval() -> None:
    assert lead(0.01, 0.05, 0.04).word == "GRPO ahead"
    assert lead(-0.05, -0.01, 0.04).word == "GRPO behind"
    assert lead(0.01, 0.05, 0.06).word == "undecided"  # Holm's p has the say
    assert lead(-0.02, 0.02, 0.9).word == "alike"
    assert lead(-0.02, 0.04, 0.5).word == "undecided"


def test_a_finding_holds_where_the_same_word_comes_out_elsewhere() -> None:
    ahead, behind, unknown = lead(0.01, 0.05, 0.01), lead(-0.05, -0.01, 0.01), lead(-0.02, 0.04, 0.5)
    first = {"dpo": ahead, "sft": behind, "ppo": unknown, "rlhf": ahead, "only here": ahead}
    rows = compared(first, {"dpo": ahead, "sft": ahead, "ppo": ahead, "rlhf": unknown})
    assert [(row[0], row[-1]) for row in rows] == [
        ("dpo", "holds"),
        ("sft", "contradicted"),
        ("ppo", "none"),
        ("rlhf", "untested"),
    ]
    assert rows[0][1:4] == ("+3.0 [1.0, 5.0]", "0.0100", "GRPO ahead")


def test_pages_have_no_order_in_an_interval_of_two_sets() -> None:
    first, second = [[Random(k).random() for k in range(at, at + 30)] for at in (0, 100)]
    shuffled = Random(1).sample(first, 30), Random(2).sample(second, 30)
    assert unpaired(*shuffled) == unpaired(first, second) != unpaired(second, first)


def test_a_difference_turned_round_has_its_interval_turned_round() -> None:
    one, other = (
        Measured(pages={f"p{k}": Random(k + at).random() for k in range(40)}, runs=runs, noise=Noise(sd=sd, freedom=5))
        for at, runs, sd in ((0, 6, 0.06), (99, 3, 0.02))
    )
    there, back = contrast((1, one), (-1, other)), contrast((-1, one), (1, other))
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1e-12)
    assert contrast_p((1, one), (-1, other)) == contrast_p((-1, one), (1, other))


def test_p_and_the_interval_are_of_the_same_draws() -> None:
    """Near 0.05, where two sets of draws would disagree."""
    pages = {f"p{k}": 0.5 for k in range(60)}
    noise = Noise(sd=0.02, freedom=12)
    for shift in [0.0224 + 0.0001 * k for k in range(15)]:
        other = Measured(pages={p: v + shift for p, v in pages.items()}, runs=3, noise=noise)
        terms = (1, other), (-1, Measured(pages=pages, runs=3, noise=noise))
        assert (contrast_p(*terms) < 0.0499) == (contrast(*terms).low > 0) or abs(contrast_p(*terms) - 0.05) < 3e-4


def test_p_agrees_with_the_interval() -> None:
    pages = {f"p{k}": Random(k).gauss(0.5, 0.2) for k in range(60)}
    for shift in (0.0, 0.01, 0.02, 0.03, 0.05):
        noise = Noise(sd=0.02, freedom=12)
        other = Measured(pages={p: v + shift for p, v in pages.items()}, runs=3, noise=noise)
        terms = (1, other), (-1, Measured(pages=pages, runs=3, noise=noise))
        found, p = contrast(*terms), contrast_p(*terms)
        assert (p < 0.05) == (found.low > 0 or found.high < 0), (shift, p)
    assert contrast_p(*terms) < 0.02 and contrast_p((1, other), (-1, other)) > 0.9


def test_a_contrast_is_paired_by_page() -> None:
    base = Measured(pages={f"p{k}": Random(k).random() for k in range(40)})
    shifted = Measured(pages={page: value + 0.1 for page, value in base.pages.items()})
    found = contrast((1, shifted), (-1, base))
    assert found.low == pytest.approx(0.1)
    assert found.high == pytest.approx(0.1)  # what pages have in common cancels
    twice = contrast((1, shifted), (-1, base), (-1, shifted), (1, base))
    assert twice.mean == pytest.approx(0.0)


def test_a_contrast_knows_that_runs_differ_by_their_seed() -> None:
    pages = {f"p{k}": 0.5 for k in range(40)}
    start = Measured(pages=pages)
    noise = Noise(sd=0.02, freedom=12)
    halves = []
    for runs in (1, 4):
        found = contrast((1, Measured(pages=pages, runs=runs, noise=noise)), (-1, start))
        assert found.mean == 0
        halves.append((found.high - found.low) / 2)
    # Student's t of 12 degrees of freedom; pages that are alike add nothing.
    assert halves[0] == pytest.approx(2.18 * 0.02, rel=0.1)
    assert halves[1] == pytest.approx(halves[0] / 2, rel=0.1)


def test_noise_is_pooled_over_the_runs_of_arms() -> None:
    def run(mean: float) -> dict[str, float]:
        return {"a": mean - 0.1, "b": mean + 0.1}

    # Deviations from the arm's mean: 0.1, -0.1 and 0.2, 0, -0.2: squares 0.1 over 1 + 2 degrees of freedom.
    found = noise_of([[run(0.6), run(0.4)], [run(0.7), run(0.5), run(0.3)], [run(0.9)]])
    assert found == Noise(sd=pytest.approx((0.1 / 3) ** 0.5), freedom=3)  # type: ignore[arg-type]
    assert noise_of([[run(0.5)]]) == Noise()


def test_equal_seconds_reads_between_evaluations() -> None:
    curve = [Point(step=s, tokens=0, seconds=10.0 * s, pass_rate=0.1 * s) for s in range(3)]
    assert at_seconds(curve, 15.0) == pytest.approx(0.15)
    assert at_seconds(curve, 99.0) == pytest.approx(0.2)
