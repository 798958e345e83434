"""What is made of a document's rows: Markdown, a searchable PDF; and of all documents, a file for Dolma.

Files are written as `outputs` writes them: whole, and never over a person's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ocr_rl import outputs
from ocr_rl.pages.raster import PageError
from ocr_rl.pages.searchable import PageText, Searchable, searchable
from ocr_rl.pages.workers import Pool, Refusal
from ocr_rl.text.visible import see
from ocr_rl.transcription.rows import Document

Format = Literal["markdown", "pages", "dolma", "pdf"]
_PDF_TIMEOUT_S = 600.0
DOLMA = "dolma.jsonl"
_ENDINGS: Mapping[Format, str] = {"markdown": ".md", "pdf": ".pdf"}
_OF_PAGE = ("is_rotation_valid", "rotation_correction", "is_table", "is_diagram", "primary_language")

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A file that is made of a document, or of one of its pages."""

    path: Path
    form: Format
    page: int | None = None


def targets(document: Document, out: Path, formats: Sequence[Format]) -> list[Target]:
    """The document's own files."""
    files = [Target(path=out / f"{document.stem}{_ENDINGS[form]}", form=form) for form in formats if form in _ENDINGS]
    numbers = range(1, len(document.places) + 1) if "pages" in formats else ()
    pages = [Target(path=out / f"{document.stem}_pg{page}.md", form="pages", page=page) for page in numbers]
    return files + pages


def markdown(rows: Iterable[Row], *, page_marks: bool) -> str:
    """The texts with blank lines between pages, each behind `<!-- page 3 -->` where marks are wanted."""
    texts = [f"<!-- page {row['page']} -->\n\n{row['text']}" if page_marks else row["text"] for row in rows]
    return "\n\n".join(texts) + "\n" if texts else ""


def layering() -> Pool:
    """The worker that makes searchable PDFs, started with the first one; PDFs are untrusted."""
    return Pool(layered, workers=1, timeout_s=_PDF_TIMEOUT_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layered:
    """A job of that worker: a document, and text and rotation of its pages, by number from 1."""

    source: Path
    pages: Mapping[int, tuple[str, int]]


def layered(job: Layered) -> bytes:
    """The searchable PDF. What a transcript shows is found out here too: a server may send megabytes of Markdown."""
    texts = {
        number: PageText(lines=see(text).text.split("\n"), rotation=rotation)
        for number, (text, rotation) in job.pages.items()
    }
    return searchable(Searchable(source=job.source, texts=texts))


def write_document(target: Target, document: Document, rows: Sequence[Row], pool: Pool, *, page_marks: bool) -> bool:
    """Write one of the document's files, where there are rows for it; whether it was written. Raises PageError.

    A page has a file of its own only where the policy came to its end: such files are corrected, and become tests.
    """
    if target.form == "pages":
        rows = [row for row in rows if row["page"] == target.page and _is_whole(row)]
    if not rows:
        return False
    is_pdf = target.form == "pdf"
    own_marks = page_marks and target.form == "markdown"
    outputs.write(target.path, searchable_pdf(document, rows, pool) if is_pdf else markdown(rows, page_marks=own_marks))
    return True


def _is_whole(row: Row) -> bool:
    return row["finish"] == "stop" and row["source"] == "model"


def searchable_pdf(document: Document, rows: Sequence[Row], pool: Pool) -> bytes:
    """The document with its transcript as an invisible layer. Raises PageError."""
    job = Layered(source=document.pdf, pages={row["page"]: (row["text"], _rotation(row)) for row in rows})
    ((_, pdf),) = pool.run([job])
    if isinstance(pdf, Refusal):
        raise PageError(document.pdf, None, f"no searchable PDF can be made of it: {pdf}")
    return pdf


def _rotation(row: Row) -> int:
    return row["attempts"][-1]["rotation"] if row["attempts"] and row["source"] == "model" else 0


def write_dolma(out: Path, documents: Iterable[tuple[Document, Iterable[Row]]]) -> None:
    """One line a document, in olmOCR's form of Dolma's: a page's span of characters stands in `pdf_page_numbers`."""
    outputs.write_lines(out / DOLMA, _dolma_lines(documents))


def _dolma_lines(documents: Iterable[tuple[Document, Iterable[Row]]]) -> Iterator[str]:
    for document, rows in documents:
        if entry := dolma(document, list(rows)):
            yield json.dumps(entry) + "\n"


def dolma(document: Document, rows: Sequence[Row]) -> dict[str, Any]:
    """A document of Dolma; empty where no page has text."""
    spans: list[tuple[int, int, int]] = []
    text = ""
    for row in rows:
        start = len(text)
        text += row["text"] + "\n"
        spans.append((start, len(text), row["page"]))
    if not text.strip():
        return {}
    fronts = [row["front_matter"] or {} for row in rows]
    return {
        "id": hashlib.sha1(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest(),
        "text": text,
        "source": "ocr-rl",
        "added": datetime.now(UTC).strftime("%Y-%m-%d"),
        "created": datetime.now(UTC).strftime("%Y-%m-%d"),
        "metadata": {
            "Source-File": str(document.pdf),
            "sha256": document.sha256,
            "model": rows[0]["model"],
            "pdf-total-pages": len(document.places),
            "total-input-tokens": sum(row["prompt_tokens"] for row in rows),
            "total-output-tokens": sum(row["tokens"] for row in rows),
            "total-fallback-pages": sum(row["source"] != "model" for row in rows),
        },
        "attributes": {
            "pdf_page_numbers": spans,
            **{
                name: [[start, end, front.get(name)] for (start, end, _), front in zip(spans, fronts, strict=True)]
                for name in _OF_PAGE
            },
        },
    }
