"""What one asks of a policy or of runs later: samples to look at and to score, one report over several runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Literal

from ocr_rl.config import PageSource, page_source
from ocr_rl.contract import UserError
from ocr_rl.evaluate.grade import Graded, read_rows
from ocr_rl.evaluate.report import write_report
from ocr_rl.models.settings import read_settings
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.pages.images import image_of
from ocr_rl.pages.raster import LONGEST_PX
from ocr_rl.pages.source import open_pages
from ocr_rl.rollout.reward_pool import as_json
from ocr_rl.rollout.sampler.base import Sampling
from ocr_rl.run import read_jsonl, write_atomically


def sample_pages(
    data: Path,
    out: Path,
    *,
    model: str,
    engine: Literal["vllm", "transformers"],
    pages: int,
    n: int,
    temperature: float,
    seed: int,
) -> int:
    """Write n samples of each of some pages as groups, as a run keeps them (`score` and `rewards audit` read them).

    Returns the number of pages. Raises UserError for a page that cannot be drawn.
    """
    from ocr_rl.policy import open_policy

    known = load_dataset(data)
    chosen = Random(seed).sample(known, min(pages, len(known)))
    rows = []
    with open_policy(model, engine=engine) as policy:
        asked = [(page, policy.prompter.prompt(page)) for page in chosen]
        how = Sampling(n=n, temperature=temperature, max_tokens=policy.settings.max_tokens, seed=seed)
        for group in policy.sampler.sample(asked, how):
            samples = [as_json(one.transcript()) for one in group.samples]
            rows.append(json.dumps({"page": group.page.id, "samples": samples}))
    write_atomically(out, "".join(f"{row}\n" for row in rows))
    return len(rows)


def report_runs(runs: Sequence[Path], out: Path) -> list[Path]:
    """One report for each evaluation set: the start of the first run against what every run ended with.

    Raises UserError for a folder that is no run with an evaluation, and for runs that were not evaluated on one set.
    """
    evaluated = {_called(run, runs): _evaluated(run) for run in runs}
    seeds = {f"seed of {called}": str(seed) for called, (_, seed) in evaluated.items()}
    sets, _ = evaluated[_called(runs[0], runs)]
    if not sets:
        raise UserError(f"{runs[0]}: its recipe has no [evaluation]; there is nothing to report.")
    written = []
    for name, source in sets.items():
        pages = {page.id: page for page in open_pages(source, runs[0] / "pages")}
        first, _ = _ends(runs[0], name)
        ends = {_called(run, runs): _ends(run, name)[1] for run in runs}
        write_report(
            out / name,
            title=f"{', '.join(ends)}: {name} pages",
            candidates={"before": first, **ends},
            pages=pages,
            images=partial(image_of, longest_px=_longest_px(runs[0])),
            curves={_called(run, runs): read_jsonl(run / "metrics.jsonl") for run in runs},
            notes={"reading": "strict", **seeds},
        )
        written.append(out / name / "report.md")
    return written


def _longest_px(run: Path) -> int:
    """What the run's policy says of its page images."""
    models = sorted((run / "ckpt").glob("*/model"))
    return read_settings(str(models[-1])).longest_px if models else LONGEST_PX


def _evaluated(run: Path) -> tuple[dict[str, PageSource], int]:
    """The evaluation sets of a run, by name, and its seed."""
    try:
        said = json.loads((run / "config.json").read_text(encoding="utf-8"))
        sets = (said["evaluation"] or {"sets": {}})["sets"]
        return {name: page_source(source) for name, source in sets.items()}, int(said["seed"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{run}: holds no config.json of a run; give a folder that `ocr-rl train` wrote.") from None


def _ends(run: Path, name: str) -> tuple[list[Graded], list[Graded]]:
    """Graded rows of the first and the last evaluation."""
    found = sorted((run / "eval").glob(f"*/{name}.jsonl"))
    if not found:
        raise UserError(f"{run}: was not evaluated on a set {name!r}; give runs of recipes with that evaluation set.")
    return read_rows(found[0]), read_rows(found[-1])


def _called(run: Path, runs: Sequence[Path]) -> str:
    """The folder's name, or its whole path where two runs share it."""
    return run.name if [other.name for other in runs].count(run.name) == 1 else str(run)
