"""The reference's half of `benchmarks.fidelity.teds`, run by a Python that has lxml, apted and distance.

Its argument is the path of PubTabNet's metric.py. Reads {"pairs": [[reference, candidate], ...]} as JSON from stdin and
writes {"whole", "structure": {"values", "seconds"}}.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path


def main() -> None:
    path = Path(sys.argv[1])
    sys.path.insert(0, str(path.parent))  # it imports a module beside it
    spec = importlib.util.spec_from_file_location("metric", path)
    metric = importlib.util.module_from_spec(spec)  # pyright: ignore
    spec.loader.exec_module(metric)  # pyright: ignore
    pairs = json.load(sys.stdin)["pairs"]
    answer = {}
    for name, structure_only in (("whole", False), ("structure", True)):
        judge = metric.TEDS(structure_only=structure_only)
        values, seconds = [], []
        for reference, candidate in pairs:
            start = time.process_time()
            values.append(judge.evaluate(_page(candidate), _page(reference)))
            seconds.append(time.process_time() - start)
        answer[name] = {"values": values, "seconds": seconds}
    json.dump(answer, sys.stdout)


def _page(table: str) -> str:
    """The reference code sees tables that stand directly in a body."""
    return f"<html><body>{table}</body></html>"


if __name__ == "__main__":
    main()
