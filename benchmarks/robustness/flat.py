"""Memory of a long run: the slope of resident memory over its steps, for the training process and its workers.

    python -m benchmarks.robustness.flat [--steps 300] [--engine vllm]

GRPO with the embedded policy on short transcripts. Memory is read from /proc whenever a step is logged (Linux only);
the first 50 steps, in which caches fill (page images up to 128 MB, here all of them), are left out. Prints one JSON
line; exits 1 above 0.1 MB a step.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil

LIMIT_MB = 0.1
WARM = 50
SETTINGS = (
    "grpo.pages_per_step=2",
    "grpo.samples_per_page=4",
    "grpo.pages={synth='notice', n=96, seed=1, pages_per_document=16}",  # all seen, and remembered, within WARM steps
    "evaluation.sets={new={synth='notice', n=4, seed=2, pages_per_document=4}}",
    "sampling.max_tokens=64",
    "scoring.audit=false",
    "tripwires.finished.then='warn'",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--engine", choices=("transformers", "vllm"), default="vllm")
    parser.add_argument("--out", type=Path, default=Path("runs/flat"))
    args = parser.parse_args()
    if args.steps < 2 * WARM:
        parser.error(f"--steps: the first {WARM} are left out; give at least {2 * WARM}.")
    shutil.rmtree(args.out, ignore_errors=True)
    own, all_of_it = watched([*SETTINGS, f"grpo.steps={args.steps}", f'sampling.engine="{args.engine}"'], args.out)
    slopes = {"training process": slope(own), "with workers": slope(all_of_it)}
    print(json.dumps({"steps": len(own), "engine": args.engine, "mb_a_step": slopes, "mb_at_the_end": own[-1]}))
    sys.exit(slopes["training process"] > LIMIT_MB)


def watched(settings: list[str], out: Path) -> tuple[list[float], list[float]]:
    """MB at each logged step, of the process and with all that it started."""
    chosen = [part for setting in settings for part in ("--set", setting)]
    argv = [sys.executable, "-m", "ocr_rl.cli", "train", "nano_grpo", "--out", str(out), *chosen]
    run = psutil.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    own: list[float] = []
    together: list[float] = []
    while run.poll() is None:
        time.sleep(0.05)
        path = out / "metrics.jsonl"
        if path.exists() and path.read_bytes().count(b"\n") > len(own):
            own.append(run.memory_info().rss / 2**20)
            together.append(own[-1] + sum(_rss(child) for child in run.children(recursive=True)))
    if run.returncode:
        sys.exit(f"{' '.join(argv)} ended with {run.returncode}")
    return own, together


def _rss(process: psutil.Process) -> float:
    try:
        return process.memory_info().rss / 2**20
    except psutil.NoSuchProcess:
        return 0.0


def slope(values: list[float]) -> float:
    """Least squares, of what comes after the warm-up."""
    kept = values[WARM:]
    return float(np.polyfit(range(len(kept)), kept, 1)[0])


if __name__ == "__main__":
    main()
