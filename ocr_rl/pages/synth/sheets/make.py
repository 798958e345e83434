"""Documents of full pages: compose, typeset, cut what does not fit, mine, print the reference.

Knows nothing about folders.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import pypdfium2 as pdfium

from ocr_rl.pages.synth.sheets.kinds import KINDS, mixed
from ocr_rl.pages.synth.sheets.mine import Mined, mine
from ocr_rl.pages.synth.sheets.printers import to_typst
from ocr_rl.pages.synth.sheets.tree import Heading, Sheet
from ocr_rl.pages.synth.typeset import compiled

SHEET_KINDS = {**{name: kind for name, (kind, _) in KINDS.items()}, "mixed": mixed}


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A document of full pages with what is known about each."""

    pdf: bytes
    sheets: tuple[Sheet, ...]
    tests: tuple[Mined, ...]


def make(kind: str, rng: Random, pages: int, name: str) -> Made:
    """One document; depends on its arguments alone."""
    sheets, pdf = _typeset(SHEET_KINDS[kind](rng, pages))
    tests = [test for k, sheet in enumerate(sheets, 1) for test in mine(sheet, pdf=name, number=k, rng=rng)]
    return Made(pdf=_turned(pdf, sheets), sheets=sheets, tests=tuple(tests))


def _typeset(sheets: Sequence[Sheet]) -> tuple[tuple[Sheet, ...], bytes]:
    """The pages, less what did not fit, and their PDF. One compilation where all fits, as is the rule."""
    pdf, count = compiled(to_typst(sheets))
    if count == len(sheets):
        return tuple(sheets), pdf
    if len(sheets) == 1:
        return _typeset([_shorter(sheets[0])])
    fitting = tuple(_typeset([sheet])[0][0] for sheet in sheets)
    return fitting, compiled(to_typst(fitting))[0]


def _shorter(sheet: Sheet) -> Sheet:
    """Without the last block, and without a heading that nothing follows then."""
    blocks = sheet.blocks[:-1] if sheet.blocks else ()
    while blocks and isinstance(blocks[-1], Heading):
        blocks = blocks[:-1]
    if not sheet.blocks:
        return replace(sheet, top=sheet.top[:-1])
    return replace(sheet, blocks=blocks)


def _turned(pdf: bytes, sheets: Sequence[Sheet]) -> bytes:
    """The PDF with pages filed on their side or upside down."""
    if not any(sheet.look.rotated for sheet in sheets):
        return pdf
    with pdfium.PdfDocument(pdf) as document:
        for page, sheet in zip(document, sheets, strict=True):
            page.set_rotation(sheet.look.rotated)
        out = io.BytesIO()
        document.save(out)
        return out.getvalue()
