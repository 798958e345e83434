"""What one rollout ahead costs in reading: `nano_grpo` with `ahead = 1` beside `ahead = 0`, seed by seed.

    python -m benchmarks.policy.ahead --seeds 0 1 2 --out runs/ahead

Both arms of a seed see the same pages in the same order. In one process nothing overlaps, and samples are those that a
server would write: here it is about what they teach. Goes on where it was cut off. Prints each run's gain on held-out
pages and the paired difference of the arms (`policy.mixes`: intervals by bootstrap over pages, all seeds together).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.policy import mixes
from ocr_rl.config import load_recipe
from ocr_rl.train import train


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/ahead"))
    parser.add_argument("--recipe", default="nano_grpo")
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args(arguments)
    runs: dict[int, list[Path]] = {0: [], 1: []}
    for seed in args.seeds:
        for ahead, done in runs.items():
            out = args.out / f"ahead{ahead}_seed{seed}"
            recipe = load_recipe(args.recipe, [*args.set, f"seed={seed}", f"grpo.ahead={ahead}"])
            train(recipe, out, go_on=(out / "config.json").exists())
            done.append(out)
    return mixes.main(["--before", *map(str, runs[0]), "--after", *map(str, runs[1])])


if __name__ == "__main__":
    sys.exit(main())
