"""Unit tests of a small page from its structured source: JSON objects that the reference passes in both readings.

Together they ask for the whole page: every word of its text stands in a present test, every cell in a table test, every
displayed formula in a math test, and an order test joins every block to the next. A snippet that stands on the page
twice gives no test, nor does a running header that is part of the text.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from ocr_rl.pages.cell_groups import cell_groups
from ocr_rl.pages.snippets import Test, named, passing, stretches
from ocr_rl.pages.synth.document import Block, Display, Heading, Paragraph, Source, Table, to_markdown
from ocr_rl.text.visible import budget, see

_STRETCH = 6  # words of a present test, about


def source_tests(source: Source, *, pdf: str, number: int, rng: Random) -> list[Test]:
    """The tests of one page, of every type but footnote. Ids are `<stem>_p<N>_<type><k>`."""
    text = _plain_text(source)
    tests = [
        *_present(source, text, rng),
        *_absent(source, text),
        *_order(source, text, rng),
        *_table(source, rng),
        *_math(source),
        *_format(source, text),
        *_baseline(source),
        *_flow(source, text),  # after everything that draws from `rng`, so that the older tests of a page stay the same
        *_budget(source),
    ]
    tests += [*_all_text(source, text), *_all_cells(source, tests, Random(f"cells/{pdf}/{number}"))]
    return named(passing(tests, to_markdown(source)), pdf, number)


def _plain_text(source: Source) -> str:
    return to_markdown(source).replace("**", "")


def _snippets(source: Source, text: str, rng: Random) -> list[str]:
    """Stretches of three to five words (or a whole short block) that stand on the page once, in reading order."""
    snippets = []
    for block in source.blocks:
        if isinstance(block, Table | Display):
            continue
        tokens = block.text.split(" ")
        at = 0
        while at < len(tokens):
            step = rng.randint(3, 5)
            piece = " ".join(tokens[at : at + step])
            if len(piece) >= 8 and text.count(piece) == 1:
                snippets.append(piece)
            at += step
    return snippets


def _present(source: Source, text: str, rng: Random) -> list[Test]:
    snippets = _snippets(source, text, rng)
    chosen = rng.sample(snippets, min(3, len(snippets)))
    return [{"type": "present", "text": piece, "max_diffs": len(piece) // 20} for piece in chosen]


def _absent(source: Source, text: str) -> list[Test]:
    """Running headers and footers of at least four characters: a bare page number could stand in any table."""
    edges = [edge for edge in (source.header, source.footer) if edge and len(edge) >= 4]
    return [{"type": "absent", "text": edge} for edge in edges if edge.lower() not in text.lower()]


def _order(source: Source, text: str, rng: Random) -> list[Test]:
    snippets = _snippets(source, text, rng)
    if len(snippets) < 2:
        return []
    first, second = sorted(rng.sample(range(len(snippets)), 2))
    before, after = snippets[first], snippets[second]
    return [{"type": "order", "before": before, "after": after, "max_diffs": min(len(before), len(after)) // 20}]


def _flow(source: Source, text: str) -> list[Test]:
    """Every block stands before the next: the last snippet of a block before the first snippet of the next block.

    A table's snippets are its cells. Without these tests the blocks of a page could be written in any order.
    """
    ends = [end for block in source.blocks if (end := _ends(block, text))]
    return [
        {"type": "order", "before": last, "after": first, "max_diffs": min(len(last), len(first)) // 20}
        for (_, last), (first, _) in zip(ends, ends[1:], strict=False)
    ]


def _ends(block: Block, text: str) -> tuple[str, str] | None:
    """The first and the last snippet (or cell) of a block that stands on the page once; None if there is none."""
    if isinstance(block, Table):
        pieces = [cell for row in block.rows for cell in row]
    elif isinstance(block, Display):
        return None
    else:
        tokens = block.text.split(" ")
        pieces = [" ".join(tokens[at : at + 3]) for at in range(0, len(tokens), 3)]
    once = [piece for piece in pieces if len(piece) >= 3 and text.count(piece) == 1]
    return (once[0], once[-1]) if once else None


def _table(source: Source, rng: Random) -> list[Test]:
    """Tests of cells; a test names one neighbour or heading."""
    tests: list[Test] = []
    for table in (block for block in source.blocks if isinstance(block, Table)):
        rows, columns = len(table.rows), len(table.rows[0])
        cells = [(r, c) for r in range(1, rows) for c in range(1, columns)]
        for r, c in rng.sample(cells, min(2, len(cells))):
            relation, value = rng.choice((("left", table.rows[r][c - 1]), ("top_heading", table.rows[0][c])))
            tests.append({"type": "table", "cell": table.rows[r][c], relation: value})
    return tests


def _all_text(source: Source, text: str) -> Iterator[Test]:
    """Present tests of every stretch of every heading and paragraph, to the letter: the text is known exactly."""
    for block in source.blocks:
        if not isinstance(block, Table | Display):
            for words in stretches(block.text.split(" "), _STRETCH):
                piece = " ".join(words)
                if text.count(piece) == 1:
                    yield {"type": "present", "text": piece}


def _all_cells(source: Source, tests: list[Test], rng: Random) -> Iterator[Test]:
    """Tests of the cells that `tests` do not ask for: with them every cell is the cell of a test or named in one.

    A cell is asked with its right or its lower neighbour, so that both rows and columns hold together.
    """
    asked = {value for test in tests if test["type"] == "table" for key, value in test.items() if key != "type"}
    for table in (block for block in source.blocks if isinstance(block, Table)):
        cells = {(r, c): cell for r, row in enumerate(table.rows) for c, cell in enumerate(row)}
        wanted = [place for place, cell in cells.items() if cell not in asked]
        for place, around in cell_groups({place: place for place in cells}, rng, wanted=wanted, anchors=cells.keys()):
            yield {"type": "table", "cell": cells[place]} | {way: cells[other] for way, other in around.items()}


def _math(source: Source) -> list[Test]:
    return [
        {"type": "math", "math": block.latex, "ignore_dollar_delimited": True}
        for block in source.blocks
        if isinstance(block, Display)
    ]


def _format(source: Source, text: str) -> list[Test]:
    """The first heading of a page, and its first words in bold, if they stand on the page once."""
    headings = [(block.text, "heading") for block in source.blocks if isinstance(block, Heading)]
    runs = [run for block in source.blocks if isinstance(block, Paragraph) for run in block.runs]
    bold = [(run.text, "bold") for run in runs if run.bold]
    usable = [[pair for pair in pairs if len(pair[0]) >= 3 and text.count(pair[0]) == 1] for pairs in (headings, bold)]
    firsts = [pair for pairs in usable for pair in pairs[:1]]
    return [{"type": "format", "text": snippet, "format": form} for snippet, form in firsts]


def _budget(source: Source) -> list[Test]:
    """A limit on what is seen: 2 % and 3 characters more than the page has. (`_baseline` limits a blank page.)"""
    length = see(to_markdown(source)).length
    return [{"type": "baseline", "max_length": budget(length)}] if length else []


def _baseline(source: Source) -> list[Test]:
    if not any(isinstance(block, Heading | Paragraph | Table | Display) for block in source.blocks):
        return [{"type": "baseline", "max_length": 0}]
    # A lesson may have a page of punctuation alone. It would fail, since baseline requires a letter or a digit.
    return [{"type": "baseline"}] if any(c.isalnum() for c in to_markdown(source)) else []
