"""Parts from what was measured: finished runs, and the files of `make gpu`.

With runs of one shape each stage has one rate. Runs of several shapes (other samples a page, other lengths) tell apart
what a page costs, what a decoding step costs and what a token costs: non-negative least squares of relative errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.run import read_json
from ocr_rl.scale.parts import ABOUT_SAMPLES, Figure, Parts, merged, require_number
from ocr_rl.scale.runs import Measured, Rollout, read_run


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What all that was given says together."""

    runs: Sequence[Measured]
    parts: Parts
    about: dict[str, Figure]  # prompts and samples, by their names in ABOUT_SAMPLES


def read_measured(paths: Sequence[Path], recipe: config.Recipe) -> Known:
    """Runs, results of `make gpu`, and files of parts, as they come. What runs say goes before what files say."""
    runs, parts, about = list[Measured](), Parts(), dict[str, Figure]()
    for path in paths:
        if not path.exists():
            raise UserError(f"--measured {path}: there is no such run or file.")
        if path.is_dir() and not any(path.glob("*.json")):
            raise UserError(f"--measured {path}: is neither a run nor a folder of results of make gpu.")
        if path.is_dir() and (path / "config.json").is_file():
            runs.append(read_run(path, recipe))
            continue
        for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
            more, samples = parts_of_file(file, recipe)
            parts, about = merged(parts, more), samples | about
    return Known(runs=runs, parts=merged(parts_of_runs(runs), parts) if runs else parts, about=about)


def parts_of_runs(runs: Sequence[Measured]) -> Parts:
    """Of all rollouts of all runs together."""
    source, rollouts = ", ".join(run.source for run in runs), [rollout for run in runs for rollout in run.rollouts]
    several = _differ(runs)
    if len({run.processes for run in runs}) > 1:
        raise UserError("--measured: the runs had different numbers of processes; give those of one number.")
    processes = runs[0].processes
    synced = [rollout.seconds["sync_s"] for rollout in rollouts if "sync_s" in rollout.seconds]
    return Parts(
        **_decoding(rollouts, source, several=several),
        **_passing(rollouts, source, "update", processes, several=several),
        **_passing(rollouts, source, "annotate", processes, several=several),
        score_sample_s=_rate(
            [(r.load.pages * r.load.samples / r.load.workers, r.seconds.get("score_s", 0.0)) for r in rollouts], source
        ),
        sync_s=Figure(float(np.median(synced)), source) if synced else None,
        learners=Figure(processes, source),
    )


def _differ(runs: Sequence[Measured]) -> bool:
    """Whether the runs tell pages from tokens: a page's samples are half as long again in one as in another."""
    tokens = [
        sum(r.load.samples * r.load.mean / r.load.views for r in run.rollouts) / len(run.rollouts) for run in runs
    ]
    return max(tokens) >= 1.5 * min(tokens)


def _decoding(rollouts: Sequence[Rollout], source: str, *, several: bool) -> dict[str, Figure]:
    seconds = [rollout.seconds["rollout_s"] for rollout in rollouts]
    steps = [sum(steps for steps, _ in rollout.busy) for rollout in rollouts]
    written = [sum(steps * rows for steps, rows in rollout.busy) for rollout in rollouts]
    inside = Figure(0.0, f"in decode_step_s, {source}")
    most = Figure(float(max(rows for rollout in rollouts for _, rows in rollout.busy)), source)
    if not several:
        step_s = Figure(sum(seconds) / sum(steps), source)
        return dict(
            decode_step_s=step_s, decode_row_s=inside, decode_rows=most, prefill_page_s=inside, draw_page_s=inside
        )
    page_s, step_s, row_s = least_squares(
        [[float(rollout.load.pages) for rollout in rollouts], list(map(float, steps)), list(map(float, written))],
        seconds,
    )
    return dict(
        decode_step_s=Figure(step_s, source),
        decode_row_s=Figure(row_s, source),
        decode_rows=most,
        prefill_page_s=Figure(page_s, source),
        draw_page_s=Figure(0.0, f"in prefill_page_s, {source}"),
    )


