"""Are OmniDocBench's figures those of its own code? Makes a candidate by damaging transcripts, and prints our figures.

    python -m benchmarks.fidelity.omnidocbench SUITE TRANSCRIPTS --out ANSWERS --seed 10

Paragraphs are lost, joined, cut and moved, letters outside tags dropped, by a seed. `--keep` damages nothing. The other
half is its own `pdf_validation.py` with `match_method: quick_match`, on ANSWERS, in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from ocr_rl.evaluate.suites.omnidocbench import omnidocbench
from ocr_rl.evaluate.suites.run import summary


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("suite", type=Path, help="a folder with OmniDocBench.json")
    parser.add_argument("transcripts", type=Path, help="a folder of Markdown, as its demo_data/end2end")
    parser.add_argument("--out", type=Path, required=True, help="the candidate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="take the transcripts as they are")
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True)
    rng = Random(args.seed)
    for path in sorted(args.transcripts.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        (args.out / path.name).write_text(text if args.keep else damaged(text, rng), encoding="utf-8")
    started = time.process_time()
    suite = omnidocbench(args.suite)
    answers = suite.read(args.out)
    figures = summary(suite, {page: suite.score(page, answers.get(page)) for page in suite.pages})
    means = {name: round(interval.mean, 9) for name, interval in figures.items()}
    print(json.dumps({"pages": len(suite.pages), **means, "cpu_s": round(time.process_time() - started, 2)}))
    return 0


def damaged(text: str, rng: Random) -> str:
    blocks = [block for block in text.split("\n\n") if rng.random() > 0.08]
    k = 0
    while k < len(blocks) - 1:
        if rng.random() < 0.12:
            blocks[k] += rng.choice(" \n") + blocks.pop(k + 1)
        elif rng.random() < 0.12 and len(blocks[k]) > 60 and not set("<$") & set(blocks[k]):
            at = rng.randrange(20, len(blocks[k]) - 20)
            blocks[k : k + 1] = [blocks[k][:at], blocks[k][at:]]
        k += 1
    if len(blocks) > 3 and rng.random() < 0.4:
        moved = blocks.pop(rng.randrange(len(blocks)))
        blocks.insert(rng.randrange(len(blocks)), moved)
    return re.sub(r"<[^>]*>|[^<]+", lambda part: _fewer(part[0], rng), "\n\n".join(blocks))


def _fewer(text: str, rng: Random) -> str:
    return text if text.startswith("<") else "".join(letter for letter in text if rng.random() > 0.01)


if __name__ == "__main__":
    sys.exit(main())
