"""Verbs that ask a policy: transcribe, sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
        Path, Option(help="a JSONL file of groups, as a run keeps them; only one that it wrote is written over")
    ],
    model: Model = "nano",
    backend: BackendChoice = "vllm",
    pages: Annotated[int, whole("how many pages are drawn", 1, 100_000)] = 8,
    n: Annotated[int, whole("samples of each page", 1, 1024, "--n")] = 8,
    temperature: Annotated[float, Option(help="of sampling, 0.01 to 10; 0 takes the likeliest token")] = 1.0,
    seed: Seed = 0,
    preset: Preset = None,
    instruction: Instruction = None,
) -> None:
    """A policy's samples of some pages, for score and rewards audit."""
    require_dataset(data)
    require_model(model)
    require_preset(preset)
    require_backend(backend)
    require_temperature(temperature)
    require_file_place(out)

    from ocr_rl.evaluate.samples import sample_pages

    drawn = sample_pages(
        data,
        out,
        model=model,
        engine=backend,
        pages=pages,
        n=n,
        temperature=temperature,
        seed=seed,
        preset=preset,
        instruction=instruction,
    )
    print(f"{n} samples of each of {drawn} pages in {out}")
