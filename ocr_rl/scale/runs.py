"""Read finished runs: what each rollout had to do, and how long it took.

A run's first rollout warms engines and kernels up and is left out where others follow. Knows nothing about other cards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.run import read_json, read_jsonl
from ocr_rl.scale.load import Busy, Load, busy_of, load_of, spread
from ocr_rl.scale.parts import Figure

# Keys of a policy that decide what a token costs, in the engine and in the learner.
_COSTS = ("path", "fresh", "dtype", "autocast", "lora_rank", "freeze_vision", "gradient_checkpointing", "longest_px")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One rollout with its updates."""

    load: Load  # its own lengths, and pages that were asked and learnt from
    seconds: dict[str, float]  # by the name in metrics.jsonl
    learnt_tokens: float  # of samples, over all updates
    learnt_pages: float  # likewise

    @property
    def busy(self) -> Busy:
        return busy_of(self.load, self.load.pages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A run."""

    source: str
    recipe: config.Recipe
    processes: int  # that shared the learner
    rollouts: list[Rollout]

    @property
    def lengths(self) -> list[int]:
        return [length for rollout in self.rollouts for length in rollout.load.lengths]

    @property
    def prompt_tokens(self) -> float | None:
        """Mean of a page; None where the run did not write it down."""
        prompts = [rollout.load.prompt_tokens for rollout in self.rollouts]
        values = [figure.value for figure in prompts if figure is not None]
        return sum(values) / len(values) if len(values) == len(prompts) else None


def read_run(folder: Path, recipe: config.Recipe) -> Measured:
    """A run of the recipe's policy. UserError for a folder that is none, and for another policy's run."""
    if not (folder / "config.json").is_file():
        raise UserError(f"--measured {folder}: holds no config.json of a run; give a folder that ocr-rl train wrote.")
    try:
        own = config.Recipe.model_validate(_served(read_json(folder / "config.json")))
    except ValidationError as error:
        raise UserError(
            f"--measured {folder}: its config.json is of another version of this program "
            f"({error.errors()[0]['msg']}); measure again."
        ) from None
    _require_same_policy(folder, own.policy, recipe.policy)
    rows = [row for row in read_jsonl(folder / "metrics.jsonl") if "update_s" in row and "rollout_s" in row]
    rollouts = [_rollout(folder, own, part) for part in _by_rollout(rows)]
    if not rollouts:
        raise UserError(f"--measured {folder}: has no step yet that sampled and learnt; let it do three.")
    environment = read_json(folder / "env.json") if (folder / "env.json").is_file() else {}
    return Measured(
        source=str(folder),
        recipe=own,
        processes=int(environment.get("processes", 1)),
        rollouts=rollouts[1:] or rollouts,
    )


def _served(settings: dict[str, Any]) -> dict[str, Any]:
    """A run does not write down where its server was, and a recipe must say it."""
    sampling = settings.get("sampling", {})
    if sampling.get("engine") == "vllm_server":
        return {**settings, "sampling": {**sampling, "url": "http://127.0.0.1:8000"}}
    return settings


def _require_same_policy(folder: Path, own: config.Policy, planned: config.Policy) -> None:
    for key in _COSTS:
        before, now = getattr(own, key), getattr(planned, key)
        if before != now:
            raise UserError(
                f"--measured {folder}: learnt with policy.{key} = {before!r}, the recipe has {now!r}; what a token "
                "costs is not the same. Measure a short run of this policy."
            )


def _by_rollout(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The updates of each rollout, whose first one has `generated`; what was learnt of one that began earlier goes."""
    parts: list[list[dict[str, Any]]] = []
    for row in rows:
        if "generated" in row:
            parts.append([row])
        elif parts:
            parts[-1].append(row)
    return [part for part in parts if part[0]["generated"] and part[0].get("length")]


def _rollout(folder: Path, recipe: config.Recipe, rows: Sequence[dict[str, Any]]) -> Rollout:
    first, last = rows[0], rows[-1]
    lengths = _lengths(folder, last["step"], first)
    pages = max(1, round(len(lengths) / recipe.algorithm.group_size))
    learnt = pages * (1 - first.get("flat_groups", 0.0)) if isinstance(recipe.algorithm, config.Grpo) else pages
    prompt = first.get("prompt_tokens")
    load = load_of(
        recipe,
        lengths=lengths,
        prompt_tokens=None if prompt is None else Figure(prompt, str(folder)),
        asked_share=pages / recipe.algorithm.pages_per_step,  # type: ignore[attr-defined]  # load_of sees to it
        learnt_share=learnt / pages,
    )
    names = ("rollout_s", "score_s", "annotate_s", "sync_s")
    seconds = {name: float(first[name]) for name in names if name in first}
    updates = len(rows) / getattr(recipe.algorithm, "minibatches", 1)  # of the whole rollout: epochs
    return Rollout(
        load=load,
        seconds=seconds | {"update_s": sum(float(row["update_s"]) for row in rows)},
        learnt_tokens=sum(float(row["tokens"]) for row in rows),
        learnt_pages=updates * learnt,
    )


def _lengths(folder: Path, step: int, row: dict[str, Any]) -> list[int]:
    """Tokens of each of the rollout's samples. Groups that taught nothing are not kept: they are as the others."""
    n = max(1, round(row["generated"] / row["length"]))
    try:
        groups = read_jsonl(folder / "groups" / f"{step:06d}.jsonl")
        kept = [int(sample["tokens"]) for group in groups for sample in group["samples"]]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"--measured {folder}: the groups of step {step} are damaged; give another run.") from None
    return kept if len(kept) == n else spread(kept or [round(row["length"])], n)
