"""The Markdown files beside documents: which page each is the reference of. One rule for every verb.

`<stem>.md` belongs to a document of one page, `<stem>_pg<N>.md` to page N, and the stem may be that of any of a
document's names, links included. `x_pg1.md` belongs to x_pg1.pdf if there is such a file, else to page 1 of x.pdf.
Knows names and numbers of pages; it opens nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ocr_rl.files import Unreadable
from ocr_rl.pages.tree import Tree

NUMBERED = re.compile(r"(?P<stem>.+)_pg(?P<number>[1-9][0-9]{0,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A Markdown file and the document that it belongs to by its name."""

    path: Path
    name: str  # of the file that it is, once links are followed
    document: str  # by the name that counts
    number: int | None  # of the page; None: the file is named as that of a whole document
    other: str = ""  # another document that it could be of


def names_of(below: Tree, documents: Collection[str]) -> dict[str, str]:
    """Every name of the documents, with the one that counts."""
    links = {name: first for name, first in below.same.items() if first in documents}
    return {**{name: name for name in documents}, **links}


def references(below: Tree, documents: Collection[str]) -> list[Reference]:
    """The Markdown files of a tree that belong to one of the documents (by the names that count), in their order."""
    names = names_of(below, documents)
    by_stem = {_stem(name): document for name, document in reversed(names.items())}
    beside: list[Reference] = []
    for name, path in below.files.items():
        if path.suffix.lower() != ".md":
            continue
        stem, numbered = _stem(name), NUMBERED.fullmatch(_stem(name))
        of_page = by_stem.get(numbered["stem"]) if numbered else None
        real = below.same.get(name, name)
        if stem in by_stem:  # this also finds x_pg1.pdf, whose own name ends like a page number
            document = by_stem[stem]
            other = (of_page or "") if not document.lower().endswith(".pdf") else ""
            beside.append(Reference(path=path, name=real, document=document, number=None, other=other))
        elif numbered and of_page:
            beside.append(Reference(path=path, name=real, document=of_page, number=int(numbered["number"])))
    return beside


def placed(beside: Iterable[Reference], num_pages: Mapping[str, int]) -> Iterator[tuple[Reference, int | Unreadable]]:
    """Each file of a document in `num_pages` with its page, or with what keeps it from being that page's reference."""
    taken: dict[tuple[str, int], str] = {}
    for file in beside:
        if file.document not in num_pages:
            continue
        try:
            page = file.document, _number(file, num_pages[file.document])
        except Unreadable as flaw:
            yield file, flaw
            continue
        if page not in taken:
            taken[page] = file.name
            yield file, page[1]
        elif taken[page] != file.name:  # or it is a link beside a link
            yield file, Unreadable("this page has another reference already")


def _number(file: Reference, pages: int) -> int:
    """The page that a file is the reference of. Raises Unreadable."""
    if file.other:
        raise Unreadable(f"this could be of {file.document} and of {file.other}, rename one of them")
    if file.number is None and pages > 1:
        raise Unreadable(f"the PDF has {pages} pages, name this file {file.path.stem}_pg<N>.md")
    if file.number is not None and file.number > pages:
        raise Unreadable(f"there is no such page, the PDF has {pages}")
    return file.number or 1


def reference_name(document: str, number: int, pages: int, documents: Collection[str]) -> str:
    """How the reference of a page is named in a dataset of these documents. Raises Unreadable for another one's name.

    A dataset that is written holds no links, so each reference stands beside the name of its document that counts.
    """
    stem = _stem(document) if pages == 1 else f"{_stem(document)}_pg{number}"
    if rivals := [other for other in documents if other != document and _stem(other) == stem]:
        raise Unreadable(f"as the reference of {document} it would be named as that of {rivals[0]}, rename that one")
    return f"{stem}.md"


def _stem(name: str) -> str:
    return name.removesuffix(PurePosixPath(name).suffix)
