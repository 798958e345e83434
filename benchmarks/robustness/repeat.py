"""The first steps of a recipe, run twice, once interrupted and gone on with: the same loss curve.

    python -m benchmarks.robustness.repeat --recipe nano_sft --steps 200

The recipe runs as it is and is killed (SIGKILL) once the steps are logged, so that its schedules are those of the
whole. All that is logged must be equal but for wall-clock fields. Prints one JSON line; exits 1 where a step differs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="nano_sft")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the step that the second run is killed at")
    parser.add_argument("--out", type=Path, default=Path("runs/repeat"))
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    killed_at = Random(args.seed).randrange(args.steps // 2 + 1, args.steps)
    run_until(args.recipe, args.out / "alone", args.steps)
    run_until(args.recipe, args.out / "interrupted", killed_at)
    run_until(args.recipe, args.out / "interrupted", args.steps)
    alone, interrupted = (rows(args.out / name)[: args.steps] for name in ("alone", "interrupted"))
    apart = [a["step"] for a, b in zip(alone, interrupted, strict=True) if a != b]
    found = {"recipe": args.recipe, "steps": len(alone), "killed_at": killed_at, "steps_that_differ": apart[:5]}
    print(json.dumps(found | {"same": not apart, "losses": [row["loss"] for row in alone][:: args.steps // 5]}))
    sys.exit(bool(apart))


def run_until(recipe: str, out: Path, step: int) -> None:
    """Train until a step is logged, then kill. Goes on from the last checkpoint where there is one."""
    argv = [sys.executable, "-m", "ocr_rl.cli", "train", recipe, "--out", str(out), "--resume"]
    run = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while run.poll() is None:
        time.sleep(0.05)
        if len(rows(out)) >= step:
            os.kill(run.pid, signal.SIGKILL)
            run.wait()
            return
    sys.exit(f"{out}: the run ended before step {step}.")


def rows(out: Path) -> list[dict[str, Any]]:
    """Metrics of whole lines, without what a clock says."""
    path = out / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [{name: value for name, value in json.loads(line).items() if not name.endswith("_s")} for line in lines]


if __name__ == "__main__":
    main()
