"""How many seeds and test pages decide a claim of the study? From the spread that the small study showed.

    python -m benchmarks.policy.power docs/study/small/study_rows.jsonl.gz --seeds 3 4 5 6 8 --pages 120 200 300

An interval of `ocr_rl.study.findings.contrast` has two sources: pages (the spread over pages of the difference of two
runs) and runs (the spread over seeds of an arm's mean). Both are read from rows of a study that was run; half-widths at
other numbers of seeds and pages follow, for a difference of two arms and for a difference of two differences (what a
variation costs one arm, less what it costs the other). A claim is decided for certain where the half-width is no more
than half of `MATTERS`. One whose true effect is E is shown half of the time where the half-width is E, and 4 times in 5
where it is 0.7 E. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ocr_rl.evaluate.tables import to_markdown_table
from ocr_rl.study.findings import MATTERS, Noise, noise_of

Runs = Mapping[int, Mapping[str, float]]  # pass rate by page, by seed
TERMS = {2: "two arms", 4: "two differences"}


def read_runs(path: Path) -> Mapping[str, Runs]:
    """Pass rates by arm, seed and page."""
    arms: dict[str, dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            arm, dash, seed = row["run"].rpartition("-seed")
            if dash and row["checks"]:
                passed = [check["passed"] for check in row["checks"]]
                arms[arm][int(seed)][row["page"]] = sum(passed) / len(passed)
    return arms


def page_spread(arms: Mapping[str, Runs], noise: Noise) -> float:
    """Standard deviation over pages of the difference of two runs of different arms at one seed: the median over pairs.

    Differences of single runs, so what a run adds to each page of its own is in it, as it is in the study's intervals.
    """
    of_pairs = []
    for one, other in combinations([runs for runs in arms.values() if len(runs) > 1], 2):
        for seed in set(one) & set(other):
            pages = sorted(set(one[seed]) & set(other[seed]))
            of_pairs.append(float(np.std([one[seed][page] - other[seed][page] for page in pages], ddof=1)))
    return float(np.median(of_pairs))


def half_width(terms: int, seeds: int, pages: int, noise: Noise, spread: float, draws: int = 200_000) -> float:
    """Of the interval at 95 %. A run's pages differ anew at each seed, so their part falls with seeds as with pages."""
    rng = np.random.default_rng(0)
    of_pages = spread * (terms / 2) ** 0.5 / (pages * seeds) ** 0.5
    of_runs = noise.sd * (terms / seeds) ** 0.5
    drawn = of_pages * rng.standard_normal(draws) + of_runs * rng.standard_t(noise.freedom, draws)
    return float(np.quantile(np.abs(drawn), 0.95))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 4, 5, 6, 8])
    parser.add_argument("--pages", type=int, nargs="+", default=[120, 200, 300])
    given = parser.parse_args()
    arms = read_runs(given.rows)
    noise = noise_of([list(runs.values()) for runs in arms.values()])
    spread = page_spread(arms, noise)
    print(
        f"Half-widths in points, of which {100 * MATTERS:.0f} matter. Runs of one arm lie {100 * noise.sd:.2f} points "
        f"apart (standard deviation, {noise.freedom} degrees of freedom); per-page differences of two runs "
        f"{100 * spread:.1f}.\n"
    )
    rows: list[Sequence[Any]] = [
        (
            TERMS[terms],
            f"{pages}",
            *(f"{100 * half_width(terms, seeds, pages, noise, spread):.1f}" for seeds in given.seeds),
        )
        for terms in TERMS
        for pages in given.pages
    ]
    print(to_markdown_table(("a difference of", "test pages", *(f"{seeds} seeds" for seeds in given.seeds)), rows))


if __name__ == "__main__":
    main()
