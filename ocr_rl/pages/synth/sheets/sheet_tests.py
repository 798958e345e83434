"""Unit tests of a full page from its structured source, with a page on which the tested fact is false.

The tests are of all eight olmOCR-Bench types, and a test says one thing. Text that stands on the page twice, or nearly
twice, or also in a running header gives no test. Knows nothing about how checks judge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from random import Random
from typing import Any

from rapidfuzz import fuzz

from ocr_rl.pages.snippets import stands_once
from ocr_rl.pages.synth.sheets import formula
from ocr_rl.pages.synth.sheets.printers import to_markdown
from ocr_rl.pages.synth.sheets.tree import (
    Chart,
    Grid,
    Heading,
    Mark,
    Math,
    Para,
    Sheet,
    Text,
    parts_of,
    placed,
    with_parts,
)
from ocr_rl.text.normalize import normalize
from ocr_rl.text.visible import budget, see

_UNSPACED = ("ja", "th")
_POWERS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_WORDS = ("lantern", "sixty", "beyond", "quarter", "velvet", "ninth", "copper", "gravel", "willow", "hundred", "zigzag")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A fact of a page: the unit test that asks for it, and a page on which it is false."""

    test: dict[str, Any]
    wrong: Callable[[], Sheet]  # makes that page on demand


def sheet_tests(sheet: Sheet, *, pdf: str, number: int, rng: Random) -> list[Fact]:
    """The tested facts of one page. Ids of tests are `<stem>_p<N>_<type><k>`."""
    page = _Page(sheet, rng)
    unnamed = [
        *page.present(),
        *page.absent(),
        *page.order(),
        *page.table(),
        *page.math(),
        *page.format(),
        *page.footnote(),
        *page.baseline(),
        *page.budget(),
    ]
    counts: Counter[str] = Counter()
    facts = []
    for fact in unnamed:
        kind = fact.test["type"]
        counts[kind] += 1
        name = f"{pdf.removesuffix('.pdf')}_p{number}_{kind}{counts[kind]}"
        facts.append(replace(fact, test={"pdf": pdf, "page": number, "id": name, **fact.test}))
    return facts


