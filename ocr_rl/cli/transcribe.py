"""Verbs that ask a policy: transcribe, sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Option, Typer

from ocr_rl.cli.options import (
    MAX_PX,
    BackendChoice,
    Dataset,
    Documents,
    Instruction,
    Model,
    Preset,
    Seed,
    whole,
)
from ocr_rl.cli.refusals import (
    exit_code,
    require_backend,
    require_dataset,
    require_file_place,
    require_model,
    require_place,
    require_preset,
    require_temperature,
    tell_left_out,
    tell_refused,
)
from ocr_rl.contract import UserError

app = Typer()


@app.command()
def transcribe(
    files: Documents,
    model: Model = "nano",
    backend: BackendChoice = "vllm",
    out: Annotated[
        Path | None,
        Option(help="folder for <stem>.md files; only those that it wrote are written over (default: print)"),
    ] = None,
    longest_px: Annotated[
        int | None, whole("longest side of the page image (default: what the model says)", 1, MAX_PX, metavar="PX")
    ] = None,
    preset: Preset = None,
    instruction: Instruction = None,
) -> int:
    """PDFs and pictures to Markdown."""
    require_model(model)
    require_preset(preset)
    require_backend(backend)
    if out is not None:
        require_place(out)

    from ocr_rl.outputs import refuse_taken
    from ocr_rl.pages.documents import documents
    from ocr_rl.pages.raster import PageError, count_pages, distinct_stems

    pdfs, left_out = documents(files, out)
    tell_left_out(left_out)
    if out is not None:
        refuse_taken((out / f"{stem}.md" for stem in distinct_stems(pdfs).values()), pdfs)

    unread = [counted for _, counted in count_pages(pdfs) if isinstance(counted, PageError)]
    if exit_code(unread, pdfs) < 2:  # else no policy need be loaded to refuse them
        from ocr_rl.evaluate.transcribe_files import transcribe_files

        unread = transcribe_files(
            pdfs,
            model=model,
            engine=backend,
            out=out,
            longest_px=longest_px,
            preset=preset,
            instruction=instruction,
        )
    tell_refused(unread)
    return exit_code(unread, pdfs)


@app.command()
def sample(
    data: Dataset,
    out: Annotated[
        Path, Option(help="a file of groups, as a run keeps them, or of pairs; only one that it wrote is written over")
    ],
    model: Model = "nano",
    backend: BackendChoice = "vllm",
    pages: Annotated[int, whole("how many pages are drawn", 1, 100_000)] = 8,
    n: Annotated[int, whole("samples of each page", 1, 1024, "--n")] = 8,
    temperature: Annotated[float, Option(help="of sampling, 0.01 to 10; 0 takes the likeliest token")] = 1.0,
    seed: Seed = 0,
    preset: Preset = None,
    instruction: Instruction = None,
    format: Annotated[
        Literal["jsonl", "parquet"], Option(help="jsonl for score and rewards audit, parquet for `datasets` and TRL")
    ] = "jsonl",
    pairs: Annotated[
        str | None,
        Option(metavar="RECIPE", help="best and worst sample of each page by its rewards, as DPO takes them"),
    ] = None,
) -> None:
    """A policy's samples of some pages, as groups or pairs."""
    require_dataset(data)
    require_model(model)
    require_preset(preset)
    require_backend(backend)
    require_temperature(temperature)
    require_file_place(out)

    if pairs and format == "jsonl":
        raise UserError("--pairs makes a table for DPO: add --format parquet.")

    from ocr_rl.evaluate.samples import Drawing, sample_pages, sample_table

    drawing = Drawing(
        data=data,
        model=model,
        engine=backend,
        pages=pages,
        n=n,
        temperature=temperature,
        seed=seed,
        preset=preset,
        instruction=instruction,
    )
    if format == "parquet":
        print(f"{sample_table(drawing, out, pairs)} {'pairs' if pairs else 'groups'} in {out}")
    else:
        print(f"{n} samples of each of {sample_pages(drawing, out)} pages in {out}")
