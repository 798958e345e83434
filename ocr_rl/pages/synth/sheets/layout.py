"""What the pages of one document share: pen, typeface, paper, running header and page numbers, drawn once.

Knows nothing about kinds of documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import Any

from ocr_rl.pages.synth import words
from ocr_rl.pages.synth.compose import SEEN_FONTS
from ocr_rl.pages.synth.sheets import prose
from ocr_rl.pages.synth.sheets.fill import filled
from ocr_rl.pages.synth.sheets.pen import Pen
from ocr_rl.pages.synth.sheets.tree import Block, Look, Sheet

FONTS = (*SEEN_FONTS[:4], *SEEN_FONTS[5:], "Lato")
_PAPERS = ((612.0, 792.0), (595.0, 842.0))  # US letter, A4


def pen_of(rng: Random, **shares: Any) -> Pen:
    return Pen(rng=rng, subject=rng.choice(prose.SUBJECTS), **shares)


def look_of(rng: Random, *, fonts: tuple[str, ...] = FONTS, columns: int = 1, size: float | None = None) -> Look:
    width, height = rng.choice(_PAPERS)
    font = rng.choice(fonts)
    size = size or rng.choice((9.5, 10, 10.5, 11))
    return Look(
        width=width,
        height=height,
        margin=rng.choice((50, 58, 66, 72)),
        font=font,
        size=size * (0.92 if font.startswith("DejaVu") else 1.0),
        leading=rng.choice((0.52, 0.6, 0.65, 0.75)),
        columns=columns,
        justify=rng.random() < 0.55,
        heading_font=rng.choice((None, None, rng.choice(FONTS))),
        centred=rng.random() < 0.35,
        ink=rng.choice((0, 0, 0, 20, 45)),
        tint=rng.choice(("#000000",) * 4 + ("#1b2a4a", "#5a1a1a", "#1f4d3a")),
        rule=rng.random() < 0.4,
    )


def pages_of(
    pen: Pen,
    look: Look,
    pages: int,
    page: Callable[[int], tuple[list[Block], Iterator[Block]]],
    foreign_edge: str | None = None,
) -> tuple[Sheet, ...]:
    """The pages of one document, with running headers and page numbers.

    `page(k)` gives the blocks at the top of page k, and the blocks that fill the rest of it, often without end.
    """
    rng = pen.rng
    first = rng.randint(1, 480)
    running = foreign_edge or rng.choice((prose.title(rng, pen.subject), pen.words("{kind} {things}"), words.name(rng)))
    section = "" if foreign_edge else rng.choice(("", prose.title(rng, pen.subject), f"Draft of {words.date(rng)}"))
    has_header, has_footer = rng.random() < 0.75, rng.random() < 0.8
    style = rng.choice(("{n}", "Page {n}", "– {n} –", "Page {n} of {total}", "{n} / {total}"))
    note = rng.choice(
        ("", "", words.code(rng), "" if foreign_edge else f"© {rng.randint(1990, 2025)} {prose.place(rng)} Press")
    )
    total, sheets = first + rng.randint(pages, pages + 60), []
    for k in range(pages):
        top, blocks = page(k)
        number = style.format(n=first + k, total=total)
        sheet = Sheet(blocks=(), top=tuple(top), look=look)
        swap = k % 2 == 1
        header = ((section, running) if swap else (running, section)) if has_header else ("", "")
        footer = (note, "", number) if note else ("", number, "")
        sheets.append(
            replace(sheet, blocks=filled(sheet, blocks), header=header, footer=footer if has_footer else ("", "", ""))
        )
    return tuple(sheets)