class _Page:
    """One page with the texts of it that several kinds of tests look up."""

    def __init__(self, sheet: Sheet, rng: Random) -> None:
        self.sheet, self.rng = sheet, rng
        self.raw = to_markdown(sheet)
        self.text = normalize(self.raw) if sheet.body else ""
        self.lower = self.text.lower()
        self.edges = " ".join((*sheet.header, *sheet.footer)).lower()

    def once(self, piece: str) -> bool:
        """Whether a piece stands on the page once, nothing similar stands elsewhere, and no running header has it."""
        return normalize(piece).lower() not in self.edges and stands_once(piece, self.text, self.lower)

    def texts(self) -> list[Text]:
        """Running text, without table cells and captions."""
        blocks = tuple(block for block in self.sheet.body if not isinstance(block, Grid | Chart | Math))
        return [text for text in parts_of(blocks, Text) if len(text.text) >= 12]

    def snippet(self, text: Text) -> str | None:
        """Some words of a text that stand on the page once; None if three draws find none."""
        for _ in range(3):
            piece = self._piece(text.text)
            if len(piece) >= 10 and self.once(piece):
                return piece
        return None

    def _piece(self, text: str) -> str:
        if self.sheet.look.language in _UNSPACED:
            length = min(len(text), self.rng.randint(10, 22))
            at = self.rng.randint(0, len(text) - length)
            return text[at : at + length].strip()
        tokens = text.split(" ")
        length = min(len(tokens), self.rng.randint(4, 9))
        at = self.rng.randint(0, len(tokens) - length)
        return " ".join(tokens[at : at + length])

    def present(self) -> Iterator[Fact]:
        texts = self.texts()
        for text in self.rng.sample(texts, min(3, len(texts))):
            piece = self.snippet(text)
            if piece is not None:
                wrong = self._changed(text, piece)
                yield self._fact({"type": "present", "text": piece, "max_diffs": len(piece) // 25}, wrong)

    def _changed(self, text: Text, piece: str) -> dict[int, Any]:
        """The text with one word of the piece replaced; in a script without spaces the piece is reversed instead."""
        if self.sheet.look.language in _UNSPACED:
            new = piece[::-1]
        else:
            tokens = piece.split(" ")
            k = max(range(len(tokens)), key=lambda i: len(tokens[i]))
            tokens[k] = self.rng.choice([word for word in _WORDS if word[0] != tokens[k][:1].lower()])
            new = " ".join(tokens)
        return {id(text): replace(text, text=text.text.replace(piece, new, 1))}

    def absent(self) -> Iterator[Fact]:
        """Running headers and footers with a letter: a bare number could stand in any table."""
        for edge in dict.fromkeys((*self.sheet.header, *self.sheet.footer)):
            low = normalize(edge).lower()
            digits_only = not any(c.isalpha() for c in edge)
            if len(low) < 6 or digits_only or (self.lower and fuzz.partial_ratio(low, self.lower) >= 80):
                continue
            kept = replace(self.sheet, top=(Para(runs=(Text(text=edge),)), *self.sheet.top))
            yield Fact(test={"type": "absent", "text": edge}, wrong=lambda kept=kept: kept)

    def order(self) -> Iterator[Fact]:
        """Two places of running text, far from each other or neighbours. False: the two texts are exchanged.

        Two pairs lie close around the middle of the text; if two columns are read across, the second of such a pair
        comes first. Some pairs are neighbours, since otherwise blocks could be written in nearly any order.
        """
        texts = [text for text in self.texts() if not any(text is t for m in self._notes() for t in m.note)]
        if len(texts) < 2:
            return
        ends = list(accumulate(len(text.text) for text in texts))
        middle = next(k for k, end in enumerate(ends) if end >= ends[-1] / 2)  # the text that holds the middle
        pairs: list[tuple[int, ...]] = [(middle - 1 - k, middle + 1 + k) for k in range(2)]
        pairs += [(k, k + 1) for k in sorted(self.rng.sample(range(len(texts) - 1), min(4, len(texts) - 1)))]
        pairs.append(tuple(sorted(self.rng.sample(range(len(texts)), 2))))
        for first, second in pairs:
            if not 0 <= first < second < len(texts):
                continue
            before, after = self.snippet(texts[first]), self.snippet(texts[second])
            if before is None or after is None:
                continue
            wrong = {id(texts[first]): texts[second], id(texts[second]): texts[first]}
            yield self._fact({"type": "order", "before": before, "after": after, "max_diffs": 0}, wrong)

    def table(self) -> Iterator[Fact]:
        grids = list(parts_of(self.sheet.body, Grid))
        seen = Counter(normalize(cell.text.text) for grid in grids for row in grid.rows for cell in row)
        facts: list[Fact] = []
        for grid in grids:
            at = placed(grid)
            heads = sum(all(cell.head for cell in cells) for cells in grid.rows)
            places = [place for place in at if place[0] >= heads]
            for r, c in self.rng.sample(places, min(8, len(places))):
                fact = self._relation(at, (r, c), heads, seen)
                if fact is not None:
                    facts.append(fact)
        yield from self.rng.sample(facts, min(4, len(facts)))

    def _relation(self, at: dict, place: tuple[int, int], heads: int, seen: Counter[str]) -> Fact | None:
        """One neighbour or heading of a cell. False: that cell has changed places with another one."""
        (r, c), cell = place, at[place]
        ways = {"left": (r, c - 1), "right": (r, c + cell.cols), "up": (r - 1, c), "down": (r + cell.rows, c)}
        if heads and c > 0:
            ways |= {"top_heading": (heads - 1, c), "left_heading": (r, 0)}
        relation = self.rng.choice(list(ways))
        other = at.get(ways[relation])
        if other is None or other is cell or any(seen[normalize(end.text.text)] != 1 for end in (cell, other)):
            return None
        if cell.rows > 1 or cell.cols > 1 or (other.head and relation == "up"):
            return None
        row, column = ways[relation]
        swaps = [
            third
            for (i, j), third in at.items()
            if third is not cell and third is not other
            and third.head == other.head and seen[normalize(third.text.text)] == 1
            and (third.rows, third.cols) == (other.rows, other.cols)
            and (j != column if relation == "top_heading" else (i, j) != (row, column))
            and (relation not in ("left_heading",) or i != r)
        ]  # fmt: skip
        if not swaps:
            return None
        swap = self.rng.choice(swaps)
        wrong = {id(other.text): swap.text, id(swap.text): other.text}
        return self._fact({"type": "table", "cell": cell.text.text, relation: other.text.text}, wrong)

    def math(self) -> Iterator[Fact]:
        """Formulas of at least four symbols. False: one symbol is another."""
        shown = list(parts_of(self.sheet.body, Math))
        written = Counter(formula.to_latex(math.formula) for math in shown)
        fit = [
            m
            for m in shown
            if sum(1 for _ in formula.leaves(m.formula)) >= 4 and written[formula.to_latex(m.formula)] == 1
        ]
        for math in self.rng.sample(fit, min(3, len(fit))):
            new = formula.with_another_symbol(math.formula, self.rng)
            if new is not None:
                test = {"type": "math", "math": formula.to_latex(math.formula), "ignore_dollar_delimited": True}
                yield self._fact(test, {id(math): replace(math, formula=new)})

    def format(self) -> Iterator[Fact]:
        """Headings and emphasis. False: the same words are plain text."""
        headings = [block for block in self.sheet.body if isinstance(block, Heading)]
        for block in self.rng.sample(headings, min(2, len(headings))):
            if self.once(block.text.text):
                plain = {id(block): Para(runs=(block.text,))}
                yield self._fact({"type": "format", "text": block.text.text, "format": "heading"}, plain)
        styled = [text for text in parts_of(self.sheet.body, Text) if text.style]
        for text in self.rng.sample(styled, min(1, len(styled))):
            if self.once(text.text):
                plain = {id(text): replace(text, style="")}
                yield self._fact({"type": "format", "text": text.text, "format": text.style}, plain)

    def _notes(self) -> list[Mark]:
        return list(parts_of(self.sheet.body, Mark))

    def footnote(self) -> Iterator[Fact]:
        """A marker and the words before it. False: the marker stands at the start of its paragraph."""
        hosts = [block for block in self.sheet.body if isinstance(block, Para)]
        for host in hosts:
            for k, mark in enumerate(host.runs):
                before = host.runs[k - 1] if k else None
                if not isinstance(mark, Mark) or not isinstance(before, Text):
                    continue
                piece = " ".join(before.text.split(" ")[-5:])
                power = str(mark.number).translate(_POWERS)  # 54.8 m² also reads as a marker 2
                if len(piece) < 12 or not self.once(piece) or power in self.raw:
                    continue
                test = {"type": "footnote", "marker": str(mark.number), "appears_before_marker": piece}
                moved = replace(host, runs=(mark, *host.runs[:k], *host.runs[k + 1 :]))
                yield self._fact(test, {id(host): moved})
                break

    def baseline(self) -> Iterator[Fact]:
        if not self.sheet.body:
            full = replace(self.sheet, blocks=(Para(runs=(Text(text="This page holds a few words."),)),))
            yield Fact(test={"type": "baseline", "max_length": 0}, wrong=lambda: full)
            return
        empty = replace(self.sheet, blocks=(), top=())
        test: dict[str, Any] = {"type": "baseline"}
        if self.sheet.look.language == "ja":
            test["check_disallowed_characters"] = False
        yield Fact(test=test, wrong=lambda: empty)

    def budget(self) -> Iterator[Fact]:
        """A limit on what is seen: 2 % and 3 characters more than the page has. False: the page has more text."""
        if self.sheet.body:
            most = budget(see(self.raw).length)
            test = {"type": "baseline", "max_length": most}
            more = Para(runs=(Text(text=" ".join(["more"] * (most // 4))),))
            longer = replace(self.sheet, blocks=(*self.sheet.blocks, more))
            yield Fact(test=test, wrong=lambda: longer)

    def _fact(self, test: dict[str, Any], new: dict[int, Any]) -> Fact:
        return Fact(test=test, wrong=lambda: with_parts(self.sheet, new))
