"""Pages as image files for people: one file a page, or many pages small on one contact sheet.

Knows nothing about what the pages say.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ocr_rl import outputs
from ocr_rl.contract import Page, UserError
from ocr_rl.pages.raster import LONGEST_PX, ImageRef, PageError, count_pages, distinct_stems, long_name, render_all

GAP_PX = 10
COLUMNS = 6
SHEET_KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def render_folder(
    pdfs: Sequence[Path], out: Path, longest_px: int = LONGEST_PX, workers: int = 1, timeout_s: float = 30.0
) -> tuple[list[Path], list[PageError]]:
    """Write `<stem>_pg<N>.png` into `out` for every page of every file.

    Returns the files that were written and the pages that could not be drawn.
    If several files have one stem, the second is written as `<stem>-2`, and so on. `timeout_s` counts the drawing of
    one page. Raises UserError if `out` cannot be written, or holds such an image that ocr-rl did not write.
    """
    stems = distinct_stems(pdfs)
    written: list[Path] = []
    refused: list[PageError] = []
    targets: dict[ImageRef, Path] = {}
    for pdf, pages in count_pages(stems, timeout_s=timeout_s):
        if isinstance(pages, PageError):
            refused.append(pages)
        elif reason := long_name(out, f"{stems[pdf]}_pg{pages}.png"):
            refused.append(PageError(pdf, None, reason))
        else:
            refs = (ImageRef(pdf=pdf, number=number, longest_px=longest_px) for number in range(1, pages + 1))
            targets |= {ref: out / f"{stems[pdf]}_pg{ref.number}.png" for ref in refs}
    outputs.refuse_taken(targets.values(), pdfs)
    with outputs.writing(out):
        out.mkdir(parents=True, exist_ok=True)
    for ref, result in render_all(targets, workers=workers, timeout_s=timeout_s):
        if isinstance(result, PageError):
            refused.append(result)
            continue
        outputs.write(targets[ref], _encoded(result, "PNG", compress_level=1))
        written.append(targets[ref])
    place = {pdf: k for k, pdf in enumerate(stems)}
    return written, sorted(refused, key=lambda error: (place.get(error.pdf or Path(), 0), error.number or 0))


def contact_sheet(pages: Sequence[Page], out: Path, cell_px: int = 420, workers: int = 1) -> list[PageError]:
    """Write pages in rows of six to `out` (.png or .jpg), every page in a square of `cell_px`.

    Returns the pages that could not be drawn. Raises UserError for a file that cannot be written, or that is there and
    that ocr-rl did not write.
    """
    kind = SHEET_KINDS.get(out.suffix.lower())
    if kind is None:
        raise UserError(f"{out}: a contact sheet is a .png or .jpg file; give another name with --out.")
    outputs.refuse_taken([out])
    refs = [ImageRef(pdf=page.pdf, number=page.number, longest_px=cell_px) for page in pages]
    rows = -(-len(refs) // COLUMNS)
    step = cell_px + GAP_PX
    sheet = Image.new("RGB", (min(len(refs), COLUMNS) * step + GAP_PX, rows * step + GAP_PX), (96, 100, 108))
    refused: list[PageError] = []
    for k, (_, image) in enumerate(render_all(refs, workers=workers)):
        if isinstance(image, PageError):
            refused.append(image)
            continue
        x, y = (GAP_PX + step * (k % COLUMNS), GAP_PX + step * (k // COLUMNS))
        sheet.paste(image, (x + (cell_px - image.width) // 2, y + (cell_px - image.height) // 2))
    outputs.write(out, _encoded(sheet, kind, quality=80))
    return refused


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
