"""What stands in a dataset's folder: PDFs, references and unit tests, and whatever is wrong with them.

The layout is olmOCR-Bench's: PDFs and pictures below `pdfs/`, unit tests in `*.jsonl` files beside it (`pdf` names the
file relative to `pdfs/`, `page` counts from 1), and, beside a file, optional reference Markdown: `<stem>.md` for a file
of one page, `<stem>_pg<N>.md` for page N. Nothing outside the folder is read, whatever links and test lines say. This
file knows nothing about images, prompts or models; `tree` knows what file systems do with names and links,
`check_lines` reads tests.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from ocr_rl.files import Unreadable, read_text
from ocr_rl.pages.check_lines import Flaw, PlacedCheck, read_tests
from ocr_rl.pages.documents import SUFFIXES, twins
from ocr_rl.pages.raster import PageError, count_pages
from ocr_rl.pages.tree import Tree, file_fault, files_in, tree
from ocr_rl.text.front_matter import FrontMatter, split_front_matter

NUMBERED = re.compile(r"(?P<stem>.+)_pg(?P<number>[1-9][0-9]{0,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something wrong with a dataset. `str(fault)` is one printable line, "file:line: message"."""

    file: Path
    line: int | None  # 1-based; None: the whole file or folder
    message: str

    def __str__(self) -> str:
        where = f"{self.file}" if self.line is None else f"{self.file}:{self.line}"
        return _printable(f"{where}: {self.message}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a folder holds: PDFs that open, tests and references of pages that exist, and the faults of the rest."""

    pdfs: Mapping[str, Path]  # by path relative to pdfs/, in order
    num_pages: Mapping[str, int]  # by the same path
    tests: Mapping[tuple[str, int], Sequence[PlacedCheck]]  # by that path and the page's number
    references: Mapping[tuple[str, int], tuple[FrontMatter | None, str]]
    faults: list[Fault]
    notes: Sequence[Fault] = ()  # what is no fault and still worth a line: links to folders that are not followed


def read_folder(folder: Path) -> Contents:
    """Everything that stands in a dataset's folder. It does not raise: what is wrong stands among the faults."""
    faults: list[Fault] = []
    num_pages: dict[str, int] = {}
    below = _tree(folder, faults)
    pdfs = below.once(*SUFFIXES)
    faults += [Fault(file=path, line=None, message=_twin(other)) for path, other in twins(pdfs.values()).items()]
    names = {path: name for name, path in pdfs.items()}
    for path, count in count_pages(pdfs.values()):
        if isinstance(count, PageError):
            faults.append(Fault(file=path, line=None, message=count.reason))
        else:
            num_pages[names[path]] = count
    names_of = {**{name: name for name in pdfs}, **below.same}
    references = _references(below, names_of, num_pages, faults)
    tests = _tests(folder, names_of, num_pages, faults)
    notes = [Fault(file=path, line=None, message=reason) for path, reason in below.not_followed]
    return Contents(
        pdfs=pdfs, num_pages=num_pages, tests=tests, references=references, faults=faults, notes=tuple(notes)
    )


def _tree(folder: Path, faults: list[Fault]) -> Tree:
    """PDFs, pictures and Markdown files below pdfs/."""
    root = folder / "pdfs"
    if not folder.is_dir():
        faults.append(Fault(file=folder, line=None, message="there is no such folder"))
        return Tree()
    if not root.is_dir():
        faults.append(Fault(file=root, line=None, message="there is no such folder, a dataset keeps its PDFs there"))
        return Tree()
    below = tree(root, (*SUFFIXES, ".md"), inside=folder)
    faults += [Fault(file=path, line=None, message=reason) for path, reason in below.left_out]
    if not any(path.suffix.lower() in SUFFIXES for path in (*below.files.values(), *dict(below.left_out))):
        faults.append(Fault(file=root, line=None, message="there is no PDF in this folder"))
    return below


def _twin(other: Path) -> str:
    return f"{other.name} beside it has the same name but for the ending, so a reference would fit both; rename one"


def _is_ours(path: Path, folder: Path, faults: list[Fault]) -> bool:
    """Whether this is a regular file that lies in the folder once links are followed."""
    reason = file_fault(path.name, os.path.realpath(path), os.path.realpath(folder))
    if reason:
        faults.append(Fault(file=path, line=None, message=reason))
    return not reason


def _references(
    below: Tree, names_of: Mapping[str, str], num_pages: Mapping[str, int], faults: list[Fault]
) -> dict[tuple[str, int], tuple[FrontMatter | None, str]]:
    """Front matter and text of references by (PDF, page). A Markdown file that belongs to no PDF is ignored."""
    by_stem = {_stem(name): pdf for name, pdf in reversed(list(names_of.items())) if pdf in num_pages}
    aliases = {_stem(name) for name in below.same if name.lower().endswith(SUFFIXES)}
    references: dict[tuple[str, int], tuple[FrontMatter | None, str]] = {}
    for name, path in below.files.items():
        if path.suffix.lower() != ".md" or (name in below.same and name[:-3] in aliases):
            continue
        stem, numbered = name[:-3], NUMBERED.fullmatch(name[:-3])
        try:
            if stem in by_stem:  # this also finds x_pg1.pdf, whose own name ends like a page number
                pdf, number = by_stem[stem], 1
                if numbered and numbered["stem"] in by_stem and not pdf.lower().endswith(".pdf"):
                    raise Unreadable(f"this could be of {pdf} and of {by_stem[numbered['stem']]}, rename one of them")
                if num_pages[pdf] > 1:
                    raise Unreadable(f"the PDF has {num_pages[pdf]} pages, name this file {Path(stem).name}_pg<N>.md")
            elif numbered and numbered["stem"] in by_stem:
                pdf, number = by_stem[numbered["stem"]], int(numbered["number"])
                if number > num_pages[pdf]:
                    raise Unreadable(f"there is no such page, the PDF has {num_pages[pdf]}")
            else:
                continue
            if (pdf, number) in references:
                raise Unreadable("this page has another reference already")
            references[pdf, number] = split_front_matter(read_text(path))
        except Unreadable as error:
            faults.append(Fault(file=path, line=None, message=str(error)))
    return references


def _stem(name: str) -> str:
    return name.removesuffix(PurePosixPath(name).suffix)


def _tests(
    folder: Path, names_of: Mapping[str, str], num_pages: Mapping[str, int], faults: list[Fault]
) -> dict[tuple[str, int], list[PlacedCheck]]:
    tests: dict[tuple[str, int], list[PlacedCheck]] = {}
    files = [file for file in files_in(folder, ".jsonl") if _is_ours(file, folder, faults)]
    for test in read_tests(files, names_of, num_pages):
        if isinstance(test, Flaw):
            faults.append(Fault(file=test.file, line=test.line, message=test.message))
        elif test.pdf in num_pages:  # or the PDF's own fault is listed already
            tests.setdefault((test.pdf, test.number), []).append(test)
    return tests


def references_of(pdfs: Iterable[Path]) -> dict[Path, dict[int | None, Path]]:
    """The Markdown files beside each PDF by page number: N for `<stem>_pg<N>.md`, None for `<stem>.md`.

    The suffix may be in capitals. `x_pg1.md` belongs to x_pg1.pdf if there is such a file, else to page 1 of x.pdf. No
    two of the files may have one stem in one folder.
    """
    references: dict[Path, dict[int | None, Path]] = {pdf: {} for pdf in pdfs}
    by_stem = {(pdf.parent, normalize("NFC", pdf.stem)): pdf for pdf in reversed(references)}
    for folder in sorted({pdf.parent for pdf in references}):
        for path in (path for path in files_in(folder, ".md") if path.is_file()):
            stem = normalize("NFC", path.stem)
            numbered = NUMBERED.fullmatch(stem)
            if (folder, stem) in by_stem:
                references[by_stem[folder, stem]].setdefault(None, path)
            elif numbered and (folder, numbered["stem"]) in by_stem:
                references[by_stem[folder, numbered["stem"]]].setdefault(int(numbered["number"]), path)
    return references


def _printable(text: str, limit: int = 500) -> str:
    """The text as one line that any terminal can show.

    Control characters and broken code points are escaped, and text after `limit` characters is cut off.
    """
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text[:limit]
    )
    return shown if len(text) <= limit else shown + "..."
