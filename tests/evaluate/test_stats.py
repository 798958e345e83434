import json
from pathlib import Path

import numpy as np
import pytest

from ocr_rl.evaluate.stats import (
    Tally,
    benchmark_score,
    bootstrap_mean,
    holm,
    independent_interval,
    paired_difference,
    permutation_test,
)

SCORING = Path(__file__).resolve().parents[2].parent / "shared" / "oracle" / "dev" / "scoring.jsonl"


def correlated_benchmark(rng: np.random.Generator, pages: int, tests: int) -> dict[str, list[float]]:
    """Pages are easy or hard as a whole (Beta with mean 0.5); their tests follow."""
    easy = rng.beta(0.5, 0.5, size=pages)
    return {str(page): list((rng.random(tests) < easy[page]).astype(float)) for page in range(pages)}


def test_mean_counts_clusters_by_their_size():
    interval = bootstrap_mean({"a": [1.0, 1.0, 0.0], "b": [0.0]}, seed=0, draws=200)
    assert interval.mean == 0.5 and interval.clusters == 2
    assert interval.low == 0.0 and interval.high == pytest.approx(2 / 3)  # only b, only a


def test_interval_of_equal_values_has_no_width():
    interval = bootstrap_mean({"a": [1.0], "b": [1.0, 1.0]}, seed=0, draws=50)
    assert (interval.mean, interval.low, interval.high) == (1.0, 1.0, 1.0)


def test_same_seed_same_interval_whatever_the_order():
    values = {str(page): [float(page % 3)] for page in range(20)}
    turned = dict(reversed(values.items()))
    assert bootstrap_mean(values, seed=5, draws=300) == bootstrap_mean(turned, seed=5, draws=300)
    assert bootstrap_mean(values, seed=5, draws=300) != bootstrap_mean(values, seed=6, draws=300)


def test_blocks_of_draws_do_not_show():
    values = {str(page): [float(page)] for page in range(10)}
    few, more = bootstrap_mean(values, seed=1, draws=256), bootstrap_mean(values, seed=1, draws=1000)
    assert few.mean == more.mean == 4.5
    assert abs(few.low - more.low) < 0.5 and few.low < 4.5 < few.high


@pytest.mark.parametrize("values", [{}, {"a": [1.0], "b": []}])
def test_nothing_to_draw_from_is_an_error(values: dict[str, list[float]]):
    with pytest.raises(ValueError, match=r"no clusters|'b' has no values"):
        bootstrap_mean(values, seed=0)


def test_clustered_interval_covers_and_independent_one_does_not():
    rng, trials = np.random.default_rng(0), 250
    clustered = independent = 0
    for trial in range(trials):
        values = correlated_benchmark(rng, pages=60, tests=6)
        ours = bootstrap_mean(values, seed=trial, draws=250)
        naive = independent_interval([[v for page in values.values() for v in page]], seed=trial, draws=250)
        clustered += ours.low <= 0.5 <= ours.high
        independent += naive.low <= 0.5 <= naive.high
    assert 0.90 <= clustered / trials <= 0.98
    assert independent / trials < 0.85


def test_pairing_cancels_what_the_pages_share():
    before = {str(page): [page / 100] for page in range(100)}
    after = {name: [value + 0.1 for value in values] for name, values in before.items()}
    interval = paired_difference(before, after, seed=0, draws=200)
    assert (
        interval.mean == pytest.approx(0.1)
        and interval.low == pytest.approx(0.1)
        and interval.high == pytest.approx(0.1)
    )
    alone = bootstrap_mean(before, seed=0, draws=200)
    assert alone.high - alone.low > 0.05


def test_difference_of_other_clusters_is_an_error():
    with pytest.raises(ValueError, match="1 clusters are on one side only, the first is 'b'"):
        paired_difference({"a": [0.0], "b": [1.0]}, {"a": [1.0]}, seed=0)


def test_permutation_p_by_hand():
    before = {name: [0.0] for name in "abc"}
    after = {name: [1.0] for name in "abc"}
    # of the 8 ways to swap three pages, only none and all are as extreme: 1/4
    assert permutation_test(before, after, seed=0, draws=8000) == pytest.approx(0.25, abs=0.02)
    assert permutation_test(before, before, seed=0, draws=50) == 1.0
    many = {str(page): [0.0] for page in range(40)}, {str(page): [1.0] for page in range(40)}
    assert permutation_test(*many, seed=0, draws=99) == 0.01  # only the observed labelling


