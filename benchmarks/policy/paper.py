"""Are the figures of docs/study.md those of its rows?

    python -m benchmarks.policy.paper [--write]

Rebuilds the reports of the studies (docs/study/full, second and again) from the rows that lie beside them, and from the
first two the comparison of the two terrains (docs/study/terrains.md, arms.png). Then says which of these texts differ
from the committed ones by a byte, and which figure of the paper stands in none of them. `--write` puts the texts, plots
and rows where the committed ones are.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.policy.terrains import HEADER, compared, results_of
from ocr_rl.contract import UserError
from ocr_rl.evaluate.png import as_png
from ocr_rl.evaluate.stats import Interval
from ocr_rl.evaluate.tables import to_markdown_table
from ocr_rl.study.findings import contrast
from ocr_rl.study.plan import load_study
from ocr_rl.study.report import report_study
from ocr_rl.study.results import Results
from ocr_rl.study.rows import NAME, unpack
from ocr_rl.study.tables import leads

DOCS = Path(__file__).parents[2] / "docs"
PAPER, GENERATED = DOCS / "study.md", DOCS / "study"
BOTH_TERRAINS = ("full", "second")
STUDIES = (*BOTH_TERRAINS, "again")
TERRAINS = "terrains.md"

# A number with a decimal part, thousands, or an interval. Other whole numbers (pages, seeds, years) are none.
_FIGURE = re.compile(r"(?<![\w.])[+-]?\d+(?:,\d{3})*(?:\.\d+)?(?: \[-?[\d.]+, -?[\d.]+\])?(?![\w]|\.\d)")
_ROW = re.compile(r"^\| `?(?P<name>(?:GRPO |RLHF )?\d\.|Budget\.|[a-z_]+(?=`)).*$", re.MULTILINE)
_NUMBER = re.compile(r"-?[\d.]+")
_NOT_PROSE = re.compile(r"`[^`]*`|\]\([^)]*\)|\d{4}-\d{2}-\d{2}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put what was rebuilt where the committed files are")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        rebuilt = Path(folder)
        try:
            for name in STUDIES:
                rebuild(name, rebuilt)
        except UserError as error:
            print(error)
            return 2
        write_terrains({name: results_of(name, rebuilt / f"{name}-runs") for name in STUDIES}, rebuilt)
        reports = {name: (rebuilt / name).read_text("utf-8") for name in texts()}
        stale = [name for name, text in reports.items() if text != read_or_none(GENERATED / name)]
        if args.write:
            copy(rebuilt)
    for name in stale:
        print(f"docs/study/{name}: {'written anew' if args.write else 'is not what its rows say; run with --write'}")
    text = PAPER.read_text("utf-8")
    sources = list(reports.values())
    unknown = list(dict.fromkeys([*strangers(text, sources), *misplaced(text, sources)]))
    for figure in unknown:
        print(f"docs/study.md: {figure} stands in no report of docs/study, or in none of its arm or claim")
    print(f"{len(figures(text))} figures in docs/study.md, {len(unknown)} of them astray")
    return 1 if unknown or (stale and not args.write) else 0


def texts() -> list[str]:
    return [*(f"{name}/study.md" for name in STUDIES), TERRAINS]


def rebuild(name: str, out: Path) -> Path:
    """OUT/NAME, the report of the rows of docs/study/NAME, which are unpacked into OUT/NAME-runs; returns study.md."""
    study, runs = load_study(name), out / f"{name}-runs"
    unpack(GENERATED / name / NAME, runs, study)
    written = report_study(study, runs, out / name)
    if written is None:
        raise SystemExit(f"docs/study/{name}/{NAME}: no arm has ended in it")
    return written


def read_or_none(path: Path) -> str | None:
    return path.read_text("utf-8") if path.exists() else None


def copy(rebuilt: Path) -> None:
    for name in STUDIES:
        (GENERATED / name).mkdir(parents=True, exist_ok=True)
        for path in sorted((GENERATED / name).glob("study*.png")):
            path.unlink()  # of a claim that is made no more
        for path in sorted((rebuilt / name).glob("study*")):
            shutil.copyfile(path, GENERATED / name / path.name)
    for name in (TERRAINS, "arms.png"):
        shutil.copyfile(rebuilt / name, GENERATED / name)


def write_terrains(studies: Mapping[str, Results], out: Path) -> None:
    """The findings of the first terrain on the second, and what each arm gained in each study."""
    rows = compared(*(leads(studies[name].ended_arms()) for name in BOTH_TERRAINS))
    gained = {name: gains(results) for name, results in studies.items()}
    (out / TERRAINS).write_text(f"# The main comparison on both terrains\n\n{to_markdown_table(HEADER, rows)}", "utf-8")
    (out / "arms.png").write_bytes(forest(gained))


def gains(results: Results) -> dict[str, Interval]:
    """Of each arm over the start, the pass rate on the test pages."""
    return {arm: contrast((1, measured), (-1, results.began())) for arm, measured in results.ended_arms().items()}


def forest(gained: Mapping[str, Mapping[str, Interval]]) -> bytes:
    """A line an arm of the first study, its best on top; a mark with its interval for each study."""
    import matplotlib.pyplot as plt

    first = next(iter(gained.values()))
    arms = sorted(first, key=lambda arm: first[arm].mean)
    figure, axis = plt.subplots(figsize=(8, 4.6), dpi=110, layout="constrained")
    for k, (name, by_arm) in enumerate(gained.items()):
        at = [arms.index(arm) + 0.22 * (1 - k) for arm in arms if arm in by_arm]
        kept = [by_arm[arm] for arm in arms if arm in by_arm]
        mean = [100 * size.mean for size in kept]
        ends = [[100 * (size.mean - size.low) for size in kept], [100 * (size.high - size.mean) for size in kept]]
        axis.errorbar(mean, at, xerr=ends, fmt="osD"[k], markersize=5, capsize=3, label=name)
    axis.set_yticks(range(len(arms)), arms)
    axis.axvline(0, color="0.5", linewidth=0.8)
    axis.set_xlabel("gain over the start, points of the pass rate on the test pages")
    axis.grid(axis="x", alpha=0.3)
    axis.legend(title="study", loc="lower right")
    return as_png(figure)


def figures(text: str) -> list[str]:
    """In their order; links, code and dates hold none. Lines may break inside of one."""
    plain = " ".join(text.replace("\\[", "[").replace("\\]", "]").split())
    found = _FIGURE.findall(_NOT_PROSE.sub(" ", plain))
    return [figure for figure in found if any(mark in figure for mark in ".[,")]


def strangers(text: str, sources: Iterable[str]) -> list[str]:
    """Figures of the text that stand in no source; one with an interval must stand there with the same one.

    An end of an interval may stand alone and without its sign: what is excluded is said so. Who is ahead of whom may
    be turned round, without signs: its interval is turned then. A bare number of one decimal stands in some report by
    chance, so that this finds errors of copying and proves nothing.
    """
    known = {figure for source in sources for figure in figures(source)}
    known |= {end.lstrip("-") for figure in known for end in _NUMBER.findall(figure.partition(" [")[2])}
    known |= {figure.split(" [")[0] for figure in known}
    known |= {figure.lstrip("+") for figure in known}
    known |= {_turned(figure) for figure in known if figure.startswith("-") and "[" in figure}
    return [figure for figure in figures(text) if figure not in known]


def _turned(loss: str) -> str:
    """-15.2 [-21.8, -8.6] as 15.2 [8.6, 21.8]; -3.4 [-11.3, 4.5] as 3.4 [-4.5, 11.3]."""
    mean, *ends = _NUMBER.findall(loss)
    turned = [end.removeprefix("-") if end.startswith("-") else f"-{end}" for end in reversed(ends)]
    return f"{mean.removeprefix('-')} [{', '.join(turned)}]"


def misplaced(text: str, sources: Sequence[str]) -> list[str]:
    """Figures in a table's row of an arm or a claim that stand in no row of that arm, nor in that claim's section."""
    rows = [(match["name"], match[0]) for match in _ROW.finditer(text)]
    return [figure for name, row in rows for figure in strangers(row, ["\n".join(_of(name, sources))])]


def _of(name: str, sources: Sequence[str]) -> Iterator[str]:
    for source in sources:
        yield from (line for line in source.splitlines() if line.startswith(f"| {name} "))
        yield from (section for section in source.split("\n## ") if section.startswith(f"{name} "))


if __name__ == "__main__":
    sys.exit(main())
