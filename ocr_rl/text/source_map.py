"""From a place in a text that was made of another (normalised, rendered, joined) back to that other one.

    places = SourceMap("Total 5", "**Total** | 5")
    places.span(0, 5)    # (2, 7)

One alignment of both texts (insertions and deletions) serves for every way in which a text is made of another, so that
no normaliser keeps a map of its own. Time and memory are bounded: a text of more than `LONGEST` characters has no map.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from rapidfuzz.distance import Indel

from ocr_rl.text.html_rows import tags

LONGEST = 20_000  # characters of either text; the alignment takes quadratic time
NEAR = 40  # characters around a mapped stretch in which the very same text is looked for
RUN = 6  # equal characters from which two texts are sure to go together
MASK, _OTHER_MASK = "\ue000", "\ue001"  # stand for what is no text; equal to nothing in the other text
_MARKS = str.maketrans(dict.fromkeys("*_#|", MASK))

Span = tuple[int, int]  # start and end in characters, half-open


class SourceMap:
    """An alignment of `shown`, which was made of `source`, with `source`."""

    def __init__(self, shown: str, source: str) -> None:
        self.shown, self.source = shown, source
        self.known = max(len(shown), len(source)) <= LONGEST
        equal = _equal_runs(shown, source) if self.known else []
        self._starts = [start for start, _, _ in equal]
        self._ends = [end for _, end, _ in equal]
        self._shifts = [at - start for start, _, at in equal]

    def span(self, start: int, end: int) -> Span | None:
        """The stretch of the source that shown[start:end] was made of; None where the texts are too long.

        It is empty where the source has none of it: the place where it would stand.
        """
        if not self.known:
            return None
        if at := self._exact(start, end):
            return at
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end) - 1
        if start >= end or first > last:
            return (self._before(start),) * 2
        low = max(start, self._starts[first]) + self._shifts[first]
        return low, min(end, self._ends[last]) + self._shifts[last]

    def _before(self, at: int) -> int:
        """The place in the source behind what stands in front of `at`."""
        run = bisect_left(self._starts, at) - 1
        return min(at, self._ends[run]) + self._shifts[run] if run >= 0 else 0

    def _exact(self, start: int, end: int) -> Span | None:
        """Where the very same text stands near the place to which its middle goes."""
        window = self.shown[start:end]
        middle = (start + end) // 2
        run = bisect_right(self._starts, middle) - 1
        if not window.strip() or run < 0:
            return None
        guess = middle + self._shifts[run] - (middle - start)
        at = self.source.rfind(window, max(0, guess - NEAR), max(0, guess) + len(window))
        later = self.source.find(window, max(0, guess), guess + len(window) + NEAR)
        if later >= 0 and (at < 0 or later - guess < guess - at):
            at = later
        return (at, at + len(window)) if at >= 0 else None


def without_tags(source: str) -> str:
    """The text with private characters for its HTML tags and comments: nothing that is shown was made of them."""
    pieces, at = [], 0
    for tag in tags(source):
        pieces += [source[at : tag.start], MASK * (tag.end - tag.start)]
        at = tag.end
    return "".join(pieces) + source[at:]


def only(source: str, spans: Iterable[Span]) -> str:
    """The text with private characters for all that is outside of some spans."""
    pieces, at = [], 0
    for start, end in merged(spans):
        pieces += [MASK * (start - at), source[start:end]]
        at = end
    return "".join(pieces) + MASK * (len(source) - at)


def gap(reference: str, span: Span, text: str) -> Span | None:
    """The place in `text` of what stands in reference[span], between what stands before and behind it in both.

    Empty where `text` has nothing there. None where the texts are too long, or have nothing in common.
    """
    if max(len(reference), len(text)) > LONGEST:
        return None
    wanted, shown = _bare(reference), _bare(text).replace(MASK, _OTHER_MASK)
    runs = [run for run in _equal_runs(wanted, shown) if run[1] - run[0] >= RUN]
    if not runs:
        return None
    low = max((at + min(end, span[0]) - start for start, end, at in runs if start < span[0]), default=0)
    high = min((at + max(0, span[1] - start) for start, end, at in runs if end > span[1]), default=len(text))
    between = shown[low:high]
    if inner := between.strip(f"{_OTHER_MASK} \n\t"):
        at = low + between.index(inner)
        return (at, at + len(inner)) if len(inner) <= 2 * (span[1] - span[0]) + RUN else (low, low)
    at = low + max(0, between.find("\n"))  # a mark at the end of a line is that line's, one behind it is the next one's
    return (at, at)


def _bare(text: str) -> str:
    """The text with private characters for tags and marks, which stand everywhere and so tell no place."""
    return without_tags(text).translate(_MARKS)


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Sorted, and those that overlap or touch as one; an empty span stays only where no other holds or touches it."""
    whole: list[Span] = []
    for start, end in sorted(spans):
        if whole and start <= whole[-1][1]:
            whole[-1] = (whole[-1][0], max(end, whole[-1][1]))
        else:
            whole.append((start, end))
    return tuple(whole)


def _equal_runs(a: str, b: str) -> list[tuple[int, int, int]]:
    """(start in a, end in a, start in b) of each run of characters that the alignment lays on one another."""
    return [(op.src_start, op.src_end, op.dest_start) for op in Indel.opcodes(a, b) if op.tag == "equal"]
