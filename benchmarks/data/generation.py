"""How fast full pages are made, and what of that is Typst's own time.

    python -m benchmarks.data.generation --n 400

First the whole way with two workers: PDFs, references, tests and manifest written. Then, in one process, each page is
made (composed, fitted, typeset, mined, written), and in another the same pages' Typst sources are only compiled.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random

from ocr_rl.pages.synth.make import write_dataset
from ocr_rl.pages.synth.sheets.make import SHEET_KINDS, make
from ocr_rl.pages.synth.sheets.printers import to_markdown, to_typst
from ocr_rl.pages.synth.typeset import compiled


def compile_time_s(markups: Sequence[str]) -> float:
    """Seconds that Typst takes for these sources, typefaces read before."""
    compiled("typefaces")
    start = time.perf_counter()
    for markup in markups:
        compiled(markup)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=400, help="pages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=SHEET_KINDS, default="mixed")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rate = write_dataset(args.kind, n=args.n, seed=args.seed, out=Path(name) / "made", workers=2)
    print(f"{args.n} pages of kind {args.kind}, seed {args.seed}: {rate:.1f} pages/s with tests, two workers")
    make(args.kind, Random("typefaces are read before the clock starts"), 1, "a.pdf")
    markups: list[str] = []
    whole = 0.0
    with tempfile.TemporaryDirectory() as name:
        for k in range(args.n):
            start = time.perf_counter()
            document = make(args.kind, Random(f"{args.seed}/{k}"), 1, "a.pdf")
            (Path(name) / "a.pdf").write_bytes(document.pdf)
            (Path(name) / "a.md").write_text(to_markdown(document.sheets[0]), encoding="utf-8")
            json.dumps([fact.test for fact in document.facts])
            whole += time.perf_counter() - start
            markups.append(to_typst(document.sheets))
    # In a process of its own: Typst remembers what it typeset a moment ago.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        bare = pool.submit(compile_time_s, markups).result()
    print(f"in one process: {1000 * whole / args.n:.1f} ms a page, bare Typst {1000 * bare / args.n:.1f} ms: ", end="")
    print(f"{whole / bare:.2f} times")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
