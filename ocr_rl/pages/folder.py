"""What stands in a dataset's folder: PDFs, references and unit tests, and whatever is wrong with them.

The layout is olmOCR-Bench's: PDFs and pictures below `pdfs/`, unit tests in `*.jsonl` files beside it (`pdf` names the
file relative to `pdfs/`, `page` counts from 1), and, beside a file, optional reference Markdown: `<stem>.md` for a file
of one page, `<stem>_pg<N>.md` for page N. Nothing outside the folder is read, whatever links and test lines say. This
file knows nothing about images, prompts or models; `tree` knows what file systems do with names and links,
`references` says which file belongs to which page, `check_lines` reads tests.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ocr_rl.file_kinds import DOCUMENTS
from ocr_rl.files import Unreadable, read_text
from ocr_rl.pages.check_lines import Flaw, PlacedCheck, read_tests
from ocr_rl.pages.documents import SUFFIXES, twins
from ocr_rl.pages.raster import PageError, count_pages
from ocr_rl.pages.references import names_of, placed, references
from ocr_rl.pages.tree import Tree, own_files, tree
from ocr_rl.text.front_matter import FrontMatter, split_front_matter


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
    reference_files: Mapping[tuple[str, int], Path]
    faults: list[Fault]
    notes: Sequence[Fault] = ()  # what is no fault and still worth a line: links to folders that are not followed


def read_folder(folder: Path, only: Collection[str] | None = None) -> Contents:
    """Everything that stands in a dataset's folder. It does not raise: what is wrong stands among the faults.

    `only`: names of documents, as `documents_with_tests` gives them; the others are not opened and count as absent.
    """
    faults: list[Fault] = []
    num_pages: dict[str, int] = {}
    below = _tree(folder, faults)
    pdfs = below.once(*SUFFIXES)
    faults += [Fault(file=path, line=None, message=_twin(other)) for path, other in twins(pdfs.values()).items()]
    every, pdfs = pdfs, {name: path for name, path in pdfs.items() if only is None or name in only}
    names = {path: name for name, path in pdfs.items()}
    for path, count in count_pages(pdfs.values()):
        if isinstance(count, PageError):
            faults.append(Fault(file=path, line=None, message=count.reason))
        else:
            num_pages[names[path]] = count
    read = _references(below, num_pages, faults)
    tests = _tests(folder, names_of(below, every), num_pages, faults)
    notes = [Fault(file=path, line=None, message=reason) for path, reason in below.not_followed]
    return Contents(
        pdfs=pdfs,
        num_pages=num_pages,
        tests=tests,
        references={page: (front, text) for page, (_, front, text) in read.items()},
        reference_files={page: path for page, (path, _, _) in read.items()},
        faults=faults,
        notes=tuple(notes),
    )


def documents_with_tests(folder: Path) -> dict[str, list[PlacedCheck]]:
    """The names of the documents in their order, each with its tests as the lines have them; none is opened."""
    below = _tree(folder, [])
    pdfs = below.once(*SUFFIXES)
    tests: dict[str, list[PlacedCheck]] = {name: [] for name in pdfs}
    for test in read_tests(own_files(folder, ".jsonl")[0], names_of(below, pdfs), {}):
        if isinstance(test, PlacedCheck):  # a line that is none is found once the folder is read
            tests[test.pdf].append(test)
    return tests


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
        faults.append(Fault(file=root, line=None, message=f"there is no {DOCUMENTS} in this folder"))
    return below


def _twin(other: Path) -> str:
    return f"{other.name} beside it has the same name but for the ending, so a reference would fit both; rename one"


def _references(
    below: Tree, num_pages: Mapping[str, int], faults: list[Fault]
) -> dict[tuple[str, int], tuple[Path, FrontMatter | None, str]]:
    """File, front matter and text of references by (PDF, page). A Markdown file that belongs to no PDF is ignored."""
    read: dict[tuple[str, int], tuple[Path, FrontMatter | None, str]] = {}
    for file, number in placed(references(below, num_pages), num_pages):
        try:
            if isinstance(number, Unreadable):
                raise number
            read.setdefault((file.document, number), (file.path, *split_front_matter(read_text(file.path))))
        except Unreadable as flaw:
            faults.append(Fault(file=file.path, line=None, message=str(flaw)))
    return read


def _tests(
    folder: Path, names: Mapping[str, str], num_pages: Mapping[str, int], faults: list[Fault]
) -> dict[tuple[str, int], list[PlacedCheck]]:
    tests: dict[tuple[str, int], list[PlacedCheck]] = {}
    files, others = own_files(folder, ".jsonl")
    faults += [Fault(file=path, line=None, message=reason) for path, reason in others]
    for test in read_tests(files, names, num_pages):
        if isinstance(test, Flaw):
            faults.append(Fault(file=test.file, line=test.line, message=test.message))
        elif test.pdf in num_pages:  # or the PDF's own fault is listed already
            tests.setdefault((test.pdf, test.number), []).append(test)
    return tests


def _printable(text: str, limit: int = 500) -> str:
    """The text as one line that any terminal can show.

    Control characters and broken code points are escaped, and text after `limit` characters is cut off.
    """
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text[:limit]
    )
    return shown if len(text) <= limit else shown + "..."
