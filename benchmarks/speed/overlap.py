"""What one rollout ahead gains: seconds a step with `ahead = 0` and `1`, beside the bound that the parts allow.

    python -m benchmarks.speed.overlap [--blocks 5] [--steps 6] [--width 256] [--small]

vLLM's server on one core, the learner on another. The policy has random weights, of a size at which sampling and
updating cost about the same; rewards are a function of the text, and cost nothing. Blocks of steps with `ahead` 0 and 1
take turns, so that both see the same machine. Within a block a step is what lies between two updates' ends.

Bound (Amdahl): what is serial (the load) plus the larger of sampling with scoring, and annotating with updating; parts
are medians of the steps with `ahead = 0`. Prints a JSON line a block, then one with medians, the gain, and the share of
the bound that is reached. Linux, two free cores.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.speed.serving import ServerProcess
from ocr_rl import config
from ocr_rl.contract import Page, Score, Transcript
from ocr_rl.learn.algos.grpo import grpo
from ocr_rl.learn.algos.setting import SamplingSetting
from ocr_rl.learn.learner import Learner
from ocr_rl.models.families.qwen2_5_vl import Qwen2_5Vl
from ocr_rl.models.fresh import write_fresh
from ocr_rl.models.settings import PromptSettings
from ocr_rl.pages.source import open_pages
from ocr_rl.policy import open_origin
from ocr_rl.rollout.flow import Group
from ocr_rl.rollout.sampler.vllm_server import ServerSettings, VllmServerSampler
from ocr_rl.rollout.scoring import ScoredGroup, WeightedReward, score

MAX_TOKENS = 256
LONGEST_PX = 280


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6, help="of a block")
    parser.add_argument("--width", type=int, default=256, help="of the text model: 64 a head")
    parser.add_argument("--pages", type=int, default=4)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--cores", type=int, nargs=2, default=(0, 1), help="the learner's, the server's")
    parser.add_argument("--small", action="store_true", help="two blocks of three steps")
    args = parser.parse_args(arguments)
    if args.small:
        args.blocks, args.steps = 2, 3
    os.sched_setaffinity(0, {args.cores[0]})
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "policy"
        write_policy(model, args.width)
        with ServerProcess(
            model, Path(folder) / "log.txt", cores=[args.cores[1]], max_model_len=256 + MAX_TOKENS, max_num_seqs=64
        ) as server:
            print(json.dumps(measure(model, server.url, Path(folder), args)))
    return 0


def write_policy(folder: Path, width: int) -> None:
    """The smallest Qwen2.5-VL, its text model `width` wide."""
    family = Qwen2_5Vl()
    text = {"hidden_size": width, "intermediate_size": 3 * width, "num_attention_heads": width // 64}
    sizes = replace(family.nano, text={**family.nano.text, **text, "num_key_value_heads": max(1, width // 128)})
    sizes = replace(sizes, vision={**family.nano.vision, "out_hidden_size": width})
    settings = PromptSettings(longest_px=LONGEST_PX, instruction="", max_prompt_tokens=256, max_tokens=MAX_TOKENS)
    write_fresh(folder, 0, family, sizes, settings)


def measure(model: Path, url: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Medians over blocks of both kinds, and how near they come to the bound."""
    policy = config.Policy(path=str(model))
    origin = open_origin(policy, str(model))
    steps = 2 * args.blocks * args.steps
    learner = Learner(origin, policy, config.Optim(lr=1e-5), steps=steps, reference=False)
    settings = ServerSettings(url=url, max_model_len=256 + MAX_TOKENS, weights_dir=folder)
    source = config.Typeset(synth="nano", n=64, seed=1)
    with closing(VllmServerSampler(model, origin.prompter, settings)) as sampler:
        setting = SamplingSetting(
            seed=0,
            learner=learner,
            open_pages=lambda source: (),
            folder=folder,
            pages=open_pages(source, folder / "pages"),
            sampler=sampler,
            score=scored,
            sampling=config.Sampling(engine="vllm_server", url=url, max_tokens=MAX_TOKENS),
            pauses=lambda done: False,
        )
        block(args, setting, 0)  # the first answers of an engine take seconds
        blocks: dict[int, list[dict[str, float]]] = {0: [], 1: []}
        for number in range(args.blocks):
            for ahead in (0, 1) if number % 2 == 0 else (1, 0):
                rows = block(args, setting, ahead)
                blocks[ahead] += rows
                print(json.dumps({"ahead": ahead, **medians(rows)}), flush=True)
    return verdict(*(medians(blocks[ahead]) for ahead in (0, 1)))


def block(args: argparse.Namespace, setting: SamplingSetting, ahead: int) -> list[dict[str, float]]:
    """Seconds of each step but the first, by part."""
    learner = setting.learner
    cfg = config.Grpo(
        pages=config.Typeset(synth="nano"),
        steps=learner.policy + args.steps,
        pages_per_step=args.pages,
        samples_per_page=args.samples,
        refills=0,
        ahead=1 if ahead else 0,
    )
    rows, ended = [], 0.0
    with closing(grpo(cfg, setting, {"drawn": learner.policy * args.pages})) as stream:  # type: ignore[type-var]
        for step in stream:
            assert step.loss is not None
            figures = {**step.metrics, **learner.update(step.rows, step.loss)}
            before, ended = ended, time.perf_counter()
            if before:
                parts = {name: value for name, value in figures.items() if name.endswith("_s") or name == "tokens"}
                rows.append({"step_s": ended - before, **parts})
    return rows


def by_letters(page: Page, group: Sequence[Transcript]) -> list[Score]:
    return [Score(value=sum(map(ord, transcript.body)) % 11 / 10) for transcript in group]


def scored(groups: Sequence[Group]) -> list[ScoredGroup]:
    return list(score(groups, [WeightedReward(name="letters", reward=by_letters)]))


def medians(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    names = {name for row in rows for name in row}
    return {name: round(median(row[name] for row in rows if name in row), 3) for name in sorted(names)}


def verdict(plain: dict[str, float], ahead: dict[str, float]) -> dict[str, Any]:
    """The gain of going ahead, and of what the parts of the plain steps allow."""
    sampling = plain["rollout_s"] + plain["score_s"]
    learning = plain["annotate_s"] + plain["update_s"]
    bound = plain["step_s"] - min(sampling, learning)
    return {
        "plain": plain,
        "ahead": ahead,
        "bound_s": round(bound, 3),
        "gain": round(plain["step_s"] / ahead["step_s"], 3),
        "bound_gain": round(plain["step_s"] / bound, 3),
        "share_of_bound": round(bound / ahead["step_s"], 3),
    }


if __name__ == "__main__":
    sys.exit(main())
