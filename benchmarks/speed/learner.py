"""What the learner saves, as ratios in one run: logits in chunks, and the page computed once for all its samples.

    python -m benchmarks.speed.learner [--rounds 3] [--small]

1. Log-probabilities of 4,096 tokens with a vocabulary of 152,064 and 2,048 hidden values, with the gradient, against
   all logits at once: time, and peak memory beyond weights and their gradients. Each side in a process of its own.
2. The gradient of one page's samples, the page computed once for all, against one packed sequence a sample: their
   difference, time, peak memory. The embedded policy, a page of 448 px, transcripts as long as the page or half of it.

Prints JSON lines; a ratio above 1 is in our favour. Linux only. `--small`: sizes of a test.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.peer_step import reset_peak, resident_mb
from ocr_rl import config
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.logprobs import token_logprobs
from ocr_rl.models.load import model_folder
from ocr_rl.objectives.losses import NegativeLogLikelihood
from ocr_rl.pages.source import open_pages
from ocr_rl.policy import open_origin
from ocr_rl.rollout.flow import Row

HEAD = {"tokens": 4096, "vocabulary": 152_064, "hidden": 2048}
LONGEST_PX = 448  # of the page that samples share: 208 image tokens
SMALL_HEAD = {"tokens": 300, "vocabulary": 2000, "hidden": 16}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.side:
        print(json.dumps(one_side(json.loads(args.side))))
        return 0
    sizes = SMALL_HEAD if args.small else HEAD
    for trained in (True, False):
        print(json.dumps(head(sizes | {"head": "trained" if trained else "frozen"}, args.rounds)), flush=True)
    for samples, part in ((8, 1), (28, 1), (28, 2)):
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(shared_page(samples, part, args.rounds, Path(folder), small=args.small)), flush=True)
    return 0


# --- logits in chunks ---


def head(case: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Sides take turns, so that what else the machine does costs both."""
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "plain": []}
    for _ in range(rounds):
        for side, answers in found.items():
            argv = [sys.executable, "-m", "benchmarks.speed.learner", "--side", json.dumps(case | {"side": side})]
            answers.append(json.loads(subprocess.run(argv, check=True, capture_output=True).stdout))
    ours, plain = (answers[0] for answers in found.values())
    apart = {
        name: float(torch.tensor(ours[name]).sub(torch.tensor(plain[name])).norm() / torch.tensor(plain[name]).norm())
        for name in ("logprobs", "hidden_gradient", "weight_gradient")
        if ours[name]
    }
    seconds, extra = (
        {side: median(answer[name] for answer in answers) for side, answers in found.items()}
        for name in ("seconds", "extra_mb")
    )
    return {
        "what": "log-probabilities, forward and backward",
        **case,
        "seconds": seconds,
        "time_over_plain": seconds["ours"] / seconds["plain"],
        "extra_mb": extra,
        "memory_ratio": extra["plain"] / extra["ours"],
        "relative_difference": apart,
    }


def one_side(case: dict[str, Any]) -> dict[str, Any]:
    torch.manual_seed(0)
    N, V, D = case["tokens"], case["vocabulary"], case["hidden"]
    trained = case["head"] == "trained"
    hidden_ND = torch.randn(N, D, requires_grad=True)
    weight_VD = (torch.randn(V, D) / D**0.5).requires_grad_(trained)
    target_N, upstream_N = torch.randint(V, (N,)), torch.randn(N)

    def plain() -> Tensor:
        return (hidden_ND @ weight_VD.T).log_softmax(-1).gather(1, target_N[:, None])[:, 0]

    def ours() -> Tensor:
        return token_logprobs(hidden_ND, weight_VD, target_N)[0]

    reset_peak()
    before = resident_mb()
    started = time.perf_counter()
    logprob_N = (plain if case["side"] == "plain" else ours)()
    (logprob_N * upstream_N).sum().backward()
    seconds = time.perf_counter() - started
    gradients = sum(x.grad.nbytes for x in (hidden_ND, weight_VD) if x.grad is not None) / 2**20
    assert hidden_ND.grad is not None
    return {
        "seconds": seconds,
        "extra_mb": resident_mb("VmHWM") - before - gradients,
        "logprobs": logprob_N.tolist(),
        "hidden_gradient": hidden_ND.grad[::16, ::16].flatten().tolist(),
        "weight_gradient": weight_VD.grad[::64, ::16].flatten().tolist() if weight_VD.grad is not None else [],
    }


# --- the page once for all its samples ---


def shared_page(samples: int, part: int, rounds: int, folder: Path, *, small: bool) -> dict[str, Any]:
    """One page and its samples, each transcript one `part`-th as long as the page."""
    longest_px = 112 if small else LONGEST_PX
    learner, rows = group_of(model_folder("nano"), samples, longest_px=longest_px, part=part, folder=folder)
    apart = [replace(row, group_id=k) for k, row in enumerate(rows)]
    sides: dict[str, Callable[[], Tensor]] = {
        "shared": lambda: gradient_of(learner, rows),
        "apart": lambda: gradient_of(learner, apart),
    }
    gradients = {name: work() for name, work in sides.items()}  # the first call warms up
    difference = (gradients["shared"] - gradients["apart"]).norm() / gradients["apart"].norm()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    extra: dict[str, float] = {}
    for _ in range(rounds):
        for name, work in sides.items():
            give_back()
            reset_peak()
            before, started = resident_mb(), time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - started)
            extra[name] = max(extra.get(name, 0.0), resident_mb("VmHWM") - before)
    took = {name: median(values) for name, values in seconds.items()}
    page, transcript = len(rows[0].prompt.expanded_ids), len(rows[0].completion_ids)
    return {
        "what": "forward and backward of one page's samples, the page shared or not",
        "samples": samples,
        "page_tokens": page,
        "transcript_tokens": transcript,
        "seconds": took,
        "time_ratio": took["apart"] / took["shared"],
        "extra_mb": extra,
        "relative_difference_of_gradients": float(difference),
    }


def give_back() -> None:
    """Memory that is free but still held would hide what the next measurement needs."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)


def group_of(model: str, samples: int, *, longest_px: int, part: int, folder: Path) -> tuple[Learner, list[Row]]:
    """A policy, a page of that size, and transcripts of random tokens, one `part`-th as long as the page."""
    policy = config.Policy.model_validate({"path": model, "longest_px": longest_px})
    origin = open_origin(policy, model)
    prompter = replace(origin.prompter, max_prompt_tokens=None)
    (page,) = open_pages(config.Typeset(synth="report", n=1, seed=3), folder)
    prompt = prompter.prompt(page)
    optim = config.Optim.model_validate({"micro_tokens": 10**9, "max_grad_norm": 1e9})
    learner = Learner(replace(origin, prompter=prompter), policy, optim, steps=1, reference=False)
    learner.optimizers = []  # so an update is a gradient, which stays
    rng, n = Random(0), len(prompt.expanded_ids) // part
    ids = [tuple(rng.choices(prompter.encode("the quick brown fox 0123456789"), k=n)) for _ in range(samples)]
    rows = [Row(prompt=prompt, completion_ids=transcript, group_id=0, weight=1 / (samples * n)) for transcript in ids]
    return learner, rows


def gradient_of(learner: Learner, rows: Sequence[Row]) -> Tensor:
    """Of all weights, in one piece."""
    for parameter in learner.module.parameters():
        parameter.grad = None
    learner.update(rows, NegativeLogLikelihood())
    return torch.cat([p.grad.flatten() for p in learner.module.parameters() if p.grad is not None])


if __name__ == "__main__":
    sys.exit(main())
