"""A contact sheet: many pages small on one image, to look at. Knows nothing about what the pages say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ocr_rl.contract import Page, UserError
from ocr_rl.pages.raster import ImageRef, PageError, render_all

GAP_PX = 10
COLUMNS = 6


def contact_sheet(pages: Sequence[Page], out: Path, cell_px: int = 420, workers: int = 1) -> list[PageError]:
    """Write pages in rows of six to `out` (.png or .jpg), each in a square of `cell_px`; returns those refused.

    Raises UserError for a file that cannot be written.
    """
    refs = [ImageRef(pdf=page.pdf, number=page.number, longest_px=cell_px) for page in pages]
    rows = -(-len(refs) // COLUMNS)
    step = cell_px + GAP_PX
    sheet = Image.new("RGB", (min(len(refs), COLUMNS) * step + GAP_PX, rows * step + GAP_PX), (96, 100, 108))
    refused: list[PageError] = []
    for k, (_, drawn) in enumerate(render_all(refs, workers=workers)):
        if isinstance(drawn, PageError):
            refused.append(drawn)
            continue
        x, y = (GAP_PX + step * (k % COLUMNS), GAP_PX + step * (k // COLUMNS))
        sheet.paste(drawn, (x + (cell_px - drawn.width) // 2, y + (cell_px - drawn.height) // 2))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(out, quality=80)
    except (OSError, ValueError) as error:
        raise UserError(f"{out}: the contact sheet cannot be written ({error}); name a .png or .jpg file.") from None
    return refused
