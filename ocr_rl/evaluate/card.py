"""`ocr-rl card RUN`: a README for the model of a finished run. All it says stands in the run's files.

What a run does not know (a licence, who may use it, what pages of another kind look like) is left to its maker.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ocr_rl import outputs
from ocr_rl.config import ALGORITHMS
from ocr_rl.contract import UserError
from ocr_rl.evaluate.figures import summary
from ocr_rl.evaluate.results import PageResult, read_rows
from ocr_rl.evaluate.tables import cell, summary_table, type_table
from ocr_rl.models.known import read_settings
from ocr_rl.run import read_jsonl

_SECONDS = ("sync_s", "rollout_s", "score_s", "annotate_s", "update_s")  # of metrics.jsonl


def card(run: Path, out: Path | None = None) -> Path:
    """Write the card into the folder of the run's last model, or to `out`. UserError where there is no such model."""
    config, model = _config(run), _model(run)
    target = model / "README.md" if out is None else out
    outputs.write(target, text(run, config, model))
    return target


def text(run: Path, config: Mapping[str, Any], model: Path) -> str:
    """The card as Markdown."""
    step = int(model.parent.name)
    parts = [_head(config, model), f"# {cell(run.name)}\n", _origin(run, config, step), _figures(run, config, step)]
    parts += [_rewards(config), _use(model), _recipe(config), _left_open()]
    return "\n".join(part for part in parts if part)


def _config(run: Path) -> dict[str, Any]:
    try:
        config = json.loads((run / "config.json").read_text(encoding="utf-8"))
        if isinstance(config["policy"], dict) and isinstance(config["seed"], int):
            return config
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise UserError(f"{run}: holds no config.json of a run; give a folder that `ocr-rl train` wrote.")


def _model(run: Path) -> Path:
    """The folder of the last checkpoint's weights."""
    models = [path for path in sorted((run / "ckpt").glob("*/model")) if path.parent.name.isdecimal()]
    if not models:
        raise UserError(f"{run}: has no checkpoint with a model; train on until one is saved.")
    return models[-1]


def _head(config: Mapping[str, Any], model: Path) -> str:
    """What a hub reads: the library, the task, and the model that it began from where that has a hub's name."""
    library = "peft" if (model / "adapter_config.json").exists() else "transformers"
    lines = [f"library_name: {library}", "pipeline_tag: image-text-to-text", "tags: [ocr, ocr-rl]"]
    start = str(config["policy"].get("path", ""))
    if start.count("/") == 1 and not start.startswith((".", "/", "~")) and not Path(start).exists():
        lines.append(f"base_model: {json.dumps(start)}")
    return "---\n" + "".join(f"{line}\n" for line in lines) + "---\n"


def _origin(run: Path, config: Mapping[str, Any], step: int) -> str:
    algorithm = next((name for name in ALGORITHMS if config.get(name)), "another algorithm")
    rows = [row for row in read_jsonl(run / "metrics.jsonl") if row.get("step", 0) <= step]
    hours = sum(float(row.get(name) or 0) for row in rows for name in _SECONDS) / 3600
    tokens = sum(int(row.get("tokens") or 0) for row in rows)
    learnt = f", which learnt from {tokens:,} tokens in {hours:.1f} hours of steps" if tokens else ""
    lines = [
        f"Trained with ocr-rl (`{algorithm}`) from `{cell(str(config['policy'].get('path')))}`, seed {config['seed']}.",
        f"These are the weights after {step:,} steps{learnt}.",
        _environment(run),
    ]
    return "\n".join(filter(None, lines)) + "\n"


def _environment(run: Path) -> str:
    try:
        made = json.loads((run / "env.json").read_text(encoding="utf-8"))
        packages = ", ".join(f"{name} {version}" for name, version in made["packages"].items())
        return f"Begun on {made['date'][:10]} with Python {made['python']}: {packages}."
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""


def _figures(run: Path, config: Mapping[str, Any], step: int) -> str:
    """Before and after, on each evaluation set, from the page results that the run kept."""
    sets = (config.get("evaluation") or {}).get("sets") or {}
    parts = ["## How well it reads\n"]
    for name, source in sets.items():
        ends = _ends(run, name, step)
        if not ends:
            continue
        summaries = {f"after {number:,} steps": summary(rows) for number, rows in ends.items()}
        first = next(iter(summaries.values()))
        parts.append(f"### {cell(name)}: {first.pages:,} pages, {first.tests:,} unit tests\n")
        parts.append(f"Pages: `{json.dumps(source)}`. Greedy, strict reading, 95 % intervals over pages.\n")
        parts += [summary_table(summaries), type_table(summaries)]
    if len(parts) == 1:
        parts.append("The run was not evaluated.\n")
    return "\n".join(parts)


def _ends(run: Path, name: str, step: int) -> dict[int, list[PageResult]]:
    """The first and the last evaluation up to the weights' own step, by step."""
    files = sorted(path for path in (run / "eval").glob(f"*/{name}.jsonl") if path.parent.name.isdecimal())
    steps = {int(path.parent.name): path for path in files if int(path.parent.name) <= step}
    return {number: read_rows(steps[number]) for number in sorted({*list(steps)[:1], *list(steps)[-1:]})}


def _rewards(config: Mapping[str, Any]) -> str:
    rows = [f"- `{row['name']}`, weight {row.get('weight', 1):g}" for row in config.get("rewards") or ()]
    rows += [f"- gate `{row['name']}`, at least {row['at_least']:g}" for row in config.get("gates") or ()]
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


def _left_open() -> str:
    return (
        "## What this card does not say\n\n"
        "The licence, and how the model reads pages of other kinds than the ones above. Add them before an upload.\n"
    )


def _block(text: str, language: str = "") -> str:
    """A block of code that the text cannot leave."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}\n"
