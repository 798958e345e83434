"""From a place in a text that was made of another (normalised, rendered, joined) back to that other one.

    places = SourceMap("Total 5", "**Total** | 5")
    places.span(0, 5)    # (2, 7)

One alignment of both texts (insertions and deletions) serves for every way in which a text is made of another, so that
no normaliser keeps a map of its own. Both are aligned in one form (`canonical`), for what looks alike may share no
character: wide letters, accents and syllables in pieces. Time and memory are bounded: a text of more than `LONGEST`
characters has no map.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate

from rapidfuzz.distance import Indel

from ocr_rl.text.html_rows import tags
from ocr_rl.text.normalize import canonical

LONGEST = 20_000  # characters of either text; the alignment takes quadratic time
NEAR = 40  # characters around a mapped stretch in which the very same text is looked for
RUN = 8  # equal characters from which two texts are sure to go together
CLUSTER = 32  # characters that are composed together at most
MASK = "\ue000"  # stands for what is no text; equal to nothing

Span = tuple[int, int]  # start and end in characters, half-open


class SourceMap:
    """An alignment of `shown`, which was made of `source`, with `source`."""

    def __init__(self, shown: str, source: str) -> None:
        self._shown, self._source = _Form(shown), _Form(source)
        texts = (shown, source, self._shown.text, self._source.text)
        self.known = max(map(len, texts)) <= LONGEST
        equal = _equal_runs(self._shown.text, self._source.text) if self.known else []
        self._starts = [start for start, _, _ in equal]
        self._ends = [end for _, end, _ in equal]
        self._shifts = [at - start for start, _, at in equal]

    def span(self, start: int, end: int) -> Span | None:
        """The stretch of the source that shown[start:end] was made of; None where the texts are too long.

        It is empty where the source has none of it: the place where it would stand.
        """
        return self._source.back(self._mapped(*self._shown.there((start, end)))) if self.known else None

    def _mapped(self, start: int, end: int) -> Span:
        """`span` in the form in which both are aligned."""
        if at := self._exact(start, end):
            return at
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end) - 1
        if start >= end or first > last:
            place = self._before(start)
            return place, place
        low = max(start, self._starts[first]) + self._shifts[first]
        return low, min(end, self._ends[last]) + self._shifts[last]

    def _before(self, at: int) -> int:
        """The place in the source behind what stands in front of `at`."""
        run = bisect_left(self._starts, at) - 1
        return min(at, self._ends[run]) + self._shifts[run] if run >= 0 else 0

    def _exact(self, start: int, end: int) -> Span | None:
        """Where the very same text stands near the place to which its middle goes."""
        window = self._shown.text[start:end]
        middle = (start + end) // 2
        run = bisect_right(self._starts, middle) - 1
        if not window.strip() or run < 0:
            return None
        guess = middle + self._shifts[run] - (middle - start)
        at = self._source.text.rfind(window, max(0, guess - NEAR), max(0, guess) + len(window))
        later = self._source.text.find(window, max(0, guess), guess + len(window) + NEAR)
        if later >= 0 and (at < 0 or later - guess < guess - at):
            at = later
        return (at, at + len(window)) if at >= 0 else None


class _Form:
    """A text in its canonical form, letter by letter, with the ways there and back."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._here, self._there = list[int](), list[int]()  # where each letter starts; empty where both are the same
        if text.isascii():
            return
        letters = set(text)
        if not any(map(_goes_on, letters)) and all(len(_canonical(letter)) == 1 for letter in letters):
            self.text = canonical(text)
            return
        places = list(_clusters(text))
        forms = [_canonical(text[start:end]) for start, end in places]
        self.text = "".join(forms)
        if self.text != text:
            self._here = [0, *(end for _, end in places)]
            self._there = [0, *accumulate(map(len, forms))]

    def there(self, span: Span) -> Span:
        """A stretch of the text in the form."""
        return _from_to(span, self._here, self._there)

    def back(self, span: Span) -> Span:
        """A stretch of the form in the text, of whole letters."""
        return _from_to(span, self._there, self._here)


def _from_to(span: Span, here: Sequence[int], there: Sequence[int]) -> Span:
    """A stretch, widened to whole letters, which start `here` in one text and `there` in the other."""
    start, end = span
    if not here:
        return span
    first = there[bisect_right(here, start) - 1]
    return (first, there[min(bisect_left(here, end), len(there) - 1)]) if start < end else (first, first)


def _clusters(text: str) -> Iterator[Span]:
    """Each letter with the marks that belong to it, a syllable of Hangul with all of its parts."""
    start = 0
    for at in range(1, len(text) + 1):
        if at == len(text) or at - start >= CLUSTER or not _goes_on(text[at]):
            yield start, at
            start = at


def _goes_on(character: str) -> bool:
    return character > "\u02ff" and ("\u1160" <= character <= "\u11ff" or unicodedata.category(character)[0] == "M")


@lru_cache(2**12)
def _canonical(letter: str) -> str:
    return canonical(letter)


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

    First between lines that both have, then between equal stretches within. Empty where `text` has nothing there. None
    where it has much more there, where the texts are too long, or have nothing in common.
    """
    if max(len(reference), len(text)) > LONGEST:
        return None
    (start, end), (low, high) = _between_lines(reference, span, text)
    if not text[low:high].strip():
        return (low, low)
    own = reference[start:end]
    runs = [run for run in _equal_runs(own, text[low:high]) if run[1] - run[0] >= RUN]
    if not runs and (start, end) == (0, len(reference)):
        return None
    first, last = span[0] - start, span[1] - start
    before = (at + min(stop, first) - since for since, stop, at in runs if since < first)
    behind = (at + max(0, last - since) for since, stop, at in runs if stop > last)
    low, high = low + max(before, default=0), low + min(behind, default=high - low)
    if low >= high or not (inner := text[low:high].strip()):
        return (low, low)
    at = low + text[low:high].index(inner)
    return (at, at + len(inner)) if len(inner) <= 2 * (last - first) + RUN else None


def _between_lines(reference: str, span: Span, text: str) -> tuple[Span, Span]:
    """The stretches of both between the nearest lines before and behind a span that both have, in their order."""
    wanted, shown = _lines(reference), _lines(text)
    before, behind = (0, 0), (len(reference), len(text))
    for op in Indel.opcodes([line for line, _, _ in wanted], [line for line, _, _ in shown]):
        for k in range(op.src_end - op.src_start) if op.tag == "equal" else ():
            (_, start, end), (_, low, high) = wanted[op.src_start + k], shown[op.dest_start + k]
            if end <= span[0]:
                before = end, high
            elif start >= span[1] and behind[0] == len(reference):
                behind = start, low
    return (before[0], behind[0]), (before[1], behind[1])


def _lines(text: str) -> list[tuple[str, int, int]]:
    """(line, start, end) of each line that is not blank, without white space at its ends."""
    lines, at = [], 0
    for line in text.splitlines(keepends=True):
        if inner := line.strip():
            start = at + line.index(inner)
            lines.append((inner, start, start + len(inner)))
        at += len(line)
    return lines


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
