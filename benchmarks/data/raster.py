"""The rasteriser against poppler's `pdftoppm`, on the same pages in the same run.

    python -m benchmarks.data.raster FOLDER

Pages a second at 1288 px on the longest side: `pdftoppm` with one process a page, PNG and PPM out, one at a time; ours
with one worker and with two, through the same queue that training uses. Then how alike the images are: size, and the
mean structural similarity (Wang et al. 2004, windows of 8 x 8) after both are shrunk four times, on pages whose text
layer can be trusted.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from ocr_rl.pages.raster import LONGEST_PX, ImageRef, PageError, render, render_all
from ocr_rl.pages.text_layer import read_layers


def pages_of(folder: Path, n: int, seed: int) -> tuple[list[ImageRef], set[ImageRef]]:
    """Up to `n` pages that can be drawn, drawn at random, and those of them that are born digital."""
    found: list[ImageRef] = []
    born: set[ImageRef] = set()
    for pdf, layers in read_layers(sorted(folder.rglob("*.pdf")), workers=1):
        if isinstance(layers, str):
            continue
        refs = [ImageRef(pdf=pdf, number=layer.number) for layer in layers]
        found += refs
        born |= {ref for ref, layer in zip(refs, layers, strict=True) if not layer.reason}
    chosen = Random(seed).sample(found, min(n, len(found)))
    drawable = [ref for ref, image in render_all(chosen) if not isinstance(image, PageError)]
    return drawable, born & set(drawable)


def poppler(ref: ImageRef, out: Path, *, png: bool, notes: bool = True) -> Path:
    size = ["-cropbox", "-scale-to", str(LONGEST_PX), "-f", str(ref.number), "-l", str(ref.number), "-singlefile"]
    subprocess.run(
        ["pdftoppm", *size, *["-png"] * png, *["-hide-annotations"] * (not notes), str(ref.pdf), str(out)],
        capture_output=True,
        check=False,
    )
    return out.with_name(out.name + (".png" if png else ".ppm"))


def similarity(a: Image.Image, b: Image.Image) -> float:
    """Mean structural similarity of two grey images of one size, by windows of 8 x 8 pixels."""
    x, y = (_windows(np.asarray(image.convert("L"), np.float64)) for image in (a, b))
    mean_x, mean_y = x.mean(-1), y.mean(-1)
    cov = ((x - mean_x[..., None]) * (y - mean_y[..., None])).mean(-1)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    return float((top / ((mean_x**2 + mean_y**2 + c1) * (x.var(-1) + y.var(-1) + c2))).mean())


def _windows(pixels: np.ndarray) -> np.ndarray:
    height, width = (side // 8 * 8 for side in pixels.shape)
    return (
        pixels[:height, :width]
        .reshape(height // 8, 8, width // 8, 8)
        .swapaxes(1, 2)
        .reshape(height // 8, width // 8, 64)
    )


def likeness(refs: Sequence[ImageRef], folder: Path) -> tuple[list[float], int]:
    """Similarity of each page's two images after shrinking, and how many pages differ in size by more than a pixel.

    The better of poppler with annotations and without: it draws boxes around links, which PDFium and readers do not.
    """
    values, other_size = [], 0
    for ref in refs:
        ours = render(ref)
        found = []
        for notes in (True, False):
            path = poppler(ref, folder / "page", png=False, notes=notes)
            if not path.exists():
                continue
            with Image.open(path) as image:
                theirs = image.convert("RGB")
            path.unlink()
            size = (ours.width // 4, ours.height // 4)
            if max(abs(ours.width - theirs.width), abs(ours.height - theirs.height)) <= 1:
                shrunk = (each.resize(size, Image.Resampling.BOX) for each in (ours, theirs))
                found.append(similarity(*shrunk))
            else:
                other_size += notes
        values += [max(found)] if found else []
    return values, other_size


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=120, help="pages")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if shutil.which("pdftoppm") is None:
        raise SystemExit("pdftoppm is not installed (Debian: poppler-utils)")
    refs, born = pages_of(args.folder, args.n, args.seed)
    rates: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        for label, png in (("pdftoppm PNG", True), ("pdftoppm PPM", False)):
            start = time.perf_counter()
            for ref in refs:
                path = poppler(ref, Path(name) / "page", png=png)
                if path.exists():
                    with Image.open(path) as image:  # as a caller would
                        image.load()
                    path.unlink()
            rates[label] = len(refs) / (time.perf_counter() - start)
        for workers in (1, 2):
            start = time.perf_counter()
            for _ in render_all(refs, workers=workers):
                pass
            rates[f"ours, {workers} worker{'s' * (workers > 1)}"] = len(refs) / (time.perf_counter() - start)
        values, other_size = likeness([ref for ref in refs if ref in born], Path(name))
    print(f"{len(refs)} pages at {LONGEST_PX} px, seed {args.seed}, start of processes included")
    one = rates["ours, 1 worker"]
    for label, rate in rates.items():
        print(f"{label:16} {rate:7.2f} pages/s   ours with one worker is {one / rate:.2f} times that")
    print(
        f"likeness on {len(values)} born-digital pages: least {min(values):.3f}, mean {np.mean(values):.3f}, ", end=""
    )
    print(f"{sum(value < 0.95 for value in values)} below 0.95; another size: {other_size}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
