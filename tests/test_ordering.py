"""Figures of `benchmarks.fidelity.ordering`, worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.fidelity.ordering import Group, figures, halves, intervals, main, read_candidates
from tests.evaluate.scripted import make_pdf


def test_a_reward_that_orders_as_the_measure_realises_all() -> None:
    group = Group(page="p", rewards=(0.1, 0.2, 0.9), measures=(0.2, 0.5, 0.8))
    assert (group.tau, group.realised, group.possible) == pytest.approx((1.0, 0.3, 0.3))


def test_the_opposite_order_loses() -> None:
    group = Group(page="p", rewards=(0.9, 0.2, 0.1), measures=(0.2, 0.5, 0.8))
    assert (group.tau, group.realised) == pytest.approx((-1.0, -0.3))


def test_a_flat_group_realises_nothing() -> None:
    group = Group(page="p", rewards=(0.5, 0.5, 0.5), measures=(0.2, 0.5, 0.8))
    assert group.flat and (group.tau, group.realised) == pytest.approx((0.0, 0.0))


def test_ties_take_their_mean_and_count_in_tau_b() -> None:
    group = Group(page="p", rewards=(1.0, 1.0, 0.0), measures=(0.8, 0.4, 0.0))
    assert group.realised == pytest.approx(0.6 - 0.4)
    assert group.tau == pytest.approx(2 / (2 * 3) ** 0.5)  # 2 of 3 pairs agree, one is tied in the reward


def test_shares_are_of_all_groups_together() -> None:
    large = Group(page="p", rewards=(0, 1), measures=(0.0, 1.0))
    small = Group(page="p", rewards=(1, 0), measures=(0.0, 0.1))
    tau, share, flat = figures([large, small])
    assert (tau, share, flat) == pytest.approx((0.0, (0.5 - 0.05) / (0.5 + 0.05), 0.0))


def test_groups_of_one_page_are_drawn_together() -> None:
    right, wrong = (Group(page="p", rewards=rewards, measures=(0.0, 1.0)) for rewards in ((0, 1), (1, 0)))
    assert intervals([right, wrong])[0] == pytest.approx((0.0, 0.0))
    assert intervals([right, replace(wrong, page="q")])[0] == pytest.approx((-1.0, 1.0))


WORDS = ("harbour", "lantern", "orchard", "granite")


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """One page with four tests: `good` has all of their texts, `poor` none, `mute` has no file."""
    data = tmp_path / "bench"
    tests = [
        {"pdf": "a.pdf", "page": 1, "id": f"a_{i}", "type": "present", "text": word} for i, word in enumerate(WORDS)
    ]
    for name, text in (("good", " ".join(WORDS)), ("poor", "nothing of it"), ("mute", "")):
        (data / name).mkdir(parents=True)
        if text:
            (data / name / "a_pg1_repeat1.md").write_text(text)
    (data / "pdfs").mkdir()
    make_pdf(data / "pdfs" / "a.pdf", 1, 100)
    (data / "tests.jsonl").write_text("".join(json.dumps(test) + "\n" for test in tests))
    return data


def test_one_half_of_the_tests_is_the_reward_and_the_other_the_measure(bench: Path) -> None:
    samples = read_candidates(bench, ["good", "poor", "mute"])
    assert [len(texts) for _, texts in samples] == [2]  # who has no file of a page is no sibling there
    shown, measures = halves(samples, 6, seed=0)
    kept = [{check.id for check in page.checks} for page, _ in shown]
    assert {len(ids) for ids in kept} == {2} and len(set(map(frozenset, kept))) > 1
    assert measures == [[1.0, 0.0]] * 6
    page, texts = samples[0]
    only_first_two = [replace(texts[0], raw=" ".join(WORDS[:2]), body=" ".join(WORDS[:2]))]
    (shown_page, _), (measure,) = (found[0] for found in halves([(page, only_first_two)], 1, seed=0))
    held = {f"a_{i}" for i in range(4)} - {check.id for check in shown_page.checks}
    assert measure == len(held & {"a_0", "a_1"}) / 2


def test_candidates_of_a_bench_are_tabled(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--bench", str(bench), "--candidates", "good", "poor", "--recipes", "nano_grpo", "--splits", "2"]
    assert main(asked) == 0
    out = capsys.readouterr().out
    assert "2 groups of 2 on 1 pages" in out
    assert "| the mix of `nano_grpo` | 2 | 1.00 [1.00, 1.00] | 100% [100%, 100%] | 0.0% |" in out


def test_a_bench_that_one_candidate_wrote_is_refused(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--bench", str(bench), "--candidates", "good"]) == 2
    assert "name more --candidates" in capsys.readouterr().err
