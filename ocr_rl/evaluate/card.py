"""`ocr-rl card RUN`: a README for the model of a finished run. All it says stands in the run's files.

What a run does not know (a licence, who may use it, what pages of another kind look like) is left to its maker.
"""

from __future__ import annotations

import json
import os.path
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ocr_rl import outputs
from ocr_rl.config import ALGORITHMS
from ocr_rl.config.explain import first_fault
from ocr_rl.contract import UserError
from ocr_rl.evaluate.figures import Summary, summary
from ocr_rl.evaluate.results import PageResult, read_rows
from ocr_rl.evaluate.tables import cell, summary_table, type_table
from ocr_rl.models.known import NAMES, read_settings
from ocr_rl.run import by_step, read_json, read_jsonl

_SECONDS = ("sync_s", "rollout_s", "score_s", "annotate_s", "update_s")  # of metrics.jsonl

Amount = Annotated[float, Field(ge=0, le=1e15)]


class _Read(BaseModel):
    """What the card reads of a file; the rest may be of any version."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Policy(_Read):
    path: str | None = None  # None: it began from random weights


class _Reward(_Read):
    name: str
    weight: float = 1


class _Gate(_Read):
    name: str
    at_least: float


class _Evaluation(_Read):
    sets: dict[str, Any] = {}


class _Config(_Read):
    seed: int
    policy: _Policy
    evaluation: _Evaluation | None = None
    rewards: list[_Reward] = []
    gates: list[_Gate] = []


class _Row(_Read):
    """A step of metrics.jsonl."""

    step: int = 0
    tokens: Amount | None = None
    sync_s: Amount | None = None
    rollout_s: Amount | None = None
    score_s: Amount | None = None
    annotate_s: Amount | None = None
    update_s: Amount | None = None


_M = TypeVar("_M", bound=_Read)


def card(run: Path, out: Path | None = None) -> Path:
    """Write the card into the folder of the run's last model, or to `out`. UserError where there is no such model."""
    if not (run / "config.json").is_file():
        raise UserError(f"{run}: holds no config.json of a run; give a folder that `ocr-rl train` wrote.")
    recipe, model = read_json(run / "config.json"), _model(run)
    target = model / "README.md" if out is None else out
    outputs.write(target, text(run, recipe, model))
    return target


def text(run: Path, recipe: Mapping[str, Any], model: Path) -> str:
    """The card as Markdown. UserError, naming file and field, where a file of the run is not what a run writes."""
    config, step = _checked(_Config, recipe, str(run / "config.json")), int(model.parent.name)
    algorithm = next((name for name in ALGORITHMS if recipe.get(name)), "another algorithm")
    commit = _commit(run, config.policy.path)
    hub = config.policy.path if commit else _hub_name(config.policy.path)
    parts = [
        _head(hub, model),
        f"# {cell(os.path.basename(os.path.abspath(run)))}\n",
        _origin(run, config, algorithm, step, commit),
    ]
    parts += [_figures(run, config, step), _rewards(config), _use(model), _recipe(recipe), _left_open(hub)]
    return "\n".join(part for part in parts if part)


def _checked(kind: type[_M], fields: Mapping[str, Any], where: str) -> _M:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise UserError(f"{where}: {first_fault(error)}; put back the file that the run wrote.") from None


def _model(run: Path) -> Path:
    """The folder of the last checkpoint's weights."""
    models = list(by_step(run / "ckpt", "model").values())
    if not models:
        raise UserError(f"{run}: has no checkpoint with a model; train on until one is saved.")
    return models[-1]


def _head(hub: str | None, model: Path) -> str:
    """What a hub reads: the library, the task, and the model that it began from where that has a hub's name."""
    library = "peft" if (model / "adapter_config.json").exists() else "transformers"
    lines = [f"library_name: {library}", "pipeline_tag: image-text-to-text", "tags: [ocr, ocr-rl]"]
    lines += [f"base_model: {json.dumps(hub)}"] if hub else []
    return "---\n" + "".join(f"{line}\n" for line in lines) + "---\n"


def _hub_name(path: str | None) -> str | None:
    """The hub name of what a run that wrote no commit down began from; None unless it is certain.

    "runs/sft" is written as a hub name is, and may have been a folder where the run began. A known model's name is one,
    and so is a name that the hub's cache on this machine holds, or whose snapshot there the path is.
    """
    parts = Path(path or "").parts
    if path is None or "snapshots" in parts:
        cached = [part for part in parts if part.startswith("models--")]
        return cached[-1].removeprefix("models--").replace("--", "/") if cached else None
    if path.count("/") != 1 or path.startswith((".", "/", "~")) or Path(path).exists():
        return None
    return path if path in NAMES or _is_cached(path) else None


def _is_cached(name: str) -> bool:
    try:
        from huggingface_hub import try_to_load_from_cache

        return isinstance(try_to_load_from_cache(name, "config.json"), str)
    except (ImportError, ValueError):  # the core alone, or no name of a repository
        return False


def _origin(run: Path, config: _Config, algorithm: str, step: int, commit: str) -> str:
    start = f"`{cell(config.policy.path)}`" if config.policy.path is not None else "random weights"
    start += f" at commit {cell(commit)}" if commit else ""
    lines = [
        f"Trained with ocr-rl (`{algorithm}`) from {start}, seed {config.seed}.",
        f"These are the weights after {step:,} steps{_learnt(run / 'metrics.jsonl', step)}.",
        _environment(run),
    ]
    return "\n".join(filter(None, lines)) + "\n"


