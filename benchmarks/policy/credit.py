"""Does credit for the words that earned it teach faster? Arms of GRPO at equal generated tokens, by seed and page.

    python -m benchmarks.policy.credit --seeds 0 1 2 --out runs/credit
    python -m benchmarks.policy.credit --seeds 0 1 2 --out runs/credit --arms plain mined mined_spans \\
        --pages 'grpo.pages.dir="runs/mined"' --arm spans_kl 'grpo.credit="spans"' grpo.beta=0.3

Each arm and seed is a run of `ocr-rl train nano_grpo` that is evaluated every 20 steps on the recipe's own sets; a run
that was cut off goes on, one that is whole is not run again. Prints the gain (tests passed, strict) of each arm and how
much more it is than that of `plain`, after as many generated tokens as plain's steps took; and after how many of
plain's steps an arm has plain's gain at its end. Intervals: bootstrap over pages, all seeds of a page together; what
seeds differ by stands beside them.

Any settings can be an arm, such as a dtype:

    python -m benchmarks.policy.credit --steps 60 --every 60 --out runs/dtypes --arms plain \\
        --arm bfloat16 'policy.dtype="bfloat16"'
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocr_rl.contract import UserError
from ocr_rl.evaluate.results import read_rows
from ocr_rl.evaluate.tables import to_markdown_table
from ocr_rl.run import by_step

PLAIN = "plain"
ARMS: Mapping[str, tuple[str, ...]] = {
    PLAIN: (),
    "spans": ('grpo.credit="spans"',),
    "spans_half": ('grpo.credit="spans"', "grpo.credit_share=0.5"),
    "siblings": ('grpo.credit="siblings"',),
    "siblings_half": ('grpo.credit="siblings"', "grpo.credit_share=0.5"),
    "mined": (),  # on the pages of --pages
    "mined_spans": ('grpo.credit="spans"',),
    "mined_siblings": ('grpo.credit="siblings"',),
}
DRAWS = 2000

Floats = NDArray[np.float64]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy.credit")
    parser.add_argument("--recipe", default="nano_grpo")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=[PLAIN, "spans", "siblings"])
    parser.add_argument("--arm", nargs="+", action="append", default=[], help="one more: its name and its settings")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--every", type=int, default=20, help="steps between evaluations")
    parser.add_argument("--set", action="append", default=[], help="a setting of every arm's recipe")
    parser.add_argument("--pages", action="append", default=[], help="a setting of the mined arms' recipes")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one core each")
    parser.add_argument("--out", type=Path, default=Path("runs/credit"))
    parser.add_argument("--only-table", action="store_true", help="of the runs that are there")
    args = parser.parse_args(arguments)
    arms = {name: ARMS[name] for name in args.arms} | {name: tuple(settings) for name, *settings in args.arm}
    if any(arm.startswith("mined") for arm in args.arms) and not args.pages:
        parser.error("the mined arms learn from pages of their own: name them with --pages")
    if not args.only_table:
        shared = [*args.set, f"grpo.steps={args.steps}", f"evaluation.every={args.every}"]
        jobs = [(arm, seed) for seed in args.seeds for arm in arms]
        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(lambda job: run(args, job[0], job[1], [*shared, *arms[job[0]]]), jobs))
    print(report(args.out, list(arms), args.seeds, args.steps, args.every))
    return 0


def run(args: argparse.Namespace, arm: str, seed: int, settings: Sequence[str]) -> None:
    """One arm with one seed, from where it was cut off."""
    out, folder = args.out, args.out / arm / f"seed{seed}"
    if (folder / "report").exists() and (folder / "eval" / f"{args.steps:06d}").exists():
        return
    settings = [*settings, *(args.pages if arm.startswith("mined") else ()), f"seed={seed}"]
    command = [sys.executable, "-m", "ocr_rl.cli", "train", args.recipe, "--out", str(folder), "--resume"]
    command += [part for setting in settings for part in ("--set", setting)]
    folder.mkdir(parents=True, exist_ok=True)
    with (out / arm / f"seed{seed}.log").open("a", encoding="utf-8") as log:
        done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=log, stderr=log)
    if done.returncode:
        raise UserError(f"{' '.join(command)} ended with {done.returncode}; see {log.name}")


class Curve:
    """Tests passed by one arm with one seed on one set: at each evaluation, by page."""

    def __init__(self, folder: Path, name: str) -> None:
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        made = {row["step"]: row.get("generated", 0) for row in rows}
        self.passed: list[Mapping[str, int]] = []
        self.steps: list[int] = []  # of each evaluation
        self.tokens: list[int] = []  # generated before it
        self.tests: dict[str, int] = {}
        for step, file in by_step(folder / "eval", f"{name}.jsonl").items():
            results = read_rows(file)
            self.steps.append(step)
            self.passed.append({row.page: sum(check.passed for check in row.checks) for row in results})
            self.tests = {row.page: len(row.checks) for row in results}
            self.tokens.append(sum(number for step, number in made.items() if step <= self.steps[-1]))

    def at(self, tokens: Sequence[float], pages: Sequence[str]) -> Floats:
        """Tests passed beyond the start, by number of tokens and page: between evaluations in proportion."""
        table = np.array([[passed[page] for page in pages] for passed in self.passed], float)
        table -= table[0]
        return np.stack([np.interp(tokens, self.tokens, column) for column in table.T], axis=1)


def report(out: Path, arms: Sequence[str], seeds: Sequence[int], steps: int, every: int) -> str:
    every_arm = {PLAIN, *arms}
    last = f"eval/{steps:06d}"  # of a run that was cut off the curve would go on flat
    if not (seeds := [seed for seed in seeds if all((out / arm / f"seed{seed}" / last).exists() for arm in every_arm)]):
        return f"no seed has been evaluated after {steps} steps in every arm yet"
    names = sorted(path.stem for path in (out / PLAIN / f"seed{seeds[0]}" / "eval" / "000000").glob("*.jsonl"))
    of = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    return "\n".join(f"## {name}, {of}\n\n{_table(out, name, arms, seeds, steps, every)}" for name in names)


def _table(out: Path, name: str, arms: Sequence[str], seeds: Sequence[int], steps: int, every: int) -> str:
    every_arm = [PLAIN, *(arm for arm in arms if arm != PLAIN)]
    curves = {(arm, seed): Curve(out / arm / f"seed{seed}", name) for arm in every_arm for seed in seeds}
    pages = sorted(curves[PLAIN, seeds[0]].tests)
    tests = np.array([curves[PLAIN, seeds[0]].tests[page] for page in pages], float)
    grid = list(range(0, steps + 1, every))
    # By arm: (evaluation, page), the mean over seeds, where each seed's tokens are those of its plain run.
    gains = {
        arm: np.mean([curves[arm, seed].at(_tokens(curves[PLAIN, seed], grid), pages) for seed in seeds], axis=0)
        for arm in every_arm
    }
    times = np.random.default_rng(0).multinomial(len(pages), np.full(len(pages), 1 / len(pages)), size=DRAWS)
    times = np.concatenate([np.ones((1, len(pages))), times])  # the first draw is the pages themselves
    drawn = {arm: (times @ gain.T) / (times @ tests)[:, None] for arm, gain in gains.items()}  # (draw, evaluation)
    heads = ["arm", *(f"gain at {step}" for step in grid[1:]), "by seed", "plain's gain in", "tokens"]
    rows = []
    for arm in every_arm:
        more = drawn[arm] - drawn[PLAIN]
        cells = [
            f"{100 * drawn[arm][0, k]:+.1f}" + (f" ({_shown(100 * more[:, k], '+.1f')})" if arm != PLAIN else "")
            for k in range(1, len(grid))
        ]
        reached = np.array(
            [_reached(own, target, grid) for own, target in zip(drawn[arm], drawn[PLAIN][:, -1], strict=True)]
        )
        used = np.mean([curves[arm, seed].tokens[-1] / curves[PLAIN, seed].tokens[-1] for seed in seeds])
        last = [curves[arm, seed].at([_tokens(curves[PLAIN, seed], grid)[-1]], pages).sum() for seed in seeds]
        by_seed = ", ".join(f"{100 * gain / tests.sum():+.1f}" for gain in last)
        rows.append([arm, *cells, by_seed, _shown(reached, ".0f"), f"{used:.0%}"])
    return to_markdown_table(heads, rows) + "\n"


def _tokens(plain: Curve, grid: Sequence[int]) -> list[float]:
    """Tokens that plain had generated at each step of the grid."""
    return np.interp(grid, plain.steps, plain.tokens).tolist()


def _reached(gains: Floats, target: float, grid: Sequence[int]) -> float:
    """Steps of plain at which a curve first has a gain; infinite where it never has."""
    for k in range(1, len(grid)):
        if gains[k] >= target - 1e-12:
            low, high = gains[k - 1], gains[k]
            part = (target - low) / (high - low) if high > low else 0.0
            return grid[k - 1] + max(0.0, float(part)) * (grid[k] - grid[k - 1])
    return float("inf")


def _shown(draws: Floats, form: str) -> str:
    """The estimate (of the first draw) with its 95 % interval."""
    low, high = (float(np.sort(draws[1:])[int(q * (len(draws) - 2))]) for q in (0.025, 0.975))
    return f"{float(draws[0]):{form}} [{low:{form}}, {high:{form}}]"


if __name__ == "__main__":
    sys.exit(main())
