"""Verbs that make policies and speak of runs: train, demo, study, report, card, soup."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option, Typer

from ocr_rl.cli.options import GOES_ON, RESUMES, BackendChoice, RecipeName, Resume, Seed, Settings
from ocr_rl.cli.refusals import require_backend, require_dataset, require_inputs, require_new, require_place
from ocr_rl.contract import UserError

app = Typer()


@app.command(epilog=RESUMES)
def train(
    recipe: RecipeName,
    settings: Settings = None,
    out: Annotated[Path | None, Option(help="run directory (default: runs/RECIPE)")] = None,
    resume: Resume = False,
    until: Annotated[
        int | None, Option(metavar="STEP", help="stop there as if cut off: leaves a weaker policy")
    ] = None,
) -> None:
    """Train as a recipe says (SFT, GRPO, DPO or best-of-N)."""
    from ocr_rl.config import load_recipe

    loaded = load_recipe(recipe, settings)
    run = out or Path("runs") / Path(recipe).stem
    if until is not None and not 1 <= until < loaded.algorithm.total_steps:
        raise UserError(
            f"--until must be a step before the last one (1 to {loaded.algorithm.total_steps - 1}), got {until}."
        )
    _require_run(loaded.model_dump(mode="json"), run, resume)

    from ocr_rl.learn import ranks
    from ocr_rl.train import follow
    from ocr_rl.train import train as run_recipe

    with ranks.group() as first:
        if not first:
            return follow()
        trained = run_recipe(loaded, run, go_on=resume, until=until)
    print(f"policy: {trained}")
    _show(_reports(run))
    _point_to_look(run)


@app.command(epilog=RESUMES)
def demo(
    out: Annotated[Path, Option(help="run directory")] = Path("runs/demo"),
    seed: Seed = 0,
    settings: Settings = None,
    resume: Resume = False,
) -> None:
    """GRPO on a new kind of page, before and after. Recipe nano_spans; minutes on two cores."""
    from ocr_rl.config import load_recipe

    recipe = load_recipe("nano_spans", [f"seed={seed}", *(settings or [])])
    _require_run(recipe.model_dump(mode="json"), out, resume)

    from ocr_rl.train import train as run_recipe

    trained = run_recipe(recipe, out, go_on=resume)
    _show(_reports(out))
    _point_to_look(out)
    print(f"the trained policy: {trained}")


@app.command(epilog=GOES_ON)
def study(
    study: Annotated[str, Argument(metavar="STUDY", help="a study file, or a shipped one: small, full, second, again")],
    out: Annotated[Path, Option(help="folder of its runs and report; a rerun goes on with what lies there")] = Path(
        "runs/study"
    ),
    rows: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="the study_rows.tar.xz of a report: unpack it into a new --out, rebuild that report, and run nothing",
        ),
    ] = None,
    hours: Annotated[
        float | None, Option(help="begin no run after so many hours; the report is of those that have ended", min=0)
    ] = None,
) -> None:
    """Compare ways of learning on equal terms. Arms, seeds, claims, one report.

    A study that was cut goes on on another machine too: unpack its rows, and run the same command without --rows.
    """
    from ocr_rl.study.plan import load_study

    loaded = load_study(study)
    require_inputs(loaded.model_dump(mode="json"))
    require_place(out)

    from ocr_rl.outputs import refuse_taken
    from ocr_rl.study.report import FILES, ROWS, report_study
    from ocr_rl.study.rows import unpack

    report = out / "report"
    refuse_taken(report / name for name in FILES)
    if rows is not None:
        unpack(rows, out, loaded)
    else:
        from ocr_rl.study.run import run_study

        run_study(loaded, out, math.inf if hours is None else time.monotonic() + 3600 * hours)
    written = report_study(loaded, out, report)
    if written is None:
        print(f"no arm has ended yet: the same command goes on, here or from {report / ROWS} on another machine")
        return
    print(written.read_text(encoding="utf-8"))
    print(f"with pages side by side: {report / 'report.html'}")


@app.command()
def report(
    runs: Annotated[list[Path], Argument(metavar="RUN", help="run directories; the first one's start is `before`")],
    out: Annotated[
        Path, Option(help="folder for report.html, .md and .json of each evaluation set; only its own are written over")
    ],
) -> None:
    """One report over finished runs, from their evaluations."""
    for run in runs:
        if not (run / "config.json").is_file():
            raise UserError(f"{run}: holds no config.json of a run; give a folder that `ocr-rl train` wrote.")
    require_place(out)

    from ocr_rl.evaluate.run_report import report_runs

    _show(report_runs(runs, out))


@app.command()
def card(
    run: Annotated[Path, Argument(metavar="RUN", help="a run directory with a checkpoint")],
    out: Annotated[
        Path | None, Option(help="a Markdown file (default: README.md in the folder of the run's last model)")
    ] = None,
) -> None:
    """A README for a run's model, with its figures."""
    from ocr_rl.evaluate.card import card as write_card

    print(f"written to {write_card(run, out)}")


@app.command()
def soup(
    runs: Annotated[
        list[Path], Argument(metavar="RUN", help="run directories (their last checkpoint) or model folders")
    ],
    data: Annotated[Path, Option(help="dataset folder of validation pages with tests")],
    out: Annotated[Path, Option(help="folder for the averaged policy; nothing is written over")],
    backend: BackendChoice = "vllm",
) -> int:
    """Average policies. Kept only if the average reads better than the best of them."""
    if len(runs) < 2:
        raise UserError("soup: an average is of two policies at least; name another run or model folder.")
    require_new(out)
    for run in runs:
        if not (run / "ckpt").is_dir() and not (run / "config.json").is_file():
            raise UserError(f"{run}: is neither a run nor a model's folder.")
    require_dataset(data)
    require_backend(backend)

    from ocr_rl.evaluate.soup import soup as average

    whole, parts = average(runs, out, data, engine=backend)
    for folder, rate in parts.items():
        print(f"{rate:.2%}  {folder}")
    best = max(parts.values())
    better = whole > best
    end = f"written to {out}" if better else "nothing is written"
    print(f"the average passes {whole:.2%} of the tests, the best of its parts {best:.2%}: {end}")
    return 0 if better else 1


def _require_run(recipe: dict[str, Any], out: Path, resume: bool) -> None:
    """UserError where the recipe names what is not there, or the folder holds another run."""
    from ocr_rl.run import Run

    require_inputs(recipe)
    require_place(out)
    if out.exists():
        Run(out).claim(recipe, resume=resume)


def _reports(run: Path) -> list[Path]:
    return sorted((run / "report").glob("*/report.md"))


def _point_to_look(run: Path) -> None:
    if any((run / "groups").glob("*.jsonl")):
        print(f"every group of samples, page by page: ocr-rl look {run}")


def _show(reports: Sequence[Path]) -> None:
    for report in reports:
        print(report.read_text(encoding="utf-8"))
        print(f"with pages side by side: {report.with_suffix('.html')}\n")
