"""A dataset folder becomes pages, and its faults become sentences.

The layout is olmOCR-Bench's: PDFs below `pdfs/`, unit tests in `*.jsonl` files beside it (`pdf` names the file
relative to `pdfs/`, `page` counts from 1), and, beside a PDF, optional reference Markdown: `<stem>.md` for a PDF of
one page, `<stem>_pg<N>.md` for page N. Nothing outside the folder is read, whatever links and test lines say. This file
knows nothing about images, prompts or models; what a test means is known to `ocr_rl.text.checks`.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ocr_rl.contract import Check, Page, UserError
from ocr_rl.pages.raster import PageError, count_pages, document_sha, size_faults
from ocr_rl.text.checks import load_check, prepare
from ocr_rl.text.front_matter import FrontMatter, split_front_matter

MAX_LINE_BYTES = 2**20
MAX_REFERENCE_BYTES = 2**22
NUMBERED = re.compile(r"(?P<stem>.+)_pg(?P<number>[1-9][0-9]{0,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something wrong with a dataset; `str(fault)` is one printable line, "file:line: message"."""

    file: Path
    line: int | None  # 1-based; None: the whole file or folder
    message: str

    def __str__(self) -> str:
        where = f"{self.file}" if self.line is None else f"{self.file}:{self.line}"
        return _printable(f"{where}: {self.message}")


def load_dataset(folder: Path) -> list[Page]:
    """The pages that have tests or a reference, and page 1 of the PDFs that have neither; by path, then number.

    A page's id is "<first 8 hex digits of the file's sha256>:p<N>"; a further file with the same digits (as a rule a
    copy) has "<8 digits>-2:p<N>". Its tags are the stems of the files that its tests came from. Raises UserError
    with the first fault.
    """
    return load_with_files(folder)[0]


def load_with_files(folder: Path) -> tuple[list[Page], dict[str, str]]:
    """`load_dataset`, and beside it the name of the JSONL file that each test came from, by the test's id."""
    contents = _read(folder)
    if contents.faults:
        more = f" (and {len(contents.faults) - 1} more)" if len(contents.faults) > 1 else ""
        raise UserError(f"{contents.faults[0]}{more}; `ocr-rl pages check` lists every fault of a dataset")
    file_of = {test.check.id: test.file.name for tests in contents.tests.values() for test in tests}
    return _pages(contents), file_of


def check_dataset(folder: Path) -> list[Fault]:
    """Every fault of a dataset, in the order of files and lines; none when it can be trained on.

    Besides what keeps it from being loaded: a page too large or too thin to be drawn, and a reference that fails its
    own page's tests, read strictly.
    """
    contents = _read(folder)
    numbers: dict[Path, list[int]] = {}
    for page in _pages(contents):
        numbers.setdefault(page.pdf, []).append(page.number)
    sizes = [_size_fault(error) for error in size_faults(numbers.items())]
    gold = [
        fault
        for place, tests in contents.tests.items()
        if (reference := contents.references.get(place)) is not None
        for fault in _gold_faults(reference[1], tests)
    ]
    return contents.faults + sizes + sorted(gold, key=lambda fault: (fault.file, fault.line or 0))


def references_of(pdfs: Iterable[Path]) -> dict[Path, dict[int | None, Path]]:
    """Markdown files beside each PDF: `<stem>.md` as None, `<stem>_pg<N>.md` as N, in small letters or capitals.

    `x_pg1.md` is that of x_pg1.pdf where there is one, else of page 1 of x.pdf.
    """
    found: dict[Path, dict[int | None, Path]] = {pdf: {} for pdf in pdfs}
    by_stem = {pdf.with_suffix(""): pdf for pdf in found}
    for folder in sorted({pdf.parent for pdf in found}):
        for path in sorted(path for path in folder.iterdir() if path.suffix.lower() == ".md" and path.is_file()):
            numbered = NUMBERED.fullmatch(path.stem)
            if path.with_suffix("") in by_stem:
                found[by_stem[path.with_suffix("")]].setdefault(None, path)
            elif numbered and folder / numbered["stem"] in by_stem:
                found[by_stem[folder / numbered["stem"]]].setdefault(int(numbered["number"]), path)
    return found


