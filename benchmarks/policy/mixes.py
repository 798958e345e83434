"""Two mixes of rewards side by side: what the policies of finished runs write, judged by the code of today.

    python -m benchmarks.policy.mixes --before RUN [RUN ...] --after RUN [RUN ...] [--sets new old]

A run holds the transcripts of its evaluations before the first step and after the last. All runs must have evaluated on
the same pages (`evaluation.sets`), with a seed of their own each. Both sides are judged by the tests and references of
the first `--after` run's pages, in the strict reading. Prints the gain of each run, and the paired difference of the
two sides: intervals by bootstrap over pages, all seeds of a page together.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ocr_rl.contract import Page, Transcript, UserError
from ocr_rl.evaluate.figures import METRICS, compare, summary
from ocr_rl.evaluate.results import PageResult, judge_page, read_rows
from ocr_rl.evaluate.stats import Interval
from ocr_rl.evaluate.tables import to_markdown_table
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.run import by_step

SHOWN = ("tests", "elements", "cer", "diff_ratio")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy.mixes")
    parser.add_argument("--before", type=Path, nargs="+", required=True)
    parser.add_argument("--after", type=Path, nargs="+", required=True)
    parser.add_argument("--sets", nargs="+", default=["new", "old"])
    args = parser.parse_args(arguments)
    for name in args.sets:
        pages = _pages(args.after[0], name)
        print(f"## {name}: {len(pages)} pages\n")
        print(_gains([*args.before, *args.after], name, pages))
        print(_difference(args.before, args.after, name, pages))
    return 0


def _pages(run: Path, name: str) -> Mapping[str, Page]:
    """The pages of an evaluation set, by id."""
    wanted = {row.page for row in _rows(run, name, last=False)}
    for folder in sorted((run / "pages").iterdir()):
        pages = {page.id: page for page in load_dataset(folder)}
        if wanted <= pages.keys():
            return {page_id: pages[page_id] for page_id in sorted(wanted)}
    raise UserError(f"{run}: none of its folders in pages/ holds the pages of the set {name!r}; name a whole run")


def _rows(run: Path, name: str, *, last: bool) -> list[PageResult]:
    evaluations = list(by_step(run / "eval").values())
    return read_rows(evaluations[-1 if last else 0] / f"{name}.jsonl")


def judged(run: Path, name: str, pages: Mapping[str, Page], *, last: bool, repeat: int = 1) -> list[PageResult]:
    """A run's transcripts judged again."""
    results = []
    for row in _rows(run, name, last=last):
        transcript = Transcript(raw=row.text, body=row.text, finish=row.finish, num_tokens=row.num_tokens)
        results.append(replace(judge_page(pages[row.page], transcript, "strict"), repeat=repeat))
    return results


def _gains(runs: Sequence[Path], name: str, pages: Mapping[str, Page]) -> str:
    rows = []
    for run in runs:
        start, end = (judged(run, name, pages, last=last) for last in (False, True))
        gains = compare(start, end).metrics
        after = summary(end).metrics
        rows.append([run.name, *(f"{after[m].mean:.1%} ({_signed(gains[m].difference)})" for m in SHOWN if m in after)])
    return to_markdown_table(["run: at the end (gain)", *_labels()], rows) + "\n"


def _difference(before: Sequence[Path], after: Sequence[Path], name: str, pages: Mapping[str, Page]) -> str:
    sides = [
        [row for k, run in enumerate(runs, 1) for row in judged(run, name, pages, last=True, repeat=k)]
        for runs in (before, after)
    ]
    changes = compare(*sides).metrics
    heads = ["after less before, all seeds", *_labels()]
    return to_markdown_table(heads, [["", *(_signed(changes[m].difference) for m in SHOWN if m in changes)]]) + "\n"


def _labels() -> list[str]:
    labels = {metric.name: metric.label for metric in METRICS}
    return [labels[name] for name in SHOWN if name in labels]


def _signed(interval: Interval) -> str:
    low, mean, high = (100 * value for value in (interval.low, interval.mean, interval.high))
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


if __name__ == "__main__":
    sys.exit(main())
