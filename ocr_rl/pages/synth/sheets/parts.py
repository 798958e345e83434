"""Blocks of a page, drawn at random: paragraphs with emphasis, formulas and notes, lists, forms, references.

A `Pen` holds what the blocks of one document share. Knows nothing about kinds of documents or about tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

from ocr_rl.pages.synth import words
from ocr_rl.pages.synth.sheets import formula, prose
from ocr_rl.pages.synth.sheets.grids import grid
from ocr_rl.pages.synth.sheets.pen import Pen
from ocr_rl.pages.synth.sheets.tree import (
    Block,
    Chart,
    Heading,
    Inline,
    Item,
    Items,
    Lines,
    Look,
    Mark,
    Math,
    Para,
    Text,
)


def heading(pen: Pen, level: int, *, numbered: bool = False) -> Heading:
    title = prose.title(pen.rng, pen.subject)
    return Heading(text=Text(text=f"{_section(pen, level)} {title}" if numbered else title), level=level)


def _section(pen: Pen, level: int) -> str:
    """The next number of a heading of level 2 or lower: "4", "4.1", "4.1.1". Missing levels above are begun first."""
    depth = level - 1
    pen.sections = [*pen.sections, *[pen.rng.randint(1, 6) for _ in range(depth - len(pen.sections))]][:depth]
    pen.sections[-1] += 1
    return ".".join(map(str, pen.sections))


def runs(pen: Pen, sentences: int) -> tuple[Inline, ...]:
    inlines: list[Inline] = []
    for _ in range(sentences):
        text, draw = pen.sentence(), pen.rng.random()
        if draw < pen.math:
            lead = pen.rng.choice(("We write", "From this,", "It follows that", "Suppose that", "Let", "Note that"))
            inlines += [Text(text=lead), Math(formula=formula.inline(pen.rng)), Text(text=f"as before. {text}")]
        elif draw < pen.math + pen.emphasis:
            term = prose.filled("{kind} {thing}", pen.rng, pen.subject)
            if pen.rng.random() < 0.5:
                inlines += [Text(text=f"{term.capitalize()}.", style="bold"), Text(text=text)]
            else:
                inlines += [Text(text="Here the term"), Text(text=term, style="italic"), Text(text=f"is meant. {text}")]
        elif inlines and isinstance(inlines[-1], Text) and not inlines[-1].style:
            inlines[-1] = Text(text=f"{inlines[-1].text} {text}")
        else:
            inlines.append(Text(text=text))
    return tuple(inlines)


def paragraph(pen: Pen, sentences: int) -> Para:
    body = runs(pen, sentences)
    if pen.rng.random() < pen.notes:
        note = Mark(number=pen.next("note"), note=(Text(text=pen.sentence()),))
        body = (*body, note)
        if pen.rng.random() < 0.5:
            body = (*body, *runs(pen, 1))
    return Para(runs=body)


def items(pen: Pen, n: int, *, nested: bool) -> Items:
    def item(depth: int) -> Item:
        below = (
            tuple(item(depth + 1) for _ in range(pen.rng.randint(2, 3)))
            if depth < nested and pen.rng.random() < 0.5
            else ()
        )
        return Item(runs=(Text(text=pen.sentence() if depth == 0 else pen.words("{kind} {thing}")),), items=below)

    return Items(items=tuple(item(0) for _ in range(n)), ordered=pen.rng.random() < 0.4)


def display(pen: Pen) -> Math:
    numbered = pen.rng.random() < 0.4
    return Math(formula=formula.display(pen.rng), number=str(pen.next("equation")) if numbered else None)


def chart(pen: Pen) -> Chart:
    caption = f"Figure {pen.next('figure')}: {pen.words('{quantity} of the {thing}')}, {pen.rng.randint(1990, 2025)}."
    heights = tuple(pen.rng.randint(8, 100) for _ in range(pen.rng.randint(5, 9)))
    return Chart(heights=heights, caption=Text(text=caption), at=pen.rng.choice(("top", "bottom")))


# --- lines ------------------------------------------------------------------------------------------------------------


def address(pen: Pen) -> tuple[tuple[Text, ...], ...]:
    rng = pen.rng
    street = f"{rng.randint(1, 240)} {rng.choice(words.LAST_NAMES)} {rng.choice(('Street', 'Road', 'Avenue', 'Lane'))}"
    lines = (
        words.name(rng),
        pen.words("{kind} {thing} office"),
        street,
        f"{prose.place(rng)} {rng.randint(10000, 99999)}",
    )
    return tuple((Text(text=line),) for line in lines)


_FIELDS: dict[str, Callable[[Random], str]] = {
    "Name": words.name,
    "Date of birth": words.date,
    "Place of birth": prose.place,
    "Telephone": lambda rng: f"{rng.randint(200, 989)}-{rng.randint(100, 999)}-{rng.randint(0, 9999):04}",
    "Policy number": words.code,
    "Account holder": words.name,
    "Reference": words.code,
    "Occupation": lambda rng: rng.choice(("clerk", "nurse", "teacher", "engineer", "farmer", "retired", "student")),
    "Marital status": lambda rng: rng.choice(("single", "married", "widowed", "divorced")),
    "Employer": lambda rng: f"{rng.choice(words.LAST_NAMES)} & {rng.choice(words.LAST_NAMES)}",
    "Next of kin": words.name,
    "Date": words.date,
    "Amount due": lambda rng: f"${rng.randint(3, 9000):,}.{rng.randint(0, 99):02}",
    "Case number": words.code,
    "Received by": words.name,
    "Branch": prose.place,
}


def form(pen: Pen, n: int) -> Lines:
    labels = pen.rng.sample(list(_FIELDS), min(n, len(_FIELDS)))
    rows = tuple((Text(text=f"{label}:", style="bold"), Text(text=_FIELDS[label](pen.rng))) for label in labels)
    return Lines(rows=rows, fill=pen.rng.choice(("", "rule")))


def boxes(pen: Pen, n: int) -> Lines:
    return Lines(rows=tuple((Text(text=pen.words("{body} {act} the {kind} {thing}")),) for _ in range(n)), fill="box")


def contents(pen: Pen, n: int) -> Lines:
    page, rows = 1, []
    for k in range(1, n + 1):
        page += pen.rng.randint(1, 14)
        number = f"{k}. " if pen.rng.random() < 0.7 else ""
        rows.append((Text(text=number + prose.title(pen.rng, pen.subject)), Text(text=str(page))))
    return Lines(rows=tuple(rows), fill="dots")


def reference(pen: Pen, number: int | None) -> Block:
    rng = pen.rng
    people = ", ".join(
        f"{rng.choice(words.LAST_NAMES)} {rng.choice('ABCDEFGHJKLMPRST')}." for _ in range(rng.randint(1, 4))
    )
    first = rng.randint(1, 900)
    lead = f"[{number}] " if number else ""
    return Para(
        runs=(
            Text(text=f"{lead}{people} {rng.randint(1950, 2025)}. {prose.title(rng, pen.subject)}."),
            Text(text=pen.words("Journal of {kind} {things}"), style="italic"),
            Text(text=f"{rng.randint(1, 80)}({rng.randint(1, 12)}), {first}–{first + rng.randint(4, 40)}."),
        )
    )


# --- runs of blocks ---------------------------------------------------------------------------------------------------


def masthead(pen: Pen) -> list[Block]:
    rng = pen.rng
    names = ", ".join(words.name(rng) for _ in range(rng.randint(1, 4)))
    return [
        Heading(text=Text(text=prose.title(rng, pen.subject)), level=1),
        Para(runs=(Text(text=names),), align=rng.choice(("", "center"))),
        Para(
            runs=(Text(text="Abstract.", style="bold"), *runs(replace(pen, math=0.0), rng.randint(2, 4))),
            size=0.92,
        ),
    ]


def sections(pen: Pen, look: Look, *, numbered: bool, lists: bool = False) -> Iterator[Block]:
    rng = pen.rng
    if rng.random() < 0.35:
        yield chart(pen)
    while True:
        yield heading(pen, rng.choice((2, 2, 3, 3, 4)), numbered=numbered)
        for _ in range(rng.randint(1, 3)):
            yield paragraph(pen, rng.randint(2, 6))
            draw = rng.random()
            if draw < pen.math:
                yield fitting_display(pen, look)
            elif draw < pen.math + 0.14:
                yield grid(pen, rng.randint(3, 8), rng.randint(3, 6 - look.columns), size=0.85)
            elif lists and draw < pen.math + 0.34:
                yield items(pen, rng.randint(3, 5), nested=rng.random() < 0.4)


def fitting_display(pen: Pen, look: Look) -> Math:
    """A displayed formula that is not wider than a column."""
    while True:
        drawn = display(pen)
        if len(formula.to_typst(drawn.formula)) < (130 if look.columns == 1 else 60):
            return drawn
