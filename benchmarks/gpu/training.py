"""The embedded policy trained end to end: GRPO for some steps, and SFT for some minutes from its checkpoint."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ocr_rl.config import Recipe, load_recipe
from ocr_rl.config.sections import page_source
from ocr_rl.evaluate.figures import summary
from ocr_rl.evaluate.results import PageResult, read_rows
from ocr_rl.pages.source import open_pages
from ocr_rl.policy import open_policy
from ocr_rl.run import by_step
from ocr_rl.train import evaluate_policy, train


def grpo(sections: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """`nano_grpo` with these sections over its own: figures by step, and how it reads held-out pages at both ends."""
    recipe = _over(load_recipe("nano_grpo").model_dump(mode="json", exclude_none=True), sections)
    recipe["sampling"] |= {"engine": sections.get("sampling", {}).get("engine", engine())}
    rows, seconds = _run(recipe, out)
    steps = [row for row in rows if row["step"] > 0]
    shown = ("reward", "gap", "gap_max", "rollout_s", "update_s", "grad_norm")
    return {
        "engine": recipe["sampling"]["engine"],
        "dtype": recipe["policy"].get("dtype", "float32"),
        "seconds": seconds,
        "steps": [{name: row[name] for name in ("step", *shown) if name in row} for row in steps],
        "held_out": {
            f"{path.stem}, step {step}": _figures(read_rows(path))
            for step, folder in by_step(out / "eval").items()
            for path in sorted(folder.glob("*.jsonl"))
        },
    }


def sft(sections: Mapping[str, Any], budget_s: float, trial: int, longest: int, out: Path) -> dict[str, Any]:
    """SFT from the embedded policy's checkpoint for about `budget_s` seconds, and how both read held-out pages.

    Two trials, of one step and of `trial` steps, say how long a start and a step take, so how many steps fit (at most
    `longest`), and the rate can cool down to the end. Pages are typeset once, before.
    """
    held_out = sections["held_out"]
    recipe = _over({"policy": {"path": "nano"}}, {name: sections[name] for name in sections if name != "held_out"})
    recipe = _with_stage(recipe, pages=_typeset(recipe["sft"]["stages"][0]["pages"], out / "typeset"))
    (_, start), (_, tried) = (_run(_with_steps(recipe, n), out / "trial") for n in (1, trial))
    a_step = max(1e-3, (tried - start) / (trial - 1))
    steps = max(1, min(longest, int((budget_s - start) / a_step)))
    _, seconds = _run(_with_steps(recipe, steps), out / "run")
    checkpoint = list(by_step(out / "run" / "ckpt", "model").values())[-1]
    return {
        "steps": steps,
        "seconds": seconds,
        "pages_a_second": steps * recipe["sft"]["stages"][0]["pages_per_step"] / seconds,
        "checkpoint": str(checkpoint),
        "held_out": {name: _reads(path, held_out, out) for name, path in (("before", "nano"), ("after", checkpoint))},
    }


def engine() -> str:
    return "vllm" if find_spec("vllm") else "transformers"


def _reads(model: str | Path, held_out: Mapping[str, Any], out: Path) -> dict[str, float]:
    """How a policy reads pages, greedily."""
    pages = open_pages(page_source(held_out["pages"]), out / "pages")
    with open_policy(str(model), engine=held_out.get("engine", engine())) as policy:
        return _figures(evaluate_policy(policy.sampler, policy.prompter, pages, max_tokens=held_out["max_tokens"]))


def _figures(results: Sequence[PageResult]) -> dict[str, float]:
    figures = summary(results, draws=10).metrics
    return {name: figures[name].mean for name in ("pass_rate", "cer") if name in figures}


def _run(recipe: Mapping[str, Any], out: Path) -> tuple[list[dict[str, Any]], float]:
    """The rows of a whole run's log, and its seconds; one that was cut off begins again."""
    shutil.rmtree(out, ignore_errors=True)
    started = time.perf_counter()
    train(Recipe.model_validate(recipe), out)
    seconds = time.perf_counter() - started
    lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines], seconds


def _typeset(source: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """The same pages as a source that is there already."""
    open_pages(page_source(dict(source)), out)
    (folder,) = out.iterdir()
    return {"dir": str(folder)}


def _with_steps(recipe: Mapping[str, Any], steps: int) -> dict[str, Any]:
    return {**_with_stage(recipe, steps=steps), "save_every": steps}


def _with_stage(recipe: Mapping[str, Any], **values: Any) -> dict[str, Any]:
    stage, *_ = recipe["sft"]["stages"]
    return {**recipe, "sft": {"stages": [{**stage, **values}]}}


def _over(recipe: Mapping[str, Any], sections: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables merged; lists and values replaced."""
    merged = dict(recipe)
    for name, value in sections.items():
        below = merged.get(name)
        merged[name] = _over(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return merged
