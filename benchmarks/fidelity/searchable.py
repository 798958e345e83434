"""Does poppler find every word of a transcript in its searchable PDF, and does the page look as before?

    python -m benchmarks.fidelity.searchable OUT

OUT is a folder that `ocr-rl transcribe --format pdf` wrote. Words are those of the visible transcript; likeness is the
structural similarity of both pages drawn at 1288 px. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

import numpy as np

from ocr_rl.pages.raster import ImageRef, distinct_stems, render
from ocr_rl.text.visible import see

SIDE_PX = 1288
_WINDOW = 8


def likeness(first: ImageRef, second: ImageRef) -> float:
    """Structural similarity (Wang et al. 2004) of two pages of one size, over windows of 8 x 8 px."""
    x, y = (np.asarray(render(ref).convert("L"), float) for ref in (first, second))
    mean_x, mean_y = _means(x), _means(y)
    spread_x, spread_y = _means(x * x) - mean_x**2, _means(y * y) - mean_y**2
    both = _means(x * y) - mean_x * mean_y
    light, contrast = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    same = (2 * mean_x * mean_y + light) * (2 * both + contrast)
    return float((same / ((mean_x**2 + mean_y**2 + light) * (spread_x + spread_y + contrast))).mean())


def _means(values: np.ndarray) -> np.ndarray:
    sums = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    side = _WINDOW
    return (sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]) / side**2


def found_words(pdf: Path, number: int) -> set[str]:
    how = ["pdftotext", "-enc", "UTF-8", "-f", str(number), "-l", str(number), str(pdf), "-"]
    text = subprocess.run(how, capture_output=True, check=True).stdout.decode()
    return set("".join(" " if "\u202a" <= letter <= "\u202e" else letter for letter in text).split())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    rows = [json.loads(line) for line in (given.out / "pages.jsonl").read_text().splitlines()]
    stems = distinct_stems(sorted({Path(row["pdf"]) for row in rows}))
    words = lost = 0
    alike: list[float] = []
    for row in rows:
        made = given.out / f"{stems[Path(row['pdf'])]}.pdf"
        own = see(row["text"]).text.split()
        words += len(own)
        lost += len(set(own) - found_words(made, row["page"]))
        pair = (ImageRef(pdf=pdf, number=row["page"], longest_px=SIDE_PX) for pdf in (Path(row["pdf"]), made))
        alike.append(likeness(*pair))
    print(json.dumps({"pages": len(rows), "words": words, "not_found": lost, "least_likeness": round(min(alike), 4)}))


if __name__ == "__main__":
    main()