def is_utf8(text: str) -> bool:
    """Whether it can be written: JSON's "\\ud800" and file names in other encodings hold half characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def write_tests(path: Path, tests: Iterable[Mapping[str, Any]]) -> None:
    """Write tests (raw JSON objects, one a line), whole or not at all."""
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


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Test:
    check: Check
    file: Path
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    """What stands in a folder: only PDFs that open, only tests and references of pages that exist, and the faults."""

    pdfs: Mapping[str, Path]  # by path relative to pdfs/, in order
    num_pages: Mapping[str, int]
    tests: Mapping[tuple[str, int], Sequence[_Test]]
    references: Mapping[tuple[str, int], tuple[FrontMatter | None, str]]
    faults: list[Fault]


class _FaultError(Exception):
    """What is wrong with one line or one file; the caller knows which."""


def _read(folder: Path) -> _Contents:
    faults: list[Fault] = []
    num_pages: dict[str, int] = {}
    files = _files(folder, faults)
    pdfs = {name: path for name, path in files.items() if path.suffix.lower() == ".pdf"}
    names = {path: name for name, path in pdfs.items()}
    for path, count in count_pages(pdfs.values()):
        if isinstance(count, PageError):
            faults.append(Fault(file=path, line=None, message=count.reason))
        else:
            num_pages[names[path]] = count
    references = _references(files, num_pages, faults)
    tests = _tests(folder, pdfs, num_pages, faults)
    return _Contents(pdfs=pdfs, num_pages=num_pages, tests=tests, references=references, faults=faults)


def _files(folder: Path, faults: list[Fault]) -> dict[str, Path]:
    """PDFs and Markdown files below pdfs/, by relative path with slashes; links to directories are not followed."""
    root = folder / "pdfs"
    if not folder.is_dir():
        faults.append(Fault(file=folder, line=None, message="there is no such folder"))
        return {}
    if not root.is_dir():
        faults.append(Fault(file=root, line=None, message="there is no such folder, a dataset keeps its PDFs there"))
        return {}
    found = (Path(parent) / name for parent, _, names in os.walk(root) for name in names)
    wanted = sorted(path for path in found if path.suffix.lower() in (".pdf", ".md"))
    kept = {path.relative_to(root).as_posix(): path for path in wanted if _is_ours(path, folder, faults)}
    if not any(path.suffix.lower() == ".pdf" for path in wanted):
        faults.append(Fault(file=root, line=None, message="there is no PDF in this folder"))
    return kept


def _is_ours(path: Path, folder: Path, faults: list[Fault]) -> bool:
    """Whether this is a regular file (a pipe would block for ever) that lies in the folder, links followed."""
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        faults.append(Fault(file=path, line=None, message="this link leads out of the dataset's folder, copy the file"))
    elif not is_utf8(path.name):
        faults.append(Fault(file=path, line=None, message="the file's name is not UTF-8, rename it"))
    elif not path.is_file():
        faults.append(Fault(file=path, line=None, message="this is not a file"))
    else:
        return True
    return False


def _references(
    files: Mapping[str, Path], num_pages: Mapping[str, int], faults: list[Fault]
) -> dict[tuple[str, int], tuple[FrontMatter | None, str]]:
    """Front matter and text of references by (PDF, page); a Markdown file that belongs to no PDF is left alone."""
    by_stem = {name[:-4]: name for name in num_pages}
    references: dict[tuple[str, int], tuple[FrontMatter | None, str]] = {}
    for name, path in files.items():
        if path.suffix.lower() != ".md":
            continue
        stem, numbered = name[:-3], NUMBERED.fullmatch(name[:-3])
        try:
            if stem in by_stem:  # also for a PDF whose own name ends like a page number's
                pdf, number = by_stem[stem], 1
                if num_pages[pdf] > 1:
                    raise _FaultError(f"the PDF has {num_pages[pdf]} pages, name this file {Path(stem).name}_pg<N>.md")
            elif numbered and numbered["stem"] in by_stem:
                pdf, number = by_stem[numbered["stem"]], int(numbered["number"])
                if number > num_pages[pdf]:
                    raise _FaultError(f"there is no such page, the PDF has {num_pages[pdf]}")
            else:
                continue
            if (pdf, number) in references:
                raise _FaultError("this page has another reference already")
            references[pdf, number] = split_front_matter(_text(path))
        except _FaultError as error:
            faults.append(Fault(file=path, line=None, message=str(error)))
    return references


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_REFERENCE_BYTES + 1)
    except OSError as error:
        raise _FaultError(f"the file cannot be read ({error.strerror})") from None
    if len(data) > MAX_REFERENCE_BYTES:
        raise _FaultError(f"the file is longer than {MAX_REFERENCE_BYTES // 2**20} MiB")
    return _decoded(data)


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise _FaultError(f"the text is not UTF-8 (byte {error.start + 1})") from None


def _tests(
    folder: Path, pdfs: Mapping[str, Path], num_pages: Mapping[str, int], faults: list[Fault]
) -> dict[tuple[str, int], list[_Test]]:
    tests: dict[tuple[str, int], list[_Test]] = {}
    first_use: dict[str, str] = {}  # of each id
    for file in sorted(folder.glob("*.jsonl")):
        if not _is_ours(file, folder, faults):
            continue
        for line, data in _lines(file, faults):
            try:
                pdf, number, check = _parse(data, pdfs)
                here = f"{file.name}:{line}"
                if first_use.setdefault(check.id, here) != here:
                    raise _FaultError(f"the id {json.dumps(check.id)} is taken by {first_use[check.id]}")
                if pdf not in num_pages:
                    continue  # the PDF's own fault is in the list
                if number > num_pages[pdf]:
                    raise _FaultError(f"there is no page {number}, {pdf} has {num_pages[pdf]}")
                tests.setdefault((pdf, number), []).append(_Test(check=check, file=file, line=line))
            except _FaultError as error:
                faults.append(Fault(file=file, line=line, message=str(error)))
    return tests


def _lines(file: Path, faults: list[Fault]) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each line that is not blank; the file's faults end it."""
    try:
        with file.open("rb") as opened:
            line = 0
            while data := opened.readline(MAX_LINE_BYTES + 1):
                line += 1
                if len(data) > MAX_LINE_BYTES:
                    message = f"the line is longer than {MAX_LINE_BYTES // 2**20} MiB, the rest was not read"
                    faults.append(Fault(file=file, line=line, message=message))
                    return
                if data.strip():
                    yield line, data
    except OSError as error:
        faults.append(Fault(file=file, line=None, message=f"the file cannot be read ({error.strerror})"))


