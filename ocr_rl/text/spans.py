"""Where a verdict comes from: the stretches of a transcript in which a test found its text, or what comes nearest.

    located, = locate_all([check], body, "strict")
    located.kind, located.spans     # "found", ((12, 30),): body[12:30]

A passed test's place is where its text was found: a cell and its neighbours, both texts of an order, a formula, a
marker with what stands around it. A failed one's is the closest wrong place, the two texts in the wrong order, the
stretch that should not be there, the loop at the end. An omission has an empty span: the place where the text belongs,
which only a reading that has it can tell (`reference`). Where nothing can be told there are no spans.

Apart from judging, and lazy: a transcript that nobody asks about costs nothing. Bounded time for any text; beyond
20,000 characters there are no spans (`source_map.LONGEST`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rapidfuzz.distance import Indel

from ocr_rl.contract import Check, Reading, Verdict
from ocr_rl.text import distance, markdown
from ocr_rl.text.cell_spans import cell_spans, formula_spans
from ocr_rl.text.element_checks import Math, TableRelation
from ocr_rl.text.normalize import canonical, count_alphanumeric
from ocr_rl.text.page_check import needle_of
from ocr_rl.text.source_map import Span, gap, merged
from ocr_rl.text.sources import Sources
from ocr_rl.text.text_checks import Absent, Baseline, Footnote, Format, Order, Present

SURE = 0.9  # likeness from which a text is taken for the searched one where another reading of the page can tell
WORD = 30  # characters of a word by which a place grows at most
MOST_PLACES = 20  # of a text that should not be there, or of a heading

Kind = Literal["found", "closest", "missing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A verdict with its places in the transcript: characters, half-open, sorted, none overlapping another."""

    verdict: Verdict
    kind: Kind = "missing"  # "missing": nothing like it stands there, as it should be for a text that is to be absent
    spans: tuple[Span, ...] = ()
    wrong: tuple[Span, ...] = ()  # what inside the spans is not as the test has it; empty where that is all of them


def locate(check: Check, body: str, reading: Reading, reference: str | None = None) -> Located:
    """The verdict of one test with its places in `body`, a transcript without front matter.

    reference: a reading of the page that may hold what `body` lacks: the true one, or a sibling's.
    """
    return locate_all([check], body, reading, reference)[0]


def locate_all(checks: Sequence[Check], body: str, reading: Reading, reference: str | None = None) -> list[Located]:
    """`locate` for many tests of one transcript, whose preparation they share."""
    sources, other = Sources(body, reading), None if reference is None else Sources(reference, reading)
    located = list[Located]()
    for check in checks:
        told = other and telling(check, other.judge(check), other)
        located.append(locate_in(check, sources.judge(check), sources, told))
    return located


@dataclass(frozen=True, slots=True)
class Telling:
    """Another reading of the page, and where a test's text stands in it: nowhere if it fails the test."""

    body: str
    spans: tuple[Span, ...]


def telling(check: Check, verdict: Verdict, other: Sources) -> Telling:
    """What `other`, of this verdict, tells of a test; the same for all transcripts that lack the text."""
    return Telling(other.body, locate_in(check, verdict, other).spans if verdict.passed else ())


def locate_in(check: Check, verdict: Verdict, sources: Sources, told_by: Telling | None = None) -> Located:
    """`locate` in a transcript that is prepared and judged already."""
    if not sources.known:
        return Located(verdict=verdict)
    located = _placed(check, verdict, sources, distance.HALF)
    if verdict.passed or told_by is None:
        return located
    if (sure := _placed(check, verdict, sources, SURE)).spans:
        return sure
    places = [gap(told_by.body, span, sources.body) for span in told_by.spans]
    told = _located(verdict, places)
    # What is only somewhat like the text is its place where the other reading says so too.
    agree = all(any(low < min(high, end) and start < high for low, high in told.spans) for start, end in located.spans)
    return located if not told.spans or (located.spans and agree) else told


def _placed(check: Check, verdict: Verdict, sources: Sources, least: float) -> Located:
    """`least`: how alike a text must be to stand for the searched one."""
    match check:
        case Absent():
            return _located(verdict, _unwanted(check, verdict, sources))
        case Present():
            return _present(check, verdict, sources, least)
        case Order():
            return _order(check, verdict, sources, least)
        case Format():
            return _format(check, verdict, sources, least)
        case Baseline():
            return _located(verdict, _baseline(check, verdict, sources))
        case Footnote():
            return _located(verdict, _footnote(check, sources, least))
        case TableRelation():
            return _located(verdict, *cell_spans(check, sources, least))
        case Math():
            return _located(verdict, formula_spans(check, verdict, sources, least))
        case _:
            return Located(verdict=verdict)


