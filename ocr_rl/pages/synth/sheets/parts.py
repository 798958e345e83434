"""Blocks of a page, drawn at random: paragraphs with emphasis, formulas and notes, lists, tables, forms, references.

A `Pen` holds what the blocks of one page share. Knows nothing about kinds of documents or about tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from random import Random

from ocr_rl.pages.synth import words
from ocr_rl.pages.synth.sheets import formula, prose
from ocr_rl.pages.synth.sheets.tree import (
    Block,
    Cell,
    Chart,
    Grid,
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


@dataclass(slots=True, kw_only=True)
class Pen:
    """Writes about one subject; counts what is numbered on the page."""

    rng: Random
    subject: prose.Subject
    math: float = 0.0  # share of sentences with a formula
    notes: float = 0.0  # share of paragraphs with a footnote
    emphasis: float = 0.06  # share of sentences with a bold or an italic word
    counts: dict[str, int] = field(default_factory=dict)
    sections: list[int] = field(default_factory=list)

    def next(self, what: str) -> int:
        self.counts[what] = self.counts.get(what, self.rng.randint(0, 8)) + 1
        return self.counts[what]

    def sentence(self) -> str:
        return prose.sentence(self.rng, self.subject)

    def words(self, template: str) -> str:
        text = prose.filled(template, self.rng, self.subject)
        return text[0].upper() + text[1:]


def heading(pen: Pen, level: int, *, numbered: bool = False) -> Heading:
    title = prose.title(pen.rng, pen.subject)
    return Heading(text=Text(text=f"{_section(pen, level)} {title}" if numbered else title), level=level)


def _section(pen: Pen, level: int) -> str:
    """The next number at a level from 2: "4", "4.1", "4.1.1"; a level that has none above begins one."""
    depth = level - 1
    pen.sections = [*pen.sections, *[pen.rng.randint(1, 6) for _ in range(depth - len(pen.sections))]][:depth]
    pen.sections[-1] += 1
    return ".".join(map(str, pen.sections))


def runs(pen: Pen, sentences: int) -> tuple[Inline, ...]:
    found: list[Inline] = []
    for _ in range(sentences):
        text, draw = pen.sentence(), pen.rng.random()
        if draw < pen.math:
            lead = pen.rng.choice(("We write", "From this,", "It follows that", "Suppose that", "Let", "Note that"))
            found += [Text(text=lead), Math(formula=formula.inline(pen.rng)), Text(text=f"as before. {text}")]
        elif draw < pen.math + pen.emphasis:
            term = prose.filled("{kind} {thing}", pen.rng, pen.subject)
            if pen.rng.random() < 0.5:
                found += [Text(text=f"{term.capitalize()}.", style="bold"), Text(text=text)]
            else:
                found += [Text(text="Here the term"), Text(text=term, style="italic"), Text(text=f"is meant. {text}")]
        elif found and isinstance(found[-1], Text) and not found[-1].style:
            found[-1] = Text(text=f"{found[-1].text} {text}")
        else:
            found.append(Text(text=text))
    return tuple(found)


def paragraph(pen: Pen, sentences: int) -> Para:
    body = runs(pen, sentences)
    if pen.rng.random() < pen.notes:
        note = Mark(number=pen.next("note"), note=(Text(text=pen.sentence()),))
        body = (*body, note)
        if pen.rng.random() < 0.5:
            body = (*body, *runs(pen, 1))
    return Para(runs=body)


def items(pen: Pen, n: int, *, nested: bool) -> Items:
    def one(depth: int) -> Item:
        below = (
            tuple(one(depth + 1) for _ in range(pen.rng.randint(2, 3)))
            if depth < nested and pen.rng.random() < 0.5
            else ()
        )
        return Item(runs=(Text(text=pen.sentence() if depth == 0 else pen.words("{kind} {thing}")),), items=below)

    return Items(items=tuple(one(0) for _ in range(n)), ordered=pen.rng.random() < 0.4)


def display(pen: Pen) -> Math:
    numbered = pen.rng.random() < 0.4
    return Math(formula=formula.display(pen.rng), number=str(pen.next("equation")) if numbered else None)


def chart(pen: Pen) -> Chart:
    caption = f"Figure {pen.next('figure')}: {pen.words('{quantity} of the {thing}')}, {pen.rng.randint(1990, 2025)}."
    heights = tuple(pen.rng.randint(8, 100) for _ in range(pen.rng.randint(5, 9)))
    return Chart(heights=heights, caption=Text(text=caption), at=pen.rng.choice(("top", "bottom")))


# --- tables -----------------------------------------------------------------------------------------------------------


def grid(pen: Pen, rows: int, columns: int, *, size: float = 0.9) -> Grid:
    """A table of figures: headings of one or two lines, rows grouped or not, a total now and then."""
    rng = pen.rng
    groups = rng.random() < 0.4 and columns >= 5
    grouped_rows = rng.random() < 0.25 and rows >= 4
    heads = _heads(pen, columns, groups, grouped_rows)
    draw = rng.choice((_count, _money, _share, _decimal))
    body: list[tuple[Cell, ...]] = []
    left = 2 if grouped_rows else 1
    waiting = 0
    names = _names(pen, rows * 2)
    for r in range(rows):
        cells: list[Cell] = []
        if grouped_rows:
            if waiting == 0:
                waiting = min(rng.randint(2, 4), rows - r)
                cells.append(_cell(names.pop(), rows=waiting))
            waiting -= 1
        cells.append(_cell(names.pop()))
        mixed = draw if rng.random() < 0.8 else _decimal
        cells += [_cell("–" if rng.random() < 0.02 else mixed(rng)) for _ in range(columns - left)]
        body.append(tuple(cells))
    if rng.random() < 0.3:
        total = [_cell("Total", cols=left), *(_cell(draw(rng)) for _ in range(columns - left))]
        body.append(tuple(total))
    caption = f"Table {pen.next('table')}: {pen.words('{quantity} by {thing}')}" if rng.random() < 0.6 else None
    return Grid(
        rows=(*heads, *body),
        columns=columns,
        look=rng.choice(("ruled", "ruled", "booktabs", "booktabs", "bare", "striped")),
        caption=Text(text=caption) if caption else None,
        size=size,
    )


def _heads(pen: Pen, columns: int, groups: bool, named: bool) -> list[tuple[Cell, ...]]:
    rng = pen.rng
    first = pen.words(rng.choice(("{thing}", "{kind} {thing}", "{quantity}", "Item", "Year")))
    start = rng.randint(1960, 2010)
    drawn = rng.random()
    if drawn < 0.4:
        names = [str(start + k) for k in range(columns - 1)]
    else:
        names = list(dict.fromkeys(_column(pen) for _ in range(columns * 4)))[: columns - 1]
        names += [f"No. {k}" for k in range(columns - 1 - len(names))]
    if named:  # the second column holds names too
        names[0] = pen.words(rng.choice(("{thing}", "Part", "Place")))
    if not groups:
        return [tuple(_cell(name, head=True) for name in (first, *names))]
    split = rng.randint(2, columns - 3) if columns > 4 else columns - 2
    titles = rng.sample(["Men", "Women", "Urban", "Rural", "Actual", "Planned", "North", "South"], 2)
    top = (
        _cell(first, head=True, rows=2),
        _cell(titles[0], head=True, cols=split),
        _cell(titles[1], head=True, cols=columns - 1 - split),
    )
    return [top, tuple(_cell(name, head=True) for name in names)]


def _column(pen: Pen) -> str:
    quantity, unit = pen.rng.choice(pen.subject.measures)
    return pen.rng.choice(
        (f"{quantity.capitalize()} ({unit})", pen.words("{things}"), pen.words("{kind}"), pen.rng.choice(words.MONTHS))
    )


def _names(pen: Pen, n: int) -> list[str]:
    drawn = [
        pen.rng.choice((pen.words("{kind} {thing}"), pen.words("{thing}"), prose.place(pen.rng))) for _ in range(4 * n)
    ]
    return (list(dict.fromkeys(drawn)) + [f"Lot {k}" for k in range(n)])[:n]


def _cell(text: str, *, rows: int = 1, cols: int = 1, head: bool = False) -> Cell:
    return Cell(text=Text(text=text), rows=rows, cols=cols, head=head)


def _count(rng: Random) -> str:
    return f"{rng.randrange(10 ** rng.randint(2, 6)):,}"


def _money(rng: Random) -> str:
    return f"{rng.randrange(10, 9_000_000) / 100:,.2f}"


def _share(rng: Random) -> str:
    return f"{rng.randrange(1000) / 10}%"


def _decimal(rng: Random) -> str:
    value = f"{rng.randrange(1, 100_000) / 1000:.{rng.choice((1, 2, 3))}f}"
    return f"({value})" if rng.random() < 0.08 else value


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
