"""What the two sides of a speed comparison judge: pages with all their tests, and pairs of formulas.

From an olmOCR-Bench folder (the outputs of one candidate), from a folder of oracle files (perturbed full pages), or,
where there is neither, pages composed on the spot. Everything is plain JSON. Knows nothing about time.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from rapidfuzz import fuzz, process

from ocr_rl.contract import UserError
from ocr_rl.evaluate.damage import with_wrong_characters
from ocr_rl.evaluate.stats import BASELINE_FILE
from ocr_rl.pages.synth.compose import report
from ocr_rl.pages.synth.document import to_markdown
from ocr_rl.pages.synth.source_tests import source_tests
from ocr_rl.text.formulas import extract

Test = Mapping[str, Any]
Pair = tuple[str, str]  # reference, candidate: TeX without delimiters

FULL_PAGE = 800  # characters at least
GROUP = 28  # transcripts of a page, as olmOCR-2 was trained with
OF_A_KIND = 5  # tests of it
LONG_PAGE = 2_800  # characters at least of the page that they are of
COMPOSED_PAGES = 40

WELL_KNOWN = (
    "e^{i\\pi} + 1 = 0",
    "x = \\frac{-b \\pm \\sqrt{b^2 - 4ac}}{2a}",
    "\\int_{-\\infty}^{\\infty} e^{-x^2} \\, dx = \\sqrt{\\pi}",
    "\\sum_{n=1}^{\\infty} \\frac{1}{n^2} = \\frac{\\pi^2}{6}",
    "\\nabla \\times \\mathbf{E} = -\\frac{\\partial \\mathbf{B}}{\\partial t}",
    "f(x) = \\frac{1}{\\sigma \\sqrt{2\\pi}} \\exp\\left(-\\frac{(x-\\mu)^2}{2\\sigma^2}\\right)",
    "\\lim_{n \\to \\infty} \\left(1 + \\frac{1}{n}\\right)^n = e",
    "P(A \\mid B) = \\frac{P(B \\mid A) \\, P(A)}{P(B)}",
    "\\begin{pmatrix} a & b \\\\ c & d \\end{pmatrix}^{-1} = \\frac{1}{ad - bc} \\begin{pmatrix} d & -b \\\\ -c & a \\end{pmatrix}",  # noqa: E501
    "i\\hbar \\frac{\\partial}{\\partial t} \\Psi = \\hat{H} \\Psi",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCase:
    """One transcript and every test of its page, as raw JSON; `files` says which JSONL file each test is from."""

    text: str
    tests: Sequence[Test]
    files: Sequence[str] = ()


def benchmark_pages(folder: Path, candidate: str) -> list[PageCase]:
    """The outputs of one candidate in an olmOCR-Bench folder; each PDF without a baseline test gets one, on page 1.

    UserError for a folder without tests, or a page that has no output or more than one.
    """
    by_page: dict[tuple[str, int], list[tuple[Test, str]]] = defaultdict(list)
    for file in sorted(folder.glob("*.jsonl")):
        for test in rows(file):
            by_page[test["pdf"], test["page"]].append((test, file.name))
    if not by_page:
        raise UserError(f"{folder} holds no tests; name an olmOCR-Bench folder (JSONL files and a folder pdfs)")
    has_baseline = {pdf for (pdf, _), tests in by_page.items() if any(test["type"] == "baseline" for test, _ in tests)}
    for path in sorted((folder / "pdfs").rglob("*.pdf")):
        if (pdf := path.relative_to(folder / "pdfs").as_posix()) not in has_baseline:
            added = {"pdf": pdf, "page": 1, "id": f"{pdf}_baseline", "type": "baseline"}
            by_page[pdf, 1].append((added, BASELINE_FILE))
    cases = []
    for (pdf, page), tests in by_page.items():
        output = folder / candidate / f"{pdf.removesuffix('.pdf')}_pg{page}_repeat1.md"
        if not output.is_file():
            raise UserError(f"{output} is missing; every page with tests needs one output")
        text = output.read_text(encoding="utf-8")
        cases.append(PageCase(text=text, tests=[test for test, _ in tests], files=[file for _, file in tests]))
    return cases


def perturbed_pages(folder: Path) -> list[PageCase]:
    """Damaged outputs of real pages in an oracle folder, each with all tests that stand there for the page."""
    texts = {row["candidate_sha"]: row["text"] for row in rows(folder / "candidates.jsonl")}
    tests: dict[tuple[str, int], dict[str, Test]] = defaultdict(dict)
    found: dict[str, tuple[str, int]] = {}
    for row in rows(folder / "unit_tests.jsonl"):
        if row["origin"] == "sample_data":
            test = row["test"]
            page = test["pdf"], test["page"]
            tests[page][test["id"]] = test
            if row["source"] != "sample_data" and len(texts[row["candidate_sha"]]) >= FULL_PAGE:
                found[row["candidate_sha"]] = page
    return [PageCase(text=texts[sha], tests=list(tests[page].values())) for sha, page in found.items()]


def composed_pages(seed: int = 0) -> list[PageCase]:
    """Pages of prose and tables with their tests, as the synthetic data sets have them; nothing is typeset.

    Limits on length are left out: the public reading counts markup, and the limits what is seen.
    """
    rng = Random(seed)
    pages = []
    for i, source in enumerate([report(rng) for _ in range(COMPOSED_PAGES)]):
        tests = source_tests(source, pdf=f"composed_{i}.pdf", number=1, rng=rng)
        tests = [test for test in tests if "max_length" not in test]
        pages.append(PageCase(text=to_markdown(source), tests=tests))
    return pages


def siblings(seed: int = 0) -> dict[str, Any]:
    """28 transcripts of one page of about 3,000 characters, 0 to 27 % misread, and 15 text, order and table tests."""
    text, chosen = "", {kind: list[Test]() for kind in ("present", "order", "table")}
    for page in composed_pages(seed):
        if len(text) >= LONG_PAGE and sum(map(len, chosen.values())) == 3 * OF_A_KIND:
            break
        text = f"{text}\n\n{page.text}".strip()
        for kind, tests in chosen.items():
            chosen[kind] = [*tests, *(test for test in page.tests if test["type"] == kind)][:OF_A_KIND]
    tests = [test for tests in chosen.values() for test in tests]
    return {"tests": tests, "texts": [with_wrong_characters(text, k / 100, Random(k)) for k in range(GROUP)]}


def formulas_of(pages: Iterable[PageCase]) -> Iterator[Pair]:
    """Every formula that is looked for, and the one on its page that is most like it, unless that is the very same."""
    for page in pages:
        there = extract(page.text)
        for test in page.tests:
            if test["type"] == "math" and there and test["math"] not in there:
                yield test["math"], process.extract(test["math"], there, scorer=fuzz.ratio, limit=1)[0][0]


def oracle_formulas(folder: Path, most: int, seed: int = 0) -> list[Pair]:
    pairs = [(row["reference"], row["candidate"]) for row in rows(folder / "equations.jsonl")]
    pairs = [pair for pair in pairs if pair[0] != pair[1]]
    return Random(seed).sample(pairs, min(most, len(pairs)))


def composed_formulas() -> list[Pair]:
    """Well-known formulas, each beside itself with other spaces, and beside the next one."""
    spaced = [(formula, formula.replace(" ", "  ")) for formula in WELL_KNOWN]
    return spaced + list(zip(WELL_KNOWN, WELL_KNOWN[1:], strict=False))


def rows(path: Path) -> Iterator[Any]:
    """JSON lines; blank ones are skipped. UserError naming file and line."""
    if not path.is_file():
        raise UserError(f"{path} is missing")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                if line.strip():
                    yield json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{path}, line {number}, is not JSON: {error}") from error
