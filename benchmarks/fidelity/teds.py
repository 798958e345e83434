"""Are TEDS and TEDS-S the public definition's, and how much faster?

    python -m benchmarks.fidelity.teds --peer-python PATH --peer-code PATH/metric.py [--texts FOLDER] [--pairs 300]

The peer is a Python with lxml, apted and distance in an environment of its own, and PubTabNet's `src/metric.py` (arXiv
1911.10683) with `parallel.py` beside it. Compared are the pairs of `table_pairs`: tables made on the spot and damaged,
badly nested ones, the tables of transcripts (.md) in a folder, and PubTabNet's samples if they lie beside the peer's
code. Prints a Markdown table: pairs, largest difference, processor seconds of both sides for the same pairs in
the same run, parsing included. Exits 1 if a difference is above 1e-6. A value below 0 of the peer counts as 0.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.fidelity.table_pairs import Pair, collect
from benchmarks.speed.judging import ask
from ocr_rl.contract import UserError
from ocr_rl.text.table_tree import Node, tree
from ocr_rl.text.teds import teds

LIMIT = 1e-6
VARIANTS = {"TEDS": ("whole", False), "TEDS-S": ("structure", True)}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fidelity.teds", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--peer-python", required=True, help="a Python that has lxml, apted and distance")
    parser.add_argument("--peer-code", type=Path, required=True, help="PubTabNet's metric.py")
    parser.add_argument("--texts", type=Path, help="a folder of transcripts (.md) with tables")
    parser.add_argument("--pairs", type=int, default=300, help="pairs made on the spot")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    try:
        if not args.peer_code.is_file():
            raise UserError(f"--peer-code: there is no file {args.peer_code}; name PubTabNet's src/metric.py")
        sets = collect(args.pairs, args.texts, args.peer_code.parent, random.Random(args.seed))
        print("| tables | pairs | nodes, most | figure | largest difference | ours, s | peer, s | ratio |")
        print("|---|--:|--:|---|--:|--:|--:|--:|")
        worst = 0.0
        for name, pairs in sets.items():
            peer = ask(
                [args.peer_python, str(Path(__file__).with_name("peer_teds.py")), str(args.peer_code)], {"pairs": pairs}
            )
            worst = max(worst, *(line(name, figure, pairs, peer) for figure in VARIANTS))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return int(worst > LIMIT)


def line(name: str, figure: str, pairs: Sequence[Pair], peer: Mapping[str, Any]) -> float:
    """Print one line of the table, and what differs; the largest difference."""
    part, structure_only = VARIANTS[figure]
    start = time.process_time()
    ours = [teds(*pair, structure_only=structure_only) for pair in pairs]
    seconds = time.process_time() - start
    theirs = peer[part]["values"]
    gaps = [abs(a - max(0.0, b)) for a, b in zip(ours, theirs, strict=True)]
    spent = sum(peer[part]["seconds"])
    most = max(num_nodes(text) for pair in pairs for text in pair)
    times = f"{seconds:.3f} | {spent:.2f} | {spent / seconds:.0f}"
    print(f"| {name} | {len(pairs)} | {most} | {figure} | {max(gaps):.1e} | {times} |", flush=True)
    for k in [k for k, gap in enumerate(gaps) if gap > LIMIT][:3]:
        print(json.dumps({"pair": pairs[k], "ours": ours[k], "peer": theirs[k]}), file=sys.stderr)
    return max(gaps)


def num_nodes(text: str) -> int:
    def count(node: Node) -> int:
        return 1 + sum(map(count, node.children))

    made = tree(text)
    return count(made.root) if made else 0


if __name__ == "__main__":
    sys.exit(main())
