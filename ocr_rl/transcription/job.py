"""`ocr-rl transcribe`: documents -> a row a page -> Markdown, Dolma, searchable PDF. A killed job goes on.

    <out>/ settings.json · documents.jsonl · pages.jsonl · made.jsonl · failed.jsonl
           <stem>.md · <stem>_pg<N>.md · <stem>.pdf · dolma.jsonl

A page without an answer is named at the end and in `failed.jsonl`; the next call asks about it again. Knows nothing
about how a page is read (`readers`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from ocr_rl import outputs
from ocr_rl.contract import Page
from ocr_rl.evaluate import journal
from ocr_rl.evaluate.readers import Reader, settings_of
from ocr_rl.pages.raster import PageError, count_pages, document_sha
from ocr_rl.pages.workers import Pool
from ocr_rl.transcription.fallback import with_layers
from ocr_rl.transcription.ledger import DOCUMENTS, MADE, Ledger, Opened, named
from ocr_rl.transcription.made import DOLMA, Format, layering, markdown, targets, write_document, write_dolma
from ocr_rl.transcription.rows import NAME, Document, Rows, row_of

FAILED = "failed.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is made of the transcripts."""

    formats: tuple[Format, ...] = ("markdown",)
    page_marks: bool = False
    fallback: bool = False  # whether the PDF's own text stands where the policy gave none that ended


