"""Documents of full pages: composed, typeset, without the blocks that do not fit, and with tested facts.

Knows nothing about folders.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import pypdfium2 as pdfium

from ocr_rl.pages.synth.sheets.kinds import KINDS, mixed
from ocr_rl.pages.synth.sheets.printers import to_typst
from ocr_rl.pages.synth.sheets.sheet_tests import Fact, sheet_tests
from ocr_rl.pages.synth.sheets.tree import Heading, Sheet
from ocr_rl.pages.synth.typeset import compiled

SHEET_KINDS = {**{name: kind for name, (kind, _) in KINDS.items()}, "mixed": mixed}


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetDocument:
    """A typeset document of full pages with the tree of each page and the tested facts of all."""

    pdf: bytes
    sheets: tuple[Sheet, ...]
    facts: tuple[Fact, ...]


def make(kind: str, rng: Random, pages: int, name: str) -> SheetDocument:
    """One document. It depends on the arguments alone; `name` is the file name of its PDF."""
    sheets, pdf = _typeset(SHEET_KINDS[kind](rng, pages))
    facts = [fact for k, sheet in enumerate(sheets, 1) for fact in sheet_tests(sheet, pdf=name, number=k, rng=rng)]
    return SheetDocument(pdf=_turned(pdf, sheets), sheets=sheets, facts=tuple(facts))


def _typeset(sheets: Sequence[Sheet]) -> tuple[tuple[Sheet, ...], bytes]:
    """The pages without the blocks that do not fit, and their PDF. If all fit, as is the rule, it compiles once."""
    pdf, count = compiled(to_typst(sheets))
    if count == len(sheets):
        return tuple(sheets), pdf
    if len(sheets) == 1:
        return _typeset([_shorter(sheets[0])])
    fitting = tuple(_typeset([sheet])[0][0] for sheet in sheets)
    return fitting, compiled(to_typst(fitting))[0]


def _shorter(sheet: Sheet) -> Sheet:
    """The page without its last block, and without headings that nothing follows then."""
    blocks = sheet.blocks[:-1] if sheet.blocks else ()
    while blocks and isinstance(blocks[-1], Heading):
        blocks = blocks[:-1]
    if not sheet.blocks:
        return replace(sheet, top=sheet.top[:-1])
    return replace(sheet, blocks=blocks)


def _turned(pdf: bytes, sheets: Sequence[Sheet]) -> bytes:
    """The PDF with some pages turned on their side or upside down."""
    if not any(sheet.look.rotated for sheet in sheets):
        return pdf
    with pdfium.PdfDocument(pdf) as document:
        for page, sheet in zip(document, sheets, strict=True):
            page.set_rotation(sheet.look.rotated)
        out = io.BytesIO()
        document.save(out)
        return out.getvalue()
