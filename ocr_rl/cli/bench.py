"""The verb bench."""

from __future__ import annotations

import os.path
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Context, Option, Typer
from typer.core import TyperCommand

from ocr_rl.cli.options import GOES_ON, BackendChoice, Instruction, Preset, Workers, whole
from ocr_rl.cli.refusals import (
    require_backend,
    require_dataset,
    require_model,
    require_place,
    require_plugin,
    require_preset,
)
from ocr_rl.contract import UserError
from ocr_rl.text.suggest import did_you_mean

_OF_SUITES = ("data", "candidate", "suite", "out")  # what --suite reads; engines, models and servers are refused apart
SEVERAL = ("--candidate", "--engine", "--model", "--endpoint", "--tag", "--file", "--type", "--suite")

app = Typer()


class Several(TyperCommand):
    """Takes several values after one option, as in `--engine tesseract text_layer`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spread(args, SEVERAL))


def spread(words: Sequence[str], options: Sequence[str]) -> list[str]:
    """["--engine", "a", "b"] -> ["--engine", "a", "--engine", "b"], for each of the options."""
    spaced: list[str] = []
    option = ""
    for before, word in zip(["", *words], words, strict=False):
        if word.startswith("-"):
            option = word if word in options else ""
            spaced.append(word)
        else:
            spaced += [option, word] if option and before != option else [word]
    return spaced


@app.command(cls=Several, epilog=GOES_ON)
def bench(
    context: Context,
    data: Annotated[
        Path, Argument(metavar="DATA", help="a dataset folder, or with --suite what a suite was fetched to")
    ],
    candidate: Annotated[
        list[str] | None,
        Option(metavar="FOLDER...", help="Markdown files, <pdf>_pg<N>_repeat<M>.md; NAME=FOLDER gives a name"),
    ] = None,
    suite: Annotated[
        list[str] | None,
        Option(
            metavar="SUITE...",
            help="other people's benchmarks, with their figures, for candidates alone: dp-bench, omnidocbench, "
            "parsebench, puredocbench; with several, DATA and candidates hold a folder for each",
        ),
    ] = None,
    engine: Annotated[
        list[str] | None,
        Option(metavar="NAME...", help="an OCR engine (`ocr-rl plugins`), as in tesseract,languages=eng+deu"),
    ] = None,
    model: Annotated[
        list[str] | None,
        Option(metavar="MODEL...", help="a policy: nano, a model's folder or hub name; NAME=FOLDER gives a name"),
    ] = None,
    endpoint: Annotated[
        list[str] | None,
        Option(
            metavar="URL...",
            help="a server, as in http://127.0.0.1:8000,price=0.1/0.4 (docs/bench.md); NAME=URL gives a name",
        ),
    ] = None,
    limit: Annotated[int | None, whole("how many pages, the first of those that the next three choose", 1)] = None,
    tag: Annotated[list[str] | None, Option(metavar="TAG...", help="pages with one of these tags")] = None,
    file: Annotated[list[str] | None, Option(metavar="NAME...", help="tests of these files, as tables.jsonl")] = None,
    type_: Annotated[
        list[str] | None, Option("--type", metavar="TYPE...", help="tests of these types, as table")
    ] = None,
    backend: BackendChoice = "vllm",
    preset: Preset = None,
    instruction: Instruction = None,
    reading: Annotated[
        Literal["compatible", "strict"], Option(help="how tests are read: as the public olmOCR-Bench does, or strictly")
    ] = "compatible",
    repeats: Annotated[int, whole("how often a policy is asked (engines: once)", 1)] = 1,
    temperature: Annotated[float | None, Option(help="of a policy's first attempt (default: 0, repeated: 0.7)")] = None,
    missing: Annotated[
        Literal["error", "fail"], Option(help="a page that a folder lacks: refuse the folder, or fail the page's tests")
    ] = "error",
    front_matter: Annotated[
        Literal["keep", "strip"],
        Option(help="of a folder's files: judged with the rest, as the public olmOCR-Bench does, or left out"),
    ] = "keep",
    cluster: Annotated[Literal["page", "document"], Option(help="what the intervals redraw")] = "page",
    workers: Workers = 2,
    out: Annotated[Path, Option(help="folder of answers and report; a rerun goes on with what lies there")] = Path(
        "runs/bench"
    ),
) -> None:
    """Unit tests over folders, engines and policies, as a report."""
    folders, engines, models, endpoints = candidate or [], engine or [], model or [], endpoint or []
    if not [*folders, *engines, *models, *endpoints]:
        raise UserError("bench: name at least one --candidate FOLDER, --engine NAME, --model MODEL or --endpoint URL.")
    for option, texts in (("--candidate", folders), ("--model", models)):
        if empty := [text for text in texts if not _place(text)]:
            raise UserError(f"{option} {empty[0]}: names no folder; write one, as in {empty[0] or 'NAME='}FOLDER.")
    if suite:
        _refuse_unread(context, [*_OF_SUITES, "engine", "model", "endpoint"])
        _suites(data, suite, folders, [*engines, *models, *endpoints], out)
        return
    require_dataset(data)
    for folder in map(_place, folders):
        if not Path(folder).is_dir():
            raise UserError(f"--candidate {folder}: there is no such folder.")
    for spec in engines:
        require_plugin("ocr_rl.engines", spec.partition(",")[0])
    for policy in map(_place, models):
        require_model(policy, "--model ")
    require_preset(preset)
    if models:
        require_backend(backend)
    require_place(out)

    from ocr_rl.evaluate.bench import bench as compare
    from ocr_rl.pages.subset import Subset

    report = compare(
        data,
        out=out,
        candidates=folders,
        engines=engines,
        models=models,
        reading=reading,
        repeats=repeats,
        temperature=temperature,
        sampler=backend,
        preset=preset,
        instruction=instruction,
        missing=missing,
        front_matter=front_matter,
        cluster=cluster,
        workers=workers,
        endpoints=endpoints,
        subset=Subset(
            limit=limit, tags=frozenset(tag or ()), files=frozenset(file or ()), types=frozenset(type_ or ())
        ),
    )
    print(report)


def _suites(folder: Path, suites: Sequence[str], candidates: Sequence[str], others: Sequence[str], out: Path) -> None:
    if others:
        raise UserError("--suite takes folders of answers: write a policy's with `transcribe`, and give --candidate.")
    require_place(out)

    from ocr_rl.evaluate.suites.run import SUITES, bench_suite, bench_suites

    named = [(_name(text), Path(_place(text))) for text in candidates]
    if unnamed := [text for text in candidates if not _name(text)]:
        raise UserError(f"--candidate {unnamed[0]}: has no name; give one, as in NAME={unnamed[0]}.")
    if twice := [name for k, (name, _) in enumerate(named) if name in dict(named[:k])]:
        raise UserError(f"--candidate: two are called {twice[0]!r}; give a name, as in NAME=FOLDER.")
    if strange := [name for name in suites if name not in SUITES]:
        raise UserError(f"--suite {strange[0]}: no suite has that name{did_you_mean(strange[0], SUITES)}")
    if twice := [name for k, name in enumerate(suites) if name in suites[:k]]:
        raise UserError(f"--suite: {twice[0]} stands there twice.")
    several = len(suites) > 1
    print(bench_suites(folder, suites, named, out) if several else bench_suite(folder, suites[0], named, out), end="")


def _refuse_unread(context: Context, read: Sequence[str]) -> None:
    """UserError where an option was given that nothing would read."""
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name and parameter.name not in read and _is_given(context, parameter.name)
    ]
    if given:
        raise UserError(
            f"--suite does not read {', '.join(given)}, because a suite judges all its pages by its own rules: "
            "leave that out."
        )


def _is_given(context: Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and not source.name.startswith("DEFAULT")


def _name(text: str) -> str:
    """The NAME of NAME=FOLDER, or the folder's own, which `.` has too."""
    return text.partition("=")[0] if _place(text) != text else os.path.basename(os.path.abspath(text))


def _place(text: str) -> str:
    """The folder or hub name of NAME=FOLDER."""
    name, equals, place = text.partition("=")
    return place if equals and name and not Path(text).exists() else text