_MARKDOWN = Wanted()


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The files of a job, opened once: what is in them, and why others cannot be opened."""

    opened: list[Opened]
    refused: list[PageError]


def open_files(pdfs: Iterable[Path]) -> Files:
    """Count the pages of files, in worker processes. A file given twice counts once."""
    once = {os.path.abspath(pdf): pdf for pdf in reversed(list(pdfs))}
    return _opened(reversed(once.values()))


def _opened(pdfs: Iterable[Path]) -> Files:
    files = Files(opened=[], refused=[])
    for pdf, count in count_pages(pdfs):
        if isinstance(count, PageError):
            files.refused.append(count)
            files.opened.append(Opened(pdf=pdf))
        else:
            files.opened.append(Opened(pdf=pdf, sha256=document_sha(pdf), pages=count))
    return files


def pages_of(pdfs: Iterable[Path]) -> tuple[list[PageError], list[Page]]:
    """Files that cannot be opened, and every page of the others, in order."""
    files = _opened(pdfs)
    return files.refused, [page for document in named(files.opened) for page in document.missing()]


def transcribe_files(
    pdfs: Iterable[Path], reader: Reader, out: Path | None, wanted: Wanted = _MARKDOWN
) -> list[PageError]:
    """`transcribe_opened` for files that nobody has opened yet."""
    return transcribe_opened(open_files(pdfs), reader, out, wanted)


def transcribe_opened(files: Files, reader: Reader, out: Path | None, wanted: Wanted = _MARKDOWN) -> list[PageError]:
    """Read the documents into the folder `out`, or print their Markdown; returns the pages and files that have no text.

    A document's files are written once its pages are done, under a name that no other document of the folder has
    (`ledger`). Raises UserError where `out` cannot be written, holds such a file that ocr-rl did not write, or rows
    that were made with other settings.
    """
    if len(files.refused) == len(files.opened):
        return files.refused
    if out is None:
        with TemporaryDirectory(prefix="transcribe-") as folder:
            return files.refused + _run(files.opened, reader, Path(folder), wanted, printed=True)
    _claim(out, files.opened, reader, wanted)
    failed = _run(files.opened, reader, out, wanted, printed=False)
    _name_failed(out / FAILED, failed, files.opened)
    return files.refused + failed


def _claim(out: Path, opened: Sequence[Opened], reader: Reader, wanted: Wanted) -> None:
    """Begin a job in a folder, or go on with it; before the policy is loaded. UserError where that may not be."""
    outputs.refuse_others(out, "settings.json", (NAME, FAILED, DOCUMENTS, MADE))
    documents = Ledger(out).named(opened)
    files = [target.path for document in documents for target in targets(document, out, wanted.formats)]
    own = [out / name for name in (DOLMA,) if "dolma" in wanted.formats]
    outputs.refuse_taken([*files, *own, out / FAILED], [document.pdf for document in documents])
    with outputs.writing(out):
        out.mkdir(parents=True, exist_ok=True)
        journal.settle(out / "settings.json", settings_of(reader))


def _run(opened: Sequence[Opened], reader: Reader, out: Path, wanted: Wanted, *, printed: bool) -> list[PageError]:
    with Rows(out) as rows, layering() as pool:
        ledger = Ledger(out)
        failed, documents = ledger.enter(opened)
        others = ledger.others(documents)
        rows.find([*documents, *others])
        finish = _print if printed else partial(_write, ledger=ledger, out=out, pool=pool, failed=failed)
        todo = {document.pdf: document.places.count(-1) for document in documents}
        of_pdf = {document.pdf: document for document in documents}
        for document in documents:
            if not todo[document.pdf]:
                finish(document, rows, wanted)
        for page, result in _answers(documents, reader, wanted, failed):
            document = of_pdf[page.pdf]
            if result is not None:
                rows.append(document, result)
            todo[page.pdf] -= 1
            if not todo[page.pdf]:
                finish(document, rows, wanted)
        if "dolma" in wanted.formats and not printed:
            write_dolma(out, ((document, rows.of(document)) for document in (*others, *documents)))
    return failed


def _answers(
    documents: Sequence[Document], reader: Reader, wanted: Wanted, failed: list[PageError]
) -> Iterator[tuple[Page, dict | None]]:
    """The row of each page that has none yet, as they come; None where there is no text, and the reason in `failed`."""
    total = sum(len(document.places) for document in documents)
    missing = sum(document.places.count(-1) for document in documents)
    if not missing:
        return
    of_pdf = {document.pdf: document for document in documents}
    about = {"model": reader.model, "longest_px": reader.settings.longest_px}
    tokens = 0
    with (
        reader.opened() as ask,
        tqdm(total=total, initial=total - missing, desc="transcribing", unit="page", leave=False) as bar,
    ):
        results = ask(page for document in documents for page in document.missing())
        for page, result, text in with_layers(results) if wanted.fallback else ((*pair, "") for pair in results):
            if isinstance(result, PageError) and not text:
                failed.append(result)
                yield page, None
            else:
                tries = () if isinstance(result, PageError) else result
                reason = result.reason if isinstance(result, PageError) else "no transcript ended" * bool(text)
                row = row_of(page, of_pdf[page.pdf], tries, fallback=text, reason=reason, **about)
                tokens += row["tokens"]
                yield page, row
            bar.update()
            elapsed = bar.format_dict["elapsed"] or 1e-9
            bar.set_postfix_str(f"{tokens / elapsed:,.0f} tokens/s" + f", {len(failed)} failed" * bool(failed), False)


def _print(document: Document, rows: Rows, wanted: Wanted) -> None:
    if text := markdown(rows.of(document), page_marks=wanted.page_marks):
        print(text)


def _write(
    document: Document, rows: Rows, wanted: Wanted, *, ledger: Ledger, out: Path, pool: Pool, failed: list[PageError]
) -> None:
    """Write what is made of a document, and is not made of just these rows yet."""
    how = f"page marks: {wanted.page_marks}"
    todo = [
        target
        for target in targets(document, out, wanted.formats)
        if not ledger.is_made(target.path, document, how * (target.form == "markdown"))
    ]
    own = list(rows.of(document)) if todo else []
    for target in todo:
        try:
            if write_document(target, document, own, pool, page_marks=wanted.page_marks):
                ledger.note(target.path, document, how * (target.form == "markdown"))
        except PageError as error:
            failed.append(error)


def _name_failed(path: Path, failed: Sequence[PageError], opened: Sequence[Opened]) -> None:
    """Name the pages without text; those of documents that an earlier call read stay named."""
    own = {os.path.abspath(file.pdf) for file in opened}
    before = map(json.loads, path.read_text().splitlines()) if outputs.is_ours(path) else ()
    lines = [line for line in before if os.path.abspath(line["pdf"]) not in own]
    lines += [{"pdf": str(error.pdf), "page": error.number, "reason": error.reason} for error in failed]
    if lines:
        outputs.write(path, "".join(json.dumps(line) + "\n" for line in lines))
    elif outputs.is_ours(path):
        path.unlink()
