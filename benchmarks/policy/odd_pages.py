"""Pages with nothing to read and pages that it cannot read: does the policy write nothing, and does it end?

    python -m benchmarks.policy.odd_pages --model nano --out runs/odd_pages

Blank paper is white, grey, or scanned (eight scans a strength). Unreadable are noise, and held-out pages turned,
inverted, blurred, too small, or scanned far worse than any it saw; and pages of ordinary size, whose type is too small
for it. Prints Markdown, one line a kind, and writes odd_pages.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from benchmarks.policy.reading import HELD_OUT, held_out_pages, read
from ocr_rl import config
from ocr_rl.contract import Page
from ocr_rl.evaluate.results import PageResult
from ocr_rl.evaluate.tables import to_markdown_table
from ocr_rl.pages.images import image_of
from ocr_rl.pages.source import open_pages
from ocr_rl.pages.synth.looks import image_pdf, scan
from ocr_rl.run import environment, write_atomically

SIZE_PX = (560, 448)
DPI = 144  # 280 x 224 pt
GREYS = (250, 245, 240, 235, 230, 225)
STRENGTHS = (0.25, 0.5, 0.75, 1.0)
SCANS = 8  # a strength
ORDINARY = config.Typeset(synth="report", n=16, seed=5, pages_per_document=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What became of the pages of a kind."""

    pages: int
    empty: int  # transcripts without a letter
    ended: int  # by the policy itself
    longest: int  # tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--pages", type=int, default=24, help="held-out pages to be spoiled in each way")
    parser.add_argument("--out", type=Path, default=Path("runs/odd_pages"))
    args = parser.parse_args()
    odd = [*blank(), *unreadable(held_out_pages(HELD_OUT, args.pages, args.out), open_ordinary(args.out))]
    pages = [_page(f"{number:03d}", image, args.out / "pdfs") for number, (_, image) in enumerate(odd)]
    rows = read(args.model, pages)
    kinds = list(dict.fromkeys(kind for kind, _ in odd))
    table = {kind: found([row for row, (other, _) in zip(rows, odd, strict=True) if other == kind]) for kind in kinds}
    said = {"env": environment(), "kinds": {kind: asdict(figures) for kind, figures in table.items()}}
    write_atomically(args.out / "odd_pages.json", json.dumps(said, indent=1))
    shown = [[kind, *(str(value) for value in asdict(figures).values())] for kind, figures in table.items()]
    print(to_markdown_table(["page", "pages", "empty transcripts", "ended by themselves", "longest, tokens"], shown))


def blank() -> Iterator[tuple[str, Image.Image]]:
    """Paper with nothing on it, by kind."""
    white = Image.new("RGB", SIZE_PX, "white")
    yield "blank, white", white
    for shade in GREYS:
        yield f"blank, grey {shade}", Image.new("RGB", SIZE_PX, (shade,) * 3)
    for strength in STRENGTHS:
        for seed in range(SCANS):
            yield f"blank, scanner {strength:g}", scan(white, np.random.default_rng(seed), strength)


def unreadable(pages: Sequence[Page], ordinary: Sequence[Page]) -> Iterator[tuple[str, Image.Image]]:
    """Pages spoiled beyond reading, by kind."""
    rng = np.random.default_rng(0)
    for _ in range(SCANS):
        noise = Image.fromarray(rng.integers(0, 256, (*SIZE_PX[::-1], 3), dtype=np.uint8))
        yield "noise", noise
        yield "noise, smooth", noise.filter(ImageFilter.GaussianBlur(12))
    for page in pages:
        image = image_of(page, longest_px=SIZE_PX[0])
        yield "upside down", image.rotate(180)
        yield "turned by 90 degrees", image.rotate(90, expand=True)
        yield "white on black", ImageOps.invert(image)
        yield "blurred", image.filter(ImageFilter.GaussianBlur(5))
        yield "scanner 3", scan(image, rng, 3.0)
        yield "drawn with 70 px", image.resize((70, 56)).resize(SIZE_PX)
    for page in ordinary:
        yield "letter and A4 pages", image_of(page, longest_px=1100)


def open_ordinary(out: Path) -> list[Page]:
    return open_pages(ORDINARY, out / "pages")


def found(rows: Sequence[PageResult]) -> Found:
    return Found(
        pages=len(rows),
        empty=sum(not row.text.strip() for row in rows),
        ended=sum(row.finish == "stop" for row in rows),
        longest=max(row.num_tokens for row in rows),
    )


def _page(name: str, image: Image.Image, folder: Path) -> Page:
    folder.mkdir(parents=True, exist_ok=True)
    pdf = folder / f"{name}.pdf"
    pdf.write_bytes(image_pdf([image], DPI))
    return Page(id=f"{name}:p1", pdf=pdf, number=1, reference="")


if __name__ == "__main__":
    main()
