"""Does the main comparison of one study hold on the pages and the start of another?

    python -m benchmarks.policy.terrains full RUNS/FULL second RUNS/SECOND

Both studies were run, or unpacked from their rows (`ocr-rl study full --rows FILE --out RUNS/FULL`). A finding of the
first holds where the same rule gives the same word on the second, is contradicted where it gives another one, and is
untested where nothing is decided there. "Alike" can only be contradicted where the second has too few seeds to say it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ocr_rl.evaluate.tables import p_value, to_markdown_table
from ocr_rl.study.findings import points
from ocr_rl.study.folder import Folder
from ocr_rl.study.plan import load_study
from ocr_rl.study.results import Results, read_results
from ocr_rl.study.rows import bind_rows
from ocr_rl.study.tables import Lead, leads

HEADER = ("arm", "GRPO ahead by", "Holm's p", "so", "there", "Holm's p", "so", "the finding")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("first", help="a study file, or a shipped one")
    parser.add_argument("first_runs", type=Path)
    parser.add_argument("second")
    parser.add_argument("second_runs", type=Path)
    args = parser.parse_args(arguments)
    both = [results_of(args.first, args.first_runs), results_of(args.second, args.second_runs)]
    print(to_markdown_table(HEADER, compared(*(leads(results.ended_arms()) for results in both))))
    return 0


def results_of(name: str, runs: Path) -> Results:
    study, folder = load_study(name), Folder(runs.resolve())
    bind_rows(study, folder)
    return read_results(study, folder.root)


def compared(first: Mapping[str, Lead], second: Mapping[str, Lead]) -> list[tuple[str, ...]]:
    """A row for each arm that both have."""
    return [
        (arm, *_cells(lead), *_cells(second[arm]), finding(lead.word, second[arm].word))
        for arm, lead in first.items()
        if arm in second
    ]


def _cells(lead: Lead) -> tuple[str, str, str]:
    return points(lead.size), p_value(lead.holm), lead.word


def finding(here: str, there: str) -> str:
    if here == "undecided":
        return "none"
    if there == "undecided":
        return "untested"
    return "holds" if here == there else "contradicted"


if __name__ == "__main__":
    sys.exit(main())
