"""Does a 95 % interval hold the truth in 95 of 100 benchmarks? Measured on benchmarks whose truth is known.

    python -m benchmarks.fidelity.coverage [--draws 1000] [--pages 200] [--seed 0]

A simulated benchmark has files as olmOCR-Bench has them. Every page has an ability of its own (what makes its tests
stand or fall together), the tests of a page pass by chance around it, and pages have few or many tests, unrelated to
their ability. Two intervals of the overall score are asked for: the one that redraws pages, and the public one, which
redraws tests as if they were independent. Each should hold the true score in 95 % of the benchmarks; the second does
not. Prints a Markdown table, with the standard error of each share.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ocr_rl.evaluate.stats import Interval, Tally, benchmark_score

RATES = (0.55, 0.75, 0.9)  # true share of tests that pass, per file; pages take turns among the files
TESTS = (1, 12)  # fewest and most tests of a page
BASELINE_RATE = 0.97  # of the one baseline test of a page, which the public benchmark puts in a file of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How often an interval held the truth, and how wide it was."""

    covered: float
    width: float
    draws: int

    @property
    def error(self) -> float:
        return (self.covered * (1 - self.covered) / self.draws) ** 0.5


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fidelity.coverage", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--draws", type=int, default=1000, help="simulated benchmarks")
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    print("| correlation within a page | redraws | holds the truth | mean width |\n|--:|---|--:|--:|")
    for correlation in (0.0, 0.2, 0.4):
        found = coverage(correlation, pages=args.pages, draws=args.draws, seed=args.seed)
        for name, share in found.items():
            print(
                f"| {correlation} | {name} | {share.covered:.1%} ± {share.error:.1%} | {share.width:.1%} |",
                flush=True,
            )


def coverage(correlation: float, *, pages: int, draws: int, seed: int) -> dict[str, Share]:
    """Share of `draws` simulated benchmarks whose 95 % interval holds the true score, by what the interval redraws.

    `correlation` is that of two tests of one page, in [0, 1).
    """
    truth = float(np.mean([*RATES, BASELINE_RATE]))
    found: dict[str, list[Interval]] = {"pages": [], "tests": []}
    for draw in range(draws):
        score = benchmark_score(simulated(correlation, pages, np.random.default_rng([seed, draw])), seed=draw)
        found["pages"].append(score.overall)
        found["tests"].append(score.overall_public)
    return {
        name: Share(
            covered=float(np.mean([each.low <= truth <= each.high for each in intervals])),
            width=float(np.mean([each.high - each.low for each in intervals])),
            draws=draws,
        )
        for name, intervals in found.items()
    }


def simulated(correlation: float, pages: int, rng: np.random.Generator) -> Iterator[Tally]:
    """One benchmark. A page's ability is beta distributed around its file's rate, so its tests correlate as asked."""
    for page in range(pages):
        file = page % len(RATES)
        tests = int(rng.integers(TESTS[0], TESTS[1] + 1))
        ability = _ability(RATES[file], correlation, rng)
        for number, passed in enumerate(rng.random(tests) < ability):
            yield _tally(f"file {file}", page, number, bool(passed))
        yield _tally("baseline", page, tests, bool(rng.random() < BASELINE_RATE))


def _ability(rate: float, correlation: float, rng: np.random.Generator) -> float:
    if correlation == 0.0:
        return rate
    strength = 1.0 / correlation - 1.0  # two tests of a page then correlate by 1 / (1 + strength)
    return float(rng.beta(rate * strength, (1.0 - rate) * strength))


def _tally(file: str, page: int, number: int, passed: bool) -> Tally:
    name = f"p{page:03d}"
    return Tally(id=f"{name}_{number}", type="present", file=file, page=name, passes=int(passed), repeats=1)


if __name__ == "__main__":
    main()
