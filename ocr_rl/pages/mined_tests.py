"""Unit tests of a page from its Markdown transcript.

The transcript passes them in both readings. Together they ask for the whole page: every passage of its text, every cell
of its tables, every formula, its headings and emphasis, and the order of neighbouring blocks of any kind. What a test
searches stands on the page once. Knows nothing about folders.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from random import Random

from ocr_rl.pages.cell_groups import cell_groups
from ocr_rl.pages.snippets import Test, baseline, named, passing, some, stands_once, stretches
from ocr_rl.text.normalize import normalize
from ocr_rl.text.tables import Table
from ocr_rl.text.tex import formulas
from ocr_rl.text.visible import Seen, budget, see
from ocr_rl.text.walk import Block, Mark

_PASSAGE = 40  # words for which there is a present test
_MOST = {"present": 50, "order": 30, "table": 60, "math": 24, "format": 20, "footnote": 10}  # tests of a page
_CELLS = 40  # tests of cells; if a page needs more, more cells are asked together
_NOTE = re.compile(r"\[\^\w{1,9}\]:?")
_FOOTNOTE = re.compile(r"(\w[^\n\[\]<>]{12,60}\w[.,;]?)\[\^(\w{1,3})\](?!:)")
_TAG = re.compile(r"\\tag\*?\s*\{[^{}]*\}")
_SHOWN = re.compile(r"[\\^_=]")  # what is between dollars and has one of these is a formula for every reader


def markdown_tests(text: str, pdf: str, number: int, rng: Random) -> list[Test]:
    """The tests of a transcript without front matter. A blank transcript gives one baseline test."""
    if not any(c.isalnum() for c in text):
        return named([{"type": "baseline", "max_length": 0}], pdf, number)
    page = _Page(text, rng)
    tests: list[Test] = [baseline(text), {"type": "baseline", "max_length": budget(page.seen.length)}]
    for tests_of in (page.present, page.order, page.table, page.math, page.format, page.footnote):
        kept = [*passing(tests_of(), text)]
        tests += some(kept, _MOST[tests_of.__name__], rng)
    return named(tests, pdf, number)


class _Page:
    """A transcript as it is seen, with the texts that several kinds of tests look up."""

    def __init__(self, text: str, rng: Random) -> None:
        self.raw, self.rng = text, rng
        self.seen: Seen = see(text)
        self.text = normalize(self.seen.text)
        self.lower = self.text.lower()
        words = sum(len(block.text.split()) for block in self.seen.blocks if block.kind in ("text", "heading"))
        self.passage = max(_PASSAGE, words // _MOST["present"])

    def once(self, piece: str) -> bool:
        return stands_once(piece, self.text, self.lower)

    def present(self) -> Iterator[Test]:
        """Some words of every passage: a block, or each started 40 words of a long one."""
        for block in self.seen.blocks:
            runs = _runs(block)
            total = sum(map(len, runs))
            parts = [part for run in runs for part in stretches(run, self.passage)]
            groups: list[list[Sequence[str]]] = [[] for _ in range(-(-total // self.passage))]
            at = 0
            for part in parts:
                groups[at * len(groups) // total].append(part)
                at += len(part)
            for group in groups:
                if piece := self._snippet(group, whole=len(runs) == 1 and total < 4):
                    yield {"type": "present", "text": piece, "max_diffs": len(piece) // 20}

    def _snippet(self, parts: Sequence[Sequence[str]], *, whole: bool) -> str | None:
        """Four to nine words that stand on the page once; None if a few draws find none."""
        for words in [*self.rng.sample(parts, min(2, len(parts)))] * 2:
            length = min(len(words), self.rng.randint(4, 9))
            at = self.rng.randint(0, len(words) - length)
            piece = " ".join(words[at : at + length])
            if (whole or len(piece) >= 10) and self.once(piece):
                return piece
        return None

    def order(self) -> Iterator[Test]:
        """The last words of a block, or a table's last cell, before the first of the next block that has such."""
        ends = []
        for block in self.seen.blocks:
            if block.table is not None:
                pieces = [
                    cell.text for cell in block.table.cells.values() if len(cell.text) >= 4 and not _has_tex(cell.text)
                ]
            elif _NOTE.match(block.text):  # notes stand at the end of a transcript, or where they are called
                continue
            else:
                runs = [part for run in _runs(block) for part in stretches(run, 6)]
                pieces = [piece for part in runs if len(piece := " ".join(part)) >= 6]
            first = next(filter(self.once, pieces[:6]), None)
            last = next(filter(self.once, pieces[:-7:-1]), None)
            ends += [(first or last, last or first)] if first or last else []
        for (_, before), (after, _) in pairwise(ends):
            if before != after:
                yield {"type": "order", "before": before, "after": after, "max_diffs": 0}

    def table(self) -> Iterator[Test]:
        tables = [table for table in self.seen.tables if not table.fault]
        counts = Counter(normalize(cell.text) for table in tables for cell in table.cells.values())
        for table in tables:
            aim = max(1, round(_CELLS * len(table.cells) / max(1, counts.total())))
            yield from _cell_tests(table, counts, aim, self.rng)

    def math(self) -> Iterator[Test]:
        """Every formula, those on lines of their own first, without its number."""
        shown = [f for f in self.seen.formulas if "$" not in f.mark or _SHOWN.search(f.tex)]
        for formula in sorted(shown, key=lambda f: not f.displayed)[: 2 * _MOST["math"]]:
            tex = _TAG.sub("", formula.tex).strip()
            if len(tex) >= 3:
                yield {"type": "math", "math": tex}

    def format(self) -> Iterator[Test]:
        kinds: tuple[Mark, ...] = ("heading", "bold", "italic")
        for kind in kinds:
            for piece in self.seen.marked[kind]:
                if 4 <= len(piece) <= 200 and self.text.count(normalize(piece)) == 1:
                    yield {"type": "format", "text": piece.strip(), "format": kind}

    def footnote(self) -> Iterator[Test]:
        for match in _FOOTNOTE.finditer(self.raw):
            yield {"type": "footnote", "marker": match[2], "appears_before_marker": match[1][-40:].split(" ", 1)[-1]}


def _runs(block: Block) -> list[list[str]]:
    """The words of a block of text, apart where a formula or the mark of a footnote stands between them."""
    if block.kind not in ("text", "heading"):
        return []
    pieces, at = [], 0
    for formula in formulas(block.text):
        pieces.append(block.text[at : formula.start])
        at = formula.end
    pieces.append(block.text[at:])
    return [words for piece in pieces for run in _NOTE.split(piece) if (words := run.split())]


def _has_tex(text: str) -> bool:
    return "\\" in text or "$" in text


def _cell_tests(table: Table, counts: Counter[str], aim: int, rng: Random) -> Iterator[Test]:
    """Every cell with a text, asked together with neighbours; formulas in cells are left to the tests of formulas."""
    at = {place: cell.place for place, cell in table.grid.items()}
    wanted = [place for place, cell in table.cells.items() if normalize(cell.text).strip() and not _has_tex(cell.text)]
    anchors = [place for place in wanted if counts[normalize(table.cells[place].text)] == 1]
    for place, around in cell_groups(at, rng, wanted=wanted, anchors=anchors, aim=aim):
        test: Test = {"type": "table", "cell": table.cells[place].text}
        yield test | {way: table.cells[other].text for way, other in around.items()}
