"""`ocr-rl transcribe`: documents -> a row a page -> Markdown, Dolma, searchable PDF. A killed job goes on.

    <out>/ settings.json · pages.jsonl · <stem>.md · <stem>.pdf · dolma.jsonl · failed.jsonl

A page without an answer is named at the end and in `failed.jsonl`; the next call asks about it again. Knows nothing
about how a page is read (`readers`).
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from ocr_rl import outputs
from ocr_rl.contract import Page
from ocr_rl.evaluate import journal
from ocr_rl.evaluate.endpoint import Read
from ocr_rl.evaluate.readers import Reader, settings_of
from ocr_rl.pages.raster import PageError, count_pages, distinct_stems, document_sha, long_name
from ocr_rl.pages.workers import Pool
from ocr_rl.transcription.fallback import LayerTexts
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


def transcribe_files(
    pdfs: Sequence[Path], reader: Reader, out: Path | None, wanted: Wanted = _MARKDOWN
) -> list[PageError]:
    """Read the documents into the folder `out`, or print their Markdown; returns the pages and files that have no text.

    A document's files are written once its pages are done. The second of several documents with one stem is written as
    `<stem>-2.md`, and so on; a file named twice is read once. Raises UserError where `out` cannot be written, holds
    such a file that ocr-rl did not write, or rows that were made with other settings.
    """
    stems = distinct_stems(pdfs)
    long = {pdf: reason for pdf, stem in stems.items() if out and (reason := long_name(out, f"{stem}.md"))}
    refused, documents = open_documents({pdf: stem for pdf, stem in stems.items() if pdf not in long})
    refused += [PageError(pdf, None, reason) for pdf, reason in long.items()]
    if not documents:
        return refused
    if out is None:
        with TemporaryDirectory(prefix="transcribe-") as folder:
            return refused + _run(documents, reader, Path(folder), wanted, printed=True)
    claim(out, documents, reader, wanted)
    failed = _run(documents, reader, out, wanted, printed=False)
    _name_failed(out / FAILED, failed)
    return refused + failed


def claim(out: Path, documents: Sequence[Document], reader: Reader, wanted: Wanted) -> None:
    """Begin a job in a folder, or go on with it; before the policy is loaded. UserError where that may not be."""
    outputs.refuse_others(out, "settings.json", (NAME, FAILED))
    files = [path for document in documents for path in targets(document, out, wanted.formats).values()]
    own = [out / name for name in (DOLMA,) if "dolma" in wanted.formats]
    outputs.refuse_taken([*files, *own, out / FAILED], [document.pdf for document in documents])
    with outputs.writing(out):
        out.mkdir(parents=True, exist_ok=True)
        journal.settle(out / "settings.json", settings_of(reader))


def open_documents(stems: dict[Path, str]) -> tuple[list[PageError], list[Document]]:
    """Files that cannot be opened, and the others with their number of pages, by the stems of their outputs."""
    refused: list[PageError] = []
    documents: list[Document] = []
    copies: Counter[str] = Counter()
    for pdf, count in count_pages(stems):
        if isinstance(count, PageError):
            refused.append(count)
            continue
        sha = document_sha(pdf)
        copies[sha[:8]] += 1  # so that pages of copies have ids of their own, as in `load_dataset`
        own = sha[:8] if copies[sha[:8]] == 1 else f"{sha[:8]}-{copies[sha[:8]]}"
        documents.append(Document(pdf=pdf, stem=stems[pdf], sha256=sha, id=own, places=array("q", [-1]) * count))
    return refused, documents


def pages_of(pdfs: Iterable[Path]) -> tuple[list[PageError], list[Page]]:
    """Files that cannot be opened, and every page of the others, in order."""
    refused, documents = open_documents(dict.fromkeys(pdfs, ""))
    return refused, [page for document in documents for page in document.missing()]


def _run(documents: Sequence[Document], reader: Reader, out: Path, wanted: Wanted, *, printed: bool) -> list[PageError]:
    failed: list[PageError] = []
    of_pdf = {document.pdf: document for document in documents}
    with Rows(out, documents) as rows, layering() as pool:
        finish = partial(_finish, rows=rows, out=out, wanted=wanted, printed=printed, pool=pool, failed=failed)
        todo = {document.pdf: document.places.count(-1) for document in documents}
        for document in documents:
            if not todo[document.pdf]:
                finish(document, again=False)
        for page, result in _answers(documents, reader, wanted, failed):
            document = of_pdf[page.pdf]
            if result is not None:
                rows.append(document, result)
            todo[page.pdf] -= 1
            if not todo[page.pdf]:
                finish(document, again=True)
        if "dolma" in wanted.formats and not printed:
            write_dolma(out, ((document, rows.of(document)) for document in documents))
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
        LayerTexts() as layer,
        tqdm(total=total, initial=total - missing, desc="transcribing", unit="page", leave=False) as bar,
    ):
        for page, result in ask(page for document in documents for page in document.missing()):
            text = layer.text(page) if wanted.fallback and not _ended(result) else ""
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


def _ended(result: Read) -> bool:
    return not isinstance(result, PageError) and result[-1].transcript.finish == "stop"


def _finish(
    document: Document,
    *,
    rows: Rows,
    out: Path,
    wanted: Wanted,
    printed: bool,
    pool: Pool,
    failed: list[PageError],
    again: bool,
) -> None:
    """Write (or print) what is made of a document; what was there before this job stays unless `again`."""
    if printed:
        if text := markdown(rows.of(document), page_marks=wanted.page_marks):
            print(text)
        return
    for form, target in targets(document, out, wanted.formats).items():
        if again or not target.exists():
            try:
                write_document(target, form, document, list(rows.of(document)), pool, page_marks=wanted.page_marks)
            except PageError as error:
                failed.append(error)


def _name_failed(path: Path, failed: Sequence[PageError]) -> None:
    if failed:
        lines = [{"pdf": str(error.pdf), "page": error.number, "reason": error.reason} for error in failed]
        outputs.write(path, "".join(json.dumps(line) + "\n" for line in lines))
    elif outputs.is_ours(path):
        path.unlink()
