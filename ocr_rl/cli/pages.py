"""Verbs of page sets: pages synth, check, mine, import, export, split, overlap, show, render (rank: ranking.py)."""

from __future__ import annotations

import math
import re
import sys
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, BadParameter, Option, Typer

from ocr_rl.cli import ranking
from ocr_rl.cli.options import (
    MAX_PX,
    MAX_SCAN,
    NEW_FOLDER,
    Dataset,
    Documents,
    NewDataset,
    Seed,
    Workers,
    whole,
)
from ocr_rl.cli.refusals import (
    exit_code,
    require_dataset,
    require_file,
    require_file_place,
    require_new,
    require_place,
    require_table_place,
    tell_left_out,
    tell_refused,
)
from ocr_rl.contract import UserError

if TYPE_CHECKING:
    from ocr_rl.pages.harvest import Harvest

app = Typer(help="Make, check, rank and draw pages.")
app.add_typer(ranking.app)
MAX_NOTES = 20  # of a dataset that are printed


def _scan(text: str) -> float:
    try:
        strength = float(text)
    except ValueError:
        strength = math.nan
    if not 0 <= strength <= MAX_SCAN:
        raise BadParameter(f"must be a number from 0 to {MAX_SCAN:g}, got {text[:80]!r}")
    return strength


@app.command(epilog=NEW_FOLDER)
def synth(
    out: NewDataset,
    kind: Annotated[
        str, Option(help="of document, as in report, notice, nano; a wrong one is told which there are")
    ] = "report",
    n: Annotated[int, whole("how many pages", 1, None, "--n")] = 100,
    seed: Seed = 0,
    pages_per_document: Annotated[int, whole("pages in one PDF", 1)] = 1,
    fonts: Annotated[
        Literal["seen", "unseen"] | None,
        Option(help="typefaces that the embedded policy learnt from, or did not (default: the kind's own)"),
    ] = None,
    words: Annotated[
        Literal["invented", "latin"] | None,
        Option(help="half of the words random syllables, or all Latin (default: the kind's own)"),
    ] = None,
    scan: Annotated[
        float | None,
        Option(
            parser=_scan,
            metavar="STRENGTH",
            help=f"how bad a scanner the pages went through, 0 (none) to {MAX_SCAN:g} (default: the kind's own)",
        ),
    ] = None,
    front_matter: Annotated[bool, Option("--front-matter", help="references begin with olmOCR's YAML block")] = False,
    workers: Workers = 2,
) -> None:
    """Typeset pages with references and unit tests."""
    require_place(out)
    if any(path.suffix.lower() == ".jsonl" for path in out.glob("*")):
        raise UserError(f"{out}: already holds a dataset; give an empty or a new folder with --out.")

    from ocr_rl.pages.synth.make import Looks, write_dataset

    rate = write_dataset(
        kind,
        n=n,
        seed=seed,
        out=out,
        pages_per_document=pages_per_document,
        look=Looks(fonts=fonts, words=words, scan=scan),
        front_matter=front_matter,
        workers=workers,
    )
    print(f"{n} pages in {out}, {60 * rate:,.0f} a minute")


@app.command()
def check(data: Dataset) -> int:
    """Validate a dataset folder, one line a fault. Notes are no faults."""
    from ocr_rl.pages.dataset import survey

    seen = survey(data)
    for fault in seen.faults:
        print(fault)
    for note in seen.notes[:MAX_NOTES]:
        print(f"note: {note}")
    if len(seen.notes) > MAX_NOTES:
        print(f"note: and {len(seen.notes) - MAX_NOTES} more such lines")
    if seen.faults:
        print(f"{len(seen.faults)} faults", file=sys.stderr)
        return 2
    print(f"{len(seen.pages)} pages, {sum(len(page.checks) for page in seen.pages)} tests, no fault")
    return 0


@app.command(epilog=NEW_FOLDER)
def mine(
    folder: Annotated[Path, Argument(metavar="DIR", help="PDFs, and beside each its transcript in Markdown, if any")],
    out: NewDataset,
    seed: Seed = 0,
) -> None:
    """Your PDFs as pages with tests. From text layers and transcripts."""
    require_place(out)

    from ocr_rl.pages.mined import mine_folder

    _tell_harvest(mine_folder(folder, out, seed), folder, out)


@app.command("import", epilog=NEW_FOLDER)
def import_(
    place: Annotated[
        Path,
        Argument(metavar="PLACE", help="a folder in a layout of olmOCR's, or parquet: a file, or a folder of them"),
    ],
    out: NewDataset,
    seed: Seed = 0,
) -> None:
    """Other people's pages as a dataset. From olmOCR's public layouts and from parquet."""
    require_place(out)
    if not place.exists():
        raise UserError(f"{place}: there is no such file or folder; name a parquet file, or a folder of pages.")
    if place.is_file() and place.suffix.lower() != ".parquet":
        raise UserError(f"{place}: is no .parquet file; name one, or a folder of parquet files or of documents.")

    from ocr_rl.pages.hub.imported import import_tables, tables_in
    from ocr_rl.pages.imported import import_folder

    harvest = import_tables(place, out, seed) if tables_in(place) else import_folder(place, out, seed)
    _tell_harvest(harvest, place, out)


