"""What an update costs in the published shapes, and what computing a page once for its samples saves.

`update`: seconds, tokens a second, share of the device's bf16 peak, and peak memory beside the plan's. `shared_page`:
the same rows, a group's page computed once, or once for each of its samples.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.gpu.flops import peak_of, update_work
from benchmarks.gpu.policies import Load, freed, grids_of, open_random, random_rows, write_policy
from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.memory import GIB, MemoryPlan, memory_plan, require_memory
from ocr_rl.learn.network import base
from ocr_rl.objectives.losses import NegativeLogLikelihood
from ocr_rl.rollout.flow import Row

POLICIES: dict[str, dict[str, Any]] = {
    "lora": {"dtype": "bfloat16", "lora_rank": 32, "freeze_vision": True, "gradient_checkpointing": True},
    "all": {"dtype": "bfloat16", "gradient_checkpointing": True},  # with float32 masters
}


def update_cases(shapes: Sequence[str], load: Load, rounds: int, work: Path) -> dict[str, Any]:
    """Each shape, adapters and all weights. What the memory cannot hold is said instead of measured."""
    cases = []
    for shape in shapes:
        path = write_policy(shape, work / shape, load)
        for name, policy in POLICIES.items():
            case: dict[str, Any] = {"shape": shape, "trained": name}
            plan = planned(path, policy, load)
            case |= {"plan": plan.to_text(), "plan_gib": plan.peak / GIB}
            try:
                require_memory(plan)
                with freed():
                    case |= one_update(path, policy, load, rounds, work / shape)
            except UserError:
                case["not_measured"] = "the plan does not fit"
            except torch.OutOfMemoryError as error:
                case["not_measured"] = str(error).splitlines()[0]
            cases.append(case)
            print(case, flush=True)
    return {"load": _load(load), "cases": cases}


def planned(path: str, policy: dict[str, Any], load: Load) -> MemoryPlan:
    """The plan for the learner alone."""
    recipe = config.Recipe.model_validate(
        {
            "policy": {"path": path, **policy},
            "optim": {"micro_tokens": load.micro_tokens},
            "sft": {"stages": [{"steps": 1, "pages_per_step": 1, "pages": {"synth": "nano"}}]},
        }
    )
    return memory_plan(recipe, path)


def one_update(path: str, policy: dict[str, Any], load: Load, rounds: int, work: Path) -> dict[str, Any]:
    """The median of `rounds` updates after one to warm up."""
    learner = open_random(path, policy, load)
    learner.features = None  # a tower that stands still is asked in each update, as of new pages: that work is counted
    rows = random_rows(learner, load, work)
    _reset_peak()
    learner.update(rows, NegativeLogLikelihood())
    seconds = median(timed(lambda: learner.update(rows, NegativeLogLikelihood())) for _ in range(rounds))
    lengths = lengths_of(rows)
    done = update_work(base(learner.module).config, lengths, grids_of(learner, rows), _policy(path, policy))
    tokens, peak = sum(map(sum, lengths)), peak_of(device_name())
    share = lambda flops: flops / seconds / peak if peak else None
    return {
        "seconds": seconds,
        "tokens": tokens,
        "tokens_a_second": tokens / seconds,
        "tera_operations": done.useful / 1e12,
        "share_of_peak": share(done.useful),
        "share_with_recomputation": share(done.useful + done.again),
        "peak_gib": torch.cuda.max_memory_allocated() / GIB if torch.cuda.is_available() else None,
    }


def shared_pages(shape: str, load: Load, completions: Sequence[int], rounds: int, work: Path) -> dict[str, Any]:
    """Forward and backward of one group, its page shared or not, for several lengths of transcripts."""
    path = write_policy(shape, work / shape, load)
    learner = open_random(path, POLICIES["lora"] | {"freeze_vision": False}, load)
    learner.optimizers = []  # so an update is a gradient
    cases = []
    for completion in completions:
        rows = random_rows(learner, replace(load, completion=completion), work / shape)
        apart = [replace(row, group_id=k) for k, row in enumerate(rows)]
        seconds: dict[str, list[float]] = {"shared": [], "apart": []}
        for _ in range(rounds + 1):
            for name, some in (("shared", rows), ("apart", apart)):  # sides take turns
                seconds[name].append(timed(lambda some=some: gradient(learner, some)))
        took = {name: median(values[1:]) for name, values in seconds.items()}
        page = len(rows[0].prompt.expanded_ids)
        cases.append({"page": page, "completion": completion, **took, "ratio": took["apart"] / took["shared"]})
        print(cases[-1], flush=True)
    return {"shape": shape, "load": _load(load), "cases": cases}


def gradient(learner: Learner, rows: Sequence[Row]) -> None:
    for parameter in learner.module.parameters():
        parameter.grad = None
    learner.update(rows, NegativeLogLikelihood())


def lengths_of(rows: Sequence[Row]) -> list[list[int]]:
    """Of each group the prompt's length, then those of its completions."""
    groups: dict[int, list[int]] = {}
    for row in rows:
        groups.setdefault(row.group_id, [len(row.prompt.expanded_ids)]).append(len(row.completion_ids))
    return list(groups.values())


def timed(work: Callable[[], Any]) -> float:
    """Seconds until the device has done it too."""
    _wait()
    started = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - started


def peak_mib(work: Callable[[], Any]) -> float | None:
    """Memory that the work takes on a GPU, at most, over what was there before it."""
    if not torch.cuda.is_available():
        return None
    _wait()
    _reset_peak()
    before = torch.cuda.memory_allocated()
    work()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _policy(path: str, policy: dict[str, Any]) -> config.Policy:
    return config.Policy.model_validate({"path": path, **policy})


def _load(load: Load) -> dict[str, int]:
    return {name: getattr(load, name) for name in load.__slots__}
