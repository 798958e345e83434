"""Exact resume, the hard way: runs killed with SIGKILL at random moments end as a run that was left alone does.

    python -m benchmarks.robustness.kills --kills 20 --engine transformers
    python -m benchmarks.robustness.kills --kills 3 --engine vllm
    python -m benchmarks.robustness.kills --kills 5 --algorithm ppo
    python -m benchmarks.robustness.kills --kills 5 --ahead 1
    python -m benchmarks.robustness.kills --kills 2 --each 2 --steps 6 --family qwen3_5

Each run is killed `--each` times and then gone on with to its end. Its weights must be the same bits, its metrics file
the same but for wall-clock fields. With `--family` its policy is one of random weights, of that family's smallest
shape; else the embedded one. Prints one JSON line a run, with what differs, and exits 1 where something does.
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
from itertools import count
from pathlib import Path
from random import Random
from typing import IO, Any

from benchmarks.robustness.repeat import rows
from ocr_rl.models.families import FAMILIES
from ocr_rl.models.fresh import new_policy
from ocr_rl.run import by_step

OF = {  # what a recipe has more: of PPO two epochs of two minibatches, so that most kills fall into a rollout
    "grpo": ("grpo.samples_per_page=4",),
    "ppo": ("ppo.samples_per_page=4", "ppo.epochs=2", "ppo.minibatches=2", "ppo.critic.warmup=2", "optim.lr=2e-5"),
}
SETTINGS = (
    "{0}.pages_per_step=2",
    "{0}.pages={{synth='notice', n=24, seed=1, pages_per_document=24}}",
    "evaluation.sets={{new={{synth='notice', n=4, seed=2, pages_per_document=4}}}}",
    "evaluation.every=10",
    "sampling.max_tokens=96",
    "optim.lr=1e-4",
    "scoring.audit=false",
    "scoring.workers=1",
    "save_every=3",
    "keep=2",
)
RANDOM = (  # what random weights write passes no test, does not end, and is about no page
    "rewards=[{name='diff_ratio'}, {name='eos', weight=0.1}]",
    "gates=[]",
    "tripwires.page_gain.then='warn'",
    "tripwires.finished.then='warn'",
    "policy.longest_px=160",
    "sampling.max_tokens=24",
    "evaluation.max_tokens=24",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--each", type=int, default=4, help="kills a run")
    parser.add_argument("--engine", choices=("transformers", "vllm"), default="transformers")
    parser.add_argument("--algorithm", choices=tuple(OF), default="grpo")
    parser.add_argument("--family", choices=[family.model_type for family in FAMILIES])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--ahead", type=int, choices=(0, 1), default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/kills"))
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    args.out.mkdir(parents=True)
    own = [setting.format(args.algorithm) for setting in SETTINGS]
    own += [*OF[args.algorithm], f"{args.algorithm}.steps={args.steps}", f'sampling.engine="{args.engine}"']
    own.append(f"{args.algorithm}.ahead={args.ahead}")
    if args.family:
        new_policy(args.out / "policy", args.seed, args.family)
        own += [*RANDOM, f"policy.path={args.out / 'policy'}"]
    settings, named = tuple(own), {"family": args.family} if args.family else {}
    recipe = f"nano_{args.algorithm}"
    started = time.perf_counter()
    _finish(args.out / "alone", recipe, settings)
    seconds = time.perf_counter() - started
    alone = fingerprint(args.out / "alone")
    rng, kills, equal = Random(args.seed), 0, True
    for run in count():
        if kills >= args.kills:
            break
        out = args.out / f"killed{run:02d}"
        done = killed(out, recipe, settings, min(args.each, args.kills - kills), seconds, args.steps, rng)
        kills += len(done)
        _finish(out, recipe, settings)
        differs = differences(fingerprint(out), alone)
        equal &= not differs
        print(json.dumps({**named, "engine": args.engine, "killed_after_step": done, "differs": differs}), flush=True)
    figures = {"kills": kills, "all_the_same": equal, "seconds_alone": round(seconds, 1)}
    print(json.dumps({**named, "engine": args.engine, **figures}))
    sys.exit(not equal)


def killed(
    out: Path, recipe: str, settings: Sequence[str], times: int, seconds: float, length: int, rng: Random
) -> list[int]:
    """Kill a run at `times` random moments of its way, starting it again in between; returns the steps then logged.

    A moment is a step drawn from all, and a while after it was logged: every stage of a step has its turn, and so have
    the start and the end of a run. One that ends before its moment is not killed. `seconds`: of a whole run of `length`
    steps.
    """
    steps = []
    for moment in sorted(rng.uniform(0, length) for _ in range(times)):
        with _log(out) as log, subprocess.Popen(_argv(out, recipe, settings), stdout=log, stderr=log) as run:
            while run.poll() is None and len(rows(out)) < int(moment):
                time.sleep(0.02)
            try:
                run.wait(rng.uniform(0, 2 * seconds / length))
            except subprocess.TimeoutExpired:
                os.kill(run.pid, signal.SIGKILL)
                run.wait()
                steps.append(len(rows(out)))
            if run.returncode not in (0, -signal.SIGKILL):
                raise SystemExit(f"{out.name} ended with {run.returncode}: see {out}.log")
    return steps


def fingerprint(out: Path) -> tuple[str, list[dict[str, Any]]]:
    """Of the weights that a run ended with, its critic's state too, and its metrics without what a clock says."""
    *_, last = by_step(out / "ckpt").values()
    files = [path for path in (last / "model" / "model.safetensors", last / "critic.pt") if path.exists()]
    weights = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    return weights, rows(out)


def differences(one: tuple[str, list[dict[str, Any]]], other: tuple[str, list[dict[str, Any]]]) -> list[str]:
    """What two fingerprints do not share, in words; nothing where they are equal."""
    weights = ["weights"] if one[0] != other[0] else []
    lengths = [f"{len(one[1])} steps logged, not {len(other[1])}"] if len(one[1]) != len(other[1]) else []
    figures = [
        f"step {mine.get('step')}: {name}"
        for mine, theirs in zip(one[1], other[1], strict=False)
        for name in sorted(mine.keys() | theirs.keys())
        if mine.get(name) != theirs.get(name)
    ]
    return weights + lengths + figures


def _finish(out: Path, recipe: str, settings: Sequence[str]) -> None:
    with _log(out) as log:
        code = subprocess.run(_argv(out, recipe, settings), stdout=log, stderr=log).returncode
    if code:
        raise SystemExit(f"{out.name} ended with {code}: see {out}.log")


def _log(out: Path) -> IO[bytes]:
    return out.with_name(out.name + ".log").open("ab")


def _argv(out: Path, recipe: str, settings: Sequence[str]) -> list[str]:
    chosen = [part for setting in settings for part in ("--set", setting)]
    return [sys.executable, "-m", "ocr_rl.cli", "train", recipe, "--out", str(out), "--resume", *chosen]


if __name__ == "__main__":
    main()
