"""`ocr-rl pages review` as a whole: the page until Ctrl-C, and the dataset that is decided."""

from __future__ import annotations

from itertools import chain, count
from pathlib import Path

from ocr_rl.contract import UserError
from ocr_rl.local_web import Wrong
from ocr_rl.review.desk import apply_decisions, open_desk
from ocr_rl.review.web import Review


def write_reviewed(data: Path, journal: Path, out: Path | None, *, in_place: bool) -> str:
    """Write what is decided, and say where: in place, into `out`, or into a new folder beside the dataset."""
    return apply_decisions(data, journal, None if in_place else out or _beside(data.resolve()))


def _beside(data: Path) -> Path:
    """<data>_reviewed, or where that is taken <data>_reviewed-2, and so on."""
    names = chain([f"{data.name}_reviewed"], (f"{data.name}_reviewed-{n}" for n in count(2)))
    return next(place for name in names if not (place := data.with_name(name)).exists())


def review_tests(
    data: Path, suspects: Path | None, journal: Path, out: Path | None, *, in_place: bool, port: int
) -> None:
    """Show the page until it is ended."""

    def write() -> str:
        try:
            return write_reviewed(data, journal, out, in_place=in_place)
        except UserError as error:
            raise Wrong(str(error)) from None

    desk = open_desk(data, suspects, journal)
    review = Review(desk, write, port=port)
    print(f"{len(desk.tests)} tests: {review.url} (this machine alone; Ctrl-C ends it)", flush=True)
    print(f"Each decision is in {journal} at once.", flush=True)
    review.serve()