def test_permutation_swaps_unequal_clusters_whole():
    before, after = {"a": [0.0, 0.0], "b": [1.0]}, {"a": [1.0], "b": [1.0, 0.0]}
    # differences: none 2/3 - 1/3 = 1/3; a: 1/4 - 1 = -3/4; b: 1 - 1/4 = 3/4; both -1/3: every one is as extreme
    assert permutation_test(before, after, seed=0, draws=200) == 1.0


def test_holm_by_hand():
    adjusted = holm({"x": 0.01, "y": 0.04, "z": 0.03, "w": 0.5})
    assert adjusted == pytest.approx({"x": 0.04, "y": 0.09, "z": 0.09, "w": 0.5})
    assert list(adjusted) == ["x", "y", "z", "w"] and holm({}) == {}
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def tally(id_: str, file: str, page: str, passes: int, repeats: int = 1, type_: str = "present") -> Tally:
    return Tally(id=id_, type=type_, file=file, page=page, passes=passes, repeats=repeats)


def test_benchmark_score_by_hand():
    tests = [
        tally("1", "text.jsonl", "a", 1),
        tally("2", "text.jsonl", "a", 1),
        tally("3", "text.jsonl", "b", 0),
        tally("4", "text.jsonl", "b", 1),
        tally("5", "math.jsonl", "c", 1, 2, "math"),  # half of the repeats is not a majority
        tally("6", "baseline", "a", 3, 3, "baseline"),
    ]
    score = benchmark_score(tests, seed=0, draws=100)
    assert score.by_file == {"baseline": (1, 1), "math.jsonl": (0, 1), "text.jsonl": (3, 4)}
    assert score.overall.mean == pytest.approx((1 + 0 + 0.75) / 3)
    assert score.by_type == {"baseline": 1.0, "math": 0.5, "present": 0.75}
    assert score.overall.low <= score.overall.mean <= score.overall.high
    assert score == benchmark_score(reversed(tests), seed=0, draws=100)


def test_score_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="no tests"):
        benchmark_score([], seed=0)


@pytest.fixture(scope="module")
def scoring() -> list[dict]:
    if not SCORING.exists():
        pytest.skip("the folder shared/oracle is not beside the checkout")
    return [json.loads(line) for line in SCORING.read_text().splitlines()]


def test_score_is_the_public_one(scoring: list[dict]):
    rows = [row for row in scoring if row["kind"] == "benchmark"]
    assert rows
    for row in rows:
        tests = [
            tally(f"{t['id']} {n}", t["category"], t["id"], t["repeat_passes"], t["repeats"], t["type"])
            for n, t in enumerate(row["tests"])
        ]
        score = benchmark_score(tests, seed=0)
        assert {file: list(of) for file, of in score.by_file.items()} == {
            file: [of["passed"], of["total"]] for file, of in row["by_category"].items()
        }
        assert {type_: 100 * share for type_, share in score.by_type.items()} == pytest.approx(
            row["by_type_percent"], abs=1e-5
        )
        assert 100 * score.overall.mean == pytest.approx(row["overall_percent_printed"], abs=0.051)
        half = 50 * (score.overall_public.high - score.overall_public.low)
        assert half == pytest.approx(row["half_width_printed"], abs=1.0)


def test_public_interval_is_the_public_one(scoring: list[dict]):
    rows = [row for row in scoring if row["kind"] == "bootstrap"]
    assert rows
    for row in rows:
        ends = np.cumsum(row["splits"] or [len(row["scores"])])
        files = [part.tolist() for part in np.split(np.array(row["scores"], dtype=float), ends[:-1])]
        interval = independent_interval(files, seed=0, draws=4000, level=row["ci_level"])
        slack = 0.02 if row["n_bootstrap"] >= 1000 else 0.035  # both sides are drawn
        slack = max(slack, 1.01 / max(1, len(row["scores"])))  # a few scores give coarse quantiles
        assert interval.low == pytest.approx(row["low"], abs=slack), row["case_id"]
        assert interval.high == pytest.approx(row["high"], abs=slack), row["case_id"]
