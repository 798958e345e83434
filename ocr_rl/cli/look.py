"""Verbs that look at a run: look, watch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option, Typer

from ocr_rl.cli.options import FROM_THE_START, Workers, whole
from ocr_rl.cli.refusals import require_place

app = Typer()
Run = Annotated[Path, Argument(metavar="RUN", help="a run directory")]


@app.command(epilog=FROM_THE_START)
def look(
    run: Run,
    out: Annotated[
        Path | None, Option(help="folder of the page; only its own files are written over (default: RUN/look)")
    ] = None,
    open_: Annotated[bool, Option("--open", help="show it in the browser")] = False,
    workers: Workers = 2,
) -> None:
    """A run's post-mortem: its groups, page by page."""
    folder = out or run / "look"
    require_place(folder)

    from ocr_rl.look.post_mortem import look as render

    index = render(run, folder, workers=workers)
    print(f"open {index} in a browser (it needs the folder data beside it)")
    if open_:
        import webbrowser

        webbrowser.open(index.resolve().as_uri())


@app.command(epilog=FROM_THE_START)
def watch(
    run: Run,
    once: Annotated[bool, Option("--once", help="print one picture and end")] = False,
    every: Annotated[int, whole("seconds between two pictures", 1, 3600)] = 5,
    web: Annotated[bool, Option("--web", help="as a page for the browser, on this machine alone")] = False,
    web_port: Annotated[int, whole("of that page", 1, 65535)] = 8081,
) -> None:
    """A run as it goes, in the terminal or the browser."""
    if web:
        from ocr_rl.look.live import serve_run

        serve_run(run, port=web_port, every_s=every)
        return
    from ocr_rl.look.watch import watch as follow

    follow(run, every_s=every, once=once)
