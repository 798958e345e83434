"""Kinds of documents. A kind is a small function that composes the pages of one document.

`layout` draws what the pages of a document share. Knows nothing about printing or tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

from ocr_rl.pages.synth import words
from ocr_rl.pages.synth.sheets import parts, prose
from ocr_rl.pages.synth.sheets.grids import grid
from ocr_rl.pages.synth.sheets.layout import FONTS, look_of, pages_of, pen_of
from ocr_rl.pages.synth.sheets.tree import Block, Heading, Lines, Para, Sheet, Text

_SERIFS = ("Libertinus Serif", "New Computer Modern", "Source Serif Pro", "STIXGeneral", "DejaVu Serif")


def paper(rng: Random, pages: int) -> tuple[Sheet, ...]:
    """An article: one or two columns, sections, formulas, footnotes, tables and charts between the columns."""
    pen = pen_of(rng, math=0.25, notes=0.3)
    look = look_of(rng, fonts=_SERIFS, columns=rng.choice((1, 2, 2)), size=rng.choice((9, 9.5, 10)))
    look = replace(look, justify=True, indent=rng.random() < 0.6)

    def page(k: int) -> tuple[list[Block], Iterator[Block]]:
        return (parts.masthead(pen) if k == 0 else []), parts.sections(pen, look, numbered=True)

    return pages_of(pen, look, pages, page)


def book(rng: Random, pages: int) -> tuple[Sheet, ...]:
    """Pages of a book: long paragraphs, a chapter heading now and then, footnotes."""
    pen = pen_of(rng, notes=0.5, emphasis=0.08)
    width = rng.choice((396.0, 432.0, 468.0))
    look = replace(
        look_of(rng, fonts=_SERIFS, size=rng.choice((10, 10.5, 11))), width=width, height=width * 1.52, margin=54
    )
    look = replace(look, indent=True, justify=True, centred=rng.random() < 0.6)

    def page(k: int) -> tuple[list[Block], Iterator[Block]]:
        def blocks() -> Iterator[Block]:
            while True:
                if rng.random() < 0.18:
                    yield parts.heading(pen, rng.choice((1, 2)))
                yield parts.paragraph(pen, rng.randint(4, 9))

        return [], blocks()

    return pages_of(pen, look, pages, page)


def newspaper(rng: Random, pages: int) -> tuple[Sheet, ...]:
    """Three narrow columns under a masthead."""
    pen = pen_of(rng)
    look = replace(
        look_of(rng, columns=3, size=rng.choice((8, 8.5, 9))), margin=40, indent=True, justify=rng.random() < 0.7
    )

    def page(k: int) -> tuple[list[Block], Iterator[Block]]:
        top: list[Block] = [
            Heading(
                text=Text(text=f"The {prose.place(rng)} {rng.choice(('Courier', 'Gazette', 'Observer'))}"), level=1
            ),
            Para(runs=(Text(text=f"{words.date(rng)}, No. {rng.randint(100, 9999)}"),), align="center"),
        ]

        def blocks() -> Iterator[Block]:
            while True:
                yield parts.heading(pen, 2)
                yield Para(runs=(Text(text=f"By {words.name(rng)}", style="italic"),))
                for _ in range(rng.randint(2, 5)):
                    yield parts.paragraph(pen, rng.randint(2, 4))
                if rng.random() < 0.2:
                    yield parts.chart(pen)

        return top if k == 0 else [], blocks()

    return pages_of(pen, replace(look, centred=True), pages, page)


def report(rng: Random, pages: int) -> tuple[Sheet, ...]:
    """A company's or an office's report: headings of several levels, lists, tables, charts."""
    pen = pen_of(rng, notes=0.25, emphasis=0.08)
    look = look_of(rng, columns=rng.choice((1, 1, 2)))

    def page(k: int) -> tuple[list[Block], Iterator[Block]]:
        return [parts.heading(pen, 1)] if k == 0 else [], parts.sections(
            pen, look, numbered=rng.random() < 0.5, lists=True
        )

    return pages_of(pen, look, pages, page)


def ledger(rng: Random, pages: int) -> tuple[Sheet, ...]:
    """Pages that are mostly tables: wide ones, long ones, some on their side."""
    pen = pen_of(rng)
    look = look_of(rng, size=rng.choice((8.5, 9, 10)))
    if rng.random() < 0.35:
        look = replace(look, width=look.height, height=look.width)

    def page(k: int) -> tuple[list[Block], Iterator[Block]]:
        def blocks() -> Iterator[Block]:
            yield parts.heading(pen, 2)
            while True:
                yield parts.paragraph(pen, rng.randint(1, 2))
                wide = rng.randint(6, 11) if look.width > look.height else rng.randint(3, 7)
                yield grid(pen, rng.choice((rng.randint(4, 9), rng.randint(12, 30))), wide, size=0.85)

        return [], blocks()

    return pages_of(pen, look, pages, page)


def exercises(rng: Random, pages: int) -> tuple[Sheet, ...]:
    """A sheet of mathematics: many displayed formulas between short sentences."""
    pen = pen_of(rng, math=0.5, emphasis=0.02)
    look = look_of(rng, fonts=("New Computer Modern", "Libertinus Serif", "STIXGeneral"), columns=rng.choice((1, 1, 2)))

    def page(k: int) -> tuple[list[Block], Iterator[Block]]:
        def blocks() -> Iterator[Block]:
            yield parts.heading(pen, 2, numbered=True)
            while True:
                kind = rng.choice(("Theorem", "Lemma", "Exercise", "Remark", "Definition"))
                lead = Text(text=f"{kind} {pen.next('theorem')}.{rng.randint(1, 9)}.", style="bold")
                yield Para(runs=(lead, *parts.runs(pen, rng.randint(1, 2))))
                yield parts.fitting_display(pen, look)
                yield parts.paragraph(pen, rng.randint(1, 3))

        return [], blocks()

    return pages_of(pen, look, pages, page)


def letter(rng: Random, pages: int) -> tuple[Sheet, ...]:
    """A letter: addresses, date, subject line, a few paragraphs, a sign-off."""
    pen = pen_of(rng, emphasis=0.03)
    look = look_of(rng, fonts=(*FONTS, "DejaVu Sans Mono"), size=rng.choice((10, 10.5, 11)))

    def page(k: int) -> tuple[list[Block], Iterator[Block]]:
        def blocks() -> Iterator[Block]:
            if k == 0:
                yield Lines(rows=parts.address(pen), align=rng.choice(("", "right")))
                yield Para(runs=(Text(text=words.date(rng)),))
                yield Lines(rows=parts.address(pen))
                yield Para(runs=(Text(text=f"Re: {prose.title(rng, pen.subject)}", style="bold"),))
                yield Para(runs=(Text(text=f"Dear {words.name(rng)},"),))
            for _ in range(rng.randint(2, 4)):
                yield parts.paragraph(pen, rng.randint(2, 5))
            closing = rng.choice(("Yours sincerely,", "With kind regards,", "Respectfully yours,"))
            yield Lines(rows=((Text(text=closing),), (Text(text=words.name(rng)),)))

        return [], blocks()

    return pages_of(pen, look, pages, page)


def form(rng: Random, pages: int) -> tuple[Sheet, ...]:
    """A form that somebody has filled in: labels and values, boxes to tick, a table."""
    pen = pen_of(rng)
    look = look_of(rng, size=rng.choice((9.5, 10, 11)))

    def page(k: int) -> tuple[list[Block], Iterator[Block]]:
        def blocks() -> Iterator[Block]:
            yield parts.heading(pen, 1)
            yield parts.paragraph(pen, 1)
            for section in range(rng.randint(2, 3)):
                yield Heading(text=Text(text=f"Part {'ABC'[section]}: {prose.title(rng, pen.subject)}"), level=3)
                draw = rng.random()
                if draw < 0.5 or section == 0:
                    yield parts.form(pen, rng.randint(4, 8))
                elif draw < 0.75:
                    yield parts.boxes(pen, rng.randint(3, 5))
                else:
                    yield grid(pen, rng.randint(3, 5), rng.randint(3, 4))
            yield parts.paragraph(pen, 2)

        return [], blocks()

    return pages_of(pen, look, pages, page)


def references(rng: Random, pages: int) -> tuple[Sheet, ...]:
    """The list of works at the end of a book or an article."""
    pen = pen_of(rng)
    look = look_of(rng, fonts=_SERIFS, columns=rng.choice((1, 2)), size=rng.choice((8, 9, 10)))
    numbered = rng.random() < 0.6

    def page(k: int) -> tuple[list[Block], Iterator[Block]]:
        def blocks() -> Iterator[Block]:
            if k == 0:
                yield Heading(text=Text(text=rng.choice(("References", "Bibliography", "Works cited"))), level=2)
            while True:
                yield parts.reference(pen, pen.next("work") if numbered else None)

        return [], blocks()

    return pages_of(pen, look, pages, page)


def contents(rng: Random, pages: int) -> tuple[Sheet, ...]:
    """A table of contents."""
    pen = pen_of(rng)

    def page(k: int) -> tuple[list[Block], Iterator[Block]]:
        top = Heading(text=Text(text=rng.choice(("Contents", "Table of Contents", "In this issue"))), level=1)
        return [], iter((top, parts.contents(pen, rng.randint(8, 22))))

    return pages_of(pen, look_of(rng), pages, page)


def title_page(rng: Random, pages: int) -> tuple[Sheet, ...]:
    """A title, who wrote it, where and when: large type and little of it."""
    pen = pen_of(rng)
    look = replace(look_of(rng), centred=True, size=rng.choice((11, 12, 13)))

    def page(k: int) -> tuple[list[Block], Iterator[Block]]:
        place = f"{prose.place(rng)}, {rng.randint(1890, 2025)}"
        blocks: list[Block] = [
            Para(runs=(Text(text=pen.words("{body}")),), align="center", size=1.1),
            Heading(text=Text(text=prose.title(rng, pen.subject)), level=1),
            Para(
                runs=(Text(text=pen.words("with {count} notes on the {kind} {thing}"), style="italic"),), align="center"
            ),
            Para(runs=(Text(text=words.name(rng)),), align="center", size=1.2),
            Para(runs=(Text(text=place),), align="center"),
        ]
        if rng.random() < 0.5:
            blocks.append(parts.paragraph(pen, rng.randint(3, 6)))
        return [], iter(blocks)

    return pages_of(pen, look, pages, page)


def tiny(rng: Random, pages: int) -> tuple[Sheet, ...]:
    """Small print: long paragraphs at 5.5 to 7 pt."""
    pen = pen_of(rng)
    look = look_of(rng, columns=rng.choice((1, 2, 3)), size=rng.choice((5.5, 6, 6.5, 7)))

    def page(k: int) -> tuple[list[Block], Iterator[Block]]:
        def blocks() -> Iterator[Block]:
            while True:
                if rng.random() < 0.15:
                    yield parts.heading(pen, 3, numbered=True)
                yield parts.paragraph(pen, rng.randint(5, 12))

        return [], blocks()

    return pages_of(pen, replace(look, margin=rng.choice((32, 40))), pages, page)


def blank(rng: Random, pages: int) -> tuple[Sheet, ...]:
    """Nothing but, at most, a running header or a page number."""
    return pages_of(pen_of(rng), look_of(rng), pages, lambda k: ([], iter(())))


def foreign(rng: Random, pages: int) -> tuple[Sheet, ...]:
    """A page in another language, often beside English or in another script."""
    language = rng.choice(list(prose.LANGUAGES))
    _, font, spaced = prose.LANGUAGES[language]
    pen = pen_of(rng)
    look = replace(look_of(rng, columns=rng.choice((1, 1, 2))), language=language, justify=False)
    look = replace(look, font=font or look.font, heading_font=None)
    write = lambda low, high: prose.foreign(rng, language, rng.randint(low, high))

    def page(k: int) -> tuple[list[Block], Iterator[Block]]:
        def blocks() -> Iterator[Block]:
            while True:
                title = write(2, 4).rstrip(".。")
                yield Heading(text=Text(text=title), level=2) if language != "ja" else Para(runs=(Text(text=title),))
                for _ in range(rng.randint(1, 3)):
                    runs = [Text(text=(" " if spaced else "").join(write(5, 12) for _ in range(rng.randint(2, 5))))]
                    if spaced and rng.random() < 0.25:
                        runs.append(Text(text=write(2, 3).rstrip("."), style="bold"))
                    yield Para(runs=tuple(runs))
                if font is None and rng.random() < 0.3:
                    yield grid(pen, rng.randint(3, 6), 3)

        return [], blocks()

    return pages_of(pen, look, pages, page, foreign_edge=write(2, 3) if font else None)


# kind -> how often `mixed` draws it
KINDS: dict[str, tuple[Callable[[Random, int], tuple[Sheet, ...]], float]] = {
    "paper": (paper, 18),
    "book": (book, 14),
    "newspaper": (newspaper, 6),
    "office": (report, 14),
    "ledger": (ledger, 12),
    "exercises": (exercises, 8),
    "letter": (letter, 6),
    "form": (form, 6),
    "references": (references, 4),
    "contents": (contents, 3),
    "title": (title_page, 2),
    "tiny": (tiny, 4),
    "blank": (blank, 1),
    "foreign": (foreign, 6),
}


def mixed(rng: Random, pages: int) -> tuple[Sheet, ...]:
    """A document of any kind. One page in twenty-five is turned."""
    names = list(KINDS)
    drawn = rng.choices(names, [KINDS[name][1] for name in names])[0]
    sheets = KINDS[drawn][0](rng, pages)
    turned = lambda look: replace(look, rotated=rng.choice((90, 180, 270))) if rng.random() < 0.04 else look
    return tuple(replace(sheet, look=turned(sheet.look)) for sheet in sheets)
