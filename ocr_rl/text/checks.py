"""The eight kinds of page tests of olmOCR-Bench: present, absent, order, format, table, baseline, math, footnote.

    check = load_check(json.loads(line))
    verdict, = judge([check], transcript)

One code, two readings. `compatible` gives the public benchmark's verdicts, its quirks included; `strict` closes the
holes that a policy would learn to use (each is named where it is closed). Rules: allenai/olmocr 0.4.27, Apache-2.0.

A transcript is prepared once and judged by many checks. Any text is judged in bounded time; one of more than
`LONGEST` characters fails every check. Knows nothing about files, pages or scores.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Literal

from rapidfuzz import fuzz, process
from rapidfuzz.distance import Levenshtein

from ocr_rl.contract import Reading, Verdict
from ocr_rl.text import distance, markdown
from ocr_rl.text.normalize import (
    count_alphanumeric,
    has_alphanumeric,
    letters_and_digits,
    normalize,
    tail_repeats,
    without_surrogates,
)
from ocr_rl.text.suggest import did_you_mean
from ocr_rl.text.tables import Cell, Table, html_tables, markdown_tables

LONGEST = 200_000  # characters; a dense newspaper page has about 30,000
MOST_FORMULAS = 256  # compared per test, those most like the searched one first

_needle = lru_cache(maxsize=1 << 16)(normalize)
_DISALLOWED = re.compile(
    "[\u4e00-\u9fff\u3040-\u309f\u30a0-\u30ff\U0001f600-\U0001f64f\U0001f300-\U0001f5ff"
    "\U0001f680-\U0001f6ff\U0001f1e0-\U0001f1ff]"
)


class Prepared:
    """A transcript and, made on first use and kept, the forms of it that checks look at."""

    def __init__(self, text: str) -> None:
        self.length = len(text)
        self.raw = without_surrogates(text) if self.length <= LONGEST else ""
        self._pieces: dict[tuple[str, Reading], list[str]] = {}
        self._formulas: dict[bool, list[str]] = {}

    @cached_property
    def text(self) -> str:
        return normalize(self.raw)

    @cached_property
    def lower(self) -> str:
        return self.text.lower()

    @cached_property
    def markdown_tables(self) -> list[tuple[Table, list[tuple[str, Cell]]]]:
        return [(table, _with_text(table)) for table in markdown_tables(self.raw)]

    @cached_property
    def html_tables(self) -> list[tuple[Table, list[tuple[str, Cell]]]]:
        return [(table, _with_text(table)) for table in html_tables(self.raw)]

    @cached_property
    def tail_repeats(self) -> list[int]:
        return tail_repeats(self.raw)

    def pieces(self, kind: str, reading: Reading) -> list[str]:
        """Normalised headings, bold or italic spans."""
        if (kind, reading) not in self._pieces:
            self._pieces[kind, reading] = [normalize(piece) for piece in markdown.PIECES[kind](self.raw, reading)]
        return self._pieces[kind, reading]

    def formulas(self, dollars: bool) -> list[str]:
        if dollars not in self._formulas:
            from ocr_rl.text.formulas import extract  # loads an engine that most pages do not need

            self._formulas[dollars] = list(dict.fromkeys(extract(self.raw, dollars=dollars)))
        return self._formulas[dollars]


def prepare(text: str) -> Prepared:
    """Wrap a transcript (front matter taken off) so that the work that checks share is done once."""
    return Prepared(text)


def judge(checks: Sequence[Any], text: str, reading: Reading = "compatible") -> list[Verdict]:
    """One verdict per check, in order."""
    prepared = prepare(text)
    return [check.run(prepared, reading) for check in checks]


# --- what all checks share --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCheck:
    """Fields of every type. `checked` and `url` are kept and not used."""

    pdf: str
    page: int
    id: str
    type: str
    max_diffs: int = 0  # characters of the searched text that may differ
    checked: str | None = None
    url: str | None = None

    def __post_init__(self) -> None:
        for name in ("pdf", "id"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise ValueError(f"{name} must be a non-empty text, got {value!r}")
        if not isinstance(self.page, int):
            raise ValueError(f"page must be a whole number, got {self.page!r}")
        if not isinstance(self.max_diffs, int) or self.max_diffs < 0:
            raise ValueError(f"max_diffs must be a whole number of at least 0, got {self.max_diffs!r}")
        self.validate()

    def validate(self) -> None:
        """Raise ValueError for fields of this type that cannot be judged."""

    def run(self, prepared: Prepared, reading: Reading) -> Verdict:
        """Judge a prepared transcript."""
        if prepared.length > LONGEST:
            size = f"{prepared.length:,} characters, the limit is {LONGEST:,}"
            return Verdict(passed=False, why=f"too large to judge: {size}")
        return self.look(prepared, reading)

    def look(self, prepared: Prepared, reading: Reading) -> Verdict:
        raise NotImplementedError

    def to_json(self) -> dict[str, object]:
        """The JSON object that `load_check` reads back; fields at their default are left out."""
        return {
            field.name: value
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default or field.default is MISSING
        }

    def _require_text(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if not isinstance(value, str) or not normalize(value).strip():
                raise ValueError(f"{name} must be a text that is not blank without its Markdown marks, got {value!r}")

    def _require_flag(self, *names: str) -> None:
        for name in names:
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, got {getattr(self, name)!r}")

    def _require_number(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None and not isinstance(value, int):
                raise ValueError(f"{name} must be a whole number or null, got {value!r}")


@dataclass(frozen=True, slots=True)
class Found:
    passed: bool
    near: distance.Near


def _find(needle: str, text: str, max_diffs: int, reading: Reading, allowance: int | None = None) -> Found:
    """Whether `text` has a window that is the needle but for `max_diffs` of `allowance` (its own length) characters.

    The compatible reading swaps the roles when the text is the shorter one ("H" holds "Hello") and compares in
    floating point, in the public benchmark's order of operations; strict does neither.
    """
    near = distance.closest(needle, text)
    length = allowance or len(needle)
    if reading == "strict":
        return Found(_within(near, needle, max_diffs, length), near)
    similarity = near.similarity
    if len(text) < len(needle):
        similarity = distance.partial_similarity(needle, text)
    return Found(similarity >= 1.0 - max_diffs / length, near)


def _within(near: distance.Near, needle: str, max_diffs: int, length: int) -> bool:
    return distance.within(near.similarity, len(needle), near.end - near.start, max_diffs, length)


def _quote(text: str, longest: int = 60) -> str:
    return repr(text if len(text) <= longest else f"{text[: longest - 1]}…")


def _closest(near: distance.Near, text: str, where: str = "character") -> str:
    window = text[near.start : near.end]
    return f"closest is {_quote(window)} at {where} {near.start} ({near.similarity:.0%} alike)" if window else "nothing"


# --- the eight types --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Present(PageCheck):
    """The text stands on the page (or in its first `first_n` / last `last_n` characters)."""

    text: str
    case_sensitive: bool = True
    first_n: int | None = None
    last_n: int | None = None

    def validate(self) -> None:
        self._require_text("text")
        self._require_flag("case_sensitive")
        self._require_number("first_n", "last_n")

    def search(self, prepared: Prepared, reading: Reading) -> tuple[Found, str]:
        needle = _needle(self.text)
        text = prepared.text
        if not self.case_sensitive:
            needle, text = needle.lower(), prepared.lower
        head = text[: self.first_n] if self.first_n else ""
        tail = text[-self.last_n :] if self.last_n else ""
        text = head + tail if self.first_n or self.last_n else text
        return _find(needle, text, self.max_diffs, reading), text

    def look(self, prepared: Prepared, reading: Reading) -> Verdict:
        found, text = self.search(prepared, reading)
        if found.passed:
            return Verdict(passed=True)
        return Verdict(passed=False, why=f"{_quote(self.text)} not found; {_closest(found.near, text)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent(Present):
    """The text does not stand on the page (a running header, a page number)."""

    def look(self, prepared: Prepared, reading: Reading) -> Verdict:
        found, text = self.search(prepared, reading)
        if not found.passed:
            return Verdict(passed=True)
        return Verdict(passed=False, why=f"{_quote(self.text)} should not be there; {_closest(found.near, text)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order(PageCheck):
    """Some place of `before` starts in front of some place of `after`."""

    before: str
    after: str

    def validate(self) -> None:
        self._require_text("before", "after")
        shorter = min(len(normalize(self.before)), len(normalize(self.after)))
        if self.max_diffs > shorter // 2:
            raise ValueError(f"max_diffs must be at most half of before and of after, got {self.max_diffs}")

    def look(self, prepared: Prepared, reading: Reading) -> Verdict:
        places = []
        for name in ("before", "after"):
            needle = _needle(getattr(self, name))
            place = distance.first_and_last(needle, prepared.text, self.max_diffs)
            if place is None:
                near = _closest(distance.closest(needle, prepared.text), prepared.text)
                return Verdict(passed=False, why=f"{name} {_quote(getattr(self, name))} not found; {near}")
            places.append(place)
        (first, _), (_, last) = places
        if first < last:
            return Verdict(passed=True)
        before, after = _quote(self.before), _quote(self.after)
        why = f"{before} first stands at character {first}, not in front of {after}, last at {last}"
        return Verdict(passed=False, why=why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Format(PageCheck):
    """The text stands in a heading, in bold or in italics.

    Strict: no role swap (`# R` for "Results"), and only what Markdown and HTML readers would see as emphasis
    (`<br>X</b>`, two bullets' stars and the gaps between snake_case names are none).
    """

    text: str
    format: Literal["heading", "bold", "italic"]
    case_sensitive: bool = True

    def validate(self) -> None:
        self._require_text("text")
        self._require_flag("case_sensitive")
        if self.format not in markdown.PIECES:
            raise ValueError(f"format must be heading, bold or italic, got {self.format!r}")

    def look(self, prepared: Prepared, reading: Reading) -> Verdict:
        pieces = prepared.pieces(self.format, reading)
        needle = _needle(self.text)
        if not self.case_sensitive:
            needle, pieces = needle.lower(), [piece.lower() for piece in pieces]
        if needle in pieces:
            return Verdict(passed=True)
        best, holds = distance.Near(0.0, 0, 0), ""
        for piece in pieces:
            found = _find(needle, piece, self.max_diffs, reading)
            if found.passed:
                return Verdict(passed=True)
            if found.near.similarity > best.similarity:
                best, holds = found.near, piece
        near = f"closest is {_quote(holds)} ({best.similarity:.0%} alike)" if holds else "nothing like it"
        return Verdict(passed=False, why=f"no {self.format} {_quote(self.text)} among {len(pieces)}; {near}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRelation(PageCheck):
    """A cell of some table, and what its neighbours and headings say.

    A malformed table makes the public benchmark's parser raise, so every compatible table test of the page fails;
    strict judges the grid as far as it goes, and compares in whole numbers.
    """

    cell: str
    up: str | None = ""
    down: str | None = ""
    left: str | None = ""
    right: str | None = ""
    top_heading: str | None = ""
    left_heading: str | None = ""
    ignore_markdown_tables: bool = False

    RELATIONS: ClassVar[tuple[str, ...]] = ("up", "down", "left", "right", "top_heading", "left_heading")

    def validate(self) -> None:
        if not isinstance(self.cell, str):
            raise ValueError(f"cell must be a text, got {self.cell!r}")
        for name in self.RELATIONS:
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ValueError(f"{name} must be a text, got {value!r}")
        self._require_flag("ignore_markdown_tables")

    def look(self, prepared: Prepared, reading: Reading) -> Verdict:
        tables = [] if self.ignore_markdown_tables else list(prepared.markdown_tables)
        tables += prepared.html_tables
        if reading == "compatible" and (fault := next((t.fault for t, _ in prepared.html_tables if t.fault), "")):
            return Verdict(passed=False, why=f"malformed table: {fault}")
        if not tables:
            return Verdict(passed=False, why="no table found")
        needle = _needle(self.cell)
        wanted = [(name, _needle(value)) for name in self.RELATIONS if (value := getattr(self, name))]
        best, closest, missing = 0.0, "", ""
        for table, cells in tables:
            texts = {cell.place: text for text, cell in cells}
            for text, cell in cells:
                if text == needle:
                    similarity, passed = 1.0, True
                else:
                    similarity, passed = _alike(text, needle, self.max_diffs, reading)
                if similarity > best:
                    best, closest = similarity, text
                if not passed:
                    continue
                missing = self._missing(table, cell, texts, wanted, reading)
                if not missing:
                    return Verdict(passed=True)
        if missing:
            return Verdict(passed=False, why=f"cell {_quote(self.cell)} found, but {missing}")
        why = f"no cell {_quote(self.cell)}; closest is {_quote(closest)} ({best:.0%} alike)"
        return Verdict(passed=False, why=why)

    def _missing(
        self,
        table: Table,
        cell: Cell,
        texts: Mapping[tuple[int, int], str],
        wanted: Sequence[tuple[str, str]],
        reading: Reading,
    ) -> str:
        """The first relation that does not hold, in words; empty if all hold."""
        for name, needle in wanted:
            if name == "top_heading":
                others = table.headings(cell, "up")
            elif name == "left_heading":
                others = table.headings(cell, "left")
            else:
                others = table.neighbours(cell, name)  # type: ignore[arg-type]
            there = [texts[other.place] for other in others]
            if not any(_alike(text, needle, self.max_diffs, reading)[1] for text in there):
                row, col = cell.place
                said = ", ".join(map(_quote, there[:3])) or "nothing"
                return f"its {name} at row {row + 1}, column {col + 1} is {said}, not {_quote(needle)}"
        return ""


def _with_text(table: Table) -> list[tuple[str, Cell]]:
    return [(normalize(cell.text), cell) for cell in table.cells.values()]


def _alike(text: str, needle: str, max_diffs: int, reading: Reading) -> tuple[float, bool]:
    """(similarity, whether it is enough) of a whole cell to the text that it should have."""
    if text == needle:
        return 1.0, True
    similarity = fuzz.ratio(text, needle) / 100.0
    if similarity < 0.5:
        return similarity, False
    if reading == "strict":
        return similarity, distance.within(similarity, len(needle), len(text), max_diffs)
    return similarity, similarity >= max(0.5, 1.0 - max_diffs / (len(needle) or 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline(PageCheck):
    """The page holds text, no tail of repeats and no characters of scripts that the benchmark does not have.

    With `max_length` the page is (nearly) blank and may hold only that many letters and digits.
    """

    max_length: int | None = None
    max_length_skips_image_alt_tags: bool = False
    max_repeats: int = 30
    check_disallowed_characters: bool = True

    def validate(self) -> None:
        self._require_flag("max_length_skips_image_alt_tags", "check_disallowed_characters")
        self._require_number("max_length")
        if not isinstance(self.max_repeats, int):
            raise ValueError(f"max_repeats must be a whole number, got {self.max_repeats!r}")

    def look(self, prepared: Prepared, reading: Reading) -> Verdict:
        text = prepared.raw
        if self.max_length is not None:
            if self.max_length_skips_image_alt_tags:
                text = markdown.without_images(text)
            count = count_alphanumeric(text)
            why = f"{count} letters and digits on a page that should have at most {self.max_length}"
            return Verdict(passed=count <= self.max_length, why="" if count <= self.max_length else why)
        if not has_alphanumeric(text):
            return Verdict(passed=False, why="no letter or digit on the page")
        for n, count in enumerate(prepared.tail_repeats, 1):
            if count > self.max_repeats:
                return Verdict(passed=False, why=f"ends with {_quote(text[-n:])} {count} times in a row")
        if self.check_disallowed_characters and (found := _DISALLOWED.search(text)):
            return Verdict(passed=False, why=f"disallowed character {found[0]!r} at character {found.start()}")
        return Verdict(passed=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Math(PageCheck):
    """Some formula of the page renders as the searched one does.

    Of more than 256 different formulas those most like the searched one are compared.
    """

    math: str
    ignore_dollar_delimited: bool = False

    def validate(self) -> None:
        if not isinstance(self.math, str) or not self.math.strip():
            raise ValueError(f"math must be a non-blank formula, got {self.math!r}")
        self._require_flag("ignore_dollar_delimited")

    def look(self, prepared: Prepared, reading: Reading) -> Verdict:
        formulas = prepared.formulas(not self.ignore_dollar_delimited)
        if not formulas:
            return Verdict(passed=False, why=f"no formula on the page; looked for {_quote(self.math)}")
        if self.math in formulas:
            return Verdict(passed=True)
        from ocr_rl.text.formulas import equal

        ranked = process.extract(self.math, formulas, scorer=Levenshtein.normalized_similarity, limit=MOST_FORMULAS)
        for formula, _, _ in ranked:
            if equal(self.math, formula, reading):
                return Verdict(passed=True)
        closest = _quote(ranked[0][0]) if ranked else "nothing"
        return Verdict(
            passed=False, why=f"no formula like {_quote(self.math)} among {len(formulas)}; closest {closest}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Footnote(PageCheck):
    """A footnote's marker, with a text shortly before one of its places and another after one.

    Strict: the marker 1 is not found in a superscript 12, and no role swap.
    """

    REACH: ClassVar[int] = 200  # raw characters looked at before and after a place

    marker: str
    appears_before_marker: str | None = None
    appears_after_marker: str | None = None

    def validate(self) -> None:
        if not isinstance(self.marker, str) or not self.marker or " " in self.marker:
            raise ValueError(f"marker must be a non-empty text without a space, got {self.marker!r}")
        for name in ("appears_before_marker", "appears_after_marker"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ValueError(f"{name} must be a text or null, got {value!r}")

    def look(self, prepared: Prepared, reading: Reading) -> Verdict:
        raw = prepared.raw
        places = markdown.footnote_places(raw, self.marker, reading)
        if not places:
            return Verdict(passed=False, why=f"no footnote marker {_quote(self.marker)}")
        for name, before in (("appears_before_marker", True), ("appears_after_marker", False)):
            target = getattr(self, name)
            if not target:
                continue
            windows = (raw[max(0, a - self.REACH) : a] if before else raw[b : b + self.REACH] for a, b in places)
            best, holds = distance.Near(0.0, 0, 0), ""
            needle = letters_and_digits(_needle(target))
            for window in windows:
                cleaned = letters_and_digits(normalize(window))
                cleaned = cleaned[-2 * len(needle) :] if before else cleaned[: 2 * len(needle)]
                found = _find(needle, cleaned, self.max_diffs, reading, allowance=len(_needle(target)))
                if needle and found.passed:
                    break
                if found.near.similarity > best.similarity:
                    best, holds = found.near, cleaned
            else:
                side = "before" if before else "after"
                near = _closest(best, holds) if holds else "nothing like it is there"
                return Verdict(passed=False, why=f"{_quote(target)} not {side} marker {self.marker!r}; {near}")
        return Verdict(passed=True)


TYPES: Mapping[str, type[PageCheck]] = {
    "present": Present,
    "absent": Absent,
    "order": Order,
    "format": Format,
    "table": TableRelation,
    "baseline": Baseline,
    "math": Math,
    "footnote": Footnote,
}


def load_check(obj: Mapping[str, object]) -> PageCheck:
    """Read one line of an olmOCR-Bench file. ValueError with one sentence that names the field."""
    if not isinstance(obj, Mapping):
        raise ValueError(f"a test must be a JSON object, got {type(obj).__name__}")
    name = obj.get("type")
    if not isinstance(name, str) or name not in TYPES:
        raise ValueError(f"type {name!r} is unknown{did_you_mean(str(name), TYPES)}")
    cls = TYPES[name]
    known = {field.name: field for field in fields(cls)}
    for key in obj:
        if key not in known:
            raise ValueError(f"{key!r} is not a field of a {name} test{did_you_mean(str(key), known)}")
    for key, field in known.items():
        if field.default is MISSING and key not in obj:
            raise ValueError(f"a {name} test needs the field {key!r}")
    return cls(**obj)  # type: ignore[arg-type]
