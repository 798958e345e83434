"""Seeded synthetic datasets in the olmOCR-Bench layout: pdfs/, one JSONL of unit tests, reference Markdown.

One document holds `pages_per_document` pages: fonts are embedded once, so 60,000 small pages are 100 MB.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np
from tqdm import tqdm

from ocr_rl.contract import UserError
from ocr_rl.pages.guarded import Refusal, guarded
from ocr_rl.pages.raster import render_bytes
from ocr_rl.pages.synth import looks
from ocr_rl.pages.synth.compose import KINDS, in_fonts
from ocr_rl.pages.synth.document import Source, to_markdown
from ocr_rl.pages.synth.mine import mine
from ocr_rl.pages.synth.typeset import fits, typeset

SCANNED = {"notice": 0.5}  # kinds whose PDFs hold only a scanned image, and how bad the scan is
_DOCUMENT_TIMEOUT_S = 300.0
_SCAN_DPI = 144  # two pixels a point: scanned at twice the resolution that small pages are read at


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A typeset document with everything known about its pages."""

    name: str  # file name of the PDF
    pdf: bytes
    references: tuple[str, ...]
    tests: tuple[dict[str, object], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """How pages of a kind look where that is not the kind's own choice."""

    fonts: Literal["seen", "unseen"] | None = None  # typefaces that the embedded policy learnt from, or did not
    scan: float | None = None  # strength of the scanner (`looks.scan`); 0: the PDF as it was typeset


AS_THE_KIND = Looks()


def make_document(kind: str, seed: int, index: int, pages: int, look: Looks = AS_THE_KIND) -> Document:
    """Document `index` of a dataset; depends on its arguments alone."""
    rng = Random(_key(kind, seed, index))
    sources = [KINDS[kind](rng) for _ in range(pages)]
    if look.fonts is not None:
        sources = [in_fonts(source, look.fonts, rng) for source in sources]
    sources = [_fitting(source) for source in sources]
    pdf = typeset(sources)
    strength = SCANNED.get(kind, 0.0) if look.scan is None else look.scan
    if strength > 0:
        pdf = _scanned(pdf, sources, np.random.default_rng(_key(kind, seed, index)), strength)
    name = _pdf_name(kind, seed, index)
    tests = [test for i, source in enumerate(sources) for test in mine(source, pdf=name, number=i + 1, rng=rng)]
    return Document(name=name, pdf=pdf, references=tuple(map(to_markdown, sources)), tests=tuple(tests))


def make_dataset(
    kind: str,
    *,
    n: int,
    seed: int,
    out: Path,
    pages_per_document: int = 1,
    look: Looks = AS_THE_KIND,
    workers: int = 1,
) -> Iterator[int]:
    """Write `n` pages below `out`; yields the number of pages written so far.

    The JSONL is written last and under a temporary name first, so a dataset that has it is whole.
    """
    (out / "pdfs").mkdir(parents=True, exist_ok=True)
    sizes = _sizes(n, pages_per_document)
    done = 0
    aside = out / f"{kind}.jsonl.part"
    with aside.open("w", encoding="utf-8") as lines:
        for document in _documents([(kind, seed, index, pages, look) for index, pages in enumerate(sizes)], workers):
            _write(document, out)
            lines.writelines(json.dumps(test, ensure_ascii=False) + "\n" for test in document.tests)
            done += len(document.references)
            yield done
    aside.replace(out / f"{kind}.jsonl")


def write_dataset(
    kind: str,
    *,
    n: int,
    seed: int,
    out: Path,
    pages_per_document: int = 1,
    look: Looks = AS_THE_KIND,
    workers: int = 1,
) -> float:
    """`make_dataset` to its end behind a progress bar; returns pages per second.

    Raises UserError for no such kind, and for a folder that cannot be written or holds what this call would not write.
    """
    if kind not in KINDS:
        raise UserError(f"There is no kind {kind!r} of synthetic page; known are {', '.join(KINDS)}.")
    own = {name for k, pages in enumerate(_sizes(n, pages_per_document)) for name in _names(kind, seed, k, pages)}
    if any(out.glob("*.jsonl")) or any(path.name not in own for path in (out / "pdfs").glob("*")):
        raise UserError(f"{out}: already holds a dataset; give an empty or a new folder with --out.")
    try:
        (out / "pdfs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: pages cannot be written there ({error.strerror}); give another --out.") from None
    made = make_dataset(
        kind, n=n, seed=seed, out=out, pages_per_document=pages_per_document, look=look, workers=workers
    )
    with tqdm(total=n, desc=f"typesetting {kind} pages", unit="page") as bar:
        for done in made:
            bar.update(done - bar.n)
        return bar.n / max(1e-9, bar.format_dict["elapsed"])


_Job = tuple[str, int, int, int, Looks]  # the arguments of make_document


def _documents(jobs: list[_Job], workers: int) -> Iterator[Document]:
    for job, made in guarded(_document, jobs, workers=workers, timeout_s=_DOCUMENT_TIMEOUT_S):
        if isinstance(made, Refusal):
            raise RuntimeError(f"document {job} could not be made: {made}")
        yield made


def _document(job: _Job) -> Document:
    return make_document(*job)


def _write(document: Document, out: Path) -> None:
    (out / "pdfs" / document.name).write_bytes(document.pdf)
    for name, reference in zip(_references(document.name, len(document.references)), document.references, strict=True):
        (out / "pdfs" / name).write_text(reference, encoding="utf-8")


def _sizes(n: int, pages_per_document: int) -> list[int]:
    """Pages of each document."""
    rest = n % pages_per_document
    return [pages_per_document] * (n // pages_per_document) + ([rest] if rest else [])


def _names(kind: str, seed: int, index: int, pages: int) -> list[str]:
    """Of a document's files: its PDF and its references."""
    pdf = _pdf_name(kind, seed, index)
    return [pdf, *_references(pdf, pages)]


def _pdf_name(kind: str, seed: int, index: int) -> str:
    return f"{kind}_{seed}_{index:05d}.pdf"


def _references(pdf: str, pages: int) -> list[str]:
    stem = pdf.removesuffix(".pdf")
    return [f"{stem}.md"] if pages == 1 else [f"{stem}_pg{number}.md" for number in range(1, pages + 1)]


def _fitting(source: Source) -> Source:
    """The source, less as many of its last blocks as its page cannot hold."""
    while not fits(source):
        source = replace(source, blocks=source.blocks[:-1])
    return source


def _scanned(pdf: bytes, sources: list[Source], rng: np.random.Generator, strength: float) -> bytes:
    images = []
    for number, source in enumerate(sources, 1):
        longest_px = round(max(source.style.width, source.style.height) * _SCAN_DPI / 72)
        images.append(looks.scan(render_bytes(pdf, number, longest_px), rng, strength))
    return looks.image_pdf(images, _SCAN_DPI)


def _key(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8], "big")
