"""Seeded composition: a kind of page and a random generator give the source of one page.

A kind is a small function. `chars`, `line`, `lines` and `nano` are small pages on which the embedded policy is trained.
`notice` is a kind that its training never sees: other typefaces, another layout, scanned (see `looks`). `report` is a
page of ordinary size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from string import ascii_letters, ascii_lowercase, digits, punctuation
from typing import Literal

from ocr_rl.pages.synth import words
from ocr_rl.pages.synth.document import Block, Display, Heading, Paragraph, Run, Source, Style, Table
from ocr_rl.pages.synth.sheets.formula import Formula, Leaf, Node, row

SEEN_FONTS = (
    "Libertinus Serif",
    "New Computer Modern",
    "DejaVu Sans",
    "DejaVu Serif",
    "DejaVu Sans Mono",
    "STIXGeneral",
    "Source Sans Pro",
    "Source Serif Pro",
)
UNSEEN_FONTS = ("Caladea", "Hanken Grotesk", "Manrope")

_PUNCTUATION = punctuation.replace("`", "")  # Typst draws a backtick like a quote in some faces

# The size of type in wide faces, as a share of the usual one, so that their pages hold about as much text.
_WIDE = {"DejaVu Sans": 0.9, "DejaVu Serif": 0.88, "DejaVu Sans Mono": 0.85, "Manrope": 0.92}


def chars(rng: Random) -> Source:
    """One to six random characters: the first lesson."""
    return Source(blocks=(_plain(_random_text(rng, rng.randint(1, 6))),), style=_small(rng, 112, 28, 4))


def line(rng: Random) -> Source:
    """One line of up to 26 characters, half of which cannot be guessed: the second lesson."""
    return Source(blocks=(_plain(_piece(rng)),), style=_small(rng, 280, 28, 4))


def lines(rng: Random) -> Source:
    """Two to five such lines: the third lesson, which teaches where reading goes on."""
    pieces = [_piece(rng) for _ in range(rng.randint(2, 5))]
    return Source(blocks=tuple(_plain(piece) for piece in pieces), style=_small(rng, 280, 140, rng.choice((4, 6, 8))))


def nano(rng: Random) -> Source:
    """A small page of four to ten lines: headings, prose, a table, a formula, running header, page number."""
    blocks: list[Block] = [_prose(rng, rng.randint(1, 2)) for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.4:
        blocks.insert(rng.randint(0, len(blocks)), _table(rng, rows=rng.randint(2, 4), columns=rng.randint(2, 3)))
    if rng.random() < 0.3:
        blocks.insert(rng.randint(1, len(blocks)), Display(formula=_formula(rng)))
    if rng.random() < 0.2:
        blocks.insert(rng.randint(1, len(blocks)), Heading(text=words.title(rng, 1, 2), level=2))
    if rng.random() < 0.6:
        blocks.insert(0, Heading(text=words.title(rng, 1, 2)))
    if rng.random() < 0.03:
        blocks = []  # a blank page has an empty transcript
    return Source(
        blocks=tuple(blocks),
        style=_small(rng, 280, 224, rng.choice((6, 8, 10))),
        header=_running_header(rng) if rng.random() < 0.4 else None,
        footer=_page_number(rng) if rng.random() < 0.4 else None,
        header_align=rng.choice(("left", "center", "right")),
        footer_align=rng.choice(("left", "center", "right")),
    )


def notice(rng: Random) -> Source:
    """A kind that training never sees: a table before the text, centred headings, other typefaces, a scan's look."""
    font = rng.choice(UNSEEN_FONTS)
    blocks: list[Block] = [Heading(text=words.title(rng, 1, 2))]
    if rng.random() < 0.8:
        blocks.append(_table(rng, rows=rng.randint(2, 3), columns=2))
    blocks.append(_prose(rng, 1))
    style = Style(
        width=280,
        height=224,
        margin=rng.choice((10, 12)),
        font=font,
        size=round(rng.uniform(16.5, 19.0) * _WIDE.get(font, 1.0), 1),
        leading=0.5,
        centred_headings=True,
        ruled=rng.random() < 0.5,
        ink=rng.randint(30, 70),
    )
    footer = f"{words.title(rng, 1, 1)} | {rng.randint(1, 99)}" if rng.random() < 0.5 else None
    return Source(blocks=tuple(blocks), style=style, footer=footer, footer_align="right")


def report(rng: Random) -> Source:
    """An ordinary page (US letter or A4): one or two columns, several headings, prose and tables."""
    width, height = rng.choice(((612.0, 792.0), (595.0, 842.0)))
    columns = rng.choice((1, 1, 2))
    blocks: list[Block] = [Heading(text=words.title(rng, 2, 5))]
    for _ in range(rng.randint(2, 4)):
        blocks.append(Heading(text=words.title(rng, 1, 4), level=2))
        blocks += [_prose(rng, rng.randint(3, 7)) for _ in range(rng.randint(1, 2))]
        if rng.random() < 0.4:
            blocks.append(_table(rng, rows=rng.randint(3, 6), columns=rng.randint(2, 5 - columns)))
    style = Style(
        width=width,
        height=height,
        margin=rng.choice((54, 64, 72)),
        font=rng.choice(SEEN_FONTS),
        size=rng.choice((9, 10, 10.5, 11)),
        leading=rng.choice((0.55, 0.65, 0.8)),
        columns=columns,
        heading_scale=1.6,
        centred_headings=rng.random() < 0.3,
        ruled=rng.random() < 0.5,
    )
    return Source(
        blocks=tuple(blocks),
        style=style,
        header=_running_header(rng) if rng.random() < 0.8 else None,
        footer=_page_number(rng) if rng.random() < 0.8 else None,
        header_align=rng.choice(("left", "center", "right")),
    )