def _parse(data: bytes, pdfs: Mapping[str, Path]) -> tuple[str, int, Check]:
    """The PDF (a key of `pdfs`), the page and the test of one line. Raises _FaultError."""
    try:
        test = json.loads(_decoded(data))
    except json.JSONDecodeError as error:
        raise _FaultError(f"this is not JSON ({error.msg}, column {error.colno})") from None
    except (ValueError, RecursionError):  # a number of thousands of digits; brackets nested thousands deep
        raise _FaultError("this is not JSON that anybody would write") from None
    if not isinstance(test, dict):
        raise _FaultError("a test is a JSON object")
    if b"\\u" in data and not is_utf8(json.dumps(test, ensure_ascii=False)):
        raise _FaultError("the test holds half a character (a lone surrogate, as \\ud800), which no file can hold")
    pdf, number = test.get("pdf"), test.get("page")
    if not isinstance(pdf, str) or not pdf:
        raise _FaultError('the field "pdf" must name a file below pdfs/')
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise _FaultError('the field "page" must be a whole number from 1')
    try:
        check = load_check(test)
    except ValueError as error:
        raise _FaultError(str(error)) from None
    except TypeError:  # a list or an object where a word belongs
        raise _FaultError("a field of the test has a value of the wrong kind") from None
    # Looked up among the files that were found, never opened by its own name: "../x" finds nothing.
    name = PurePosixPath(pdf).as_posix()
    if name not in pdfs:
        raise _FaultError(f"there is no {json.dumps(pdf, ensure_ascii=False)} below pdfs/")
    return name, number, check


# --- pages ------------------------------------------------------------------------------------------------------------


def _pages(contents: _Contents) -> list[Page]:
    pages: list[Page] = []
    copies: Counter[str] = Counter()
    known = sorted({*contents.tests, *contents.references})
    numbers: dict[str, list[int]] = {}
    for pdf, number in known:
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


def _gold_faults(reference: str, tests: Sequence[_Test]) -> Iterator[Fault]:
    """The tests of a page that its own reference fails, and why."""
    prepared = prepare(reference)
    for test in tests:
        name = json.dumps(test.check.id, ensure_ascii=False)
        try:
            verdict = test.check.run(prepared, "strict")
        except Exception as error:  # noqa: BLE001 the boundary: a test that cannot be run is a fault to list
            message = f"the test {name} cannot be run ({type(error).__name__}: {error})"
        else:
            if verdict.passed:
                continue
            message = f"the page's own reference fails the test {name} ({verdict.why})"
        yield Fault(file=test.file, line=test.line, message=message)


def _printable(text: str, limit: int = 500) -> str:
    """One line that any terminal can show: control characters and broken code points escaped, cut at `limit`."""
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text[:limit]
    )
    return shown if len(text) <= limit else shown + "..."
