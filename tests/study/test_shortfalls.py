"""The study's tables without a verdict, on results made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ocr_rl.study.shortfalls import (
    alike,
    classes_of,
    differs,
    halved,
    likeness,
    moved,
    offered,
    passed_ever,
    passed_once,
    without_effect,
)
from tests.study.by_hand import results_by_hand, row_by_hand, study_by_hand


def samples(page: str, *rates: float) -> list:
    return [replace(row_by_hand(page, rate), repeat=k) for k, rate in enumerate(rates, 1)]


def test_pages_are_told_apart_by_how_the_samples_of_the_start_fare() -> None:
    drawn = [*samples("a", 0.1, 0.4), *samples("b", 0.5, 0.7), *samples("c", 0.2, 0.6), *samples("d", 0.9, 0.9)]
    classes = classes_of(drawn)
    assert classes == {"all bad": {"a"}, "nearly equal": {"b", "d"}, "far apart": {"c"}}
    ends = {"grpo-seed0": {"a": 0.6, "b": 0.8, "c": 0.5, "d": 0.5}}
    section = offered(results_by_hand(ends, samples=drawn))  # the start passes half of each page
    assert section is not None and section.header == (
        "arm",
        "all bad: 1 pages",
        "nearly equal: 2 pages",
        "far apart: 1 pages",
    )
    assert section.rows[0] == ("start, passes", "50.0 %", "50.0 %", "50.0 %")
    assert [cell.split()[0] for cell in section.rows[1][1:]] == ["+10.0", "+15.0", "+0.0"]


def test_a_gain_on_some_pages_has_the_spread_of_the_runs_there() -> None:
    """Runs that are alike over all pages may differ on half of them."""
    here, there = [f"h{k}" for k in range(20)], [f"t{k}" for k in range(20)]
    ends = {
        f"grpo-seed{seed}": {page: 0.6 + by for page in here} | {page: 0.6 - by for page in there}
        for seed, by in enumerate((-0.1, 0.0, 0.1))
    }
    results = results_by_hand(ends)
    whole, half = results.gain("grpo", [*here, *there]), results.gain("grpo", here)
    assert whole is not None and half is not None and half.mean == pytest.approx(whole.mean) == pytest.approx(0.1)
    assert whole.high - whole.low < 0.01 and half.high - half.low > 0.3
    assert results.gain("dpo", here) is None and results.gain("grpo", ["elsewhere"]) is None


def test_displacement_is_of_the_last_updates_and_of_preference_arms_alone() -> None:
    rows = [{"step": k, "chosen_moved_mean": -float(k), "rejected_moved_mean": -3.0 * k} for k in range(1, 11)]
    results = results_by_hand({"dpo-seed0": {"a": 0.5}}, metrics={"dpo-seed0": rows, "grpo-seed0": [{"step": 1}]})
    section = moved(results)
    assert section is not None and section.rows == [("dpo", "-8.0", "-24.0")]  # the mean of 6 to 10
    assert moved(results_by_hand({})) is None


def test_samples_are_alike_or_not() -> None:
    same = [replace(row_by_hand("a", 0.4), text="one two", repeat=k) for k in (1, 2)]
    other = [replace(row_by_hand("b", rate), text=text) for rate, text in ((0.2, "abcd"), (0.6, "wxyz"))]
    assert likeness(same) == 1.0 and likeness(other) == 0.0 and likeness([*same, *other]) == 0.5
    assert passed_once(other) == pytest.approx(0.4)
    assert passed_ever(other) == pytest.approx(0.6)  # both pass the first 20 of a hundred tests, one the first 60
    section = alike(results_by_hand({}, siblings={"start": same, "grpo-seed0": other}))
    assert section is not None
    assert section.rows == [("start", "100.0", "40.0", "40.0"), ("grpo", "0.0", "40.0", "60.0")]


def test_the_rule_is_tried_on_one_recipe_against_itself() -> None:
    study = study_by_hand(seeds=[0, 1, 2, 3], claim_seeds=[0])
    flat = {f"p{k}": 0.5 for k in range(9)}
    ends = {f"{arm}-seed{seed}": flat for arm in ("grpo", "dpo") for seed in range(4)}
    ends |= {f"ppo-seed{seed}": {page: 0.6 if seed < 2 else 0.5 for page in flat} for seed in range(4)}
    section = without_effect(results_by_hand(ends, study=study))
    assert section is not None and "1 of 3 differ, the one way or the other" in section.text
    assert [row[2] for row in section.rows] == ["undecided with this budget"] * 2 + ["supported"]
    assert without_effect(results_by_hand(ends)) is None  # three seeds have no two halves


def test_the_rule_is_tried_with_three_runs_a_side_in_every_way() -> None:
    study = study_by_hand(seeds=[0, 1, 2, 3, 4, 5], claim_seeds=[0])
    flat = {f"p{k}": 0.5 for k in range(9)}
    ends = {f"{arm}-seed{seed}": flat for arm in ("grpo", "dpo") for seed in range(6)}
    ends |= {f"ppo-seed{seed}": {page: 0.6 if seed < 3 else 0.5 for page in flat} for seed in range(6)}
    results = results_by_hand(ends, study=study)
    assert len(list(halved(results, "grpo"))) == 10
    assert [differs(effect) for effect in halved(results, "ppo")].count(True) == 1  # seeds 0, 1, 2 and no other half
    section = without_effect(results)
    assert section is not None and "1 of 30 differ (ppo 1);" in section.text
    del ends["dpo-seed5"]
    without = without_effect(results_by_hand(ends, study=study))
    assert without is not None and "1 of 20 differ" in without.text  # a half of two runs is none
    ends["dpo-seed5"] = flat
    ends["ppo-seed3"] = {page: 0.6 for page in flat}
    again = without_effect(results_by_hand(ends, study=study))
    assert again is not None and "0 of 30 differ;" in again.text
