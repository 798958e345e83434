"""The claims about a learned reward and a critic, on hand-made results: each can come out either way."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from ocr_rl.evaluate.stats import Interval
from ocr_rl.study.critic import Right, compute, delayed_credit, early_errors, right_words
from ocr_rl.study.findings import (
    PART,
    Measured,
    Noise,
    contrast,
    kept_contrast,
    over_runs,
    percent,
    points,
    spread,
    verdict_of,
)
from ocr_rl.study.plots import claim_plot
from ocr_rl.study.results import Cost, Results, cost_of, phases_of
from ocr_rl.study.rlhf import building, climb_verdict, data_bias, log_ratio, over_optimisation, tuning
from tests.study.by_hand import results_by_hand, row_by_hand, study_by_hand

SEEDS = (0, 1, 2)
FEW = [f"d{k}:p1" for k in range(9)]


def flat(passed: float) -> dict[str, float]:
    return dict.fromkeys(FEW, passed)


# --- arithmetic -------------------------------------------------------------------------------------------------------


def test_a_mean_over_runs_has_students_interval_and_one_run_has_none() -> None:
    # Standard deviation 0.1, so 0.1 / sqrt(3) = 0.0577; Student's t of 2 degrees of freedom is 4.30 at 97.5 %.
    got = over_runs([0.4, 0.5, 0.6])
    assert got.mean == pytest.approx(0.5)
    assert got.high - got.mean == pytest.approx(4.30 * 0.0577, rel=0.1)
    one = over_runs([0.4])
    assert one.mean == 0.4 and one.low != one.low and one.high != one.high
    assert (points(one), percent(one)) == ("+40.0 (not known)", "40.0 (not known)")


def test_a_spread_is_pooled_about_each_groups_own_mean() -> None:
    # Squares 0.02 over 1 degree of freedom and 0.08 over 2; a group of one knows nothing.
    assert spread([[0.4, 0.6], [0.1, 0.3, 0.5], [0.9]]) == Noise(sd=pytest.approx((0.1 / 3) ** 0.5), freedom=3)  # type: ignore[arg-type]
    assert spread([[0.9], []]) == Noise()


def test_a_ratio_of_spreads_holds_what_few_runs_do_not_know() -> None:
    wide, narrow = Noise(sd=0.10, freedom=20), Noise(sd=0.01, freedom=20)
    got = log_ratio(wide, narrow)
    assert got.mean == pytest.approx(math.log(10)) and got.low > math.log(5)
    # The ratio of variances of one sample each, 20 degrees of freedom: F is 2.46 at 97.5 %.
    alike = log_ratio(wide, wide)
    assert alike.high == pytest.approx(math.log(2.46) / 2, rel=0.05) and alike.low == pytest.approx(
        -alike.high, rel=0.1
    )
    unsure = log_ratio(Noise(sd=0.10, freedom=1), Noise(sd=0.05, freedom=1))
    assert unsure.low < 0 < unsure.high


def test_a_term_has_the_spread_of_its_own_runs_and_their_degrees_of_freedom() -> None:
    pages = {f"p{k}": 0.5 for k in range(40)}
    start, quiet = Measured(pages=pages), Measured(pages=pages, runs=5, noise=Noise(sd=0.001, freedom=4))
    loud = Measured(pages=pages, runs=5, noise=Noise(sd=0.04, freedom=4))
    alone, both = contrast((1, loud), (-1, start)), contrast((1, loud), (-1, quiet))
    assert alone.high == pytest.approx(2.776 * 0.04 / 5**0.5, rel=0.1)  # Student's t of 4
    assert both.high == pytest.approx(alone.high, rel=0.05)  # the quiet one adds neither width nor certainty
    pair = contrast((1, loud), (-1, loud))
    assert pair.high == pytest.approx(2.306 * 0.04 * (2 / 5) ** 0.5, rel=0.1)  # equal spreads: t of 8


def test_what_is_kept_of_a_gain_does_not_depend_on_how_large_it_was() -> None:
    def at(gain: float) -> Measured:
        return Measured(pages={f"p{k}": 0.5 + gain + 0.1 * (k % 2) for k in range(40)})

    start = Measured(pages={f"p{k}": 0.5 + 0.1 * (k % 2) for k in range(40)})
    same = kept_contrast((at(0.1), at(0.05)), (at(0.2), at(0.1)), start)
    assert same.mean == pytest.approx(0.0) and same.high == pytest.approx(0.0, abs=1e-9)
    more = kept_contrast((at(0.1), at(0.02)), (at(0.2), at(0.1)), start)
    assert more.mean == pytest.approx(0.3)
    none = kept_contrast((at(0.0), at(-0.1)), (at(0.2), at(0.1)), start)
    assert none.low != none.low and verdict_of(none, PART) == "undecided with this budget"


def test_costs_leave_evaluation_out_and_charge_a_rollout_once() -> None:
    rollout = {"sync_s": 1.0, "rollout_s": 4.0, "score_s": 2.0, "annotate_s": 3.0}
    rows = [
        {"step": 1, "generated": 50, **rollout, "update_s": 5.0, "eval_s": 99.0},
        {"step": 2, **rollout, "update_s": 5.0},  # a second update of the same rollout
    ]
    assert cost_of(rows) == Cost(tokens=50, seconds=20.0)
    assert phases_of(rows) == {"sampling": 5.0, "scoring": 2.0, "annotating": 3.0, "learning": 10.0}
    busy = [rows[0] | {"cpu_s": 7.5}, rows[1] | {"cpu_s": 4.0}]  # other work made the clock run on: half of it, a fifth
    assert cost_of(busy) == Cost(tokens=50, seconds=11.5)
    assert phases_of(busy) == {"sampling": 2.5, "scoring": 1.0, "annotating": 1.5, "learning": 6.5}


# --- a learned reward -------------------------------------------------------------------------------------------------


def built(seconds: float, seeds: tuple[int, ...] = SEEDS) -> Results:
    """A reward model takes so many of 100 seconds, 100 of 400 tokens, and 20 pairs."""
    model = [{"step": 1, "generated": 100, "pairs": 20, "pairs_held_out": 4, "rollout_s": seconds}]
    loop = [{"step": 1, "generated": 300, "rollout_s": 100 - seconds}]
    return results_by_hand(
        {f"rlhf-seed{seed}": flat(0.5) for seed in seeds},
        metrics={f"reward_model-seed{s}": model for s in seeds} | {f"rlhf-seed{s}": loop for s in seeds},
        scorers={f"rlhf-seed{s}": f"reward_model-seed{s}" for s in seeds},
    )


def test_building_a_reward_model_costs_or_does_not() -> None:
    dear, cheap, once = building(built(30)), building(built(2)), building(built(30, (0,)))
    assert dear is not None and cheap is not None and once is not None
    assert dear.verdict == "supported"
    assert "20 pairs (4 of them held out), 25.0 [25.0, 25.0]" in dear.seen and "30.0 [30.0, 30.0]" in dear.seen
    assert dear.table[0][:3] == ("tokens generated", "100", "300")
    assert cheap.verdict == "not supported"
    assert once.verdict == "undecided with this budget"  # nothing is known of how runs differ
    assert claim_plot(once)
    assert building(replace(built(30), scorers={})) is None


@pytest.mark.parametrize(
    ("restless", "verdict"),
    [(("ppo", "rlhf"), "supported"), (("grpo", "dpo"), "not supported"), ((), "undecided with this budget")],
)
def test_tuning_is_unstable_where_runs_lie_apart(restless: tuple[str, ...], verdict: str) -> None:
    def at(arm: str, k: int) -> float:
        return 0.6 + (0.2 if arm in restless else 0.01) * (k - 1)

    arms = ("ppo", "rlhf", "grpo", "dpo")
    results = results_by_hand(
        {f"{arm}-seed{seed}": flat(round(at(arm, seed), 2)) for arm in arms for seed in SEEDS},
        trials={(arm, k): at(arm, k) for arm in arms for k in range(3)},
    )
    got = tuning(results)
    assert got is not None and got.verdict == verdict
    spreads = {row[0]: row[1] for row in got.table}
    assert spreads["ppo"] == ("20.0" if "ppo" in restless else "1.0")
    assert got.table[0][2] == ", ".join(f"{100 * at('ppo', k):.1f}" for k in range(3))


@pytest.mark.parametrize(
    ("rlhf", "grpo", "verdict"),
    [(0.3, 0.6, "supported"), (0.6, 0.3, "not supported"), (0.4, 0.4, "not supported")],
)
def test_data_bias_is_learnt_where_flipped_pairs_cost_more(rlhf: float, grpo: float, verdict: str) -> None:
    # Both gain 0.1 with right labels; with 40 % wrong ones they end at `rlhf` and `grpo`.
    ends = {"rlhf": 0.6, "grpo": 0.6, "rlhf_flip40": rlhf, "grpo_flip40": grpo}
    got = data_bias(results_by_hand({f"{run}-seed{seed}": flat(end) for run, end in ends.items() for seed in SEEDS}))
    assert got is not None and got.verdict == verdict
    assert got.table[-1][:2] == (
        "40 %",
        f"{100 * (rlhf - 0.5):+.1f} [{100 * (rlhf - 0.5):.1f}, {100 * (rlhf - 0.5):.1f}]",
    )


def climbed(learned: tuple[float, float], true: tuple[float, float]) -> Results:
    """Eight steps, evaluated at 0, 4 and 8: what stood at the middle and at the end."""
    names = [f"{arm}-seed{seed}" for arm in ("rlhf", "grpo_rm") for seed in SEEDS]
    rewards = [0.5, 0.5, *(learned[0],) * 2, *(sum(learned) / 2,) * 2, *(learned[1],) * 2]
    rows = [{"step": k, "reward": reward + 0.001 * (k % 2)} for k, reward in enumerate(rewards, 1)]
    evaluations = {step: flat(passed) for step, passed in ((0, 0.5), (4, true[0]), (8, true[1]))}
    return results_by_hand(
        dict.fromkeys(names, flat(true[1])),
        metrics=dict.fromkeys(names, rows),
        evaluations=dict.fromkeys(names, evaluations),
    )


@pytest.mark.parametrize(
    ("learned", "true", "verdict"),
    [
        ((0.6, 0.8), (0.7, 0.6), "supported"),  # the one rises, the other falls
        ((0.6, 0.8), (0.7, 0.705), "supported"),  # or does not move to speak of
        ((0.6, 0.8), (0.7, 0.8), "not supported"),  # both rise
        ((0.6, 0.6), (0.7, 0.6), "undecided with this budget"),  # nothing was optimised any more
    ],
)
def test_a_learned_reward_is_over_optimised_or_not(learned, true, verdict: str) -> None:
    got = over_optimisation(climbed(learned, true))
    assert got is not None and got.verdict == verdict
    assert set(got.series) == {
        f"{arm}: {what}" for arm in ("rlhf", "grpo_rm") for what in ("learned reward", "pass rate")
    }
    path = got.series["rlhf: pass rate"]
    assert (list(path.x), list(path.y)) == ([0, 4, 8], pytest.approx([50, 100 * true[0], 100 * true[1]]))
    assert list(got.series["rlhf: learned reward"].x) == [4, 8]
    assert claim_plot(got)


def test_a_climb_whose_truth_is_unknown_decides_nothing() -> None:
    def interval(low: float, high: float) -> Interval:
        return Interval(mean=(low + high) / 2, low=low, high=high, clusters=9)

    assert climb_verdict(interval(0.1, 0.2), interval(-0.05, 0.05)) == "undecided with this budget"
    assert climb_verdict(interval(-0.1, 0.2), interval(-0.05, -0.04)) == "undecided with this budget"
    assert climb_verdict(interval(0.1, 0.2), interval(-0.02, 0.02)) == "supported"  # it did not rise to speak of
    assert climb_verdict(interval(0.1, 0.2), interval(0.02, 0.06)) == "not supported"


# --- a critic ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("on_long", "verdict"), [(0.8, "supported"), (0.4, "not supported"), (0.6, "not supported")])
def test_a_critic_is_worth_more_on_long_pages_or_is_not(on_long: float, verdict: str) -> None:
    # GRPO passes 0.6 everywhere; PPO too, but on the three longest pages.
    references = {page: "word " * (k + 1) for k, page in enumerate(FEW)}
    ppo = {page: on_long if k >= 6 else 0.6 for k, page in enumerate(FEW)}
    ends = {f"{arm}-seed{seed}": end for arm, end in (("ppo", ppo), ("grpo", flat(0.6))) for seed in SEEDS}
    got = delayed_credit(results_by_hand(ends, references=references))
    assert got is not None and got.verdict == verdict
    assert [row[0] for row in got.table] == ["ppo", "grpo"] and "lambda" not in got.seen
    trusting = {f"ppo_lambda-seed{seed}": flat(0.5) for seed in SEEDS}
    both = delayed_credit(results_by_hand({**ends, **trusting}, references=references))
    assert both is not None and [row[0] for row in both.table] == ["ppo", "grpo", "ppo, lambda 0.95"]
    assert "With lambda 0.95 PPO ends" in both.seen
    assert claim_plot(both)


def test_words_are_right_where_the_transcript_has_them_in_order() -> None:
    assert right_words("a b c d", "a b c d") == Right(early=1.0, late=1.0, before_error=1.0)
    assert right_words("a b c d", "a x c d") == Right(early=0.5, late=1.0, before_error=0.25)
    assert right_words("a b c d", "c d") == Right(early=0.0, late=1.0, before_error=0.0)
    assert right_words("a b c d", "a b") == Right(early=1.0, late=0.0, before_error=0.5)
    assert right_words("a", "a") is None
    long_text = right_words("a b c d", "x " * 50_000 + "a b c d")  # a policy may write anything
    assert long_text is not None and long_text.early == 1.0


@pytest.mark.parametrize(
    ("ppo", "grpo", "verdict"),
    [
        ("a b x x", "x x c d", "supported"),
        ("x x c d", "a b x x", "not supported"),
        ("a x c x", "x b x d", "not supported"),
    ],
)
def test_early_errors_are_cured_by_the_one_or_the_other(ppo: str, grpo: str, verdict: str) -> None:
    ends = {
        f"{arm}-seed{seed}": [row_by_hand(page, 0.5, text) for page in FEW]
        for arm, text in (("ppo", ppo), ("grpo", grpo))
        for seed in SEEDS
    }
    start = [row_by_hand(page, 0.5, "a") for page in FEW]
    got = early_errors(results_by_hand(ends, start=start, references=dict.fromkeys(FEW, "a b c d")))
    assert got is not None and got.verdict == verdict
    assert got.table[0] == ("start", "", "", "25.0")  # one word of four before the first that is missing
    assert claim_plot(got)


@pytest.mark.parametrize(("slower", "verdict"), [(1.5, "supported"), (1.0, "not supported"), (0.5, "not supported")])
def test_a_critic_costs_or_does_not(slower: float, verdict: str) -> None:
    def steps(factor: float) -> list[dict[str, float]]:
        return [{"step": k, "generated": 100, "rollout_s": 4.0, "update_s": 10 * factor - 4} for k in (1, 2)]

    names = {arm: [f"{arm}-seed{seed}" for seed in SEEDS] for arm in ("ppo", "grpo")}
    got = compute(
        results_by_hand(
            {name: flat(0.5) for runs in names.values() for name in runs},
            metrics=dict.fromkeys(names["ppo"], steps(slower)) | dict.fromkeys(names["grpo"], steps(1.0)),
            peaks=dict.fromkeys(names["ppo"], 3.0) | dict.fromkeys(names["grpo"], 2.0),
        )
    )
    assert got is not None and got.verdict == verdict
    assert "held 3.00 and 2.00 GiB" in got.seen
    assert got.table[0] == ("grpo", "10.00", "4.00", "0.00", "0.00", "6.00", "100", "2.00")
    assert claim_plot(got)


def test_claims_whose_runs_are_not_there_are_left_out() -> None:
    results = results_by_hand({f"sft-seed{seed}": flat(0.5) for seed in SEEDS}, study=study_by_hand())
    for claim in (building, tuning, data_bias, over_optimisation, delayed_credit, early_errors, compute):
        assert claim(results) is None
