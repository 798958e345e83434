"""GRPO steps of the embedded policy on the CPU, in turn with TRL's GRPOTrainer with its transformers sampler.

    python -m benchmarks.peers.step --peer-python PATH [--lengths natural --sampler vllm]

Two processes take a step each in turn, A B, B A, ..., so that what else the machine does costs both; while one works
the other waits. Same pages in the same order, each once; same weights in float32, same number of samples, AdamW, k3 KL;
the whole step is one micro-batch on both sides. With fixed lengths no sample may end, so both write and learn the same
number of tokens. A first pair warms up and is left out. Prints JSON lines: the machine's load, then medians of both
sides, the median of the pairs' ratios (above 1: ours is better) and where half of the pairs and all of them lie, of the
whole step, sampling, the update alone (forward, backward, optimiser) with its peak of resident memory, also above what
was held before the first step; seconds of CPU are those of the side's process, which others on the machine move less.
Exits 1 where the two sides' prompts differ. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from benchmarks.peers.own_step import opened
from benchmarks.peers.sides import Answer, Side, compared, pairs
from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.models.load import model_folder
from ocr_rl.pages.epochs import draw
from ocr_rl.pages.source import open_pages

FIGURES = {
    "whole step, s": "step_s",
    "whole step, s of CPU": "step_cpu_s",
    "sampling, s": "sample_s",
    "update alone, s": "update_s",
    "update alone, s of CPU": "update_cpu_s",
    "update alone, peak above the start, MB": "extra_mb",
    "update alone, peak, MB": "peak_mb",
    "tokens a step": "tokens",
    "whole step, ms a token": "token_ms",
}


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer-python", help="a Python that has TRL 1.16")
    parser.add_argument("--pages", type=int, default=4, help="a step")
    parser.add_argument("--samples", type=int, default=8, help="a page")
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1, help="of each side")
    parser.add_argument("--lengths", choices=("fixed", "natural"), default="fixed")
    parser.add_argument("--sampler", choices=("transformers", "vllm"), default="transformers", help="ours")
    parser.add_argument("--longest-px", type=int, help="of the pages; default: the policy's own")
    parser.add_argument("--beta", type=float, default=0.01)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    args = parsed(arguments)
    try:
        if not args.peer_python:
            raise UserError("Name a Python that has TRL 1.16 with --peer-python.")
        if args.lengths == "fixed" and args.sampler == "vllm":
            raise UserError("--sampler vllm: fixed lengths are for the transformers sampler; add --lengths natural.")
        if args.pairs < 2:
            raise UserError("--pairs: a median with its spread needs at least 2.")
        with tempfile.TemporaryDirectory() as folder:
            rows = list(measured(args, Path(folder)))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    if any(sorted(row["ours"]["prompt_ids"]) != sorted(row["trl"]["prompt_ids"]) for row in rows):
        print("the two sides were asked different prompts", file=sys.stderr)
        return 1
    settings = {name: getattr(args, name) for name in ("pages", "samples", "max_tokens", "beta", "sampler", "lengths")}
    prompt = max(len(ids) for row in rows for ids in row["ours"]["prompt_ids"])
    load = {"load_median": round(median(row["load"] for row in rows), 1), "load_most": max(row["load"] for row in rows)}
    counts = {"pairs": len(rows), "threads": args.threads, "prompt_tokens": prompt}
    print(json.dumps(settings | counts | load | rows[0]["trl"]["versions"]))
    steps = [{side: row[side] for side in ("ours", "trl")} for row in rows]
    for what, name in FIGURES.items():
        print(json.dumps({"what": what, **compared(steps, name)}))
    return 0


def measured(args: argparse.Namespace, folder: Path) -> Iterator[Answer]:
    """A row a pair, with the machine's load over the last minute after it."""
    asked = work(args, folder)
    own = [sys.executable, "-m", "benchmarks.peers.own_step"]
    peer = [args.peer_python, str(Path(__file__).with_name("peer_step.py"))]
    with Side(own, asked, threads=args.threads) as ours, Side(peer, asked, threads=args.threads) as theirs:
        for pair in pairs({"ours": ours, "trl": theirs}, args.pairs):
            for step in pair.values():
                step["token_ms"] = 1000 * step["step_s"] / step["tokens"]
            yield {**pair, "load": round(os.getloadavg()[0], 1)}


def work(args: argparse.Namespace, folder: Path) -> Answer:
    """Pages are made here, once: PDFs for our side, what we draw of them as PNG for TRL's, in our steps' order."""
    steps = args.pairs + 1
    source = {"synth": "nano", "n": args.pages * steps, "seed": 1003}  # of the kind that it reads
    asked: Answer = {
        "model": model_folder("nano"),
        "root": str(folder),
        "source": source,
        "longest_px": args.longest_px,
        "pages_per_step": args.pages,
        "samples": args.samples,
        "max_tokens": args.max_tokens,
        "steps": steps,
        "fixed": args.lengths == "fixed",
        "sampler": args.sampler,
        "beta": args.beta,
        "lr": 1e-6,
    }
    prompter = opened(asked)[1].prompter
    asked["banned_ids"] = list(prompter.banned_ids)
    asked["images"] = []
    pages = open_pages(config.page_source(source), folder)
    for k, page in enumerate(draw(pages, len(pages), 0, "0")):
        asked["images"].append(str(folder / f"{k}.png"))
        prompter.image(prompter.prompt(page)).save(asked["images"][-1])
    return asked


if __name__ == "__main__":
    sys.exit(main())
