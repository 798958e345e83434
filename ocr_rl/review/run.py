"""`ocr-rl pages review` as a whole: the page until Ctrl-C, and the dataset that is decided."""

from __future__ import annotations

from pathlib import Path

from ocr_rl.contract import UserError
from ocr_rl.local_web import Wrong
from ocr_rl.review.desk import apply_decisions, open_desk
from ocr_rl.review.web import Review


def review_tests(data: Path, suspects: Path | None, journal: Path, to: Path | None, *, port: int) -> None:
    """Show the page until it is ended. `to`: the new dataset's folder, or None to write in place."""

    def write() -> str:
        try:
            return apply_decisions(data, journal, to)
        except UserError as error:
            raise Wrong(str(error)) from None

    desk = open_desk(data, suspects, journal)
    review = Review(desk, write, port=port)
    print(f"{len(desk.tests)} tests: {review.url} (this machine alone; Ctrl-C ends it)", flush=True)
    print(f"Each decision is in {journal} at once.", flush=True)
    review.serve()
