"""Exact resume, the hard way: runs killed with SIGKILL at random moments end as a run that was left alone does.

    python -m benchmarks.kills --kills 20 --engine transformers
    python -m benchmarks.kills --kills 3 --engine vllm

Each run is killed `--each` times and then gone on with to its end. Its weights must be the same bits, its metrics file
the same but for wall-clock fields. Prints one JSON line a run and exits 1 where one differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

SETTINGS = (
    "grpo.steps=30",
    "grpo.pages_per_step=2",
    "grpo.samples_per_page=4",
    "grpo.pages={synth='notice', n=24, seed=1, pages_per_document=24}",
    "evaluation.sets={new={synth='notice', n=4, seed=2, pages_per_document=4}}",
    "evaluation.every=10",
    "sampling.max_tokens=96",
    "optim.lr=1e-4",
    "scoring.audit=false",
    "scoring.workers=1",
    "save_every=3",
    "keep=2",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--each", type=int, default=4, help="kills a run")
    parser.add_argument("--engine", choices=("transformers", "vllm"), default="transformers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/kills"))
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    settings = (*SETTINGS, f'sampling.engine="{args.engine}"')
    started = time.perf_counter()
    _finish(args.out / "alone", settings)
    seconds = time.perf_counter() - started
    alone = fingerprint(args.out / "alone")
    rng, kills, equal = Random(args.seed), 0, True
    while kills < args.kills:
        out = args.out / f"killed{kills:02d}"
        done = killed(out, settings, min(args.each, args.kills - kills), seconds, rng)
        kills += len(done)
        _finish(out, settings)
        same = fingerprint(out) == alone
        equal &= same
        print(json.dumps({"engine": args.engine, "killed_after_step": done, "same": same}), flush=True)
    print(
        json.dumps({"engine": args.engine, "kills": kills, "all_the_same": equal, "seconds_alone": round(seconds, 1)})
    )
    sys.exit(not equal)


def killed(out: Path, settings: Sequence[str], times: int, seconds: float, rng: Random) -> list[int]:
    """Start, wait a random while, kill, start again; returns the steps logged at each kill."""
    steps = []
    for _ in range(times):
        run = subprocess.Popen(_argv(out, settings), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            run.wait(rng.uniform(0.2, 0.9) * seconds)
        except subprocess.TimeoutExpired:
            os.kill(run.pid, signal.SIGKILL)
            run.wait()
            steps.append(len(_metrics(out)))
        else:  # it was quicker this time
            break
    return steps


def fingerprint(out: Path) -> tuple[str, list[dict[str, Any]]]:
    """Of the weights that a run ended with, and its metrics without what a clock says."""
    (last, *_) = sorted((out / "ckpt").glob("[0-9]*"), reverse=True)
    weights = hashlib.sha256((last / "model" / "model.safetensors").read_bytes()).hexdigest()
    rows = [{name: value for name, value in row.items() if not name.endswith("_s")} for row in _metrics(out)]
    return weights, rows


def _metrics(out: Path) -> list[dict[str, Any]]:
    path = out / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def _finish(out: Path, settings: Sequence[str]) -> None:
    subprocess.run(_argv(out, settings), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _argv(out: Path, settings: Sequence[str]) -> list[str]:
    chosen = [part for setting in settings for part in ("--set", setting)]
    return [sys.executable, "-m", "ocr_rl.cli", "train", "nano_grpo", "--out", str(out), "--resume", *chosen]


if __name__ == "__main__":
    main()
