"""What is gathered from a folder of people's documents, and the dataset that is written from it: at the end, or never.

`mined` and `imported` decide what is kept. A file or page that is not kept is named with the reason.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from ocr_rl import outputs
from ocr_rl.contract import UserError
from ocr_rl.file_kinds import DOCUMENTS
from ocr_rl.files import MAX_LINE, Unreadable, read_text
from ocr_rl.pages.dataset import write_tests
from ocr_rl.pages.documents import SUFFIXES, twins
from ocr_rl.pages.manifest import write_manifest
from ocr_rl.pages.raster import PageError, count_pages, distinct_stems, long_name, size_faults
from ocr_rl.pages.references import NUMBERED, Reference, placed
from ocr_rl.pages.snippets import Test
from ocr_rl.pages.tree import NOT_UTF8, Tree, tree
from ocr_rl.text.front_matter import split_front_matter

Place = tuple[str, int]  # a document, by its name below the folder, and a page's number


@dataclass(frozen=True, slots=True, kw_only=True)
class Harvest:
    """What became of a folder."""

    pages: int  # number of pages with tests or a transcript; 0: nothing was written
    tests: int
    left_out: tuple[str, ...]  # "file, page N: reason"


@dataclass(slots=True)
class Crop:
    """What is kept of a folder, before it is written."""

    copies: dict[str, Path] = field(default_factory=dict)  # by the name below pdfs/
    tests: dict[str, list[Test]] = field(default_factory=dict)  # by the stem of their file
    pages: set[Place] = field(default_factory=set)  # by the new name: those with tests or a transcript
    left_out: list[str] = field(default_factory=list)

    def keep(self, stem: str, tests: Iterable[Test]) -> bool:
        """Add the tests of a file but for those too long to be read again; whether there are any."""
        own = self.tests.setdefault(stem, [])
        before = len(own)
        for test in tests:
            if len(json.dumps(test, ensure_ascii=False).encode()) < MAX_LINE:
                own.append(test)
                self.pages.add((test["pdf"], test["page"]))
            else:
                self.left_out.append(f"{test['pdf']}, page {test['page']}: the test {test['id']} is longer than 1 MiB")
        return len(own) > before


# --- a folder ---------------------------------------------------------------------------------------------------------


def sources(
    folder: Path, left_out: list[str], inside: Path | None = None, wanted: str = DOCUMENTS
) -> tuple[Tree, dict[str, Path]]:
    """What stands below a folder, and its documents by name; a line for each name that is left out is appended.

    With `inside` no link leads out. Of two documents whose names differ by their ending alone, one is left out. Raises
    UserError for a folder without documents, and for a document whose name cannot be written down.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; name one that holds {DOCUMENTS}.")
    below = tree(folder, (*SUFFIXES, ".md"), inside)
    for path, reason in below.left_out:
        if reason == NOT_UTF8 and path.suffix.lower() in SUFFIXES:
            raise UserError(f"{shown(path)}: this file's name is not UTF-8; rename it or take it out.")
    documents = below.once(*SUFFIXES)
    left_out += [f"{shown(path)}: {reason}" for path, reason in (*below.left_out, *below.not_followed)]
    left_out += [
        f"{below.files[name]}: is {below.files[first]} by another name"
        for name, first in below.same.items()
        if first in documents
    ]
    if not documents:
        why = f" ({left_out[0]})" if left_out else ""
        raise UserError(f"{folder}: there is no {wanted} in this folder{why}; name one that holds some.")
    shared = twins(documents.values())
    left_out += [
        f"{path}: has the name of {other.name} but for the ending; rename one" for path, other in shared.items()
    ]
    return below, {name: path for name, path in documents.items() if path not in shared}


