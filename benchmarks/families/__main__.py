"""Does each family compute what it should, packed, in its engine, in bfloat16, on two ranks, and gone on with?

    python -m benchmarks.families [--family qwen3_vl] [--no-engine] [--rounds 3]

On policies of random weights, a few million of them, in float32 unless said. Differences of log-probabilities are the
largest, in nats; of gradients and of changes of the weights the relative norm; in bfloat16 the mean: of the learner
beside float32, and of transformers' sampler beside the learner. `time`, `memory`:
transformers' plain batch over the shared page, eight samples a page (`benchmarks.speed.shared_page`). Exits 1 where a
figure is beyond its limit; DeltaNet sums in another order when it is packed, so Qwen3.5 has a limit of its own.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.families.engine import in_process, written
from benchmarks.families.policies import learner_of, loud_policy, origin_of, plain_logprobs, rows_of, two_pages
from benchmarks.families.ranks import gone_on_with, two_ranks
from ocr_rl.contract import Page
from ocr_rl.models.families import FAMILIES
from ocr_rl.models.fresh import BY_NAME
from ocr_rl.models.load import load_model
from ocr_rl.objectives.losses import NegativeLogLikelihood
from ocr_rl.rollout.sampler.hf import HfSampler

LIMITS = {
    "gradient": 1e-5,
    "engine": 1e-4,
    "new weights": 1e-4,
    "two ranks": 1e-3,
    "bf16": 0.05,
    "bf16 sampler": 0.05,
}
TIMES = "benchmarks.speed.shared_page"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--family", action="append", choices=[family.model_type for family in FAMILIES])
    parser.add_argument("--no-engine", action="store_true", help="without vLLM")
    parser.add_argument("--rounds", type=int, default=3, help="of the times; 0: none")
    args = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [family for family in FAMILIES if not args.family or family.model_type in args.family]
    table: dict[str, dict[str, float]] = {}
    with TemporaryDirectory() as name:
        scratch = Path(name)
        pages = two_pages(scratch)
        folders = {family.model_type: loud_policy(scratch / family.model_type, family) for family in chosen}
        ranks = dict(zip(folders, two_ranks(list(folders.values()), pages, scratch), strict=True))
        for model_type, folder in folders.items():
            figures = {
                **packed(folder, pages),
                "two ranks": ranks[model_type],
                "goes on": float(gone_on_with(folder, pages, scratch)),
                **({} if args.no_engine else in_engine(folder, pages)),
                **times(model_type, args.rounds),
            }
            print(json.dumps({"family": model_type, **figures}), flush=True)
            table[model_type] = figures
    print(to_table(table))
    wrong = [f"{model_type}: {what}" for model_type, figures in table.items() for what in beyond(model_type, figures)]
    print("\n".join(wrong) if wrong else "all within their limits")
    sys.exit(bool(wrong))


def packed(folder: Path, pages: Sequence[Page]) -> dict[str, float]:
    """The shared page against transformers row by row, and bfloat16 against float32."""
    origin = origin_of(folder)
    rows = rows_of(pages, origin.prompter)
    learner, model = learner_of(origin), load_model(str(folder)).train()
    ours = learner.logprobs(rows)
    plain = [plain_logprobs(model, origin.prompter, row) for row in rows]
    torch.stack([-row.weight * piece.sum() for row, piece in zip(rows, plain, strict=True)]).sum().backward()
    learner.prepare(rows, NegativeLogLikelihood())
    gradient = {name: weight.grad for name, weight in learner.masters.by_name.items()}
    expected = {name: weight.grad for name, weight in model.named_parameters()}
    norm = lambda values: sum(float(value.double().square().sum()) for value in values) ** 0.5
    rounded = learner_of(origin, {"dtype": "bfloat16"})
    sampled = written(HfSampler(folder, origin.prompter, dtype="bfloat16"), origin.prompter, pages)
    return {
        "packed": max(_gaps(ours, [piece.tolist() for piece in plain])),
        "gradient": norm(gradient[n] - g for n, g in expected.items()) / norm(expected.values()),  # type: ignore[operator]
        "bf16": fmean(_gaps(ours, rounded.logprobs(rows))),
        "bf16 sampler": fmean(_gaps([row.sampler_logprobs or () for row in sampled], rounded.logprobs(sampled))),
    }


def in_engine(folder: Path, pages: Sequence[Page]) -> dict[str, float]:
    """vLLM against transformers."""
    (shown,) = in_process([folder], pages[0].pdf)
    if "error" in shown:
        raise RuntimeError(shown["error"])
    lora = [shown[part]["new"] for part in ("lora_text", "lora_vision") if "new" in shown[part]]
    return {
        "engine": shown["start"],
        "new weights": max(shown["all"]["new"], shown["tower"]["new"], *lora),
        "old weights": min(shown["all"]["old"], shown["tower"]["old"]),
        "without the head": shown["without_head"],
        "adapters": len(lora),
    }


def times(model_type: str, rounds: int) -> dict[str, float]:
    """Of the plain batch over the shared page, in a process of its own: peak memory is a process's."""
    if not rounds or importlib.util.find_spec(TIMES) is None:
        return {}
    asked = [sys.executable, "-m", TIMES, "--family", model_type, "--rounds", str(rounds)]
    lines = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    case: Mapping[str, Any] = json.loads(lines[-1])  # of transcripts a quarter as long as the page
    return {name: case[f"{name}_ratio"] for name in ("time", "memory")}


def beyond(model_type: str, figures: Mapping[str, float]) -> list[str]:
    """What is beyond its limit, in words."""
    limits = LIMITS | {"packed": BY_NAME[model_type].rounding}
    wrong = [
        f"{name} {figures[name]:.1e} is above {limits[name]:.0e}"
        for name in limits
        if figures.get(name, 0) > limits[name]
    ]
    return wrong + (["it does not go on to the bit"] if figures["goes on"] != 1 else [])


def to_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    names = list(dict.fromkeys(name for figures in rows.values() for name in figures))
    lines = [f"| family | {' | '.join(names)} |", f"|---|{'--:|' * len(names)}"]
    for model_type, figures in rows.items():
        lines.append(f"| {model_type} | {' | '.join(_number(figures.get(name)) for name in names)} |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1e}" if 0 < abs(value) < 0.01 else f"{value:.3g}"


def _gaps(values: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> list[float]:
    return [abs(a - b) for row, other in zip(values, others, strict=True) for a, b in zip(row, other, strict=True)]


if __name__ == "__main__":
    main()
