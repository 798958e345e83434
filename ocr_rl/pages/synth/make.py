"""Seeded synthetic datasets in the olmOCR-Bench layout: pdfs/, one JSONL file of unit tests, reference Markdown.

A document holds `pages_per_document` pages and embeds its fonts once; so 60,000 small pages take 100 MB.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np
from PIL import Image
from tqdm import tqdm

from ocr_rl import outputs
from ocr_rl.contract import UserError
from ocr_rl.pages.manifest import may_write_manifest, write_manifest
from ocr_rl.pages.raster import render_bytes
from ocr_rl.pages.synth import looks, wear
from ocr_rl.pages.synth.compose import KINDS, in_fonts, in_other_words
from ocr_rl.pages.synth.document import Source, to_markdown
from ocr_rl.pages.synth.sheets.make import SHEET_KINDS
from ocr_rl.pages.synth.sheets.make import make as make_sheets
from ocr_rl.pages.synth.sheets.printers import to_front_matter
from ocr_rl.pages.synth.sheets.printers import to_markdown as sheet_to_markdown
from ocr_rl.pages.synth.source_tests import source_tests
from ocr_rl.pages.synth.typeset import fits, typeset
from ocr_rl.pages.workers import Refusal, guarded
from ocr_rl.text.front_matter import FrontMatter

SCANNED = {"notice": 1.5}  # kinds whose PDFs hold only a scanned image, with the strength of the scan
_LIGHTLY_SCANNED = {"nano": 0.4}  # kinds of which a third of the documents is scanned, with the largest strength
_DOCUMENT_TIMEOUT_S = 300.0
ALL_KINDS = (*KINDS, *SHEET_KINDS)
_SCAN_DPI = 144  # two pixels a point, twice the resolution at which small pages are read


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A typeset document with all that is known about its pages."""

    name: str  # file name of the PDF
    pdf: bytes
    references: tuple[str, ...]
    tests: tuple[dict[str, object], ...]
    front_matter: tuple[FrontMatter, ...]  # what olmOCR's models write before the transcript of each page


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """How pages of a kind look. None leaves the choice to the kind."""

    fonts: Literal["seen", "unseen"] | None = None  # typefaces that the embedded policy has learned from, or has not
    words: Literal["invented", "latin"] | None = None  # words that the kind does not have (`words.in_other_words`)
    scan: float | None = None  # strength of the scanner (`looks.scan`); 0: the PDF as it was typeset


AS_THE_KIND = Looks()


def make_document(kind: str, seed: int, index: int, pages: int, look: Looks = AS_THE_KIND) -> Document:
    """Document `index` of a dataset. It depends on the arguments alone."""
    rng = Random(_key(kind, seed, index))
    if kind in SHEET_KINDS:
        return _sheets_document(kind, seed, index, pages, look)
    sources = [KINDS[kind](rng) for _ in range(pages)]
    if look.fonts is not None:
        sources = [in_fonts(source, look.fonts, rng) for source in sources]
    if look.words is not None:
        sources = [in_other_words(source, look.words, rng) for source in sources]
    sources = [_fitting(source) for source in sources]
    pdf = typeset(sources)
    scanner = np.random.default_rng(_key(kind, seed, index))
    strength = _scan_strength(kind, scanner) if look.scan is None else look.scan
    if strength > 0:
        pdf = _scanned(pdf, sources, scanner, strength)
    name = _pdf_name(kind, seed, index)
    tests = [test for i, source in enumerate(sources) for test in source_tests(source, pdf=name, number=i + 1, rng=rng)]
    plain = FrontMatter(
        primary_language="en", is_rotation_valid=True, rotation_correction=0, is_table=False, is_diagram=False
    )
    return Document(
        name=name,
        pdf=pdf,
        references=tuple(map(to_markdown, sources)),
        tests=tuple(tests),
        front_matter=tuple(plain if source.blocks else replace(plain, primary_language=None) for source in sources),
    )


def _sheets_document(kind: str, seed: int, index: int, pages: int, look: Looks) -> Document:
    name = _pdf_name(kind, seed, index)
    document = make_sheets(kind, Random(_key(kind, seed, index)), pages, name)
    pdf = document.pdf
    if look.scan:
        rng = np.random.default_rng(_key(kind, seed, index))
        sizes = [(sheet.look.width, sheet.look.height) for sheet in document.sheets]
        pdf = _imaged(pdf, sizes, lambda image: wear.worn(image, rng, look.scan or 0.0))
    return Document(
        name=name,
        pdf=pdf,
        references=tuple(map(sheet_to_markdown, document.sheets)),
        tests=tuple(fact.test for fact in document.facts),
        front_matter=tuple(map(to_front_matter, document.sheets)),
    )


