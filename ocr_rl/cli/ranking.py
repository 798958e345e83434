"""Verbs of page sets that need samples: pages rank, pages review."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, BadParameter, Option, Typer

from ocr_rl.cli.options import INTERRUPTED, Dataset, whole
from ocr_rl.cli.refusals import (
    require_dataset,
    require_file,
    require_file_place,
    require_new,
    require_no_tests,
    require_outside,
)
from ocr_rl.contract import UserError
from ocr_rl.outputs import refuse_taken

app = Typer()


def _top(text: str) -> float:
    """A whole number from 1, or a share between 0 and 1."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (0 < number < 1 or (1 <= number < math.inf and number.is_integer())):
        raise BadParameter(f"must be a whole number of at least 1 or a share between 0 and 1, got {text[:80]!r}")
    return number


@app.command()
def rank(
    data: Dataset,
    samples: Annotated[
        Path, Argument(metavar="SAMPLES", help="groups of its pages, of `ocr-rl sample`, or a training run's folder")
    ],
    by: Annotated[
        Literal["headroom", "suspect"],
        Option(help="pages by best minus mean reward, or tests by how samples contradict them"),
    ] = "headroom",
    rewards: Annotated[
        str | None, Option(metavar="RECIPE", help="whose rewards count (default: the share of tests that pass)")
    ] = None,
    top: Annotated[
        float | None,
        Option(
            parser=_top,
            metavar="N",
            help="so many pages or tests, or a share of all, as 0.25 (default: every page with headroom, 0.1 of tests)",
        ),
    ] = None,
    out: Annotated[Path | None, Option(help="a file for all figures, as JSON lines")] = None,
    to: Annotated[
        Path | None,
        Option(metavar="FOLDER", help="the chosen pages as a dataset, to train on; nothing is written over"),
    ] = None,
) -> None:
    """Pages worth their tokens, or tests that are likely wrong."""
    from ocr_rl.config import load_recipe

    require_dataset(data)
    require_file(samples)
    if rewards and not load_recipe(rewards).mix:
        raise UserError(f"--rewards: the recipe {rewards} has no rewards; give one that learns from its own samples.")
    if by == "suspect" and (rewards or to):
        raise UserError(f"--by suspect lists tests: leave {'--rewards' if rewards else '--to'} out.")
    if out is not None:
        require_file_place(out)
        require_no_tests(out, data, "--out")
        refuse_taken([out], [samples])
    if to is not None:
        require_new(to, "--to")
        require_outside(to, data, "--to")

    from ocr_rl.evaluate.ranking import rank_pages, rank_tests

    if by == "suspect":
        lines = rank_tests(data, samples, top=top, out=out)
    else:
        lines = rank_pages(data, samples, recipe=rewards, top=top, out=out, to=to)
    for line in lines:
        print(line)


@app.command(epilog=f"{INTERRUPTED}each decision is in the journal, and the same command goes on")
def review(
    data: Dataset,
    suspects: Annotated[
        Path | None,
        Argument(metavar="SUSPECTS", help="what `pages rank --by suspect --out` wrote (default: every test)"),
    ] = None,
    journal: Annotated[
        Path | None, Option(metavar="FILE", help="the decisions, appended one by one (default: DATA/review.journal)")
    ] = None,
    out: Annotated[
        Path | None,
        Option(metavar="FOLDER", help="the dataset as it is decided, a new folder (default: DATA_reviewed, or -2 …)"),
    ] = None,
    in_place: Annotated[
        bool, Option("--in-place", help="write DATA's own JSONL files instead; the old ones stay as *.before-review")
    ] = False,
    apply: Annotated[bool, Option("--apply", help="only write what the journal has decided")] = False,
    port: Annotated[int, whole("of the page, on this machine alone; 0: any", 0, 65535)] = 0,
) -> None:
    """Keep, drop or edit tests beside the page, in the browser."""
    require_dataset(data)
    if suspects is not None:
        require_file(suspects)
    if out is not None and in_place:
        raise UserError("--in-place writes into DATA, --out into a new folder: give one of them.")
    if out is not None:
        require_new(out)
        require_outside(out, data, "--out")
    path = journal or data / "review.journal"
    require_no_tests(path, data, "--journal")
    if apply:
        require_file(path)

    from ocr_rl.review.run import review_tests, write_reviewed

    if apply:
        print(write_reviewed(data, path, out, in_place=in_place))
    else:
        review_tests(data, suspects, path, out, in_place=in_place, port=port)
