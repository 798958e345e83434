"""What `sampling.page_limit` gains: seconds of a rollout against those with max_tokens alone, and what it costs.

    python -m benchmarks.speed.page_limits [--kinds notice nano] [--factors 1.25 1.5 2 3] [--noise 0 0.5] [--small]

The embedded policy writes rollouts of typeset pages by vLLM in this process, each (same pages, same seeds) without
limits and at every factor in turn. It ends nearly every sample by itself; with relative noise on its text model's
matrices some of its samples run on, as those of a policy do that has learnt little. Prints a JSON line for each noise,
kind and factor: medians of seconds, of this process's seconds of CPU (which others on the machine move less), of these
over those without limits, and of tokens; shares of samples that their page's limit cut, and max_tokens; how many of the
first would have ended by themselves; and whether all samples are those without limits, cut.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from ocr_rl import config
from ocr_rl.contract import Page
from ocr_rl.models.load import load_model, model_folder
from ocr_rl.pages.source import open_pages
from ocr_rl.policy import open_origin, open_sampler
from ocr_rl.rollout.collect import sample_pages
from ocr_rl.rollout.flow import Prompt, Sample
from ocr_rl.rollout.page_limits import page_lengths
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import Sampler, Sampling

MAX_TOKENS = 256  # as the shipped recipes have it


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kinds", nargs="+", default=["notice", "nano"])
    parser.add_argument("--factors", nargs="+", type=float, default=[1.25, 1.5, 2.0, 3.0])
    parser.add_argument("--pages", type=int, default=8, help="of a rollout")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--rollouts", type=int, default=8, help="of each kind, each at every factor")
    parser.add_argument("--max-tokens", type=int, default=MAX_TOKENS)
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0, 0.5], help="of the text model, relative")
    parser.add_argument("--small", action="store_true", help="two rollouts of two pages")
    args = parser.parse_args(arguments)
    if args.small:
        args.pages, args.samples, args.rollouts = 2, 2, 2
    policy = config.Policy(path=model_folder("nano"))
    origin = open_origin(policy, model_folder("nano"))
    sampling = config.Sampling(max_tokens=args.max_tokens, max_model_len=256 + args.max_tokens)
    with closing(open_sampler(sampling, origin, policy)) as sampler, tempfile.TemporaryDirectory() as folder:
        for noise in args.noise:
            sampler.load(noisy_weights(noise), 0)
            for kind in args.kinds:
                for line in measure(kind, sampler, origin.prompter, Path(folder), args):
                    print(json.dumps({"noise": noise, **line}), flush=True)
    return 0


def noisy_weights(noise: float) -> Iterator[tuple[str, torch.Tensor]]:
    """The embedded policy's weights; each number of its text model's matrices is off by so much of itself."""
    draws = torch.Generator().manual_seed(0)
    for name, weight in load_model(model_folder("nano")).state_dict().items():
        off = "language_model" in name and "embed" not in name and weight.ndim == 2
        yield name, weight * (1 + noise * torch.randn(weight.shape, generator=draws)) if off else weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A rollout: its seconds, and its samples in the order of pages and siblings."""

    seconds: float
    cpu_s: float
    samples: list[Sample]


def measure(
    kind: str, sampler: Sampler, prompter: Prompter, folder: Path, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """A row for no limits, and one for each factor."""
    pages = open_pages(config.Typeset(synth=kind, n=args.pages * args.rollouts, seed=11), folder)
    lengths = page_lengths(pages, prompter, workers=1)
    limits = {factor: lengths.limits(factor, args.max_tokens) for factor in args.factors}
    rollouts: dict[float | None, list[Written]] = {None: [], **{factor: [] for factor in args.factors}}
    how = Sampling(n=args.samples, max_tokens=args.max_tokens)
    for number in range(args.rollouts):
        asked = [(page, prompter.prompt(page)) for page in pages[number * args.pages : (number + 1) * args.pages]]
        # The first answers of an engine take seconds; and what it keeps of a page serves all that follows.
        write(sampler, asked, how if number == 0 else replace(how, max_tokens=1))
        order = list(rollouts) if number % 2 == 0 else list(rollouts)[::-1]
        for factor in order:
            own = {} if factor is None else limits[factor]
            rollouts[factor].append(write(sampler, asked, replace(how, seed=number, page_limits=own)))
    free = rollouts[None]
    middle = median(lengths.references.values())
    return [
        {
            "kind": kind,
            "reference_tokens": middle,
            "factor": factor,
            **compared(rollouts[factor], free, args.max_tokens),
        }
        for factor in rollouts
    ]


def write(sampler: Sampler, asked: Sequence[tuple[Page, Prompt]], how: Sampling) -> Written:
    started, cpu = time.perf_counter(), time.process_time()
    groups = sample_pages(sampler, asked, how)
    return Written(
        seconds=time.perf_counter() - started,
        cpu_s=time.process_time() - cpu,
        samples=[sample for group in groups for sample in group.samples],
    )


def compared(limited: Sequence[Written], free: Sequence[Written], max_tokens: int) -> Mapping[str, Any]:
    """Figures of rollouts beside those of the same pages and seeds without limits."""
    pairs = [
        both for one, other in zip(limited, free, strict=True) for both in zip(one.samples, other.samples, strict=True)
    ]
    unfinished = [(short, whole) for short, whole in pairs if short.finish == "length"]
    cut = [(short, whole) for short, whole in unfinished if len(short.token_ids) < max_tokens]
    same = sum(short.token_ids == whole.token_ids[: len(short.token_ids)] for short, whole in pairs)
    return {
        "samples": len(pairs),
        "seconds": round(median(one.seconds for one in limited), 2),
        "cpu_s": round(median(one.cpu_s for one in limited), 2),
        "against_free": round(median(one.cpu_s / other.cpu_s for one, other in zip(limited, free, strict=True)), 3),
        "tokens": median(sum(len(sample.token_ids) for sample in one.samples) for one in limited),
        "cut_by_page": round(len(cut) / len(pairs), 4),
        "cut_by_max_tokens": round((len(unfinished) - len(cut)) / len(pairs), 4),
        "would_have_ended": sum(whole.finish == "stop" for _, whole in cut),
        "same_but_cut": same == len(pairs),
    }


if __name__ == "__main__":
    sys.exit(main())
