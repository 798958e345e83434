"""A dataset of some pages of another: copies of their files, the tests and references of those pages alone.

A page keeps its id, since its document is copied whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ocr_rl import outputs
from ocr_rl.contract import Page, UserError
from ocr_rl.files import Unreadable
from ocr_rl.pages.dataset import load_with_contents, write_tests
from ocr_rl.pages.folder import Contents
from ocr_rl.pages.manifest import write_manifest
from ocr_rl.pages.references import reference_name

Place = tuple[str, int]  # a document's name below pdfs/, and a page's number from 1


def write_chosen(folder: Path, ids: Collection[str], out: Path, made_by: Mapping[str, Any]) -> list[Page]:
    """Write the pages of these ids as a dataset, whole or not at all, and return them in the order of the dataset.

    UserError for a faulty dataset, for an id that it does not have, and where `out` is there already.
    """
    pages, contents = load_with_contents(folder)
    if unknown := set(ids) - {page.id for page in pages}:
        raise UserError(f"{folder}: has no page {min(unknown)}; give the dataset that the samples are of.")
    chosen = [page for page in pages if page.id in ids]
    if out.exists():
        raise UserError(f"{out}: is there already; give a new folder.")
    with outputs.new_folder(out) as aside:
        copy_pages(contents, places_of(chosen, contents), aside)
        write_manifest(aside, made_by)
    return chosen


def places_of(pages: Collection[Page], contents: Contents) -> list[Place]:
    """Where the pages stand in the folder that `contents` describes, in their order."""
    names = {path: name for name, path in contents.pdfs.items()}
    return [(names[page.pdf], page.number) for page in pages]


def copy_pages(contents: Contents, places: Collection[Place], out: Path) -> None:
    """Write the documents of these pages below `out`, and of each page its reference and its tests.

    UserError for a reference that would be named as another document's.
    """
    wanted = set(places)
    for name in dict.fromkeys(name for name, _ in places):
        _place(contents.pdfs[name], out / "pdfs" / name)
    for (name, number), path in contents.reference_files.items():
        if (name, number) in wanted:
            _place(path, out / "pdfs" / _reference_name(contents, name, number))
    tests = [test for place, of_page in contents.tests.items() if place in wanted for test in of_page]
    for file in dict.fromkeys(sorted(test.file for test in tests)):
        of_file = sorted((test for test in tests if test.file == file), key=lambda test: test.line)
        write_tests(out / file.name, [test.fields for test in of_file])


def _reference_name(contents: Contents, name: str, number: int) -> str:
    try:
        return reference_name(name, number, contents.num_pages[name], contents.pdfs)
    except Unreadable as flaw:
        raise UserError(f"{contents.reference_files[name, number]}: {flaw}.") from None


def _place(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
