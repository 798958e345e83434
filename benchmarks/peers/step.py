"""A whole GRPO step of the embedded policy on the CPU, beside TRL's GRPOTrainer with its transformers sampler.

    python -m benchmarks.peers.step --peer-python PATH [--lengths natural --sampler vllm]

Same pages, each once a run; same weights in float32, same number of samples, AdamW, k3 KL; the whole step is one
micro-batch on both sides. With fixed lengths no sample may end, so both write and learn the same number of tokens. Each
side runs in a process of its own, one after the other; the first step warms up and is left out. Prints JSON lines with
the medians of both sides and their ratio (above 1: ours is better): the whole step, sampling, the update alone
(forward, backward, optimiser) with its peak of resident memory, also above what was held before the first step. Exits 1
when the two sides' prompts differ. Linux only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.peers.peer_step import reset_peak, resident_mb
from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.learn.algos.grpo import grpo
from ocr_rl.learn.algos.setting import SamplingSetting
from ocr_rl.learn.learner import Learner
from ocr_rl.models.load import model_folder
from ocr_rl.pages.source import open_pages
from ocr_rl.policy import open_origin, open_sampler
from ocr_rl.rollout.flow import Group
from ocr_rl.rollout.prompt import Origin
from ocr_rl.rollout.scoring import GroupScores, ScoredGroup

Answer = dict[str, Any]


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer-python", help="a Python that has TRL 1.16")
    parser.add_argument("--pages", type=int, default=8, help="a step")
    parser.add_argument("--samples", type=int, default=8, help="a page")
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--lengths", choices=("fixed", "natural"), default="fixed")
    parser.add_argument("--sampler", choices=("transformers", "vllm"), default="transformers", help="ours")
    parser.add_argument("--longest-px", type=int, help="of the pages; default: the policy's own")
    parser.add_argument("--beta", type=float, default=0.01)
    parser.add_argument("--side", choices=("ours",), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    args = parsed(arguments)
    if args.side:
        with redirect_stdout(sys.stderr):
            answer = ours(json.load(sys.stdin))
        print(json.dumps(answer))
        return 0
    try:
        if not args.peer_python:
            raise UserError("Name a Python that has TRL 1.16 with --peer-python.")
        if args.lengths == "fixed" and args.sampler == "vllm":
            raise UserError("--sampler vllm: fixed lengths are for the transformers sampler; add --lengths natural.")
        if args.steps < 2:
            raise UserError("--steps: the first step warms up, so there must be at least 2.")
        with tempfile.TemporaryDirectory() as folder:
            asked = work(args, Path(folder))
            mine = ask([sys.executable, "-m", "benchmarks.peers.step", "--side", "ours"], asked)
            theirs = ask([args.peer_python, str(Path(__file__).with_name("peer_step.py"))], asked)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    if sorted(mine["prompt_ids"]) != sorted(theirs["prompt_ids"]):
        print("the two sides were asked different prompts", file=sys.stderr)
        return 1
    settings = {name: asked[name] for name in ("pages_per_step", "samples", "max_tokens", "beta", "sampler")}
    prompt = max(map(len, mine["prompt_ids"]))
    print(json.dumps(settings | {"lengths": args.lengths, "prompt_tokens": prompt, **theirs["versions"]}))
    for what, name in (
        ("whole step, s", "step_s"),
        ("sampling, s", "sample_s"),
        ("update alone, s", "update_s"),
        ("update alone, peak above the start, MB", "extra_mb"),
        ("update alone, peak, MB", "peak_mb"),
        ("tokens a step", "tokens"),
    ):
        a, b = (median(step[name] for step in side["steps"][1:]) for side in (mine, theirs))
        line: Answer = {"what": what, "ours": round(a, 3), "trl": round(b, 3), "ratio": round(b / a, 2) if a else None}
        print(json.dumps(line))
    return 0


def work(args: argparse.Namespace, folder: Path) -> Answer:
    """Pages are made here, once: PDFs for our side, what we draw of them as PNG for TRL's."""
    source = {"synth": "nano", "n": args.pages * args.steps, "seed": 1003}  # of the kind that it reads
    asked: Answer = {
        "model": model_folder("nano"),
        "root": str(folder),
        "source": source,
        "longest_px": args.longest_px,
        "pages_per_step": args.pages,
        "samples": args.samples,
        "max_tokens": args.max_tokens,
        "steps": args.steps,
        "fixed": args.lengths == "fixed",
        "sampler": args.sampler,
        "beta": args.beta,
        "lr": 1e-6,
    }
    prompter = opened(asked)[1].prompter
    asked["banned_ids"] = list(prompter.banned_ids)
    asked["images"] = []
    for k, page in enumerate(open_pages(config.page_source(source), folder)):
        asked["images"].append(str(folder / f"{k}.png"))
        prompter.image(prompter.prompt(page)).save(asked["images"][-1])
    return asked


