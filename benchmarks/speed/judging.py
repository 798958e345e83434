"""Time the page tests, beside the public olmOCR-Bench package where its Python is named.

    python -m benchmarks.speed.judging [--bench FOLDER --candidate NAME] [--oracle FOLDER]
                               [--peer-python PATH] [--browser PATH] [--out FOLDER]

Without folders the cases are pages composed on the spot and well-known formulas. With a peer (a Python that can
`import olmocr.bench.tests`) both sides judge the same cases, one process after the other; the verdicts are compared
too, and on the folder of --bench the benchmark's score. Prints Markdown, then the ratios that this project promises as
JSON lines; --out writes speed.json and speed.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.speed import cases
from benchmarks.speed.cases import PageCase
from benchmarks.speed.pool import GROUPS, RECIPE, seconds_by_workers
from ocr_rl.contract import UserError
from ocr_rl.evaluate.stats import Interval, Tally, benchmark_score
from ocr_rl.run import write_atomically

REAL, DAMAGED, COMPOSED = "real pages", "perturbed full pages", "composed pages"
NO_PEER = "This needs a Python that has the package olmocr: make bench PEER=PATH"
Answer = Mapping[str, Any]  # of a worker


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.judging", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--bench", type=Path, help="an olmOCR-Bench folder")
    parser.add_argument("--candidate", default="olmocr_pipeline", help="the folder of outputs in it")
    parser.add_argument("--oracle", type=Path, help="a folder of oracle files, for perturbed pages and formulas")
    parser.add_argument("--peer-python", help="a Python that has the package olmocr")
    parser.add_argument("--browser", help="the Chromium that the peer renders with; default: Playwright's own")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--formulas", type=int, default=60, help="pairs of the oracle that both sides render")
    parser.add_argument("--out", type=Path, help="a folder for speed.json and speed.md")
    args = parser.parse_args(arguments)
    try:
        pages, pairs = collect(args.bench, args.candidate, args.oracle, args.formulas)
        asked = {
            "pages": {name: [asdict(page) for page in found] for name, found in pages.items()},
            "pairs": pairs,
            "rounds": args.rounds,
            "browser": args.browser,
            "group": cases.siblings(),
            "score": [str(args.bench), args.candidate] if args.bench else None,
        }
        ours = ask([sys.executable, "-m", "benchmarks.speed.worker", "ours"], asked)
        script = Path(__file__).with_name("worker.py")
        peer = ask([args.peer_python, str(script), "olmocr"], asked) if args.peer_python else None
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    workers = seconds_by_workers()
    promised = ratios(ours, peer, workers)
    lines = "\n".join(map(json.dumps, promised))
    text = "\n\n".join([device(), speeds(ours, peer), pool_line(workers), *comparison(pages, ours, peer), lines])
    print(text)
    if args.out:
        write_atomically(args.out / "speed.md", text + "\n")
        found = {"device": device(), "command": sys.argv[1:], "ours": ours, "peer": peer, "ratios": promised}
        write_atomically(args.out / "speed.json", json.dumps(found, indent=1))
    return 0


def collect(
    bench: Path | None, candidate: str, oracle: Path | None, most: int
) -> tuple[dict[str, list[PageCase]], list[cases.Pair]]:
    """Sets of pages by name, and pairs of formulas."""
    pages: dict[str, list[PageCase]] = {}
    pairs: list[cases.Pair] = []
    if bench:
        pages[REAL] = cases.benchmark_pages(bench, candidate)
        pairs += cases.formulas_of(pages[REAL])
    if oracle:
        pages[DAMAGED] = [
            PageCase(text=page.text, tests=[test for test in page.tests if test["type"] != "math"])
            for page in cases.perturbed_pages(oracle)  # formulas come from the pairs
        ]
        pairs += cases.oracle_formulas(oracle, most)
    if not pages:
        pages[COMPOSED] = cases.composed_pages()
    return pages, pairs or cases.composed_formulas()


def ask(command: Sequence[str], asked: Mapping[str, Any]) -> Answer:
    """Run a worker. UserError with its last words if it fails."""
    try:
        done = subprocess.run(command, input=json.dumps(asked).encode(), capture_output=True, check=False)
    except OSError as error:
        raise UserError(f"{command[0]} cannot be started ({error.strerror}); name a Python") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise UserError(f"{' '.join(command)} failed: {said[-1] if said else 'it said nothing'}")
    return json.loads(done.stdout)


def speeds(ours: Answer, peer: Answer | None) -> str:
    """Rates as a Markdown table; every rate is that of the best round; rendering has one round."""
    lines = ["| what | number | ours, per second | olmocr, per second | ratio |", "|---|--:|--:|--:|--:|"]

    def line(what: str, number: int, mine: Sequence[float], theirs: Sequence[float] | None) -> None:
        rate = number / min(mine)
        other = number / min(theirs) if theirs else None
        lines.append(f"| {what} | {number:,} | {_figure(rate)} | {_figure(other)} | {_ratio(rate, other)} |")

    for name, found in ours["pages"].items():
        for kind, timed in found["timed"].items():
            if timed["tests"] and timed["seconds"]:
                theirs = peer["pages"][name]["timed"][kind]["seconds"] if peer else None
                line(f"{kind}, {name}: tests", timed["tests"], timed["seconds"], theirs)
    group, other = ours["group"], peer["group"] if peer else None
    what = f"reward of a group: {group['transcripts']} transcripts of a page with {group['tests']} tests: groups"
    line(what, 1, group["seconds"], other and other["seconds"])
    mine, theirs = ours["formulas"], peer["formulas"] if peer else None
    line("formulas, rendered and compared: formulas", mine["formulas"], mine["first"], theirs and theirs["first"])
    line("formulas, all rendered before: pairs", mine["pairs"], mine["seen"], theirs and theirs["seen"])
    return "\n".join(lines)


def pool_line(workers: Mapping[int, float]) -> str:
    return (
        f"The rewards of {RECIPE} over {GROUPS} groups of {cases.GROUP} transcripts: {workers[1]:.2f} s with one "
        f"worker, {workers[2]:.2f} s with two, ratio {workers[1] / workers[2]:.2f}"
    )


def ratios(ours: Answer, peer: Answer | None, workers: Mapping[int, float]) -> list[dict[str, Any]]:
    """The ratios of this run that are promised, each with its least; what has no peer says so."""
    group = ours["group"]
    what = f"pass_rate of {group['transcripts']} transcripts with {group['tests']} tests, ours over olmocr"
    ours_s = min(group["seconds"])
    found = {"skipped": NO_PEER} if peer is None else {"ratio": min(peer["group"]["seconds"]) / ours_s}
    return [
        {"what": what, "at_least": 5.0, **found},
        {"what": f"rewards of {RECIPE}, two workers over one", "at_least": 1.7, "ratio": workers[1] / workers[2]},
    ]


def comparison(pages: Mapping[str, Sequence[PageCase]], ours: Answer, peer: Answer | None) -> list[str]:
    """How far the verdicts agree, every difference, and the score of the benchmark folder."""
    said = []
    if REAL in pages:
        score = overall(pages[REAL], ours["pages"][REAL]["verdicts"])
        said.append(f"Score of the benchmark folder, ours: {score.mean:.1%} ± {(score.high - score.low) / 2:.1%}")
    if peer is None:
        return [*said, f"Skipped: rates of olmocr, ratios to them, the comparison of verdicts. {NO_PEER}"]
    if "score" in peer:
        said.append(f"Score of the benchmark folder, as olmocr prints it:\n\n```\n{peer['score']}\n```")
    for name, found in pages.items():
        mine, theirs = ours["pages"][name]["verdicts"], peer["pages"][name]["verdicts"]
        triples = [
            (test, a, b)
            for page, some, others in zip(found, mine, theirs, strict=True)
            for test, a, b in zip(page.tests, some, others, strict=True)
        ]
        different = [f"- {test['id']}: ours {a}, olmocr {b}" for test, a, b in triples if a != b]
        passed = sum(a for _, a, _ in triples), sum(b for _, _, b in triples)
        head = f"Verdicts, {name}: {len(triples) - len(different)} of {len(triples)} equal; passed {passed[0]} (ours), "
        said.append("\n".join([f"{head}{passed[1]} (olmocr)", *different]))
    mine, theirs = ours["formulas"]["verdicts"], peer["formulas"]["verdicts"]
    said.append(f"Pairs of formulas: {sum(map(bool.__eq__, mine, theirs))} of {len(mine)} verdicts equal")
    return said


def overall(pages: Sequence[PageCase], verdicts: Sequence[Sequence[bool]]) -> Interval:
    """The public benchmark's figure: the mean over files of the share of tests that pass."""
    tallies = [
        Tally(id=test["id"], type=test["type"], file=file, page=str(number), passes=int(passed), repeats=1)
        for number, (page, row) in enumerate(zip(pages, verdicts, strict=True))
        for test, file, passed in zip(page.tests, page.files, row, strict=True)
    ]
    return benchmark_score(tallies, seed=0).overall_public


def device() -> str:
    model = next((x.split(":")[1].strip() for x in _lines("/proc/cpuinfo") if x.startswith("model name")), "")
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    parts = [f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", model or platform.machine(), f"{os.cpu_count()} cores", load]
    return ", ".join([part for part in parts if part] + [f"Python {platform.python_version()}"])


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []


def _figure(rate: float | None) -> str:
    return "" if rate is None else f"{rate:,.0f}" if rate >= 100 else f"{rate:,.2f}"


def _ratio(mine: float, theirs: float | None) -> str:
    return "" if theirs is None else f"{mine / theirs:,.1f}x"


if __name__ == "__main__":
    sys.exit(main())
