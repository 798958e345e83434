"""Are mined tests right? Judged by true transcripts, or by another program's reading of the same pages.

    python -m benchmarks.data.mined [--typeset 20]
    python -m benchmarks.data.mined FOLDER [--outputs OUTPUTS]
    python -m benchmarks.data.mined --layouts 8

The first command typesets pages of every kind that has a text layer. It mines their PDFs alone (text layer) and with
their references beside them (transcript), and asks what the reference then passes and earns: as it is, with HTML
tables, and with its tables in Markdown. The second mines every PDF below FOLDER, then asks poppler's `pdftotext` for
the text of each page and counts how many present and order tests pass with it (pages with a transcript of their own are
not counted). With --outputs all tests are asked of what a model wrote instead: which fail, and which of these would not
without the marks of LaTeX, HTML and emphasis. Each prints failures; the second says why pages were left out.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import mean

from benchmarks.data.layouts import PAGES, document
from ocr_rl.contract import Reading, Transcript
from ocr_rl.files import read_text
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.pages.layer_tests import layer_tests
from ocr_rl.pages.mined import mine_folder
from ocr_rl.pages.snippets import Test
from ocr_rl.pages.synth.make import ALL_KINDS, SCANNED, make_document
from ocr_rl.pages.text_layer import layers
from ocr_rl.rewards.budget import Budget
from ocr_rl.rewards.pass_rate import PassDegree, PassRate
from ocr_rl.text.checks import load_check, prepare
from ocr_rl.text.prepared import Prepared
from ocr_rl.text.tables import html_tables


def poppler_text(pdf: Path, number: int, *options: str) -> str:
    command = ["pdftotext", *options, "-enc", "UTF-8", "-f", str(number), "-l", str(number), str(pdf), "-"]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).stdout.decode("utf-8", "replace")


def mined(folder: Path, out: Path, seed: int) -> Iterator[tuple[Path, Test]]:
    """(PDF, a test mined from its text layer), in order; says how many pages and why others were left out."""
    harvest = mine_folder(folder, out, seed)
    for reason, count in Counter(line.rsplit(": ", 1)[-1] for line in harvest.left_out).most_common():
        print(f"left out: {count:4} pages or files: {reason}")
    print(f"{harvest.pages} pages, {harvest.tests} tests")
    for line in (out / "mined.jsonl").read_text(encoding="utf-8").splitlines() if harvest.tests else []:
        test = json.loads(line)
        pdf = out / "pdfs" / test["pdf"]
        if not pdf.with_suffix(".md").exists():
            yield pdf, test


def by_pdftotext(folder: Path, seed: int, show: int) -> bool:
    """Whether 99.8 % of the present and order tests of people's PDFs pass with poppler's text."""
    if shutil.which("pdftotext") is None:
        raise SystemExit("pdftotext is not installed (Debian: poppler-utils)")
    pages: dict[tuple[Path, int], Prepared] = {}
    right, total = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        for pdf, test in mined(folder, Path(name) / "mined", seed):
            if test["type"] not in ("present", "order"):
                continue
            place = pdf, test["page"]
            if place not in pages:
                pages[place] = prepare(poppler_text(*place))
            verdict = load_check(test).run(pages[place], "strict")
            total[test["type"]] += 1
            right[test["type"]] += verdict.passed
            if not verdict.passed and show > 0:
                show -= 1
                print(f"{test['id']}: {verdict.why}")
    for kind in total:
        print(f"{kind}: {right[kind]} of {total[kind]} right ({right[kind] / total[kind]:.1%})")
    share = right.total() / max(1, total.total())
    print(f"{right.total()} of {total.total()} present and order tests right by pdftotext ({share:.2%})")
    return share >= 0.998


def by_outputs(folder: Path, outputs: Path, seed: int) -> bool:
    """Whether no test of people's PDFs fails for what a model wrote because of markup; every failure is listed.

    `outputs` holds a transcript for each page, named as the public benchmark does: <stem>_pg<N>_repeat1.md.
    """
    written = {path.name.removesuffix("_repeat1.md"): path for path in sorted(outputs.rglob("*_repeat1.md"))}
    pages: dict[str, tuple[Prepared, Prepared]] = {}
    total, failed, by_markup, compatible = Counter[str](), Counter[str](), 0, 0
    with tempfile.TemporaryDirectory() as name:
        for pdf, test in mined(folder, Path(name) / "mined", seed):
            page = f"{pdf.stem}_pg{test['page']}"
            if page not in written:
                continue
            if page not in pages:
                text = read_text(written[page])
                pages[page] = prepare(text), prepare(bare(text))
            check, (form, without) = load_check(test), pages[page]
            verdict = check.run(form, "strict")
            total[test["type"]] += 1
            if not verdict.passed:
                failed[test["type"]] += 1
                compatible += (passes := check.run(form, "compatible").passed)
                by_markup += (at_fault := check.run(without, "strict").passed and "max_length" not in test)
                notes = [", passes without its markup"] * at_fault + [", passes in the compatible reading"] * passes
                print(f"{test['id']}: {verdict.why}{''.join(notes)}")
    for kind in total:
        print(f"{kind}: {failed[kind]} of {total[kind]} fail")
    print(f"{failed.total()} of {total.total()} tests of {len(pages)} outputs fail, {by_markup} of them by markup")
    print(f"{compatible} of them pass in the compatible reading")
    return not by_markup


def bare(text: str) -> str:
    """A transcript without its marks: tags, dollars, TeX's parentheses, emphasis, signs of headings."""
    text = re.sub(r"<(?:td|th|tr|br)\b[^>]*>", "\n", text)
    text = re.sub(r"</?[a-z][^>]*>", "", text)
    return re.sub(r"\$+|\\[()\[\]]|\*+|^#+ |\\(?:text|mathrm|mathbf)\{([^{}]*)\}", r"\1", text, flags=re.MULTILINE)