@app.command()
def export(
    data: Dataset,
    out: Annotated[Path, Option(help="a .parquet file; only one that it wrote is written over")],
    layout: Annotated[
        Literal["trl", "verl"], Option(help="columns as TRL's trainers and `datasets` take them, or as verl does")
    ] = "trl",
    preferences: Annotated[
        Path | None, Option(metavar="FILE", help="pairs about the pages, as JSON lines: a table for TRL's DPO")
    ] = None,
    instruction: Annotated[
        str | None,
        Option(metavar="TEXT", help="the message beside the page: as the policy was taught (default: a general one)"),
    ] = None,
    longest_px: Annotated[int, whole("longest side of the page image", 1, MAX_PX, metavar="PX")] = 1288,
    workers: Workers = 2,
) -> int:
    """A dataset as parquet, for `datasets`, TRL or verl."""
    require_dataset(data)
    require_table_place(out)
    if preferences:
        require_file(preferences, "--preferences ")
    if preferences and layout != "trl":
        raise UserError("--preferences makes a table for TRL's DPO: leave --layout out.")

    from ocr_rl.interop.verl import export_pages as export_for_verl
    from ocr_rl.models.settings import INSTRUCTION
    from ocr_rl.pages.hub.exported import Asking, export_pages, export_pairs

    ask = Asking(
        instruction=INSTRUCTION if instruction is None else instruction, longest_px=longest_px, workers=workers
    )
    if preferences:
        rows, refused = export_pairs(data, preferences, out, ask)
    else:
        rows, refused = (export_pages if layout == "trl" else export_for_verl)(data, out, ask)
    tell_refused(refused)
    print(f"{rows} rows in {out}, {len(refused)} pages refused")
    return 1 if refused else 0


def _tell_harvest(harvest: Harvest, folder: Path, out: Path) -> None:
    tell_left_out(harvest.left_out)
    if not harvest.pages:
        why = "see above why" if harvest.left_out else "it names none"
        raise UserError(f"{folder}: no page of it can be used, so nothing was written; {why}.")
    print(f"{harvest.pages} pages, {harvest.tests} tests in {out}; left out {len(harvest.left_out)} (left_out.txt)")


@app.command(epilog=NEW_FOLDER)
def split(
    data: Dataset,
    part: Annotated[
        list[str],
        Option(metavar="NAME=SHARE", help="a part and its share of the documents, as in train=0.9; repeat it"),
    ],
    out: Annotated[Path, Option(help="folder of the parts' folders; nothing is written over")],
    seed: Seed = 0,
) -> None:
    """A dataset for each part, dealt out by document."""
    parts = list(map(_share, part))
    require_dataset(data)
    for name, _ in parts:
        require_new(out / name)

    from ocr_rl.pages.split import require_part_names, write_split

    require_part_names([name for name, _ in parts])
    shares = dict(parts)
    for name, pages in write_split(data, shares, seed, out).items():
        print(f"{pages} pages in {out / name}")


def _share(text: str) -> tuple[str, float]:
    """("train", 0.9) of "train=0.9"."""
    name, _, number = text.partition("=")
    try:
        share = float(number)
    except ValueError:
        share = math.nan
    if not re.fullmatch(r"[\w-]+", name) or math.isnan(share):
        raise UserError(f"--part {text[:80]!r}: say NAME=SHARE, as in train=0.9.")
    if not 0 < share < 1:
        raise UserError(f"--part {text[:80]!r}: a share lies between 0 and 1.")
    return name, share


@app.command()
def overlap(data: Dataset, others: Annotated[list[Path], Argument(metavar="DATA", help="further datasets")]) -> int:
    """Documents and text that page sets share. Exit code 1 if there are any."""
    for folder in (data, *others):
        require_dataset(folder)

    from ocr_rl.pages.dataset import load_dataset
    from ocr_rl.pages.overlap import overlaps

    sets = [(folder, load_dataset(folder)) for folder in (data, *others)]
    leaks = False
    for (name, pages), (other, other_pages) in combinations(sets, 2):
        shared = overlaps(pages, other_pages)
        for overlap in shared:
            print(overlap)
        print(f"{len({overlap.page.id for overlap in shared})} of {len(pages)} pages of {name} stand in {other} too")
        leaks = leaks or bool(shared)
    return 1 if leaks else 0


@app.command()
def show(
    data: Dataset,
    n: Annotated[int, whole("how many pages", 1, 96, "--n")] = 24,
    seed: Seed = 0,
    cell_px: Annotated[int, whole("side of the square of a page", 64, 1024, metavar="PX")] = 420,
    out: Annotated[Path, Option(help="a .png or .jpg file; only one that it wrote is written over")] = Path(
        "pages.png"
    ),
) -> int:
    """A contact sheet of some pages of a dataset."""
    require_dataset(data)
    require_file_place(out)

    from random import Random

    from ocr_rl.pages.dataset import load_dataset
    from ocr_rl.pages.export import contact_sheet

    pages = load_dataset(data)
    chosen = Random(seed).sample(pages, min(n, len(pages)))
    refused = contact_sheet(chosen, out, cell_px)
    tell_refused(refused)
    print(f"{len(chosen) - len(refused)} of {len(pages)} pages on {out}")
    return 1 if refused else 0


@app.command()
def render(
    files: Documents,
    out: Annotated[Path, Option(help="folder for the images; only those that it wrote are written over")],
    longest_px: Annotated[int, whole("longest side of the page image", 1, MAX_PX, metavar="PX")] = 1288,
    workers: Workers = 2,
) -> int:
    """Pages as PNG images."""
    require_place(out)

    from ocr_rl.pages.documents import documents
    from ocr_rl.pages.export import render_folder

    pdfs, left_out = documents(files, out)
    tell_left_out(left_out)
    written, refused = render_folder(pdfs, out, longest_px, workers)
    tell_refused(refused)
    print(f"{len(written)} pages written to {out}, {len(refused)} refused")
    return exit_code(refused, pdfs)