def _commit(run: Path, name: str | None) -> str:
    """Of the model of that hub name that the run began with; "" where the run's pages.json knows none."""
    try:
        return str(json.loads((run / "pages.json").read_text(encoding="utf-8"))["commits"][name])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""


def _learnt(file: Path, step: int) -> str:
    """Tokens and hours up to the step, as the end of a sentence."""
    rows = [_checked(_Row, row, f"{file}, row {n}") for n, row in enumerate(read_jsonl(file), start=1)]
    if not rows:
        return "; how many tokens and hours they took is not known, because the run's metrics.jsonl is missing or empty"
    rows = [row for row in rows if row.step <= step]
    hours = sum(getattr(row, name) or 0 for row in rows for name in _SECONDS) / 3600
    tokens = sum(row.tokens or 0 for row in rows)
    return f", which learnt from {tokens:,.0f} tokens in {hours:,.1f} hours of steps" if tokens else ""


def _environment(run: Path) -> str:
    try:
        made = json.loads((run / "env.json").read_text(encoding="utf-8"))
        packages = ", ".join(f"{name} {version}" for name, version in made["packages"].items())
        return f"Begun on {made['date'][:10]} with Python {made['python']}: {packages}."
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""


def _figures(run: Path, config: _Config, step: int) -> str:
    """Before and after, on each evaluation set, from the page results that the run kept."""
    parts = ["## How well it reads\n"]
    for name, source in (config.evaluation or _Evaluation()).sets.items():
        files = {n: path for n, path in by_step(run / "eval", f"{name}.jsonl").items() if n <= step}
        if not files:
            continue
        summaries, left_out = _ends({n: files[n] for n in (min(files), max(files))})
        first = next(iter(summaries.values()))
        parts.append(f"### {cell(name)}: {first.pages:,} pages, {first.tests:,} unit tests\n")
        parts.append(f"Pages: `{json.dumps(source)}`. Greedy, strict reading, 95 % intervals over pages.{left_out}\n")
        parts += [summary_table(summaries), type_table(summaries)]
    if len(parts) == 1:
        parts.append("The run was not evaluated.\n")
    return "\n".join(parts)


def _ends(files: Mapping[int, Path]) -> tuple[dict[str, Summary], str]:
    """Figures of the first and the last evaluation on the pages, with the same tests, that both have.

    Beside them a sentence about the pages that only one has, if there are any.
    """
    results = {step: _by_page(path) for step, path in files.items()}
    first, last = (results[step] for step in (min(files), max(files)))
    both = {page for page in first.keys() & last.keys() if _tests(first[page]) == _tests(last[page])}
    if not both:
        raise UserError(f"{files[max(files)]}: has no page with the tests that {files[min(files)]} has; put both back.")
    summaries = {}
    for step, path in files.items():
        try:
            rows = [row for page, of_page in results[step].items() if page in both for row in of_page]
            summaries[f"after {step:,} steps"] = summary(rows)
        except (TypeError, ValueError, AttributeError) as flaw:
            raise UserError(f"{path}: holds figures that are none ({flaw}); put back a whole copy of it.") from None
    others = len(first.keys() | last.keys()) - len(both)
    return (
        summaries,
        f" Left out: {others:,} pages that only one of the two evaluations has, or has so." if others else "",
    )


def _by_page(path: Path) -> dict[str, list[PageResult]]:
    rows: dict[str, list[PageResult]] = {}
    for row in read_rows(path):
        rows.setdefault(row.page, []).append(row)
    if not rows:
        raise UserError(f"{path}: holds no page results; put back a whole copy of it.")
    return rows


def _tests(rows: list[PageResult]) -> set[str]:
    return {check.id for row in rows for check in row.checks}


def _rewards(config: _Config) -> str:
    rows = [f"- `{row.name}`, weight {row.weight:g}" for row in config.rewards]
    rows += [f"- gate `{row.name}`, at least {row.at_least:g}" for row in config.gates]
    return "\n".join(["## Rewards\n", *rows]) + "\n" if rows else ""


def _use(model: Path) -> str:
    settings = read_settings(str(model))
    lines = [
        "## How to ask it\n",
        "```\nocr-rl transcribe FILE.pdf --model FOLDER\n```\n",
        f"The page's image has {settings.longest_px} px on its longest side; a transcript has up to "
        f"{settings.max_tokens:,} tokens. It is asked:\n",
        _block(settings.instruction or "(nothing beside the image)"),
    ]
    return "\n".join(lines)


def _recipe(config: Mapping[str, Any]) -> str:
    return f"## Recipe\n\n<details>\n\n{_block(json.dumps(config, indent=2), 'json')}\n</details>\n"


def _left_open(hub: str | None) -> str:
    licence = "The licence" if hub else "The licence, the hub name of the model that it began from (`base_model`)"
    return (
        "## What this card does not say\n\n"
        f"{licence}, and how the model reads pages of other kinds than the ones above. Add them before an upload.\n"
    )


def _block(text: str, language: str = "") -> str:
    """A block of code that the text cannot leave."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}\n"