def by_the_truth(kind: str, pages: int, seed: int, beside: bool, show: int) -> tuple[int, int, float]:
    """Tests, tests that a true transcript fails in some form, and the least reward of a truth, of pages of a kind."""
    with tempfile.TemporaryDirectory() as name:
        own = Path(name) / "own"
        own.mkdir()
        truths: dict[str, str] = {}
        for k in range(pages):
            document = make_document(kind, seed, k, 1)
            (own / document.name).write_bytes(document.pdf)
            truths[document.name] = document.references[0]
            if beside:
                (own / document.name).with_suffix(".md").write_text(document.references[0], encoding="utf-8")
        harvest = mine_folder(own, Path(name) / "out", seed)
        tests = failed = limits = 0
        least, worst = 1.0, ""
        bare: list[float] = []
        mined = load_dataset(Path(name) / "out") if harvest.pages else []
        for page in mined:
            page = replace(page, reference=None)
            limits += any(getattr(check, "max_length", None) is not None for check in page.checks)
            if (rest := without_tables(truths[page.pdf.name])) != truths[page.pdf.name]:
                bare.append(PassDegree()(page, [transcript_of(rest)])[0].value or 0.0)
            for form in {truths[page.pdf.name], in_pipes(truths[page.pdf.name])}:
                prepared, transcript = prepare(form), transcript_of(form)
                tests += len(page.checks)
                for check in page.checks:
                    verdict = check.run(prepared, "strict")
                    failed += not verdict.passed
                    if not verdict.passed and show > 0:
                        show -= 1
                        print(f"{check.id}: {verdict.why}")
                for reward in (PassDegree(), PassRate(), Budget()):
                    value = reward(page, [transcript])[0].value
                    if value is not None and value < least:
                        least, worst = value, f"{page.id} {type(reward).__name__}"
    print(
        f"{kind:10} {len(mined):3} {'transcript' if beside else 'text layer':10} {limits:6} {tests:6} "
        f"{1 - failed / max(1, tests):8.3%} {least:6.3f} "
        f"{f'{mean(bare):9.3f} ({len(bare)})' if bare else '-':>14} {worst}"
    )
    return tests, failed, least


