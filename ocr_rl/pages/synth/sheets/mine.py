"""Unit tests of a page from its structured source, each with the page on which the tested fact is another.

All eight olmOCR-Bench types. A test says one thing. What stands twice on the page, nearly twice, or in a running header
as well gives no test. Knows nothing about how checks judge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from random import Random
from typing import Any

from rapidfuzz import fuzz

from ocr_rl.pages.snippets import budget, stands_once
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

_UNSPACED = ("ja", "th")
_POWERS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_WORDS = ("lantern", "sixty", "beyond", "quarter", "velvet", "ninth", "copper", "gravel", "willow", "hundred", "zigzag")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """A test, and how its page reads when the tested fact is another (made when it is asked for)."""

    test: dict[str, Any]
    wrong: Callable[[], Sheet]


def mine(sheet: Sheet, *, pdf: str, number: int, rng: Random) -> list[Mined]:
    """The tests of one page. Ids are `<stem>_p<N>_<type><k>`."""
    page = _Page(sheet, rng)
    found = [
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
    tests = []
    for each in found:
        kind = each.test["type"]
        counts[kind] += 1
        name = f"{pdf.removesuffix('.pdf')}_p{number}_{kind}{counts[kind]}"
        tests.append(replace(each, test={"pdf": pdf, "page": number, "id": name, **each.test}))
    return tests


class _Page:
    """One page while it is mined: what its miners look up again and again."""

    def __init__(self, sheet: Sheet, rng: Random) -> None:
        self.sheet, self.rng = sheet, rng
        self.raw = to_markdown(sheet)
        self.text = normalize(self.raw) if sheet.body else ""
        self.lower = self.text.lower()
        self.edges = " ".join((*sheet.header, *sheet.footer)).lower()

    def once(self, piece: str) -> bool:
        """Whether it stands once on the page, nothing like it anywhere else, and not in a running header."""
        return normalize(piece).lower() not in self.edges and stands_once(piece, self.text, self.lower)

    def texts(self) -> list[Text]:
        """Running text: no table cells, and nothing that floats."""
        blocks = tuple(block for block in self.sheet.body if not isinstance(block, Grid | Chart | Math))
        return [text for text in parts_of(blocks, Text) if len(text.text) >= 12]

    def snippet(self, text: Text) -> str | None:
        """Some words of a text that stand once on the page."""
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

    def present(self) -> Iterator[Mined]:
        texts = self.texts()
        for text in self.rng.sample(texts, min(3, len(texts))):
            piece = self.snippet(text)
            if piece is not None:
                wrong = self._changed(text, piece)
                yield self._mined({"type": "present", "text": piece, "max_diffs": len(piece) // 25}, wrong)

    def _changed(self, text: Text, piece: str) -> dict[int, Any]:
        """The text with one word of the piece replaced by another (of unspaced scripts: turned round)."""
        if self.sheet.look.language in _UNSPACED:
            new = piece[::-1]
        else:
            tokens = piece.split(" ")
            k = max(range(len(tokens)), key=lambda i: len(tokens[i]))
            tokens[k] = self.rng.choice([word for word in _WORDS if word[0] != tokens[k][:1].lower()])
            new = " ".join(tokens)
        return {id(text): replace(text, text=text.text.replace(piece, new, 1))}

    def absent(self) -> Iterator[Mined]:
        """Running headers and footers. A bare number could stand in any table, so it must have four letters."""
        for edge in dict.fromkeys((*self.sheet.header, *self.sheet.footer)):
            low = normalize(edge).lower()
            digits_only = not any(c.isalpha() for c in edge)
            if len(low) < 6 or digits_only or (self.lower and fuzz.partial_ratio(low, self.lower) >= 80):
                continue
            kept = replace(self.sheet, top=(Para(runs=(Text(text=edge),)), *self.sheet.top))
            yield Mined(test={"type": "absent", "text": edge}, wrong=lambda kept=kept: kept)

    def order(self) -> Iterator[Mined]:
        """Two places, and the page with them exchanged: sentences of running text, far apart or next to each other.

        Two pairs lie close around the middle of the text: of columns read across, the second would come first. Without
        some neighbours a page's blocks could be written in nearly any order.
        """
        texts = [text for text in self.texts() if not any(text is t for m in self._notes() for t in m.note)]
        if len(texts) < 2:
            return
        ends = list(accumulate(len(text.text) for text in texts))
        middle = next(k for k, end in enumerate(ends) if end >= ends[-1] / 2)  # the text that it falls into
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
            yield self._mined({"type": "order", "before": before, "after": after, "max_diffs": 0}, wrong)

    def table(self) -> Iterator[Mined]:
        grids = list(parts_of(self.sheet.body, Grid))
        seen = Counter(normalize(cell.text.text) for grid in grids for row in grid.rows for cell in row)
        tests: list[Mined] = []
        for grid in grids:
            at = placed(grid)
            heads = sum(all(cell.head for cell in cells) for cells in grid.rows)
            places = [place for place in at if place[0] >= heads]
            for r, c in self.rng.sample(places, min(8, len(places))):
                made = self._relation(at, (r, c), heads, seen)
                if made is not None:
                    tests.append(made)
        yield from self.rng.sample(tests, min(4, len(tests)))

    def _relation(self, at: dict, place: tuple[int, int], heads: int, seen: Counter[str]) -> Mined | None:
        """One neighbour or heading of a cell; wrong: that one has changed places with another cell."""
        (r, c), cell = place, at[place]
        ways = {"left": (r, c - 1), "right": (r, c + cell.cols), "up": (r - 1, c), "down": (r + cell.rows, c)}
        if heads and c > 0:
            ways |= {"top_heading": (heads - 1, c), "left_heading": (r, 0)}
        relation = self.rng.choice(list(ways))
        other = at.get(ways[relation])
        if other is None or other is cell or any(seen[normalize(each.text.text)] != 1 for each in (cell, other)):
            return None
        if cell.rows > 1 or cell.cols > 1 or (other.head and relation == "up"):
            return None
        row, column = ways[relation]
        swaps = [
            each
            for (i, j), each in at.items()
            if each is not cell and each is not other
            and each.head == other.head and seen[normalize(each.text.text)] == 1
            and (each.rows, each.cols) == (other.rows, other.cols)
            and (j != column if relation == "top_heading" else (i, j) != (row, column))
            and (relation not in ("left_heading",) or i != r)
        ]  # fmt: skip
        if not swaps:
            return None
        swap = self.rng.choice(swaps)
        wrong = {id(other.text): swap.text, id(swap.text): other.text}
        return self._mined({"type": "table", "cell": cell.text.text, relation: other.text.text}, wrong)

    def math(self) -> Iterator[Mined]:
        """Formulas that show enough to be told from others; wrong: one symbol is another."""
        shown = [math for math in parts_of(self.sheet.body, Math)]
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
                yield self._mined(test, {id(math): replace(math, formula=new)})

    def format(self) -> Iterator[Mined]:
        """Headings and emphasis; wrong: the same words as plain text."""
        headings = [block for block in self.sheet.body if isinstance(block, Heading)]
        for block in self.rng.sample(headings, min(2, len(headings))):
            if self.once(block.text.text):
                plain = {id(block): Para(runs=(block.text,))}
                yield self._mined({"type": "format", "text": block.text.text, "format": "heading"}, plain)
        styled = [text for text in parts_of(self.sheet.body, Text) if text.style]
        for text in self.rng.sample(styled, min(1, len(styled))):
            if self.once(text.text):
                plain = {id(text): replace(text, style="")}
                yield self._mined({"type": "format", "text": text.text, "format": text.style}, plain)

    def _notes(self) -> list[Mark]:
        return list(parts_of(self.sheet.body, Mark))

    def footnote(self) -> Iterator[Mined]:
        """A marker and the words before it; wrong: the marker stands in front of the first words of the page."""
        hosts = [block for block in self.sheet.body if isinstance(block, Para)]
        for host in hosts:
            for k, mark in enumerate(host.runs):
                before = host.runs[k - 1] if k else None
                if not isinstance(mark, Mark) or not isinstance(before, Text):
                    continue
                piece = " ".join(before.text.split(" ")[-5:])
                power = str(mark.number).translate(_POWERS)  # 54.8 m² reads as a marker 2, too
                if len(piece) < 12 or not self.once(piece) or power in self.raw:
                    continue
                test = {"type": "footnote", "marker": str(mark.number), "appears_before_marker": piece}
                moved = replace(host, runs=(mark, *host.runs[:k], *host.runs[k + 1 :]))
                yield self._mined(test, {id(host): moved})
                break

    def baseline(self) -> Iterator[Mined]:
        if not self.sheet.body:
            full = replace(self.sheet, blocks=(Para(runs=(Text(text="This page holds a few words."),)),))
            yield Mined(test={"type": "baseline", "max_length": 0}, wrong=lambda: full)
            return
        empty = replace(self.sheet, blocks=(), top=())
        test: dict[str, Any] = {"type": "baseline"}
        if self.sheet.look.language == "ja":
            test["check_disallowed_characters"] = False
        yield Mined(test=test, wrong=lambda: empty)

    def budget(self) -> Iterator[Mined]:
        """At most a quarter more letters and digits, and 10, than the page has; wrong: with as much text again."""
        if self.sheet.body:
            most = budget(self.raw)
            test = {"type": "baseline", "max_length": most}
            more = Para(runs=(Text(text=" ".join(["more"] * (most // 4))),))
            longer = replace(self.sheet, blocks=(*self.sheet.blocks, more))
            yield Mined(test=test, wrong=lambda: longer)

    def _mined(self, test: dict[str, Any], new: dict[int, Any]) -> Mined:
        return Mined(test=test, wrong=lambda: with_parts(self.sheet, new))
