"""Does the model behind `ocr-rl plan` foresee what a step takes? Calibrated on two runs, tried on three others.

    python -m benchmarks.speed.cost_model --out runs/cost_model [--engine transformers] [--steps 8]
    python -m benchmarks.speed.cost_model --out runs/cost_model --engine vllm_server --url http://127.0.0.1:8000

The embedded policy by `nano_grpo`, each run in a process of its own, one thread. What is foreseen has other pages and
samples a step, a lower max_tokens, or micro-batches that cut groups up. A step is the sum of its stages (weights,
samples, rewards, reference, update), and the median over a run's steps but the first. Prints a JSON line a
configuration; exits 1 where a step is foreseen more than 20 % too long or too short. Runs that are there are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from ocr_rl.config import load_recipe
from ocr_rl.scale.plan import Question, answer
from ocr_rl.scale.runs import read_run

WITHIN = 0.2
_STAGES = {
    "load": "sync_s",
    "sample": "rollout_s",
    "score": "score_s",
    "reference": "annotate_s",
    "update": "update_s",
}
# Tiny evaluations, and a rate at which the policy stays what it is; no refills, so a step asks its pages once.
_ALWAYS: dict[str, Any] = {
    "optim.lr": 1e-7,
    "grpo.refills": 0,
    "grpo.pages.n": 160,
    "scoring.workers": 1,
    "scoring.audit": "false",
    "evaluation.sets.new.n": 1,
    "evaluation.sets.old.n": 1,
    "evaluation.max_tokens": 8,
}
CALIBRATION: dict[str, dict[str, Any]] = {
    "8 pages x 8": {"grpo.pages_per_step": 8, "grpo.samples_per_page": 8},
    "12 pages x 3": {"grpo.pages_per_step": 12, "grpo.samples_per_page": 3},
}
FORESEEN: dict[str, dict[str, Any]] = {
    "16 pages x 4": {"grpo.pages_per_step": 16, "grpo.samples_per_page": 4},
    "6 pages x 12, 64 tokens": {
        "grpo.pages_per_step": 6,
        "grpo.samples_per_page": 12,
        "sampling.max_tokens": 64,
    },
    "8 pages x 8, cut groups": {
        "grpo.pages_per_step": 8,
        "grpo.samples_per_page": 8,
        "optim.micro_tokens": 512,
    },
}
SMALL = {"grpo.pages.n": 4, "sampling.max_tokens": 12, "sampling.temperature": 2.0}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--engine", choices=["vllm", "vllm_server", "transformers"], default="vllm")
    parser.add_argument("--url", help="of vLLM's server")
    parser.add_argument("--steps", type=int, default=8, help="of each run; the first one is left out")
    parser.add_argument("--small", action="store_true", help="sizes of a trial: says nothing")
    args = parser.parse_args(arguments)
    always = {**_ALWAYS, "sampling.engine": args.engine, "grpo.steps": args.steps, "save_every": args.steps}
    always |= {"sampling.url": args.url} if args.url else {}
    small = SMALL if args.small else {}
    measured = [run(args.out, name, always | own | small) for name, own in CALIBRATION.items()]
    wrong = 0
    for name, own in FORESEEN.items():
        settings = always | own | small
        foreseen = foresee(settings, measured)
        took = seconds_of(run(args.out, name, settings), settings)
        ratio = sum(foreseen.values()) / sum(took.values())
        wrong += abs(ratio - 1) > WITHIN
        line = {"configuration": name, "foreseen_s": sum(foreseen.values()), "took_s": sum(took.values())}
        print(json.dumps(line | {"ratio": ratio, "stages": {k: [foreseen[k], took[k]] for k in took}}), flush=True)
    return 1 if wrong else 0


def run(out: Path, name: str, settings: Mapping[str, Any]) -> Path:
    """The folder of a run with these settings; one that is there is not run again."""
    folder = out / name.replace(" ", "_").replace(",", "")
    kept, text = folder.with_suffix(".json"), json.dumps(settings, indent=1)
    if kept.exists() and kept.read_text() != text:
        sys.exit(f"{folder}: was run with other settings; give another --out.")
    if (folder / "ckpt" / f"{settings['grpo.steps']:06d}").is_dir():
        return folder
    command = [sys.executable, "-m", "ocr_rl.cli", "train", "nano_grpo", "--out", str(folder), "--resume"]
    command += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    out.mkdir(parents=True, exist_ok=True)
    kept.write_text(text)
    with folder.with_suffix(".log").open("w") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment).returncode
    if code:
        sys.exit(f"{name}: the run ended with {code}, see {folder.with_suffix('.log')}.")
    return folder


def foresee(settings: Mapping[str, Any], measured: Sequence[Path]) -> dict[str, float]:
    """Seconds of a step by stage, as `ocr-rl plan` says from these runs."""
    recipe = load_recipe("nano_grpo", [f"{key}={value}" for key, value in settings.items()])
    sheet = answer(Question(name="nano_grpo", recipe=recipe, gpus=1, measured=measured, given={}))
    stages = sheet.plans[0].stages
    return {name: stages[name].seconds or 0.0 for name in _STAGES}


def seconds_of(folder: Path, settings: Mapping[str, Any]) -> dict[str, float]:
    """Median seconds of each stage over a run's steps but the first, scaled so that they sum to a step's median."""
    recipe = load_recipe("nano_grpo", [f"{key}={value}" for key, value in settings.items()])
    steps = [rollout.seconds for rollout in read_run(folder, recipe).rollouts]
    stages = {name: median(step.get(key, 0.0) for step in steps) for name, key in _STAGES.items()}
    whole = median(sum(step.get(key, 0.0) for key in _STAGES.values()) for step in steps)
    return {name: seconds * whole / sum(stages.values()) for name, seconds in stages.items()}


if __name__ == "__main__":
    sys.exit(main())
