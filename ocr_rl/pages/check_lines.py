"""The lines of a dataset's *.jsonl files -> tests. `pages check`, `split`, `import`, bench and training read them here.

    read_tests(files, pdfs, num_pages)    tests, and what is wrong with the lines that are none

Knows nothing about folders; `ocr_rl.text.checks` knows what a test means.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocr_rl.files import Unreadable, read_objects
from ocr_rl.pages.tree import name_among
from ocr_rl.text.checks import PageCheck, load_check


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedCheck:
    """A check, the page that it is of, and the line of the file that describes it."""

    check: PageCheck
    file: Path
    line: int
    pdf: str  # its name below pdfs/, which is also that of `fields`
    number: int
    fields: Mapping[str, Any]  # the JSON object


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """What is wrong with a line, or with a file."""

    file: Path
    line: int | None  # 1-based; None: the whole file
    message: str


def read_tests(
    files: Iterable[Path], names_of: Mapping[str, str], num_pages: Mapping[str, int]
) -> Iterator[PlacedCheck | Flaw]:
    """The tests of files in their order.

    `names_of` has the names below pdfs/, each with the one that counts of a document's several (`Tree.same`).
    `num_pages` has those of them that open; no page of the others is missed.
    """
    first_use: dict[str, str] = {}  # id of a test -> the file and line that have it
    for file in files:
        line = None
        try:
            for line, row in read_objects(file):
                try:
                    test = _placed(row, file, line, names_of)
                    _require_page(test, num_pages)
                    here = f"{file.name}:{line}"
                    if first_use.setdefault(test.check.id, here) != here:
                        name = json.dumps(test.check.id, ensure_ascii=False)
                        raise Unreadable(f"the id {name} is taken by {first_use[test.check.id]}")
                    yield test
                except Unreadable as flaw:
                    yield Flaw(file=file, line=line, message=str(flaw))
        except Unreadable as flaw:
            yield Flaw(file=file, line=None, message=str(flaw))


def find_pdf(name: str, names_of: Mapping[str, str]) -> str | None:
    """The name below pdfs/ that counts of what a test means. No file is opened by it, so that "../x" names none."""
    written = name_among(name, names_of)
    return None if written is None else names_of[written]


def _placed(row: dict[str, Any] | Unreadable, file: Path, line: int, names_of: Mapping[str, str]) -> PlacedCheck:
    """The test of one line. Raises Unreadable."""
    if isinstance(row, Unreadable):
        raise row
    pdf, number = row.get("pdf"), row.get("page")
    if not isinstance(pdf, str) or not pdf:
        raise Unreadable('the field "pdf" must name a file below pdfs/')
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise Unreadable('the field "page" must be a whole number from 1')
    name = find_pdf(pdf, names_of)
    fields = row if name is None else {**row, "pdf": name}
    try:
        check = load_check(fields)
    except ValueError as error:
        raise Unreadable(str(error)) from None
    except TypeError:  # a field holds a list or an object instead of a word
        raise Unreadable("a field of the test has a value of the wrong kind") from None
    if name is None:
        raise Unreadable(f"there is no {json.dumps(pdf, ensure_ascii=False)} below pdfs/")
    return PlacedCheck(check=check, file=file, line=line, pdf=name, number=number, fields=fields)


def _require_page(test: PlacedCheck, num_pages: Mapping[str, int]) -> None:
    if test.number > (last := num_pages.get(test.pdf, test.number)):
        raise Unreadable(f"there is no page {test.number}, {test.pdf} has {last}")
