"""A dataset folder becomes pages, and its faults become sentences. `folder` describes and reads the layout."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocr_rl.contract import Page, UserError
from ocr_rl.pages.check_lines import PlacedCheck
from ocr_rl.pages.folder import Contents, Fault, read_folder
from ocr_rl.pages.raster import PageError, document_sha
from ocr_rl.pages.typefaces import Borrowed, surveyed
from ocr_rl.text.checks import prepare


def load_dataset(folder: Path) -> list[Page]:
    """The pages that have tests or a reference, and page 1 of every PDF that has neither; by path, then number.

    A page's id is "<first 8 hex digits of the file's sha256>:p<N>", such as "0a1b2c3d:p3". A second file with the same
    digits (as a rule a copy) has "0a1b2c3d-2:p3". A page's tags are the stems of the JSONL files that hold its tests,
    and what the front matter of its reference says. Raises UserError with the first fault.
    """
    return load_with_files(folder)[0]


def load_with_files(folder: Path) -> tuple[list[Page], dict[str, str]]:
    """The pages of `load_dataset`, and the name of the JSONL file that holds a test, by the test's id."""
    pages, contents = load_with_contents(folder)
    return pages, {test.check.id: test.file.name for tests in contents.tests.values() for test in tests}


def load_with_contents(folder: Path, only: Collection[str] | None = None) -> tuple[list[Page], Contents]:
    """The pages of `load_dataset`, and where their tests and references stand; `only` as in `read_folder`."""
    contents = read_folder(folder, only)
    if contents.faults:
        more = f" (and {len(contents.faults) - 1} more)" if len(contents.faults) > 1 else ""
        raise UserError(f"{contents.faults[0]}{more}; `ocr-rl pages check` lists every fault of a dataset")
    return _pages(contents), contents


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """A dataset seen through."""

    pages: list[Page]  # those of `load_dataset`, if there is no fault
    faults: list[Fault]  # in the order of files and lines
    notes: list[Fault]  # no faults: links that are not followed, and pages that depend on this machine's typefaces


def check_dataset(folder: Path) -> list[Fault]:
    """Every fault of a dataset, in the order of files and lines. A dataset without faults can be trained on."""
    return survey(folder).faults


def survey(folder: Path) -> Survey:
    """The pages of a dataset, its faults and what else is worth a line.

    Two kinds of faults do not keep a dataset from being loaded: a page that is too large or too thin to be drawn, and
    a reference that fails a test of its own page in the strict reading.
    """
    contents = read_folder(folder)
    pages = _pages(contents)
    numbers: dict[Path, list[int]] = {}
    for page in pages:
        numbers.setdefault(page.pdf, []).append(page.number)
    seen = list(surveyed(numbers.items()))
    sizes = [_size_fault(page) for page in seen if isinstance(page, PageError)]
    gold = [
        fault
        for place, tests in contents.tests.items()
        if (reference := contents.references.get(place)) is not None
        for fault in _gold_faults(reference[1], tests)
    ]
    return Survey(
        pages=pages,
        faults=contents.faults + sizes + sorted(gold, key=lambda fault: (fault.file, fault.line or 0)),
        notes=[*contents.notes, *(_page_note(page) for page in seen if isinstance(page, Borrowed))],
    )


def write_tests(path: Path, tests: Iterable[Mapping[str, Any]]) -> None:
    """Write tests, a JSON object on each line. The file is written whole or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("w", encoding="utf-8", newline="\n") as file:
            for test in tests:
                file.write(json.dumps(test, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _pages(contents: Contents) -> list[Page]:
    pages: list[Page] = []
    copies: Counter[str] = Counter()
    places = sorted({*contents.tests, *contents.references})
    numbers: dict[str, list[int]] = {}
    for pdf, number in places:
        numbers.setdefault(pdf, []).append(number)
    for name, path in contents.pdfs.items():
        if name not in contents.num_pages:
            continue
        digits = document_sha(path)[:8]
        copies[digits] += 1
        document = digits if copies[digits] == 1 else f"{digits}-{copies[digits]}"
        for number in numbers.get(name, [1]):
            tests = contents.tests.get((name, number), ())
            truth, reference = contents.references.get((name, number), (None, None))
            pages.append(
                Page(
                    id=f"{document}:p{number}",
                    pdf=path,
                    number=number,
                    reference=reference,
                    checks=tuple(test.check for test in tests),
                    tags=frozenset(test.file.stem for test in tests) | (truth.tags if truth else frozenset()),
                )
            )
    return pages


def _size_fault(error: PageError) -> Fault:
    assert error.pdf is not None
    message = error.reason if error.number is None else f"page {error.number}: {error.reason}"
    return Fault(file=error.pdf, line=None, message=message)


def _page_note(page: Borrowed) -> Fault:
    return Fault(file=page.pdf, line=None, message=f"page {page.number}: {page}")


def _gold_faults(reference: str, tests: Sequence[PlacedCheck]) -> Iterator[Fault]:
    """A fault for each test of a page that the page's own reference fails, with the reason."""
    prepared = prepare(reference)
    for test in tests:
        name = json.dumps(test.check.id, ensure_ascii=False)
        try:
            verdict = test.check.run(prepared, "strict")
        except Exception as error:  # noqa: BLE001 the boundary: a test that cannot be run is a fault of the dataset
            message = f"the test {name} cannot be run ({type(error).__name__}: {error})"
        else:
            if verdict.passed:
                continue
            message = f"the page's own reference fails the test {name} ({verdict.why})"
        yield Fault(file=test.file, line=test.line, message=message)
