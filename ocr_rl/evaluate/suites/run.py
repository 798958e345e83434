"""`ocr-rl bench FOLDER --suite NAME...`: candidates under other people's benchmarks, with intervals over pages."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ocr_rl import outputs
from ocr_rl.contract import UserError
from ocr_rl.evaluate.stats import Interval, bootstrap_mean
from ocr_rl.evaluate.suites import dp_bench, omnidocbench, parsebench
from ocr_rl.evaluate.suites.page import MOST, Figure, Scores, Suite
from ocr_rl.evaluate.tables import to_markdown_table

SUITES: Mapping[str, Callable[[Path], Suite]] = {
    "dp-bench": dp_bench.load,
    "omnidocbench": omnidocbench.omnidocbench,
    "parsebench": parsebench.load,
    "puredocbench": omnidocbench.puredocbench,
}
FILES = ("suite.json", "suite.md")
TRANSFER = "transfer.md"
NAMED = 3  # of the pages that a candidate lacks
COUNTED = (
    "In percent, with 95 % intervals over pages, none where it is one page. A page that a candidate lacks counts as an "
    f"empty answer; of an answer the first {MOST:,} characters count."
)


Candidates = Sequence[tuple[str, Path]]  # name, and where its answers lie


def bench_suite(folder: Path, name: str, candidates: Candidates, out: Path) -> str:
    """The report as Markdown, which is written to `out` with every page's scores. UserError for wrong input."""
    return _bench(folder, name, candidates, out)[0]


def bench_suites(folder: Path, names: Sequence[str], candidates: Candidates, out: Path) -> str:
    """One table of all the suites, FOLDER/<suite> and <candidate>/<suite>; each one's report goes to `out`/<suite>.

    It is written to `out`. UserError for wrong input, before anything is scored where a folder is missing.
    """
    outputs.refuse_taken([out / TRANSFER])
    for place in (folder, *(place for _, place in candidates)):
        if lacking := next((place / name for name in names if not (place / name).exists()), None):
            raise UserError(f"{lacking}: is not there; with several suites, a folder holds one folder for each.")
    rows, notes = [], []
    for name in names:
        places = [(label, place / name) for label, place in candidates]
        _, suite, figures, missing = _bench(folder / name, name, places, out / name)
        for key, figure in suite.figures.items():
            if any(key in figures[label] for label, _ in candidates):
                cells = [_cell(figures[label].get(key)) for label, _ in candidates]
                rows.append([suite.name, _pages_of(figures, key), _label(figure), *cells])
                notes += [f"- {suite.name}, {figure.label}: {figure.note}"] if figure.note else []
        counts = [str(len(missing[label])) for label, _ in candidates]
        rows.append([suite.name, str(len(suite.pages)), "pages missing", *counts])
        notes += [f"- {suite.name}, {note}" for note in _lacking(missing)]
        notes += [f"- {suite.name}, from {suite.source}, its own licence: {suite.licence}. {suite.note}".rstrip()]
    table = to_markdown_table(["suite", "pages", "figure", *(label for label, _ in candidates)], rows)
    report = "\n".join([f"# Transfer: {len(names)} suites", "", table, COUNTED, "", *notes]).rstrip() + "\n"
    outputs.write(out / TRANSFER, report)
    return report


Figures = Mapping[str, Mapping[str, Interval]]  # by candidate
Missing = Mapping[str, Sequence[str]]  # pages, by candidate


def _bench(folder: Path, name: str, candidates: Candidates, out: Path) -> tuple[str, Suite, Figures, Missing]:
    """The report, the suite, and of every candidate its figures and the pages that it lacks."""
    outputs.refuse_taken(out / file for file in FILES)
    suite = SUITES[name](folder)
    if not suite.pages:
        raise UserError(f"{folder}: holds no page of {suite.name}; fetch it again.")
    answers = {label: _answers(suite, place) for label, place in candidates}
    scores = {label: _scores(suite, label, of) for label, of in answers.items()}
    figures = {label: summary(suite, pages) for label, (pages, _) in scores.items()}
    missing = {label: lacks for label, (_, lacks) in scores.items()}
    report = _report(suite, figures, missing)
    rows = {
        label: {"figures": {k: asdict(v) for k, v in figures[label].items()}, "pages": pages}
        for label, (pages, _) in scores.items()
    }
    outputs.write(out / FILES[0], json.dumps({"suite": suite.name, "candidates": rows}, ensure_ascii=False) + "\n")
    outputs.write(out / FILES[1], report)
    return report, suite, figures, missing


def _answers(suite: Suite, place: Path) -> Mapping[str, Any]:
    if not place.exists():
        raise UserError(f"--candidate {place}: there is no such file or folder.")
    answers = suite.read(place)
    if not any(page in answers for page in suite.pages):
        raise UserError(f"--candidate {place}: holds no page of {suite.name}.")
    return answers


def _scores(suite: Suite, label: str, answers: Mapping[str, Any]) -> tuple[dict[str, Scores], list[str]]:
    """Of every page, and the pages that the candidate lacks."""
    missing = [page for page in suite.pages if page not in answers]
    pages = tqdm(suite.pages, desc=label, unit="page", leave=False)
    return {page: suite.score(page, answers.get(page)) for page in pages}, missing


def summary(suite: Suite, pages: Mapping[str, Scores]) -> dict[str, Interval]:
    """Every figure: the mean over its values, with an interval from redrawing pages."""
    figures = {}
    for name in suite.figures:
        values = {page: list(scores[name]) for page, scores in pages.items() if scores.get(name)}
        if values:
            figures[name] = bootstrap_mean(values, seed=0)
    return figures


def _report(suite: Suite, figures: Figures, missing: Missing) -> str:
    header = ["candidate", *map(_label, suite.figures.values()), "missing"]
    rows = [
        [label, *(_cell(of.get(name)) for name in suite.figures), str(len(missing[label]))]
        for label, of in figures.items()
    ]
    rows.append(["pages", *(_pages_of(figures, name) for name in suite.figures), ""])
    notes = [f"- {figure.label}: {figure.note}" for figure in suite.figures.values() if figure.note]
    lines = [f"# {suite.name}: {len(suite.pages):,} pages", "", to_markdown_table(header, rows)]
    lines += [COUNTED, f"From {suite.source}. The benchmark's own licence: {suite.licence}.", "", *notes]
    lines += [f"- {note}" for note in (*_lacking(missing), suite.note) if note]
    return "\n".join(lines).rstrip() + "\n"


def _lacking(missing: Missing) -> list[str]:
    """Which pages a candidate lacks, by name: most often their files are named otherwise than the suite's pages."""
    return [
        f"{label} lacks {', '.join(map(ascii, pages[:NAMED]))}{', …' if len(pages) > NAMED else ''}."
        for label, pages in missing.items()
        if pages
    ]


def _label(figure: Figure) -> str:
    return f"{figure.label} {'↑' if figure.better > 0 else '↓'}"


def _pages_of(figures: Figures, name: str) -> str:
    """How many pages a figure is of; it is the same for all candidates."""
    return str(max((of[name].clusters for of in figures.values() if name in of), default=0))


def _cell(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    if interval.clusters < 2:
        return f"{100 * interval.mean:.2f}"
    return f"{100 * interval.mean:.2f} ({100 * interval.low:.1f}–{100 * interval.high:.1f})"
