"""Tables of figures, drawn at random: headings of one or two lines, grouped rows, totals. Knows nothing about pages."""

from __future__ import annotations

from random import Random

from ocr_rl.pages.synth import words
from ocr_rl.pages.synth.sheets import prose
from ocr_rl.pages.synth.sheets.pen import Pen
from ocr_rl.pages.synth.sheets.tree import Cell, Grid, Text


def grid(pen: Pen, rows: int, columns: int, *, size: float = 0.9) -> Grid:
    """A table of figures with headings of one or two lines, at times with grouped rows or a total."""
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
