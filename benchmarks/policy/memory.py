"""Does the memory plan tell the truth? Its peak beside what a learner's process really held, case by case.

    python -m benchmarks.policy.memory --out runs/memory

A random policy of 190 million weights, or 315 with a large vocabulary, takes two updates on pages full of text, each
case in a process of its own: float32 and bfloat16, all weights and adapters, masters, autocast, a reference, Muon,
checkpointing, small and large micro-batches, each of them full. Measured is the largest resident size less what the
process held before it opened the learner; there is no sampler. Of two processes that share the policy it is the sum.
Prints a JSON line a case, then a table; exits 1 where the plan is off by more than 15 %.
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
from ocr_rl.learn import ranks
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
    "float32, many short samples": {"samples": 40, "completion": 25},
    "float32, a sample a page": {"samples": 1, "completion": 1000},
    "float32, a reference": {"reference": True},
    "float32, Muon": {"optim": "muon"},
    "float32, tower frozen": {"policy": {"freeze_vision": True}},
    "float32 under autocast": {"policy": {"autocast": True}},
    "bfloat16 with masters": {"policy": BF16},
    "float32, adapters": {"policy": LORA},
    "bfloat16, adapters, checkpointing": {"policy": {**BF16, **LORA, **CHECKPOINTS}},
    "float32, large vocabulary": {"shape": "315M"},
    "bfloat16 with masters, checkpointing, large vocabulary": {"shape": "315M", "policy": {**BF16, **CHECKPOINTS}},
    "float32, adapters, large vocabulary": {"shape": "315M", "policy": LORA},
    "float32, two processes": {"ranks": 2},
    "bfloat16 with masters, two processes": {"ranks": 2, "policy": BF16},
    "float32, adapters, checkpointing, two processes": {"ranks": 2, "policy": {**LORA, **CHECKPOINTS}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/memory"))
    parser.add_argument("--case", choices=CASES, nargs="+", default=list(CASES))
    parser.add_argument("--here", action="store_true", help="one case, in this process")
    args = parser.parse_args()
    if args.here:
        measured(args.case[0], args.out)
        return
    print(json.dumps({"env": environment()}))
    found = []
    for case in args.case:
        found.append(of_case(case, args.out))
        print(json.dumps(found[-1]), flush=True)
    rows = [(f["case"], f"{f['plan_gib']:.2f}", f"{f['measured_gib']:.2f}", f"{f['ratio']:.2f}") for f in found]
    print(to_markdown_table(("case", "plan, GiB", "measured, GiB", "plan / measured"), rows))
    if wrong := [f["case"] for f in found if abs(f["ratio"] - 1) > ALLOWED]:
        sys.exit(f"off by more than {100 * ALLOWED:.0f} %: {'; '.join(wrong)}")


def of_case(case: str, out: Path) -> dict[str, Any]:
    """Plan and peak, of all its processes together."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(CASES[case].get("ranks", 1))]
    own = ["-m", "benchmarks.policy.memory", "--here", "--case", case, "--out", str(out)]
    command = [sys.executable, *(torchrun if "ranks" in CASES[case] else []), *own]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **GIVES_BACK})
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    (plan,) = (line for line in said if "plan" in line)
    held = sum(line["held"] for line in said)
    return {
        "case": case,
        "plan": plan["plan"],
        "plan_gib": plan["peak"] / GIB,
        "measured_gib": held / GIB,
        "ratio": plan["peak"] / held,
    }


def _algorithm(load: Load, *, beta: float) -> dict[str, Any]:
    """What learns from so many transcripts of a page."""
    pages = {"synth": "nano"}
    if load.samples == 1:
        return {"best_of_n": {"steps": 1, "pages": pages}}
    return {"grpo": {"steps": 1, "pages": pages, "samples_per_page": load.samples, "beta": beta}}


def measured(case: str, out: Path) -> None:
    """Two updates; each process prints what they took, the first one the plan too."""
    what = CASES[case]
    sizes = ("micro_tokens", "groups", "samples", "completion")
    load = replace(LOAD, **{name: what[name] for name in sizes if name in what})
    policy, optim, reference = what.get("policy", {}), what.get("optim", "adamw"), what.get("reference", False)
    before = psutil.Process().memory_info().rss
    said: dict[str, Any] = {}
    with ranks.group() as first:
        if first:
            shape = what.get("shape", "190M")
            path = write_policy(shape, out / shape, load)
            recipe = Recipe.model_validate(
                {
                    "policy": {"path": path, **policy},
                    "optim": {"name": optim, "micro_tokens": load.micro_tokens},
                    "rewards": [{"name": "diff_ratio"}],
                    "sampling": {"engine": "vllm_server", "url": "http://127.0.0.1:8000"},  # nobody asks it
                    **_algorithm(load, beta=0.1 if reference else 0.0),
                }
            )
            plan = memory_plan(recipe, path)
            said = {"plan": plan.to_text(), "peak": plan.peak}
            before = psutil.Process().memory_info().rss
            ranks.tell("", "open", path, policy, load, optim=optim, reference=reference)
            learner = open_random(path, policy, load, optim=optim, reference=reference)
            rows = random_rows(learner, load, out)
            for _ in range(2):
                annotated = learner.annotate(rows, old=False, reference=reference)
                learner.update(annotated, NegativeLogLikelihood())
        else:
            ranks.follow(lambda path, policy, load, **how: open_random(path, policy, load, **how))
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    print(json.dumps({"held": held, **said}), flush=True)


if __name__ == "__main__":
    main()
