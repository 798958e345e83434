"""Finished runs of a machine whose every part is known, so that what is read out of them can be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ocr_rl.config import load_recipe
from ocr_rl.scale.load import occupancy

# What the made-up machine takes: a page, a decoding step, a row of it; a page and a token in the learner.
PAGE_S, STEP_S, ROW_S, UPDATE_PAGE_S, UPDATE_TOKEN_S = 0.3, 0.02, 0.001, 0.5, 0.01


def write_run(
    folder: Path, settings: list[str], *, lengths: list[int], steps: int = 3, older: bool = False, slower: float = 1.0
) -> Path:
    """A finished run of `nano_grpo` on that machine; its first step takes ten times as long. All groups teach.

    `older`: by a version that did not write prompts down; `slower`: every stage takes so many times as long.
    """
    recipe = load_recipe("nano_grpo", settings)
    algorithm: Any = recipe.algorithm
    pages, samples = algorithm.pages_per_step, algorithm.samples_per_page
    assert len(lengths) == pages * samples
    busy = occupancy(lengths, 256)
    writing = pages * PAGE_S + sum(steps * (STEP_S + rows * ROW_S) for steps, rows in busy)
    row = {
        "generated": sum(lengths),
        "length": sum(lengths) / len(lengths),
        "flat_groups": 0.0,
        "rollout_s": writing,
        "score_s": 0.1 * len(lengths),
        "annotate_s": pages * 0.1 + sum(lengths) * 0.005,
        "sync_s": 0.25,
        "update_s": pages * UPDATE_PAGE_S + sum(lengths) * UPDATE_TOKEN_S,
        "tokens": sum(lengths),
        **({} if older else {"prompt_tokens": 50.0}),
    }
    row = {name: value * (slower if name.endswith("_s") else 1) for name, value in row.items()}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(recipe.model_dump(mode="json")))
    (folder / "env.json").write_text(json.dumps({} if older else {"processes": 1}))
    rows = [{"step": 1, **{k: v * (10 if k.endswith("_s") else 1) for k, v in row.items()}}]
    rows += [{"step": step, **row} for step in range(2, steps + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rows))
    (folder / "groups").mkdir()
    groups = [{"samples": [{"tokens": n} for n in lengths[i * samples :][:samples]]} for i in range(pages)]
    for step in range(1, steps + 1):
        (folder / "groups" / f"{step:06d}.jsonl").write_text("".join(json.dumps(group) + "\n" for group in groups))
    return folder


def small(pages: int, samples: int) -> list[str]:
    return [f"grpo.pages_per_step={pages}", f"grpo.samples_per_page={samples}"]
