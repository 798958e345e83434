"""A dataset becomes a table that `datasets` loads: pages as TRL's GRPO takes them, or pairs as its DPO does.

    export_pages(data, out, ask)              `ocr-rl pages export DATA --out FILE`
    export_pairs(data, pairs, out, ask)       the same with --preferences PAIRS

A row is that of `rows` with what the policy is asked, the page's image, and a document of the page alone.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ocr_rl.contract import Page
from ocr_rl.pages.hub.parquet import Columns, write_table
from ocr_rl.pages.hub.rows import document_of, rows_of
from ocr_rl.pages.preferences import Preference, read_preferences
from ocr_rl.pages.raster import ImageRef, PageError, render_all

Messages = list[dict[str, str]]
PLACE: Columns = {"id": "text", "pdf": "text", "page": "number"}
JUDGED: Columns = {"reference": "text", "tests": "text", "test_files": "texts"}
PAGES: Columns = {**PLACE, "prompt": "messages", "image": "image", **JUDGED, "document": "bytes"}
PAIRS: Columns = {**PLACE, "prompt": "messages", "image": "image", "chosen": "messages", "rejected": "messages"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How pages are shown and asked about."""

    instruction: str
    longest_px: int
    workers: int = 1

    @property
    def prompt(self) -> Messages:
        return [{"role": "user", "content": self.instruction}]


def page_rows(data: Path, ask: Asking, refused: list[PageError]) -> Iterator[dict[str, Any]]:
    """A row of `PAGES` for each page of a dataset; pages that cannot be drawn are added to `refused`."""
    rows = {page.id: (page, row) for page, row in rows_of(data)}
    for page, image in drawn([page for page, _ in rows.values()], ask, refused):
        yield {**rows[page.id][1], "prompt": ask.prompt, "image": image, "document": document_of(page)}


def export_pages(data: Path, out: Path, ask: Asking) -> tuple[int, list[PageError]]:
    """Write a table of a dataset's pages. The number of rows, and the pages that cannot be drawn."""
    refused: list[PageError] = []
    return write_table(out, page_rows(data, ask, refused), PAGES), refused


def export_pairs(data: Path, preferences: Path, out: Path, ask: Asking) -> tuple[int, list[PageError]]:
    """Write a table of somebody's pairs (`ocr_rl.pages.preferences`) about a dataset's pages."""
    refused: list[PageError] = []
    rows = {page.id: (page, row) for page, row in rows_of(data)}
    pairs: dict[str, list[Preference]] = {}
    for pair in read_preferences(preferences, [page for page, _ in rows.values()], "export"):
        pairs.setdefault(pair.page_id, []).append(pair)
    pages = drawn([rows[page_id][0] for page_id in pairs], ask, refused)
    table = (
        {**rows[page.id][1], "image": image, **pair_columns(ask.prompt, pair.chosen, pair.rejected)}
        for page, image in pages
        for pair in pairs[page.id]
    )
    return write_table(out, table, PAIRS), refused


def pair_columns(prompt: Messages, chosen: str, rejected: str) -> dict[str, Messages]:
    """A pair as TRL's DPO takes it."""
    answers = ([{"role": "assistant", "content": text}] for text in (chosen, rejected))
    return dict(zip(("prompt", "chosen", "rejected"), (prompt, *answers), strict=True))


def drawn(pages: Sequence[Page], ask: Asking, refused: list[PageError]) -> Iterator[tuple[Page, Mapping[str, Any]]]:
    """The pages with their images as a table holds them, in order."""
    refs: Iterable[ImageRef] = [ImageRef(pdf=page.pdf, number=page.number, longest_px=ask.longest_px) for page in pages]
    for page, (_, image) in zip(pages, render_all(refs, workers=ask.workers), strict=True):
        if isinstance(image, PageError):
            refused.append(image)
        else:
            yield page, {"bytes": _png(image), "path": f"{page.id.replace(':', '_')}.png"}


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
