"""Page tests on elements of a page: relations between the cells of a table, and formulas.

Rules: olmOCR-Bench (allenai/olmocr 0.4.27, Apache-2.0). Knows nothing about running text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, cast

from rapidfuzz import fuzz, process
from rapidfuzz.distance import Levenshtein

from ocr_rl.contract import Reading, Verdict
from ocr_rl.extras import require
from ocr_rl.text import distance
from ocr_rl.text.page_check import PASSED, PageCheck, degree_of, needle_of, quote
from ocr_rl.text.prepared import Prepared, TextTable
from ocr_rl.text.tables import Cell, Direction, Place, Way
from ocr_rl.text.tex import count_symbols

# How many formulas of a page one test compares, the most similar ones first. No real page has nearly as many.
MOST_FORMULAS = 256
LIKELY_FORMULAS = 4  # formulas most like the searched one as text that are asked how nearly they are it
MOST_FORMULA_CHARACTERS = 30_000  # of all compared formulas together

LIKELY_CELLS = 4  # cells most like the searched text that are asked for their neighbours when no cell passes
_HEADINGS: Mapping[str, Literal["up", "left"]] = {"top_heading": "up", "left_heading": "left"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRelation(PageCheck):
    """A cell of some table says `cell`, and its neighbours and headings say what the other fields say.

    Compatible: a malformed table makes the public parser raise, so every table test of the page fails. Strict: the
    grid is judged as far as it goes, and similarities are compared in whole numbers. A test whose `cell` is null loads
    and never passes: the public test raises then, which its benchmark counts as a failure.
    """

    cell: str  # null loads too, as in the public code
    up: str | None = ""
    down: str | None = ""
    left: str | None = ""
    right: str | None = ""
    top_heading: str | None = ""
    left_heading: str | None = ""
    ignore_markdown_tables: bool = False

    RELATIONS: ClassVar[tuple[str, ...]] = ("up", "down", "left", "right", "top_heading", "left_heading")

    def validate(self) -> None:
        for name in ("cell", *self.RELATIONS):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ValueError(f"{name} must be a text, got {value!r}")
        self._require_flag("ignore_markdown_tables")

    @property
    def asked(self) -> int | None:
        texts = (self.cell, *(getattr(self, name) for name in self.RELATIONS))
        return sum(len(needle_of(text, "strict")) for text in texts if text)

    def run(self, prepared: Prepared, reading: Reading) -> Verdict:
        if self.cell is None:
            return Verdict(passed=False, why="the test names no cell (its cell is null), so no table passes")
        return PageCheck.run(self, prepared, reading)

    def look(self, prepared: Prepared, reading: Reading) -> Verdict:
        tables = prepared.tables(reading, markdown=not self.ignore_markdown_tables)
        faults = (text_table.table.fault for text_table in prepared.html_tables(reading))
        if reading == "compatible" and (fault := next(filter(None, faults), "")):
            return Verdict(passed=False, why=f"malformed table: {fault}")
        if not tables:
            return Verdict(passed=False, why="no table found")
        needle = needle_of(self.cell, reading)
        wanted = [(name, needle_of(value, reading)) for name in self.RELATIONS if (value := getattr(self, name))]
        missing = ""
        looks = [Look(table, self.max_diffs, reading) for table in tables]
        for look in looks:
            for cell in look.anchors(needle):
                failed = next((relation for relation in wanted if not look.holds(cell, *relation)), None)
                if failed is None:
                    return PASSED
                missing = missing or look.in_words(cell, *failed)
        degree = max(look.degree(needle, wanted) for look in looks)
        if missing:
            return Verdict(passed=False, why=f"cell {quote(self.cell)} found, but {missing}", degree=degree)
        near = process.extractOne(needle, [text for table in tables for text in table.by_text], scorer=fuzz.ratio)
        closest, best = (near[0], near[1] / 100) if near else ("", 0.0)
        why = f"no cell {quote(self.cell)}; closest is {quote(closest)} ({best:.0%} alike)"
        return Verdict(passed=False, why=why, degree=degree)


@dataclass(frozen=True, slots=True)
class Look:
    """One table as one test sees it."""

    table: TextTable
    max_diffs: int
    reading: Reading
    ways: dict[str, dict[Place, Way]] = field(default_factory=dict)

    def anchors(self, needle: str) -> Sequence[Cell]:
        """The cells that say the searched text, in the order of the table."""
        if self.max_diffs == 0:  # in both readings only an equal text is alike enough then
            return self.table.by_text.get(needle, ())
        return [cell for text, cell in zip(self.table.texts, self.table.cells, strict=True) if self.alike(text, needle)]

    def holds(self, cell: Cell, relation: str, needle: str) -> bool:
        def good(other: Cell) -> bool:
            return self.alike(self.table.by_place[other.place], needle)

        if way := _HEADINGS.get(relation):
            return self.table.table.some_heading(cell, way, good, self.ways.setdefault(relation, {}))
        return any(map(good, self.table.table.neighbours(cell, cast(Direction, relation))))

    def in_words(self, cell: Cell, relation: str, needle: str) -> str:
        others = self.others(cell, relation)
        texts = ", ".join(quote(self.table.by_place[other.place]) for other in others[:3]) or "nothing"
        return f"its {relation} at row {cell.row + 1}, column {cell.col + 1} is {texts}, not {quote(needle)}"

    def degree(self, needle: str, wanted: Sequence[tuple[str, str]]) -> float:
        """How nearly some cell says the searched text and its relations what they should: the mean of both shares.

        Half of it is the cell's own, and a relation counts only as far as its cell does.
        """
        best = 0.0
        for _, similarity, k in process.extract(needle, self.table.texts, scorer=fuzz.ratio, limit=LIKELY_CELLS):
            cell, own = self.table.cells[k], degree_of(similarity / 100.0)
            if own <= best:  # no cell that is less like it can do better
                break
            right = [self._relation_degree(cell, *relation) for relation in wanted]
            best = max(best, own * (0.5 + 0.5 * sum(right) / len(right)) if right else own)
        return best

    def _relation_degree(self, cell: Cell, relation: str, needle: str) -> float:
        texts = [self.table.by_place[other.place] for other in self.others(cell, relation)]
        return max((degree_of(fuzz.ratio(text, needle) / 100.0) for text in texts), default=0.0)

    def others(self, cell: Cell, relation: str) -> Sequence[Cell]:
        if way := _HEADINGS.get(relation):
            return self.table.table.headings(cell, way)
        return self.table.table.neighbours(cell, cast(Direction, relation))

    def alike(self, text: str, needle: str) -> bool:
        """Whether the whole text of a cell is close enough to the text that it should have."""
        if text == needle:
            return True
        if self.max_diffs == 0:
            return False
        similarity = fuzz.ratio(text, needle) / 100.0
        if similarity < 0.5:
            return False
        if self.reading == "strict":
            return distance.within(similarity, len(needle), len(text), self.max_diffs)
        return similarity >= max(0.5, 1.0 - self.max_diffs / (len(needle) or 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Math(PageCheck):
    """Some formula of the page renders as the searched formula does.

    At most 256 different formulas (30,000 characters) are compared: those most like the searched one as text.
    """

    math: str
    ignore_dollar_delimited: bool = False

    def validate(self) -> None:
        if not isinstance(self.math, str) or not self.math.strip():
            raise ValueError(f"math must be a non-blank formula, got {self.math!r}")
        self._require_flag("ignore_dollar_delimited")
        require("py_mini_racer", "math tests compare formulas as KaTeX renders them in V8")

    @property
    def asked(self) -> int | None:
        return count_symbols(self.math)

    def look(self, prepared: Prepared, reading: Reading) -> Verdict:
        formulas = prepared.formulas(reading, dollars=not self.ignore_dollar_delimited)
        if not formulas:
            return Verdict(passed=False, why=f"no formula on the page; looked for {quote(self.math)}")
        if self.math in formulas:
            return PASSED
        from ocr_rl.text.formulas import equal, likeness

        ranked = process.extract(self.math, formulas, scorer=Levenshtein.normalized_similarity, limit=MOST_FORMULAS)
        budget = MOST_FORMULA_CHARACTERS
        for formula, _, _ in ranked:
            if budget < 0:
                break
            budget -= len(formula)
            if equal(self.math, formula, reading):
                return PASSED
        closest = quote(ranked[0][0]) if ranked else "nothing"
        why = f"no formula like {quote(self.math)} among {len(formulas)}; closest {closest}"
        degree = max((likeness(self.math, formula) for formula, _, _ in ranked[:LIKELY_FORMULAS]), default=0.0)
        return Verdict(passed=False, why=why, degree=degree)
