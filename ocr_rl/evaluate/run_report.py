"""`ocr-rl report`: one report over several runs, read from what they wrote. No torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ocr_rl import outputs
from ocr_rl.config import PageSource, page_source
from ocr_rl.contract import UserError
from ocr_rl.evaluate import floors
from ocr_rl.evaluate.report import FILES, write_report
from ocr_rl.evaluate.results import PageResult, read_rows
from ocr_rl.models.known import read_settings
from ocr_rl.pages.images import image_of
from ocr_rl.pages.raster import LONGEST_PX
from ocr_rl.pages.source import open_pages
from ocr_rl.run import by_step, read_jsonl


def report_runs(runs: Sequence[Path], out: Path) -> list[Path]:
    """One report for each evaluation set: the start of the first run against the end of every run.

    Raises UserError for a folder that is no run with an evaluation, and for runs that were not evaluated on one set.
    """
    evaluations = {_name(run, runs): _evaluation(run) for run in runs}
    seeds = {f"seed of {name}": str(seed) for name, (_, seed) in evaluations.items()}
    sets, _ = evaluations[_name(runs[0], runs)]
    if not sets:
        raise UserError(f"{runs[0]}: its recipe has no [evaluation]; there is nothing to report.")
    outputs.refuse_taken(out / name / file for name in sets for file in FILES)
    written = []
    for name, source in sets.items():
        pages = {page.id: page for page in open_pages(source, runs[0] / "pages")}
        first, _ = _ends(runs[0], name)
        ends = {_name(run, runs): _ends(run, name)[1] for run in runs}
        write_report(
            out / name,
            title=f"{', '.join(ends)}: {name} pages",
            candidates={"before": first, **ends},
            pages=pages,
            images=partial(image_of, longest_px=longest_px_of(runs[0])),
            curves={_name(run, runs): read_jsonl(run / "metrics.jsonl") for run in runs},
            notes={"reading": "strict", **seeds},
            floors=floors.judged_here(list(pages.values()), list(ends.values())[-1], "strict"),
        )
        written.append(out / name / "report.md")
    return written


def longest_px_of(run: Path) -> int:
    """The longest side of page images in the settings of the run's policy."""
    models = list(by_step(run / "ckpt", "model").values())
    return read_settings(str(models[-1])).longest_px if models else LONGEST_PX


def _evaluation(run: Path) -> tuple[dict[str, PageSource], int]:
    """The evaluation sets of a run, by name, and its seed."""
    try:
        recipe = json.loads((run / "config.json").read_text(encoding="utf-8"))
        sets = (recipe["evaluation"] or {"sets": {}})["sets"]
        return {name: page_source(source) for name, source in sets.items()}, int(recipe["seed"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{run}: holds no config.json of a run; give a folder that `ocr-rl train` wrote.") from None


def _ends(run: Path, name: str) -> tuple[list[PageResult], list[PageResult]]:
    """Page results of the first and the last evaluation."""
    files = list(by_step(run / "eval", f"{name}.jsonl").values())
    if not files:
        raise UserError(f"{run}: was not evaluated on a set {name!r}; give runs of recipes with that evaluation set.")
    return read_rows(files[0]), read_rows(files[-1])


def _name(run: Path, runs: Sequence[Path]) -> str:
    """The folder's name, or its whole path where two runs share it."""
    return run.name if [other.name for other in runs].count(run.name) == 1 else str(run)
