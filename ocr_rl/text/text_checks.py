"""Page tests on running text: present, absent, order, format, baseline, footnote.

Rules: olmOCR-Bench (allenai/olmocr 0.4.27, Apache-2.0). Knows nothing about tables and formulas.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from ocr_rl.contract import Reading, Verdict
from ocr_rl.text import distance, markdown
from ocr_rl.text.normalize import (
    canonical,
    count_alphanumeric,
    has_alphanumeric,
    letters_and_digits,
    normalize,
    reaches,
)
from ocr_rl.text.page_check import PASSED, Hit, PageCheck, closest, degree_of, find, needle_of, quote
from ocr_rl.text.prepared import Prepared

# Han, kana, emoji and flags.
_DISALLOWED = re.compile(
    "[\u4e00-\u9fff\u3040-\u309f\u30a0-\u30ff\U0001f600-\U0001f64f\U0001f300-\U0001f5ff"
    "\U0001f680-\U0001f6ff\U0001f1e0-\U0001f1ff]"
)
_LOWEST_DISALLOWED = 0x3040


@dataclass(frozen=True, slots=True, kw_only=True)
class Present(PageCheck):
    """The text stands on the page or, if given, in its first `first_n` or last `last_n` characters."""

    text: str
    case_sensitive: bool = True
    first_n: int | None = None
    last_n: int | None = None

    ANY_CASE: ClassVar[bool] = False  # whether the strict reading ignores case

    def validate(self) -> None:
        self._require_text("text")
        self._require_flag("case_sensitive")
        self._require_number("first_n", "last_n")

    @property
    def asked(self) -> int | None:
        return len(needle_of(self.text, "strict"))

    def search(self, prepared: Prepared, reading: Reading, *, locate: bool) -> tuple[Hit, str]:
        lower = not self.case_sensitive or (reading == "strict" and self.ANY_CASE)
        needle, text = needle_of(self.text, reading), prepared.searched(reading, lower=lower)
        if lower:
            needle = needle.lower()
        if self.first_n or self.last_n:
            head = text[: self.first_n] if self.first_n else ""
            tail = text[-self.last_n :] if self.last_n else ""
            text = head + tail
        return find(needle, text, self.max_diffs, reading, locate=locate), text

    def look(self, prepared: Prepared, reading: Reading) -> Verdict:
        hit, text = self.search(prepared, reading, locate=True)
        if hit.passed:
            return PASSED
        why = f"{quote(self.text)} not found; {closest(hit.near, text)}"
        return Verdict(passed=False, why=why, degree=degree_of(hit.near.similarity))


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent(Present):
    """The text (a running header, a page number) does not stand on the page.

    Strict: nor does anything that is 80 % alike, in whatever case, for a header that is kept is not better misread.
    """

    ANY_CASE: ClassVar[bool] = True
    ALIKE: ClassVar[float] = 0.8
    SHORT: ClassVar[int] = 8  # characters; of a shorter text something is 80 % alike on many a page

    def look(self, prepared: Prepared, reading: Reading) -> Verdict:
        hit, text = self.search(prepared, reading, locate=False)
        if not hit.passed and not (reading == "strict" and self._misread(text)):
            return PASSED
        near = hit.near if hit.passed else distance.closest(needle_of(self.text, reading).lower(), text)
        return Verdict(passed=False, why=f"{quote(self.text)} should not be there; {closest(near, text)}")

    def _misread(self, text: str) -> bool:
        needle = needle_of(self.text, "strict").lower()
        whole = self.SHORT <= len(needle) <= len(text)
        return whole and distance.close_enough(needle, text, self.ALIKE) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order(PageCheck):
    """Some place of `before` starts in front of some place of `after`: its first in front of the other's last."""

    before: str
    after: str

    def validate(self) -> None:
        self._require_text("before", "after")
        shorter = min(len(normalize(self.before)), len(normalize(self.after)))
        if self.max_diffs > shorter // 2:
            raise ValueError(f"max_diffs must be at most half of before and of after, got {self.max_diffs}")

    @property
    def asked(self) -> int | None:
        return (len(needle_of(self.before, "strict")) + len(needle_of(self.after, "strict"))) // 2

    def look(self, prepared: Prepared, reading: Reading) -> Verdict:
        text = prepared.searched(reading)
        places = []
        for name in ("before", "after"):
            needle = needle_of(getattr(self, name), reading)
            place = distance.first_and_last(needle, text, self.max_diffs)
            if place is None:
                near = closest(prepared.closest(needle, reading), text)
                why = f"{name} {quote(getattr(self, name))} not found; {near}"
                return Verdict(passed=False, why=why, degree=self._degree(prepared, reading))
            places.append(place)
        (first, _), (_, last) = places
        if first < last:
            return PASSED
        before, after = quote(self.before), quote(self.after)
        why = f"{before} first stands at character {first}, not in front of {after}, last at {last}"
        return Verdict(passed=False, why=why)

    def _degree(self, prepared: Prepared, reading: Reading) -> float:
        """How nearly both stand there, the lesser of the two; 0 if their likeliest places are in the other order."""
        before, after = (prepared.closest(needle_of(text, reading), reading) for text in (self.before, self.after))
        return degree_of(min(before.similarity, after.similarity)) if before.start < after.start else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Format(PageCheck):
    """The text stands in a heading, in bold or in italics.

    Strict: only what a rendered transcript shows as such is a heading, bold or italic. A short heading does not pass
    for a long text (`# R` for "Results"), nor a span that is much more than the text. Where most of a page is marked, a
    mark says nothing of a small part of it.
    """

    MUCH_MORE: ClassVar[int] = 3  # times the text's length, and 20 characters: a longer span marks something else

    text: str
    format: Literal["heading", "bold", "italic"]
    case_sensitive: bool = True

    def validate(self) -> None:
        self._require_text("text")
        self._require_flag("case_sensitive")
        if not isinstance(self.format, str) or self.format not in markdown.PIECES:
            raise ValueError(f"format must be heading, bold or italic, got {self.format!r}")

    @property
    def asked(self) -> int | None:
        return len(needle_of(self.text, "strict"))

    def look(self, prepared: Prepared, reading: Reading) -> Verdict:
        pieces = prepared.pieces(self.format, reading)
        needle = needle_of(self.text, reading)
        if reading == "strict":
            if self._marks_nothing(pieces, needle, prepared):
                return Verdict(passed=False, why=f"most of the page is {self.format}, so that it says nothing")
            pieces = [piece for piece in pieces if len(piece) <= self.MUCH_MORE * len(needle) + 20]
        if not self.case_sensitive:
            needle, pieces = needle.lower(), [piece.lower() for piece in pieces]
        if needle in pieces:
            return PASSED
        best, holds = distance.Near(0.0, 0, 0), ""
        for piece in pieces:
            hit = find(needle, piece, self.max_diffs, reading)
            if hit.passed:
                return PASSED
            if hit.near.similarity > best.similarity:
                best, holds = hit.near, piece
        near = f"closest is {quote(holds)} ({best.similarity:.0%} alike)" if holds else "nothing like it"
        why = f"no {self.format} {quote(self.text)} among {len(pieces)}; {near}"
        return Verdict(passed=False, why=why, degree=degree_of(best.similarity))

    @staticmethod
    def _marks_nothing(pieces: Sequence[str], needle: str, prepared: Prepared) -> bool:
        marked = sum(map(len, pieces))
        return marked > len(prepared.seen_text) / 2 and len(needle) < marked / 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline(PageCheck):
    """The page holds text, no tail of repeats, and no characters of scripts that the benchmark does not have.

    With `max_length` the test asks for another thing, and for that alone: the page has at most that many letters and
    digits (0: a blank page). Strict: at most that many visible characters (`visible.count_visible`).
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
        if self.max_length is not None:
            return self._within(self.max_length, prepared, reading)
        text = prepared.seen_text if reading == "strict" else prepared.raw
        if not has_alphanumeric(text):
            return Verdict(passed=False, why="no letter or digit on the page")
        for n, count in enumerate(prepared.tail_repeats, 1):
            if count > self.max_repeats:
                return Verdict(passed=False, why=f"ends with {quote(prepared.raw[-n:])} {count} times in a row")
        suspect = self.check_disallowed_characters and reaches(text, _LOWEST_DISALLOWED)
        if suspect and (character := _DISALLOWED.search(text)):
            return Verdict(passed=False, why=f"disallowed character {character[0]!r} at character {character.start()}")
        return PASSED

    @staticmethod
    def disallowed(text: str) -> Iterator[re.Match[str]]:
        """Every character of a script that the benchmark does not have."""
        return _DISALLOWED.finditer(text)

    def _within(self, most: int, prepared: Prepared, reading: Reading) -> Verdict:
        if reading == "strict":
            count, what = prepared.seen.length, "visible characters"
        else:
            text = markdown.without_images(prepared.raw) if self.max_length_skips_image_alt_tags else prepared.raw
            count, what = count_alphanumeric(text), "letters and digits"
        if count <= most:
            return PASSED
        why = f"{count} {what} on a page that should have at most {most}"
        return Verdict(passed=False, why=why, degree=max(0, most) / count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Footnote(PageCheck):
    """A footnote's marker stands on the page, with one text shortly before a place of it and another after a place.

    Strict: the marker 1 is not found in a superscript 12, and a short transcript does not pass for a long text.
    """

    REACH: ClassVar[int] = 200  # raw characters that are searched before and after a place

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
            if value:  # an empty one asks for nothing, as in the public loader
                self._require_text(name)

    @property
    def asked(self) -> int | None:
        around = (self.appears_before_marker, self.appears_after_marker)
        return len(self.marker) + sum(len(needle_of(text, "strict")) for text in around if text)

    def look(self, prepared: Prepared, reading: Reading) -> Verdict:
        raw = canonical(prepared.seen.notes) if reading == "strict" else prepared.raw
        places = markdown.footnote_places(raw, self.marker, reading)
        if not places:
            return Verdict(passed=False, why=f"no footnote marker {quote(self.marker)}")
        for name, before in (("appears_before_marker", True), ("appears_after_marker", False)):
            target = getattr(self, name)
            if not target:
                continue
            windows = (raw[max(0, a - self.REACH) : a] if before else raw[b : b + self.REACH] for a, b in places)
            best, holds = distance.Near(0.0, 0, 0), ""
            needle, allowance = letters_and_digits(needle_of(target, reading)), len(needle_of(target, reading))
            anything = not needle and self.max_diffs >= allowance and reading == "compatible"
            for window in windows:
                cleaned = letters_and_digits(normalize(window))
                if cleaned and anything:
                    break
                cleaned = cleaned[-2 * len(needle) :] if before else cleaned[: 2 * len(needle)]
                hit = find(needle, cleaned, self.max_diffs, reading, allowance=allowance)
                if needle and cleaned and hit.passed:
                    break
                if hit.near.similarity > best.similarity:
                    best, holds = hit.near, cleaned
            else:
                side = "before" if before else "after"
                near = closest(best, holds) if holds else "nothing like it is there"
                why = f"{quote(target)} not {side} marker {self.marker!r}; {near}"
                return Verdict(passed=False, why=why, degree=degree_of(best.similarity))
        return PASSED