def _passing(
    rollouts: Sequence[Rollout], source: str, kind: str, processes: int, *, several: bool
) -> dict[str, Figure]:
    """Of one learner card: seconds a page and tokens a second, or the latter alone for pages and samples alike."""
    update = kind == "update"
    passed = [r for r in rollouts if r.seconds.get(f"{kind}_s") and (update or r.load.passes)]
    if not passed:
        return {}
    seconds = [processes * r.seconds[f"{kind}_s"] for r in passed]
    tokens = [r.learnt_tokens if update else r.load.passes * r.learnt_tokens / r.load.updates for r in passed]
    pages = [
        r.load.views * (r.learnt_pages if update else r.load.passes * r.learnt_pages / r.load.updates) for r in passed
    ]
    if several:
        page_s, token_s = least_squares([pages, tokens], seconds)
        if token_s:
            return {
                f"{kind}_page_s": Figure(page_s, source),
                f"{kind}_tokens_per_s": Figure(1 / token_s, source),
            }
    prompts = [r.load.prompt_tokens.value if r.load.prompt_tokens else 0.0 for r in passed]
    rate = sum(t + p * n for t, p, n in zip(tokens, prompts, pages, strict=True)) / sum(seconds)
    if all(prompts):
        return {f"{kind}_tokens_per_s": Figure(rate, source)}
    inside = Figure(0.0, f"in {kind}_tokens_per_s, {source}")  # an older run: nobody wrote down how long prompts were
    return {f"{kind}_tokens_per_s": Figure(rate, source), f"{kind}_page_s": inside}


def least_squares(columns: Sequence[Sequence[float]], seconds: Sequence[float]) -> list[float]:
    """Rates, none below 0, by which the columns give the seconds with the least squares of relative errors."""
    matrix = np.array(columns, dtype=float).T / np.array(seconds)[:, None]
    best, rates = np.inf, np.zeros(len(columns))
    for size in range(1, len(columns) + 1):
        for chosen in combinations(range(len(columns)), size):
            part, *_ = np.linalg.lstsq(matrix[:, chosen], np.ones(len(seconds)), rcond=None)
            error = float(((matrix[:, chosen] @ part - 1) ** 2).sum())
            if (part >= 0).all() and error < best - 1e-12:
                best, rates = error, np.zeros(len(columns))
                rates[list(chosen)] = part
    return [float(rate) for rate in rates]


def _rate(pairs: Sequence[tuple[float, float]], source: str) -> Figure | None:
    """Seconds for one of what was done; None where no time was taken."""
    done, seconds = (sum(column) for column in zip(*pairs, strict=True))
    return Figure(seconds / done, source) if seconds and done else None


def parts_of_file(file: Path, recipe: config.Recipe) -> tuple[Parts, dict[str, Figure]]:
    """Of a result of `make gpu` what is about this recipe's policy; or parts, as `ocr-rl plan --json` prints them."""
    answer = read_json(file)
    try:
        if "parts" in answer:
            figures = {name: _figure(name, part, file) for name, part in answer["parts"].items() if part is not None}
            parts = {name: figure for name, figure in figures.items() if name not in ABOUT_SAMPLES}
            return Parts(**parts), {name: figure for name, figure in figures.items() if name in ABOUT_SAMPLES}
        return (_of_update(answer, recipe, file) if answer["part"] == "update" else Parts()), {}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"--measured {file}: is no result of make gpu and no file of parts ({type(error).__name__}: {error})."
        ) from None


def _figure(name: str, part: Any, file: Path) -> Figure:
    """ValueError for no number of that part."""
    value, source = (part["value"], part["source"]) if isinstance(part, dict) else (part, str(file))
    require_number(name, value)
    return Figure(float(value), str(source))


def _of_update(answer: dict[str, Any], recipe: config.Recipe, file: Path) -> Parts:
    if "result" not in answer:  # that part failed
        return Parts()
    name, trained = (recipe.policy.path or "").lower(), "lora" if recipe.policy.lora_rank else "all"
    for case in answer["result"]["cases"]:
        if f"-{case['shape'].lower()}-" in f"-{name}-" and case["trained"] == trained and "tokens_a_second" in case:
            source = f"{file}: {case['shape']} on {answer['device']}"
            return Parts(update_tokens_per_s=Figure(float(case["tokens_a_second"]), source))
    return Parts()