KINDS: dict[str, Callable[[Random], Source]] = {
    "chars": chars,
    "line": line,
    "lines": lines,
    "nano": nano,
    "notice": notice,
    "report": report,
}


def in_fonts(source: Source, fonts: Literal["seen", "unseen"], rng: Random) -> Source:
    """The same page in a typeface of that list, with the size of type fitted to the face."""
    old, new = source.style.font, rng.choice({"seen": SEEN_FONTS, "unseen": UNSEEN_FONTS}[fonts])
    size = round(source.style.size * _WIDE.get(new, 1.0) / _WIDE.get(old, 1.0), 1)
    return replace(source, style=replace(source.style, font=new, size=size))


def in_other_words(source: Source, which: Literal["invented", "latin"], rng: Random) -> Source:
    """The same page in words that the kind does not have, so that a reader must read it letter by letter."""

    def other(text: str) -> str:
        return words.in_other_words(text, which, rng)

    def block(old: Block) -> Block:
        match old:
            case Heading():
                return replace(old, text=other(old.text))
            case Paragraph():
                return Paragraph(runs=tuple(replace(run, text=other(run.text)) for run in old.runs))
            case Table():
                return Table(rows=tuple(tuple(map(other, cells)) for cells in old.rows))
            case Display():
                return old

    header, footer = (other(text) if text else text for text in (source.header, source.footer))
    return replace(source, blocks=tuple(map(block, source.blocks)), header=header, footer=footer)


def _small(rng: Random, width: float, height: float, margin: float) -> Style:
    font = rng.choice(SEEN_FONTS)
    return Style(
        width=width,
        height=height,
        margin=margin,
        font=font,
        size=round(rng.uniform(16.0, 19.5) * _WIDE.get(font, 1.0), 1),
        leading=rng.choice((0.4, 0.5, 0.6)),
        centred_headings=rng.random() < 0.2,
        ruled=rng.random() < 0.6,
        ink=rng.choice((0, 0, 0, 40, 80)),
    )


def _plain(text: str) -> Paragraph:
    return Paragraph(runs=(Run(text=text),))


def _piece(rng: Random) -> str:
    """Up to 26 characters: words, names and numbers, and in half of the draws random characters.

    Random characters cannot be guessed, so that the policy learns to read.
    """
    parts: list[str] = []
    while True:
        if rng.random() < 0.5:
            part = _random_text(rng, rng.randint(1, 8))
        else:
            part = rng.choice((words.word, words.word, words.number, words.code, words.date, words.name))(rng)
            part = part.capitalize() if rng.random() < 0.2 else part
        if parts and len(" ".join((*parts, part))) > 26:
            return " ".join(parts)
        parts.append(part[:26])
        if rng.random() < 0.12:
            return " ".join(parts)


def _random_text(rng: Random, length: int) -> str:
    """Mostly small letters and digits, at times capitals and punctuation."""
    alphabet = rng.choice((ascii_lowercase + digits, ascii_letters, ascii_letters + digits * 2 + _PUNCTUATION))
    return words.gibberish(rng, length, length, alphabet)


def _prose(rng: Random, sentences: int) -> Paragraph:
    runs: list[Run] = []
    for _ in range(sentences):
        text = words.sentence(rng)
        if rng.random() < 0.15 and " " in text:
            head, tail = text.split(" ", 1)
            runs += [Run(text=head, bold=True), Run(text=tail)]
        else:
            runs.append(Run(text=text))
    return Paragraph(runs=tuple(runs))


def _formula(rng: Random) -> Formula:
    """A short formula: a letter and what it equals, with a fraction, a root, a power or an index."""

    def letter() -> Leaf:
        return Leaf(*2 * (rng.choice(ascii_lowercase),))

    def number() -> Leaf:
        return Leaf(*2 * (str(rng.randint(2, 99)),))

    def term() -> Formula:
        base, draw = letter(), rng.random()
        if draw < 0.25:
            return Node("sup", (base, Leaf(*2 * (str(rng.randint(2, 9)),))))
        if draw < 0.45:
            return Node("sub", (base, Leaf(*2 * (str(rng.randint(1, 9)),))))
        if draw < 0.65:
            return Node("frac", (letter(), rng.choice((letter, number))()))
        if draw < 0.8:
            return Node("sqrt", (base,))
        return number() if draw < 0.9 else base

    right = row(term(), Leaf(*2 * (rng.choice("+-"),)), term()) if rng.random() < 0.8 else term()
    return row(letter(), Leaf("=", "="), right)


def _table(rng: Random, *, rows: int, columns: int) -> Table:
    """A table whose cells all differ, so that no cell passes the test of another."""
    seen: set[str] = set()

    def fresh(draw: Callable[[Random], str]) -> str:
        while (text := draw(rng)) in seen:
            continue
        seen.add(text)
        return text

    heads = tuple(fresh(lambda r: words.word(r, 7).capitalize()) for _ in range(columns))
    body = tuple(
        (fresh(lambda r: words.word(r, 8)), *(fresh(words.number) for _ in range(columns - 1))) for _ in range(rows - 1)
    )
    return Table(rows=(heads, *body))


def _running_header(rng: Random) -> str:
    return rng.choice((words.title(rng, 2, 3), f"{words.title(rng, 1, 2)} {rng.randint(1990, 2030)}", words.name(rng)))


def _page_number(rng: Random) -> str:
    n = rng.randint(1, 400)
    return rng.choice((f"{n}", f"- {n} -", f"Page {n}", f"{n} of {n + rng.randint(1, 90)}"))
