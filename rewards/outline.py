"""Rewards without a reference: does the transcript hold the strings of the page's tests, and hold them in order?

They answer roughly, where `pass_rate` is exact. They are meant as gates, which ask whether a transcript is one of this
page at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ocr_rl.contract import Check, Page, Score, Transcript, per_transcript
from ocr_rl.text.checks import LONGEST, Prepared, prepare
from ocr_rl.text.distance import HALF, close_enough, closest
from ocr_rl.text.element_checks import TableRelation
from ocr_rl.text.page_check import needle_of, quote
from ocr_rl.text.text_checks import Absent, Format, Order, Present

ALIKE = 0.8  # similarity from which on a text counts as standing at a place
SHORT = 10  # characters; a shorter text must stand there exactly, since any number is similar to another


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """How much of the strings that the page's tests search stands in the transcript, roughly and at any place.

    The strings are those of present, order, format and table tests: the searched text, or the cell, its neighbours and
    headings. Every string counts once and alike, with 2 x similarity - 1 of its most similar window; a window that is
    half alike counts nothing. No score for a page without such strings.
    """

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        wanted = [needle for needle in dict.fromkeys(needle for c in page.checks for needle in _strings(c)) if needle]
        if not wanted:
            return Score(value=None, why="no test of the page looks for a text")
        text = _prepared(transcript).seen_text
        alike = [max(0.0, (closest(needle, text).similarity - HALF) / (1 - HALF)) for needle in wanted]
        worst = min(range(len(wanted)), key=alike.__getitem__)
        why = f"{len(wanted)} strings; {quote(wanted[worst])} stands there to {alike[worst]:.0%}"
        return Score(value=sum(alike) / len(alike), why=why)


@dataclass(frozen=True, slots=True, kw_only=True)
class InOrder:
    """Share of the page's order tests that the transcript does not contradict; no score for a page without any.

    A transcript contradicts a test if it fails the test and holds both texts in the other order. A text stands at a
    place that is at least 80 % alike; a text of fewer than 10 characters must stand there exactly. A missing text
    contradicts nothing, since a misread text is not a shuffled one.
    """

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        tests = [check for check in page.checks if isinstance(check, Order)]
        if not tests:
            return Score(value=None, why="the page has no order test")
        prepared = _prepared(transcript)
        wrong = [test for test in tests if _contradicts(test, prepared)]
        why = f"{quote(wrong[0].before)} stands behind {quote(wrong[0].after)}" if wrong else ""
        return Score(value=1 - len(wrong) / len(tests), why=why)


def _strings(check: Check) -> Sequence[str]:
    match check:
        case Absent():
            return ()
        case Present(text=text) | Format(text=text):
            return (needle_of(text, "strict"),)
        case Order(before=before, after=after):
            return (needle_of(before, "strict"), needle_of(after, "strict"))
        case TableRelation():
            return tuple(_cells(check))
    return ()


def _cells(check: TableRelation) -> Iterator[str]:
    for text in (check.cell, *(getattr(check, name) for name in check.RELATIONS)):
        if text:
            yield needle_of(text, "strict")


def _prepared(transcript: Transcript) -> Prepared:
    """The prepared transcript. One that is too large to judge counts as empty."""
    return prepare(transcript.body if len(transcript.body) <= LONGEST else "")


def _contradicts(test: Order, prepared: Prepared) -> bool:
    if test.run(prepared, "strict").passed:
        return False
    before, after = (_place(needle_of(text, "strict"), prepared.seen_text) for text in (test.before, test.after))
    return before is not None and after is not None and before > after


def _place(needle: str, text: str) -> int | None:
    if len(text) < len(needle):
        return None
    near = close_enough(needle, text, ALIKE if len(needle) >= SHORT else 1.0)
    return None if near is None else near.start