def opened(asked: Answer) -> tuple[config.Policy, Origin]:
    policy = config.Policy.model_validate({"path": asked["model"], "longest_px": asked["longest_px"]})
    origin = open_origin(policy, asked["model"])
    prompter = replace(origin.prompter, max_prompt_tokens=None)
    if asked["fixed"]:
        prompter = replace(prompter, banned_ids=(*prompter.banned_ids, prompter.eos_id))
    return policy, replace(origin, prompter=prompter)


def ours(asked: Answer) -> Answer:
    policy, origin = opened(asked)
    folder = Path(asked["root"])
    sampling = config.Sampling.model_validate(
        {"engine": asked["sampler"], "max_tokens": asked["max_tokens"], "max_model_len": 2048}
    )
    optim = config.Optim.model_validate({"lr": asked["lr"], "micro_tokens": 10**9})
    cfg = config.Grpo.model_validate(
        {
            "pages": asked["source"],
            "steps": asked["steps"],
            "pages_per_step": asked["pages_per_step"],
            "samples_per_page": asked["samples"],
            "beta": asked["beta"],
        }
    )
    learner = Learner(origin, policy, optim, steps=asked["steps"], reference=cfg.needs_reference)
    sampler = open_sampler(sampling, origin, policy)
    sources = partial(open_pages, root=folder)
    setting = SamplingSetting(
        seed=0,
        learner=learner,
        open_pages=sources,
        folder=folder,
        pages=sources(cfg.pages),
        sampler=sampler,
        score=score,
        sampling=sampling,
    )
    before_mb = resident_mb()
    done: list[dict[str, float]] = []
    prompt_ids: list[tuple[int, ...]] = []
    started = time.perf_counter()
    for step in grpo(cfg, setting, {}):
        reset_peak()
        update_from = time.perf_counter()
        assert step.loss is not None
        learner.update(step.rows, step.loss)
        end, peak = time.perf_counter(), resident_mb("VmHWM")
        done.append(
            {
                "step_s": end - started,
                "sample_s": step.metrics["rollout_s"],
                "update_s": end - update_from,
                "tokens": sum(len(row.completion_ids) for row in step.rows),
                "peak_mb": peak,
                "extra_mb": peak - before_mb,
            }
        )
        prompt_ids += [compared.group.prompt.expanded_ids for compared in step.groups]
        started = time.perf_counter()
    sampler.close()
    return {"prompt_ids": [list(ids) for ids in prompt_ids], "steps": done}


def score(groups: Sequence[Group]) -> list[ScoredGroup]:
    """Sample k of G gets k / G: nothing to compute, and every group has a signal."""
    scored = []
    for group in groups:
        rewards = tuple(k / len(group.samples) for k in range(len(group.samples)))
        scores = GroupScores(by_reward={}, weights={}, passes=(True,) * len(rewards), rewards=rewards)
        scored.append(ScoredGroup(group=group, scores=scores))
    return scored


def ask(command: Sequence[str], asked: Answer) -> Answer:
    """One side's answer. UserError with its last words if it fails."""
    try:
        done = subprocess.run(command, input=json.dumps(asked).encode(), capture_output=True)
    except OSError as error:
        raise UserError(
            f"{command[0]} cannot be started ({error.strerror}); name a Python that has TRL 1.16."
        ) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise UserError(f"{' '.join(command)} failed: {said[-1] if said else 'it said nothing'}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
