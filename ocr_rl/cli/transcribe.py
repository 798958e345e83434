"""Verbs that ask a policy: transcribe, sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

from typer import Option, Typer

from ocr_rl.cli.options import (
    GOES_ON,
    MAX_PX,
    BackendChoice,
    Dataset,
    Deadline,
    Documents,
    EndpointUrl,
    Extra,
    InFlight,
    Instruction,
    KeyName,
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
    require_table_place,
    require_temperature,
    tell_left_out,
    tell_refused,
)
from ocr_rl.contract import UserError

Format = Literal["markdown", "pages", "dolma", "pdf"]  # as in ocr_rl.transcription.made
Fallback = Literal["text-layer"]

app = Typer()


@app.command(epilog=GOES_ON)
def transcribe(
    files: Documents,
    model: Annotated[
        str | None,
        Option(help="a model's folder or hub name (default: nano, the embedded policy; at --endpoint: what it serves)"),
    ] = None,
    backend: BackendChoice = "vllm",
    endpoint: EndpointUrl = None,
    out: Annotated[
        Path | None,
        Option(
            help="folder of pages.jsonl and of <stem>.md files; only those that it wrote are written over; a rerun "
            "goes on with what lies there (default: print)"
        ),
    ] = None,
    form: Annotated[
        list[str] | None,
        Option(
            "--format",
            metavar="NAME",
            help="what is made of the rows: markdown (default), pages (a file a page, for `pages mine`), dolma, pdf",
        ),
    ] = None,
    page_marks: Annotated[bool, Option("--page-marks", help="write <!-- page 3 --> before each page")] = False,
    fallback: Annotated[
        Fallback | None, Option(help="what stands for a transcript that did not end or did not come; marked in its row")
    ] = None,
    longest_px: Annotated[
        int | None, whole("longest side of the page image (default: what the model says)", 1, MAX_PX, metavar="PX")
    ] = None,
    max_tokens: Annotated[
        int | None, whole("of a transcript, at --endpoint (default: what the model says)", 1, metavar="N")
    ] = None,
    preset: Preset = None,
    instruction: Instruction = None,
    seed: Seed = 0,
    key_env: KeyName = "OPENAI_API_KEY",
    in_flight: InFlight = 64,
    deadline: Deadline = 600.0,
    extra: Extra = None,
    workers: Annotated[int, whole("processes that draw pages for --endpoint", 1)] = 1,
    ray: Annotated[
        str | None,
        Option(metavar="ADDRESS", help="of a Ray cluster, or local: its workers read, from files that all of them see"),
    ] = None,
    ray_workers: Annotated[int, whole("of --ray", 1)] = 2,
) -> int:
    """PDFs and pictures as Markdown, rows or searchable PDFs."""
    from ocr_rl.pages.documents import documents
    from ocr_rl.transcription.job import Wanted, open_files, transcribe_opened

    if endpoint is None:
        require_model(model or "nano")
        require_backend(backend)
        _require_no(("--max-tokens", max_tokens), ("--extra", extra))
    require_preset(preset)
    forms = _formats(form or ("markdown",))
    if out is None:
        _require_no(("--format", form))
    else:
        require_place(out)

    pdfs, left_out = documents(files, out)
    tell_left_out(left_out)
    opened = open_files(pdfs)
    unread, pdfs = opened.refused, [file.pdf for file in opened.opened]
    if exit_code(unread, pdfs) < 2:  # else no policy need be loaded to refuse them
        from ocr_rl.evaluate.readers import Asking, InProcess, at_endpoint, extra_fields

        asking = Asking(preset=preset, instruction=instruction, longest_px=longest_px, max_tokens=max_tokens, seed=seed)
        reader = InProcess(model=model or "nano", backend=backend, asking=asking)
        if endpoint is not None:
            reader = at_endpoint(
                endpoint,
                model=model,
                key_name=key_env,
                asking=asking,
                extra=extra_fields(extra or ()),
                in_flight=in_flight,
                deadline_s=deadline,
                workers=workers,
            )
        if ray is not None:
            from ocr_rl.transcription.on_ray import OnRay

            reader = OnRay(reader=reader, address=ray, workers=ray_workers)
        wanted = Wanted(formats=forms, page_marks=page_marks, fallback=fallback is not None)
        unread = transcribe_opened(opened, reader, out, wanted)
    tell_refused(unread)
    return exit_code(unread, pdfs)


def _formats(names: Sequence[str]) -> tuple[Format, ...]:
    for name in names:
        if name not in get_args(Format):
            raise UserError(f"--format {name}: is not one of {', '.join(get_args(Format))}.")
    return tuple(form for form in get_args(Format) if form in names)


def _require_no(*options: tuple[str, object]) -> None:
    for name, value in options:
        if value:
            needs = "--out" if name == "--format" else "--endpoint"
            raise UserError(f"{name} is for {needs}: give both, or neither.")


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
    (require_table_place if format == "parquet" else require_file_place)(out)

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
