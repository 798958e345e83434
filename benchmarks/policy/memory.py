"""Does the memory plan tell the truth? Its peak beside what a learner's process really held, case by case.

    python -m benchmarks.policy.memory --out runs/memory

A random policy of 190 million weights takes two updates on pages full of text, each case in a process of its own:
float32 and bfloat16, all weights and adapters, masters, autocast, a reference, Muon, checkpointing, small and large
micro-batches, each of them full. Measured is the largest resident size less what the process held before it opened the
learner; there is no sampler. Prints a JSON line a case, then a table; exits 1 where the plan is off by more than 15 %.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.gpu.policies import Load, open_random, random_rows, write_policy
from ocr_rl.config import Recipe
from ocr_rl.evaluate.tables import to_markdown_table
from ocr_rl.learn.memory import GIB, memory_plan
from ocr_rl.objectives.losses import NegativeLogLikelihood
from ocr_rl.run import environment

# Half of a micro-batch is the page. Two of them, because gradients are there from the second on.
LOAD = Load(groups=2, samples=4, completion=250, longest_px=1024, micro_tokens=2048)
ALLOWED = 0.15
# What was freed goes back to the system at once: how much an allocator keeps for later is another question.
GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
BF16, LORA, CHECKPOINTS = {"dtype": "bfloat16"}, {"lora_rank": 16}, {"gradient_checkpointing": True}
CASES: dict[str, dict[str, Any]] = {
    "float32": {},
    "float32, checkpointing": {"policy": CHECKPOINTS},
    "float32, small micro-batches": {"micro_tokens": 1540},
    "float32, large micro-batches": {"micro_tokens": 4096, "groups": 4},
    "float32, a reference": {"reference": True},
    "float32, Muon": {"optim": "muon"},
    "float32, tower frozen": {"policy": {"freeze_vision": True}},
    "float32 under autocast": {"policy": {"autocast": True}},
    "bfloat16 with masters": {"policy": BF16},
    "float32, adapters": {"policy": LORA},
    "bfloat16, adapters, checkpointing": {"policy": {**BF16, **LORA, **CHECKPOINTS}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/memory"))
    parser.add_argument("--case", choices=CASES, nargs="+", default=list(CASES))
    parser.add_argument("--here", action="store_true", help="one case, in this process")
    args = parser.parse_args()
    if args.here:
        print(json.dumps(measured(args.case[0], args.out)))
        return
    print(json.dumps({"env": environment()}))
    found = []
    for case in args.case:
        command = [sys.executable, "-m", "benchmarks.policy.memory", "--here", "--case", case, "--out", str(args.out)]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **GIVES_BACK})
        if done.returncode:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
        found.append(json.loads(done.stdout.splitlines()[-1]))
        print(json.dumps(found[-1]), flush=True)
    rows = [(f["case"], f"{f['plan_gib']:.2f}", f"{f['measured_gib']:.2f}", f"{f['ratio']:.2f}") for f in found]
    print(to_markdown_table(("case", "plan, GiB", "measured, GiB", "plan / measured"), rows))
    if wrong := [f["case"] for f in found if abs(f["ratio"] - 1) > ALLOWED]:
        sys.exit(f"off by more than {100 * ALLOWED:.0f} %: {'; '.join(wrong)}")


def measured(case: str, out: Path) -> dict[str, Any]:
    """Two updates, and what they took."""
    what = CASES[case]
    policy, with_reference = what.get("policy", {}), what.get("reference", False)
    load = replace(LOAD, **{name: what[name] for name in ("micro_tokens", "groups") if name in what})
    optim = what.get("optim", "adamw")
    path = write_policy("190M", out / "190M", load)
    recipe = Recipe.model_validate(
        {
            "policy": {"path": path, **policy},
            "optim": {"name": optim, "micro_tokens": load.micro_tokens},
            "rewards": [{"name": "diff_ratio"}],
            "sampling": {"engine": "vllm_server", "url": "http://127.0.0.1:8000"},  # nobody asks it
            "grpo": {"steps": 1, "pages": {"synth": "nano"}, "beta": 0.1 if with_reference else 0.0},
        }
    )
    plan = memory_plan(recipe, path)
    before = psutil.Process().memory_info().rss
    learner = open_random(path, policy, load, optim=optim, reference=with_reference)
    rows = random_rows(learner, load, out)
    for _ in range(2):
        annotated = learner.annotate(rows, old=False, reference=with_reference)
        learner.update(annotated, NegativeLogLikelihood())
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    ratio = plan.peak / held
    return {
        "case": case,
        "plan": plan.to_text(),
        "plan_gib": plan.peak / GIB,
        "measured_gib": held / GIB,
        "ratio": ratio,
    }


if __name__ == "__main__":
    main()