def _located(verdict: Verdict, spans: Sequence[Span | None], wrong: Sequence[Span] = ()) -> Located:
    whole = merged(span for span in spans if span is not None)
    empty = all(start == end for start, end in whole)
    kind: Kind = "missing" if empty else "found" if verdict.passed else "closest"
    return Located(verdict=verdict, kind=kind, spans=whole, wrong=merged(wrong))


# --- Running text -----------------------------------------------------------------------------------------------------


def _present(check: Present, verdict: Verdict, sources: Sources, least: float) -> Located:
    hit, text = check.search(sources.prepared, sources.reading, locate=True)
    if not hit.passed and hit.near.similarity < least:
        return Located(verdict=verdict)
    needle = needle_of(check.text, sources.reading)
    return _compared(verdict, needle, _window(check, hit.near, text, sources), sources)


def _window(check: Present, near: distance.Near, text: str, sources: Sources) -> Span:
    """Where the window of a search stands in the whole searched text, of which `text` may be both ends."""
    whole = sources.searched
    cut = min(check.first_n, len(whole)) if check.first_n else 0
    shift = len(whole) - len(text) if near.start >= cut else 0
    return (near.start + shift, near.end + shift) if len(text) <= len(whole) else (near.start, near.end)


def _compared(verdict: Verdict, needle: str, window: Span, sources: Sources) -> Located:
    """A window of the searched text as far as the needle would go; of a failed test with what is not as in it."""
    start, end = _stretched(needle, window, sources.searched)
    parts = Indel.opcodes(needle, sources.searched[start:end])
    strange = [op for op in parts if op.tag != "equal" and not verdict.passed]
    wrong = (sources.span(start + op.dest_start, start + op.dest_end) for op in strange)
    return _located(verdict, [sources.span(start, end)], [span for span in wrong if span])


def _stretched(needle: str, window: Span, text: str) -> Span:
    """The stretch of `text` from where the needle would begin to where it would end, in whole words.

    A window is as long as the needle: where something is missing inside it, it goes too far, and where its end is
    misread it may be anywhere.
    """
    parts = Indel.opcodes(needle, text[window[0] : window[1]])
    equal = [op for op in parts if op.tag == "equal" and op.src_end - op.src_start > 1]
    if not equal or len(parts) == 1:
        return window
    start = max(0, window[0] + equal[0].dest_start - equal[0].src_start)
    end = min(len(text), window[0] + equal[-1].dest_end + len(needle) - equal[-1].src_end)
    while start > 0 and window[0] - start < WORD and text[start - 1].isalnum() and text[start : start + 1].isalnum():
        start -= 1
    while end < len(text) and end - window[1] < WORD and text[end].isalnum() and text[end - 1 : end].isalnum():
        end += 1
    return (start, end) if start < end else window


def _unwanted(check: Absent, verdict: Verdict, sources: Sources) -> list[Span | None]:
    """Every place of the text that should not be there."""
    if verdict.passed:
        return []
    hit, text = check.search(sources.prepared, sources.reading, locate=False)
    near = hit.near if hit.passed else distance.closest(needle_of(check.text, sources.reading).lower(), text)
    window = _window(check, near, text, sources)
    lower = sources.prepared.searched(sources.reading, lower=True)
    places = _places_of(lower[window[0] : window[1]], lower) or [window]
    return [sources.span(*place) for place in places]


def _places_of(text: str, whole: str) -> list[Span]:
    places, at = [], whole.find(text) if text else -1
    while at >= 0 and len(places) < MOST_PLACES:
        places.append((at, at + len(text)))
        at = whole.find(text, at + 1)
    return places


def _order(check: Order, verdict: Verdict, sources: Sources, least: float) -> Located:
    """Both texts, what comes nearest for one that is not there; where nothing does its side of the other one."""
    text = sources.searched
    parts = list[Located]()
    lost = 0
    for name, which in ((check.before, 0), (check.after, 1)):
        needle = needle_of(name, sources.reading)
        if place := distance.first_and_last(needle, text, check.max_diffs):
            window = place[which], min(len(text), place[which] + len(needle))
            parts.append(_located(verdict, [sources.span(*window)]))
        elif (near := distance.closest(needle, text)).similarity >= least:
            parts.append(_compared(verdict, needle, (near.start, near.end), sources))
        else:
            lost += 1
    spans, wrong = ([span for part in parts for span in getattr(part, name)] for name in ("spans", "wrong"))
    if not lost:
        return _located(verdict, spans, wrong)
    if lost == 2 or least > distance.HALF or not spans:  # another reading can tell
        return Located(verdict=verdict)
    first = bool(distance.first_and_last(needle_of(check.before, sources.reading), text, check.max_diffs))
    side = spans[-1][1] if first else spans[0][0]
    return _located(verdict, [(side, side)])