def make_dataset(
    kind: str,
    *,
    n: int,
    seed: int,
    out: Path,
    pages_per_document: int = 1,
    look: Looks = AS_THE_KIND,
    front_matter: bool = False,
    workers: int = 1,
) -> Iterator[int]:
    """Write `n` pages below `out`, and yield the number of pages written so far.

    With `front_matter` references begin with olmOCR's YAML block. The JSONL file has a temporary name until all pages
    are written, so a dataset that has the file is whole.
    """
    (out / "pdfs").mkdir(parents=True, exist_ok=True)
    sizes = _sizes(n, pages_per_document)
    done = 0
    aside = out / f"{kind}.jsonl.part"
    with aside.open("w", encoding="utf-8") as lines:
        for document in _documents([(kind, seed, index, pages, look) for index, pages in enumerate(sizes)], workers):
            _write(document, out, front_matter)
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
    front_matter: bool = False,
    workers: int = 1,
) -> float:
    """Write `n` pages below `out` behind a progress bar. Returns pages per second.

    Raises UserError for an unknown kind, and for a folder that cannot be written or holds other files than this call
    would write.
    """
    if kind not in ALL_KINDS:
        raise UserError(f"There is no kind {kind!r} of synthetic page; known are {', '.join(ALL_KINDS)}.")
    if look.fonts is not None and kind in SHEET_KINDS:
        raise UserError(f"fonts: pages of kind {kind!r} choose their own typefaces; leave the setting out.")
    if look.words is not None and kind in SHEET_KINDS:
        raise UserError(f"words: pages of kind {kind!r} choose their own words; leave the setting out.")
    own = {name for k, pages in enumerate(_sizes(n, pages_per_document)) for name in _names(kind, seed, k, pages)}
    strange = any(path.name.removesuffix(".part") not in own for path in (out / "pdfs").glob("*"))
    if strange or any(out.glob("*.jsonl")) or not may_write_manifest(out):
        raise UserError(f"{out}: already holds a dataset; give an empty or a new folder with --out.")
    with outputs.writing(out):
        (out / "pdfs").mkdir(parents=True, exist_ok=True)
    progress = make_dataset(
        kind,
        n=n,
        seed=seed,
        out=out,
        pages_per_document=pages_per_document,
        look=look,
        front_matter=front_matter,
        workers=workers,
    )
    with outputs.writing(out), tqdm(total=n, desc=f"typesetting {kind} pages", unit="page") as bar:
        for done in progress:
            bar.update(done - bar.n)
        made_by = {"kind": kind, "n": n, "seed": seed, "pages_per_document": pages_per_document, "look": asdict(look)}
        write_manifest(out, {**made_by, "front_matter": front_matter})
        return bar.n / max(1e-9, bar.format_dict["elapsed"])


_Job = tuple[str, int, int, int, Looks]  # the arguments of make_document


def _documents(jobs: list[_Job], workers: int) -> Iterator[Document]:
    for job, document in guarded(_document, jobs, workers=workers, timeout_s=_DOCUMENT_TIMEOUT_S):
        if isinstance(document, Refusal):
            raise RuntimeError(f"document {job} could not be made: {document}")
        yield document


def _document(job: _Job) -> Document:
    return make_document(*job)


def _write(document: Document, out: Path, front_matter: bool) -> None:
    _place(out / "pdfs" / document.name, document.pdf)
    names = _references(document.name, len(document.references))
    for name, reference, front in zip(names, document.references, document.front_matter, strict=True):
        text = front.to_text() + reference if front_matter else reference
        _place(out / "pdfs" / name, text.encode())


def _place(path: Path, data: bytes) -> None:
    """Write a file, whole; one that stands there already (of a call that was cut off) must hold the same."""
    if os.path.lexists(path):
        if path.is_symlink() or not path.is_file() or path.read_bytes() != data:
            raise UserError(f"{path}: is there already and holds something else; give a new folder with --out.")
        return
    aside = path.with_name(f"{path.name}.part")
    aside.write_bytes(data)
    aside.replace(path)


def _sizes(n: int, pages_per_document: int) -> list[int]:
    """The number of pages of each document."""
    rest = n % pages_per_document
    return [pages_per_document] * (n // pages_per_document) + ([rest] if rest else [])


def _names(kind: str, seed: int, index: int, pages: int) -> list[str]:
    """The names of a document's files: its PDF and its references."""
    pdf = _pdf_name(kind, seed, index)
    return [pdf, *_references(pdf, pages)]


def _pdf_name(kind: str, seed: int, index: int) -> str:
    return f"{kind}_{seed}_{index:05d}.pdf"


def _references(pdf: str, pages: int) -> list[str]:
    stem = pdf.removesuffix(".pdf")
    return [f"{stem}.md"] if pages == 1 else [f"{stem}_pg{number}.md" for number in range(1, pages + 1)]


def _fitting(source: Source) -> Source:
    """The source without its last blocks, as many as the page cannot hold."""
    while not fits(source):
        source = replace(source, blocks=source.blocks[:-1])
    return source


def _scan_strength(kind: str, rng: np.random.Generator) -> float:
    if kind in _LIGHTLY_SCANNED:
        return rng.uniform(0.1, _LIGHTLY_SCANNED[kind]) if rng.random() < 1 / 3 else 0.0
    return SCANNED.get(kind, 0.0)


def _scanned(pdf: bytes, sources: list[Source], rng: np.random.Generator, strength: float) -> bytes:
    sizes = [(source.style.width, source.style.height) for source in sources]
    return _imaged(pdf, sizes, lambda image: looks.scan(image, rng, strength))


def _imaged(pdf: bytes, sizes_pt: list[tuple[float, float]], scan: Callable[[Image.Image], Image.Image]) -> bytes:
    """A PDF of the same pages as scanned pictures of themselves."""
    longest_px = [round(max(size) * _SCAN_DPI / 72) for size in sizes_pt]
    images = [scan(render_bytes(pdf, number, px)) for number, px in enumerate(longest_px, 1)]
    return looks.image_pdf(images, _SCAN_DPI)


def _key(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8], "big")
