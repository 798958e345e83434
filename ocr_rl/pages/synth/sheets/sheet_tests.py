"""Unit tests of a full page from its structured source, with a page on which the tested fact is false.

The tests are of all eight olmOCR-Bench types, and a test says one thing. Together they cover the page: every passage of
text, every cell, every formula, and the order of neighbours. Text that stands on the page twice, or nearly twice, or
also in a running header gives no test. Knows nothing about how checks judge.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from random import Random
from typing import Any

from rapidfuzz import fuzz

from ocr_rl.pages.snippets import named, some, stands_once, stretches
from ocr_rl.pages.synth.sheets import formula
from ocr_rl.pages.synth.sheets.printers import to_markdown
from ocr_rl.pages.synth.sheets.table_facts import table_facts
from ocr_rl.pages.synth.sheets.tree import (
    Block,
    Chart,
    Grid,
    Heading,
    Item,
    Items,
    Lines,
    Mark,
    Math,
    Para,
    Sheet,
    Text,
    parts_of,
    with_parts,
)
from ocr_rl.text.normalize import normalize
from ocr_rl.text.visible import budget, see

_UNSPACED = ("ja", "th")
_PASSAGE = 40  # words for which there is a present test
_MOST = {"present": 50, "order": 24, "math": 24, "format": 6}  # tests of a page; order: besides those drawn at random
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
        *page.flow(),
        *page.table(),
        *page.math(),
        *page.format(),
        *page.footnote(),
        *page.baseline(),
        *page.budget(),
    ]
    unnamed = [*{json.dumps(fact.test): fact for fact in reversed(unnamed)}.values()][::-1]
    tests = named((fact.test for fact in unnamed), pdf, number)
    return [replace(fact, test=test) for fact, test in zip(unnamed, tests, strict=True)]


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
        """Running text, without table cells, captions and footnotes."""
        return [text for unit in self.units() for text in unit if len(text.text) >= 12]

    def units(self) -> list[tuple[Text, ...]]:
        """The running text as it stands: a heading, a paragraph, an item, or a text of a line with fixed ends."""
        return [unit for block in self.sheet.body for unit in _units(block)]

    def words(self, text: str) -> list[str]:
        """The words of a text, or four letters each in a script without spaces."""
        if self.sheet.look.language in _UNSPACED:
            return [text[k : k + 4] for k in range(0, len(text), 4)]
        return text.split(" ")

    def joined(self, words: Sequence[str]) -> str:
        return ("" if self.sheet.look.language in _UNSPACED else " ").join(words).strip()

    def snippet(self, text: str) -> str | None:
        """Some words of a text that stand on the page once; None if three draws find none."""
        words = self.words(text)
        for _ in range(3):
            length = min(len(words), self.rng.randint(4, 9))
            at = self.rng.randint(0, len(words) - length)
            piece = self.joined(words[at : at + length])
            if self.fit(piece, text):
                return piece
        return None

    def fit(self, piece: str, text: str) -> bool:
        """Whether a test may ask for a piece of a text: it stands on the page once and is not too short."""
        return (len(piece) >= 10 or piece == text) and self.once(piece)

    def present(self) -> Iterator[Fact]:
        """Some words of every passage. False: one of them is another."""
        facts = []
        for passage in self.passages():
            for text, stretch in self.rng.sample(passage, min(3, len(passage))):
                piece = self.snippet(stretch)
                if piece is not None:
                    test = {"type": "present", "text": piece, "max_diffs": len(piece) // 25}
                    facts.append(self._fact(test, self._changed(text, piece)))
                    break
        yield from some(facts, _MOST["present"], self.rng)

    def passages(self) -> Iterator[list[tuple[Text, str]]]:
        """All text outside of tables in passages of about 40 words, or more on a page of very much text.

        A passage lists its texts, or parts of them if they are long. It lies in one paragraph, item, note or caption.
        """
        captions = [
            (text,) for b in self.sheet.body if isinstance(b, Grid | Chart) for text in filter(None, (b.caption,))
        ]
        units = [*self.units(), *captions, *(mark.note for mark in self._notes())]
        length = max(_PASSAGE, sum(len(self.words(text.text)) for unit in units for text in unit) // _MOST["present"])
        for unit in units:
            parts = [(text, part) for text in unit for part in stretches(self.words(text.text), length)]
            total = sum(len(part) for _, part in parts)
            count, at = -(-total // length), 0
            groups: list[list[tuple[Text, str]]] = [[] for _ in range(count)]
            for text, part in parts:
                groups[at * count // total].append((text, self.joined(part)))
                at += len(part)
            yield from filter(None, groups)

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
        texts = self.texts()
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
            before, after = self.snippet(texts[first].text), self.snippet(texts[second].text)
            if before is None or after is None:
                continue
            wrong = {id(texts[first]): texts[second], id(texts[second]): texts[first]}
            yield self._fact({"type": "order", "before": before, "after": after, "max_diffs": 0}, wrong)

    def table(self) -> Iterator[Fact]:
        for test, wrong in table_facts(list(parts_of(self.sheet.body, Grid)), self.rng):
            yield self._fact(test, wrong)

    def flow(self) -> Iterator[Fact]:
        """Every block, item or table stands before the next. False: the two texts that are asked are exchanged.

        A formula has no text of its own, so that its neighbours are asked for.
        """
        ends = []
        for block in self.sheet.body:
            for unit in [self._cells(block)] if isinstance(block, Grid) else _units(block):
                parts = [(text, self.joined(part)) for text in unit for part in stretches(self.words(text.text), 6)]
                first = next(((text, part) for text, part in parts[:4] if self.fit(part, text.text)), None)
                last = next(((text, part) for text, part in parts[:-5:-1] if self.fit(part, text.text)), None)
                ends += [(first or last, last or first)] if first or last else []
        facts = []
        for (_, (one, before)), ((other, after), _) in pairwise(ends):
            test = {"type": "order", "before": before, "after": after, "max_diffs": 0}
            facts.append(self._fact(test, {id(one): other, id(other): one}))
        yield from some(facts, _MOST["order"], self.rng)

    def _cells(self, grid: Grid) -> tuple[Text, ...]:
        """The cells of a table that stand on the page once."""
        return tuple(c.text for cells in grid.rows for c in cells if len(c.text.text) >= 4 and self.once(c.text.text))

    def math(self) -> Iterator[Fact]:
        """Every formula of at least three symbols, those on lines of their own first. False: one symbol is another."""
        shown = sorted(parts_of(self.sheet.body, Math), key=lambda math: math not in self.sheet.body)
        written = Counter(formula.to_latex(math.formula) for math in shown)
        fit = [m for m in shown if sum(1 for _ in formula.leaves(m.formula)) >= 3]
        for math in [m for m in fit if written[formula.to_latex(m.formula)] == 1][: _MOST["math"]]:
            new = formula.with_another_symbol(math.formula, self.rng)
            if new is not None and formula.to_latex(new) not in written:
                test = {"type": "math", "math": formula.to_latex(math.formula), "ignore_dollar_delimited": True}
                yield self._fact(test, {id(math): replace(math, formula=new)})

    def format(self) -> Iterator[Fact]:
        """Headings and emphasis. False: the same words are plain text."""
        headings = [block for block in self.sheet.body if isinstance(block, Heading)]
        for block in some(headings, _MOST["format"], self.rng):
            if self.once(block.text.text):
                plain = {id(block): Para(runs=(block.text,))}
                yield self._fact({"type": "format", "text": block.text.text, "format": "heading"}, plain)
        styled = [text for text in parts_of(self.sheet.body, Text) if text.style]
        for text in some(styled, _MOST["format"], self.rng):
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


def _units(block: Block) -> list[tuple[Text, ...]]:
    match block:
        case Heading(text=text):
            return [(text,)]
        case Para(runs=runs):
            return [tuple(run for run in runs if isinstance(run, Text))]
        case Lines(rows=rows):
            return [(text,) for row in rows for text in row]
        case Items(items=items):
            return [unit for item in items for unit in _of_item(item)]
    return []


def _of_item(item: Item) -> list[tuple[Text, ...]]:
    own = tuple(run for run in item.runs if isinstance(run, Text))
    return [own, *(unit for inner in item.items for unit in _of_item(inner))]