def _format(check: Format, verdict: Verdict, sources: Sources, least: float) -> Located:
    """The text with its marks; of a failed test where it stands without them, for there they were left out."""
    needle, text = needle_of(check.text, sources.reading), sources.searched
    if verdict.passed:
        pieces = sources.prepared.pieces(check.format, sources.reading)
        piece = max(pieces, key=lambda piece: distance.closest(needle, piece).similarity, default="")
        spans = [sources.span(*place) for place in _places_of(piece, text)]
        marked = [_with_marks(span, sources.body) for span in spans if span]
        best = max(marked, key=lambda both: both[1] - both[0], default=None)
        return _located(verdict, [best] if best else [])
    near = distance.closest(needle, text)
    if near.similarity < least:
        return Located(verdict=verdict)
    located = _compared(verdict, needle, (near.start, near.end), sources)
    spans = merged(_with_marks(span, sources.body) for span in located.spans)
    return replace(located, spans=spans)


def _with_marks(span: Span, body: str) -> Span:
    """A stretch with the Markdown marks or the tags right around it, at most 20 characters to a side."""
    start, end = span
    before, behind = body[max(0, start - 20) : start], body[end : end + 20]
    head = len(before) - len(before.rstrip(" #*_")) if not before.endswith(">") else len(before) - before.rfind("<")
    tail = len(behind) - len(behind.lstrip("*_")) if not behind.startswith("</") else behind.find(">") + 1
    return start - head, end + tail


# --- The page as a whole, footnotes -----------------------------------------------------------------------------------


def _baseline(check: Baseline, verdict: Verdict, sources: Sources) -> list[Span | None]:
    """What is too much on a page, the loop at its end, the characters that it does not have."""
    body = sources.body
    if verdict.passed:
        return []
    if check.max_length is not None:
        return [(_behind_letters(body, check.max_length), len(body))]
    if not count_alphanumeric(body):
        return [(0, len(body))]
    for n, count in enumerate(sources.prepared.tail_repeats, 1):
        if count > check.max_repeats:
            return [(_loop_start(body, n, count), len(body))]
    text = sources.searched if sources.reading == "strict" else sources.prepared.raw
    strange = [match.span() for match in check.disallowed(text)][:MOST_PLACES]
    return [sources.span(*place) if sources.reading == "strict" else place for place in strange]


def _behind_letters(text: str, most: int) -> int:
    """The place behind the first `most` letters and digits."""
    left = max(0, most)
    for at, character in enumerate(text):
        left -= character.isalnum()
        if left < 0:
            return at
    return len(text) if most else 0


def _loop_start(text: str, n: int, count: int) -> int:
    """Where `count` times the last n characters begin; a run of white space counts as one character."""
    left, at = n * count, len(text)
    while left > 0 and at > 0:
        at -= 1
        left -= not (text[at].isspace() and at > 0 and text[at - 1].isspace())
    return at


def _footnote(check: Footnote, sources: Sources, least: float) -> list[Span | None]:
    """The marker with what stands around it as far as the texts go; without one the place behind the text before it."""
    strict = sources.reading == "strict"
    notes = canonical(sources.prepared.seen.notes) if strict else sources.prepared.raw
    places = markdown.footnote_places(notes, check.marker, sources.reading)
    before, behind = check.appears_before_marker or "", check.appears_after_marker or ""
    if not places:
        needle = needle_of(before, sources.reading) if before else ""
        near = distance.closest(needle, sources.searched)
        if not needle or near.similarity < least:
            return []
        place = sources.span(near.start, near.end)
        return [place and (place[1], place[1])]
    reach = (min(check.REACH, len(before) + 2), min(check.REACH, len(behind) + 2))
    wide = [(max(0, a - reach[0]), min(len(notes), b + reach[1])) for a, b in places[:MOST_PLACES]]
    likeness = [
        distance.partial_similarity(before, notes[a:b]) + distance.partial_similarity(behind, notes[a:b])
        for a, b in wide
    ]
    best = wide[likeness.index(max(likeness))]
    return [sources.notes_map.span(*best) if strict else best]
