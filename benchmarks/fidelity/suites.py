"""Are DP-Bench's figures those of its own code? Makes a candidate by damaging the reference, and prints ours.

    python -m benchmarks.fidelity.suites DP_BENCH --out pred.json

Elements are lost, letters dropped, rows of tables deleted, tables wrapped in `table` and `thead`, pages shuffled, by a
seed. The other half is DP-Bench's own `evaluate.py --ref_path ... --pred_path pred.json`, in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from ocr_rl.evaluate.suites import dp_bench
from ocr_rl.evaluate.suites.page import only_file, read_json
from ocr_rl.evaluate.suites.run import summary

Page = Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="what DP-Bench was fetched to")
    parser.add_argument("--out", type=Path, required=True, help="the candidate, a JSON file as DP-Bench takes it")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    rng = Random(args.seed)
    pages = read_json(only_file(args.folder, ("dataset/reference.json", "reference.json"), "DP-Bench"))
    args.out.write_text(json.dumps({name: damaged(page, rng) for name, page in pages.items()}), encoding="utf-8")
    started = time.process_time()
    suite = dp_bench.load(args.folder)
    answers = suite.read(args.out)
    figures = summary(suite, {page: suite.score(page, answers[page]) for page in suite.pages})
    line = {name: interval.mean for name, interval in figures.items()}
    print(json.dumps({"pages": len(suite.pages), **line, "cpu_s": round(time.process_time() - started, 2)}))
    return 0


def damaged(page: Page, rng: Random) -> Page:
    rows = [_damaged(row, rng) for row in page["elements"] if rng.random() > 0.1]
    if rng.random() < 0.1:
        rng.shuffle(rows)
    return {"elements": rows}


def _damaged(row: Page, rng: Random) -> Page:
    text = "".join(letter for letter in row["content"]["text"] if rng.random() > 0.05)
    rows = row["content"]["html"].split("</tr>")
    if len(rows) > 2 and rng.random() < 0.5:
        del rows[rng.randrange(len(rows) - 1)]
    html = "</tr>".join(rows)
    if row["category"] == "Table" and rng.random() < 0.5:
        html = f"<table><thead>{html.replace('</tr>', '</tr></thead><tbody>', 1)}</tbody></table>"
    return {**row, "content": {**row["content"], "text": text, "html": html}}


if __name__ == "__main__":
    sys.exit(main())