def flat_names(documents: Mapping[str, Path], out: Path, left_out: list[str]) -> dict[str, str]:
    """The name of each document below pdfs/ of the new dataset, but for those whose name cannot be written.

    No name is that of another one's page: beside x.pdf, x_pg1.pdf becomes x_pg1-2.pdf, as x_pg1.md is of x.pdf.
    """
    stems = distinct_stems(documents.values())
    taken = {stem.casefold() for stem in stems.values()}
    names: dict[str, str] = {}
    for name, path in documents.items():
        stem, numbered = stems[path], NUMBERED.fullmatch(stems[path])
        if numbered and numbered["stem"].casefold() in taken:
            stem = next(other for k in count(2) if (other := f"{stem}-{k}").casefold() not in taken)
            taken.add(stem.casefold())
        if reason := long_name(out, f"{stem}{path.suffix.lower()}"):
            left_out.append(f"{path}: {reason}")
        else:
            names[name] = f"{stem}{path.suffix.lower()}"
    return names


def counted(documents: Mapping[str, Path], left_out: list[str]) -> dict[str, int]:
    """How many pages each document has that opens."""
    names = {path: name for name, path in documents.items()}
    counts: dict[str, int] = {}
    for path, pages in count_pages(documents.values()):
        if isinstance(pages, PageError):
            left_out.append(str(pages))
        else:
            counts[names[path]] = pages
    return counts


def undrawable(documents: Mapping[str, Path], places: Iterable[Place], left_out: list[str]) -> set[Place]:
    """Those of the pages that drawing would refuse; a line for each is appended."""
    names = {path: name for name, path in documents.items()}
    numbers: dict[Path, list[int]] = {}
    for name, number in places:
        numbers.setdefault(documents[name], []).append(number)
    refused: set[Place] = set()
    for error in size_faults(numbers.items()):
        assert error.pdf is not None
        left_out.append(str(error))
        of_file = numbers[error.pdf] if error.number is None else [error.number]
        refused |= {(names[error.pdf], number) for number in of_file}
    return refused


def transcripts(beside: Iterable[Reference], num_pages: Mapping[str, int], left_out: list[str]) -> dict[Place, Path]:
    """The Markdown file of each page that has one; a line for each that belongs to no page is appended."""
    files: dict[Place, Path] = {}
    for file, number in placed(beside, num_pages):
        if isinstance(number, Unreadable):
            left_out.append(f"{file.path}: {number}")
        else:
            files[file.document, number] = file.path
    return files


def texts(
    files: Mapping[Place, Path], without: Collection[Place], left_out: list[str]
) -> dict[Place, tuple[Path, str]]:
    """File and text of the transcripts that can be read, without front matter, but for those of some pages."""
    read: dict[Place, tuple[Path, str]] = {}
    for place, path in files.items():
        try:
            if place not in without:
                read[place] = path, split_front_matter(read_text(path))[1]
        except Unreadable as flaw:
            left_out.append(f"{path}: {flaw}")
    return read


def shown_name(folder: Path) -> str:
    return shown(Path(folder.resolve().name))


def shown(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


# --- the dataset ------------------------------------------------------------------------------------------------------


def require_empty(out: Path) -> None:
    if os.path.lexists(out) and not out.is_dir():
        raise UserError(f"{out}: is a file, and a folder would be written there; give another --out.")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: this folder is not empty; give an empty or a new one with --out.")


def write_harvest(crop: Crop, out: Path, made_by: Mapping[str, Any]) -> Harvest:
    """Write copies, tests by file, the list of what was left out and the manifest; nothing where no page is kept."""
    if crop.pages:
        with outputs.writing(out):
            (out / "pdfs").mkdir(parents=True, exist_ok=True)
            for name, path in crop.copies.items():
                target = out / "pdfs" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
            for stem, tests in crop.tests.items():
                write_tests(out / f"{stem}.jsonl", tests)
            text = "".join(f"{line}\n" for line in crop.left_out)
            (out / "left_out.txt").write_text(text, encoding="utf-8")
            write_manifest(out, made_by)
    tests = sum(map(len, crop.tests.values()))
    return Harvest(pages=len(crop.pages), tests=tests, left_out=tuple(crop.left_out))
