"""Some pages of a dataset, and only their files: those of the first documents that have what is wanted.

Tests are read first, which opens no document; their lines say which documents have a test of a wanted file or type.
Tags may also stand in references, so with tags further documents are opened until there are pages enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from ocr_rl.contract import Page, UserError
from ocr_rl.pages.check_lines import PlacedCheck
from ocr_rl.pages.dataset import load_with_contents, load_with_files
from ocr_rl.pages.folder import documents_with_tests


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """Which pages and tests of a dataset; empty means all."""

    limit: int | None = None  # pages, the first by document and number
    tags: frozenset[str] = frozenset()  # pages with one of them
    files: frozenset[str] = frozenset()  # tests of these JSONL files, with or without the ending
    types: frozenset[str] = frozenset()  # tests of these types

    @property
    def adds_baselines(self) -> bool:
        """Whether documents get the public benchmark's own baseline test: where no tests are chosen."""
        return not self.files and not self.types

    def wants(self, test: PlacedCheck) -> bool:
        names = {test.file.name, test.file.stem}
        return (not self.files or bool(names & self.files)) and (not self.types or test.check.type in self.types)

    def note(self) -> dict[str, str]:
        """What a report says of it; nothing where it is the whole dataset."""
        parts = [
            f"{name} {', '.join(sorted(values))}"
            for name, values in (("tag", self.tags), ("file", self.files), ("type", self.types))
            if values
        ]
        parts += [f"the first {self.limit} pages"] if self.limit is not None else []
        return {"subset": "; ".join(parts)} if parts else {}


def load_subset(folder: Path, subset: Subset) -> tuple[list[Page], dict[str, str]]:
    """The pages with their wanted tests, and the name of the JSONL file that holds a test, by the test's id.

    UserError with the first fault of what was opened, and where nothing fits.
    """
    if not subset.note():
        return load_with_files(folder)
    tests = documents_with_tests(folder)
    wanted = {name: [test for test in own if subset.wants(test)] for name, own in tests.items()}
    names = [name for name, own in wanted.items() if own or not (subset.files or subset.types)]
    file_of = {test.check.id: test.file.name for own in wanted.values() for test in own}
    pages: list[Page] = []
    for part in _parts(names, wanted, subset):
        pages += [page for page in _pages(folder, part, file_of, subset)]
        if subset.limit is not None and len(pages) >= subset.limit:
            break
    if not pages:
        raise UserError(f"{folder}: no page fits {subset.note()['subset']}; `ocr-rl pages check` says what there is.")
    pages = pages[: subset.limit]
    return pages, {check.id: file_of[check.id] for page in pages for check in page.checks}


def _parts(names: Sequence[str], wanted: dict[str, list[PlacedCheck]], subset: Subset) -> Iterator[list[str]]:
    """Documents to open together: as many as have the pages of the limit, by what their tests say."""
    source = iter(names)
    if subset.limit is None:
        yield list(source)
        return
    while True:
        part: list[str] = []
        count = 0
        while count < subset.limit and (more := list(islice(source, 1))):
            part += more
            count += max(1, len({test.number for test in wanted[more[0]]}))
        if not part:
            return
        yield part


def _pages(folder: Path, names: Sequence[str], file_of: dict[str, str], subset: Subset) -> Iterator[Page]:
    for page in load_with_contents(folder, only=names)[0]:
        checks = tuple(check for check in page.checks if check.id in file_of)
        if subset.tags and not subset.tags & page.tags:
            continue
        if checks or not (subset.files or subset.types):
            yield replace(page, checks=checks)