def by_layout(seeds: int, pages: int, show: int) -> int:
    """Tests of `layouts.PAGES` that a true transcript fails in a reading."""
    total = 0
    for kind, draw in PAGES.items():
        for seed in range(seeds):
            rng = Random(f"{kind}/{seed}")
            drawn = [draw(rng) for _ in range(pages)]
            with tempfile.TemporaryDirectory() as name:
                (Path(name) / "a.pdf").write_bytes(document([content for content, _ in drawn]))
                found = layers(Path(name) / "a.pdf")
            tests = failed = 0
            for layer, (_, truth) in zip(found, drawn, strict=True):
                prepared = prepare(truth)
                for test in [] if layer.reason else layer_tests(layer, "a.pdf", Random(seed)):
                    readings: tuple[Reading, ...] = ("strict",) if "max_length" in test else ("strict", "compatible")
                    verdicts = [load_check(test).run(prepared, reading) for reading in readings]
                    tests += 1
                    failed += (wrong := not all(verdict.passed for verdict in verdicts))
                    if wrong and show > 0:
                        show -= 1
                        print(f"{kind}, {test['id']}: {[verdict.why for verdict in verdicts]}")
            left_out = sum(bool(layer.reason) for layer in found)
            print(f"{kind:16} seed {seed}: {tests:5} tests, {failed:3} fail; {left_out} left out")
            total += failed
    print(f"{total} tests of {seeds} seeds of {pages} pages of {len(PAGES)} layouts fail for the true transcript")
    return total


def transcript_of(text: str) -> Transcript:
    return Transcript(raw=text, body=text, finish="stop", num_tokens=1)


def without_tables(text: str) -> str:
    return re.sub(r"<table\b.*?</table>", "", text, flags=re.DOTALL)


def in_pipes(text: str) -> str:
    """The transcript with its tables in Markdown, as far as no cell spans others."""

    def piped(match: re.Match[str]) -> str:
        (table,) = html_tables(match[0])
        if len(table.cells) != len(table.grid) or not table.is_rectangular:
            return match[0]
        rows = [
            [table.cells[r, c].text.replace("|", "\\|") for c in range(table.num_cols)] for r in range(table.num_rows)
        ]
        lines = [rows[0], ["---"] * table.num_cols, *rows[1:]]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    return re.sub(r"<table>.*?</table>", piped, text, flags=re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--outputs", type=Path, help="a folder of a model's transcripts of the pages in FOLDER")
    parser.add_argument("--typeset", type=int, default=20, help="pages of each kind, if there is no folder")
    parser.add_argument("--kind", choices=ALL_KINDS, action="append", help="only these kinds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=10, help="how many failures to print")
    parser.add_argument("--layouts", type=int, help="so many seeds of 25 pages of each layout instead")
    args = parser.parse_args()
    if args.layouts is not None:
        return 1 if by_layout(args.layouts, 25, args.show) else 0
    if args.outputs is not None:
        return 0 if by_outputs(args.folder, args.outputs, args.seed) else 1
    if args.folder is not None:
        return 0 if by_pdftotext(args.folder, args.seed, args.show) else 1
    print("kind     pages mined from  limits  tests   passed  least reward of a truth  without its tables (pages)")
    rows = [
        by_the_truth(kind, args.typeset, args.seed, beside, args.show)
        for kind in args.kind or [kind for kind in ALL_KINDS if kind not in SCANNED]
        for beside in (False, True)
    ]
    tests, failed, least = sum(row[0] for row in rows), sum(row[1] for row in rows), min(row[2] for row in rows)
    print(f"{tests} tests, {1 - failed / tests:.3%} pass with a true transcript; least reward {least:.3f}")
    return 0 if failed <= 0.001 * tests and least >= 0.99 else 1


if __name__ == "__main__":
    raise SystemExit(main())
