"""A family's page computed once for all its samples, against transformers' own batch in which each sample repeats it.

    python -m benchmarks.speed.shared_page [--family qwen3_5] [--samples 8] [--rounds 5] [--small]

A policy of random weights of the family's smallest sizes, in float32 on this machine's CPU, a page of 448 px, and
transcripts as long as the page and a quarter of it. Both sides go forward and back. Prints a JSON line a case: least
time of all rounds and peak memory of each side, largest difference of log-probabilities, relative difference of
gradients. A ratio above 1 is in favour of the shared page. Linux only. `--small`: sizes of a test.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.families.policies import loud_policy
from benchmarks.peers.peer_step import reset_peak, resident_mb
from benchmarks.speed.learner import LONGEST_PX, give_back, gradient_of, group_of
from ocr_rl.models.fresh import BY_NAME
from ocr_rl.models.load import load_model
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Prompter


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    shapes = [shape for shape, family in BY_NAME.items() if shape == family.model_type]
    parser.add_argument("--family", choices=shapes, help="by default all, one after the other")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args(arguments)
    longest_px = 112 if args.small else LONGEST_PX
    for shape in [args.family] if args.family else shapes:
        for part in (1, 4):
            with tempfile.TemporaryDirectory() as folder:
                print(json.dumps(compare(shape, args.samples, part, args.rounds, longest_px, Path(folder))), flush=True)
    return 0


def compare(shape: str, samples: int, part: int, rounds: int, longest_px: int, folder: Path) -> dict[str, Any]:
    """Transcripts are one `part`-th as long as the page."""
    path = str(loud_policy(folder, BY_NAME[shape]))
    learner, rows = group_of(path, samples, longest_px=longest_px, part=part, folder=folder / "pages")
    model, prompter = load_model(path).train(), learner.prompter
    sides: dict[str, Callable[[], Tensor]] = {
        "shared": lambda: gradient_of(learner, rows),
        "plain": lambda: plain_gradient(model, prompter, rows),
    }
    gradient = {side: work() for side, work in sides.items()}  # the first call warms up
    with torch.no_grad():
        apart = torch.tensor(learner.logprobs(rows)) - plain_logprobs(model, prompter, rows)
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    extra: dict[str, float] = dict.fromkeys(sides, 0.0)
    for _ in range(rounds):  # sides take turns, so that what else the machine does costs both
        for side, work in sides.items():
            give_back()
            reset_peak()
            before, started = resident_mb(), time.perf_counter()
            work()
            seconds[side].append(time.perf_counter() - started)
            extra[side] = max(extra[side], resident_mb("VmHWM") - before)
    least = {side: min(values) for side, values in seconds.items()}
    return {
        "family": shape,
        "samples": samples,
        "page_tokens": len(rows[0].prompt.expanded_ids),
        "transcript_tokens": len(rows[0].completion_ids),
        "seconds": least,
        "time_ratio": least["plain"] / least["shared"],
        "extra_mb": extra,
        "memory_ratio": extra["plain"] / extra["shared"],
        "largest_difference_of_logprobs": float(apart.abs().max()),
        "relative_difference_of_gradients": float(
            (gradient["shared"] - gradient["plain"]).norm() / gradient["plain"].norm()
        ),
    }


def plain_logprobs(model: torch.nn.Module, prompter: Prompter, rows: Sequence[Row]) -> Tensor:
    """(samples, tokens) of one page's samples, all equally long, in one batch."""
    prompt, written = rows[0].prompt, torch.tensor([row.completion_ids for row in rows])
    ids_BL = torch.cat([torch.tensor(prompt.expanded_ids).expand(len(rows), -1), written], dim=1)
    pixels, sizes = map(torch.from_numpy, prompter.pixels([prompter.image(prompt)]))
    more = prompter.family.generate_inputs(pixels, sizes, ids_BL == prompter.image_id, len(rows))
    logits = model(input_ids=ids_BL, attention_mask=torch.ones_like(ids_BL), use_cache=False, **more).logits
    return logits[:, len(prompt.expanded_ids) - 1 : -1].log_softmax(-1).gather(2, written[..., None])[..., 0]


def plain_gradient(model: torch.nn.Module, prompter: Prompter, rows: Sequence[Row]) -> Tensor:
    """Of the rows' weighted negative log-likelihood, in one piece."""
    model.zero_grad()
    weights = torch.tensor([row.weight for row in rows])[:, None]
    (-weights * plain_logprobs(model, prompter, rows)).sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


if __name__ == "__main__":
    sys.exit(main())
