"""How far the project agrees with verdicts of the public olmOCR code, kind by kind.

    python -m benchmarks.fidelity.conformance DIR

DIR holds JSON lines: unit_tests, candidates, equations, normalize, tables, repeats, validation, scoring, rewards.
Prints one JSON object: per kind and type `agree`, `total`, `percent` and the ids of up to 20 disagreements; what could
not be compared is listed under `skipped` with the reason. Exit code 0 when everything ran. Knows the format of these
files and nothing about how they were made.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.fidelity.public_rewards import REWARDS, Row, read_check
from ocr_rl.contract import UserError
from ocr_rl.evaluate.stats import Tally, benchmark_score, independent_interval
from ocr_rl.text.checks import load_check, prepare
from ocr_rl.text.formulas import equal
from ocr_rl.text.normalize import normalize, tail_repeats
from ocr_rl.text.tables import Table, html_tables, markdown_tables

LISTED = 20
_DIRECTIONS = ("up", "down", "left", "right")


@dataclass(slots=True)
class Agreement:
    agree: int = 0
    total: int = 0
    disagreements: list[str] = field(default_factory=list)

    def count(self, case: str, same: bool) -> None:
        self.total += 1
        self.agree += same
        if not same and len(self.disagreements) < LISTED:
            self.disagreements.append(case)

    def to_json(self) -> dict[str, Any]:
        percent = round(100 * self.agree / self.total, 3) if self.total else None
        shown = {"agree": self.agree, "total": self.total, "percent": percent}
        return {**shown, "disagreements": self.disagreements}


def compare(folder: Path) -> dict[str, Any]:
    """Run every kind whose file is there. UserError for a folder without any, or a line that is no JSON."""
    if not any((folder / f"{kind}.jsonl").is_file() for kind in KINDS):
        raise UserError(f"{folder} holds none of {', '.join(f'{kind}.jsonl' for kind in KINDS)}; name an oracle folder")
    report: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    seconds: dict[str, float] = {}
    for kind, run in KINDS.items():
        if not (folder / f"{kind}.jsonl").is_file():
            skipped[kind] = f"there is no {kind}.jsonl"
            continue
        counts: dict[str, Agreement] = defaultdict(Agreement)
        whole = Agreement()
        start = time.perf_counter()
        for part, case, same in run(folder):
            if same is None:
                skipped[f"{kind}/{part}"] = case
            else:
                counts[part].count(case, same)
                whole.count(case, same)
        seconds[kind] = round(time.perf_counter() - start, 2)
        report[kind] = {**whole.to_json(), "types": {part: counts[part].to_json() for part in sorted(counts)}}
    return {**report, "skipped": skipped, "seconds": seconds}


# Each kind yields (part, case id, same?); (part, reason, None) for a part that cannot be compared.
Outcome = tuple[str, str, bool | None]


def _unit_tests(folder: Path) -> Iterator[Outcome]:
    texts = {row["candidate_sha"]: row["text"] for row in _rows(folder, "candidates")}
    for row in _rows(folder, "unit_tests"):
        test = row["test"]
        verdict = load_check(test).run(prepare(texts[row["candidate_sha"]]), "compatible")
        yield test["type"], row["case_id"], verdict.passed == row["passed"]


def _equations(folder: Path) -> Iterator[Outcome]:
    for row in _rows(folder, "equations"):
        said = {row["equal"], row["equal_dejavu_fonts"], row["equal_katex_fonts"]}
        if len(said) == 1:
            found = equal(row["reference"], row["candidate"], "compatible")
            yield row["decided_by"], row["case_id"], found == row["equal"]
        else:
            yield (
                "font_dependent",
                "the public verdict depends on the fonts of the browser; such pairs are left out",
                None,
            )


def _normalize(folder: Path) -> Iterator[Outcome]:
    for row in _rows(folder, "normalize"):
        yield "all", row["case_id"], normalize(row["input"]) == row["output"]


def _repeats(folder: Path) -> Iterator[Outcome]:
    for row in _rows(folder, "repeats"):
        yield "all", row["case_id"], tail_repeats(row["text"], row["max_ngram_size"]) == row["counts"]


def _validation(folder: Path) -> Iterator[Outcome]:
    for row in _rows(folder, "validation"):
        yield (
            row["test"].get("type") or "no type",
            row["case_id"],
            (read_check(row["test"]) is not None) == row["valid"],
        )


def _tables(folder: Path) -> Iterator[Outcome]:
    for row in _rows(folder, "tables"):
        tables = (markdown_tables if row["parser"] == "markdown" else html_tables)(row["text"])
        if row.get("raises"):
            same = any(table.fault for table in tables)
        else:
            same = [_plain_table(table) for table in tables] == [_sorted_table(table) for table in row["tables"]]
        yield row["parser"], row["case_id"], same


def _plain_table(table: Table) -> dict[str, Any]:
    cells = [table.cells[place] for place in sorted(table.cells)]
    plain: dict[str, Any] = {
        "cells": [[cell.row, cell.col, cell.text] for cell in cells],
        "headings": [[cell.row, cell.col] for cell in cells if cell.heading],
        "rect": table.is_rectangular,
    }
    for way in _DIRECTIONS:
        plain[way] = [[list(cell.place), _places(table.neighbours(cell, way))] for cell in cells]
    plain["top_heading"] = [[list(cell.place), _places(table.headings(cell, "up"))] for cell in cells]
    plain["left_heading"] = [[list(cell.place), _places(table.headings(cell, "left"))] for cell in cells]
    return plain


def _places(cells: Iterable[Any]) -> list[list[int]]:
    return sorted(list(cell.place) for cell in cells)


def _sorted_table(table: Row) -> dict[str, Any]:
    relations = (*_DIRECTIONS, "top_heading", "left_heading")
    return {
        "cells": sorted(table["cells"]),
        "headings": sorted(table["headings"]),
        "rect": table["rect"],
        **{way: sorted([place, sorted(others)] for place, others in table[way]) for way in relations},
    }


def _scoring(folder: Path) -> Iterator[Outcome]:
    for row in _rows(folder, "scoring"):
        yield row["kind"], row["case_id"], (_same_score if row["kind"] == "benchmark" else _same_interval)(row)


def _same_score(row: Row) -> bool:
    tallies = [
        Tally(
            id=test["id"],
            type=test["type"],
            file=test["category"],
            page=test["id"],
            passes=test["repeat_passes"],
            repeats=test["repeats"],
        )
        for test in row["tests"]
    ]
    score = benchmark_score(tallies, seed=0, draws=4000)
    public = score.overall_public
    files = {name: (count["passed"], count["total"]) for name, count in row["by_category"].items()}
    types = row["by_type_percent"]
    return (
        files == dict(score.by_file)
        and set(types) == set(score.by_type)
        and all(abs(100 * score.by_type[name] - percent) < 1e-4 for name, percent in types.items())
        and abs(100 * public.mean - row["overall_percent_printed"]) <= 0.0501
        # an unseeded bootstrap of 1,000 samples is known to about half a percent point
        and abs(50 * (public.high - public.low) - row["half_width_printed"]) <= 0.5
    )


def _same_interval(row: Row) -> bool:
    scores, splits = row["scores"], row["splits"] or [len(row["scores"])]
    ends = [sum(splits[: i + 1]) for i in range(len(splits))]
    files = [scores[end - size : end] for size, end in zip(splits, ends, strict=True)]
    found = independent_interval(files, seed=0, draws=4000, level=row["ci_level"])
    # the percentiles of n samples scatter by about 2 standard errors of a tail share of 2.5 or 5 %
    allowed = (0.02 if row["n_bootstrap"] >= 1000 else 0.04) * _spread(files) + 1e-9
    return abs(found.low - row["low"]) <= allowed and abs(found.high - row["high"]) <= allowed


def _spread(files: Sequence[Sequence[float]]) -> float:
    """1 for a hundred scores or more; small sets have coarse percentiles, one step of which must be allowed."""
    return max(1.0, 100 / max(1, sum(map(len, files))))


def _rewards(folder: Path) -> Iterator[Outcome]:
    for row in _rows(folder, "rewards"):
        compare_one = REWARDS.get(row["fn"])
        if compare_one is None:
            yield row["fn"], "no reward here does the same", None
        else:
            yield row["fn"], row["case_id"], compare_one(row["inputs"], row["output"], row["raises"])


def _rows(folder: Path, kind: str) -> Iterator[Row]:
    path = folder / f"{kind}.jsonl"
    if not path.is_file():
        raise UserError(f"{path} is missing")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{path}, line {number}, is not JSON: {error}") from error


KINDS: Mapping[str, Callable[[Path], Iterator[Outcome]]] = {
    "unit_tests": _unit_tests,
    "equations": _equations,
    "normalize": _normalize,
    "tables": _tables,
    "repeats": _repeats,
    "validation": _validation,
    "scoring": _scoring,
    "rewards": _rewards,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fidelity.conformance", description="Agreement with public olmOCR verdicts."
    )
    parser.add_argument("folder", type=Path, help="a folder of oracle files (JSON lines)")
    try:
        report = compare(parser.parse_args(arguments).folder)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(report, indent=2, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
