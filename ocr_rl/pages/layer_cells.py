"""Cells of tables in a text layer: words and figures of rows whose columns stand below one another.

A layer knows no tables. Where runs of text are parted by wide gaps and the neighbouring rows have runs at the same
places, each run is a cell, or a line of one. Prose in columns is none of it: its runs are long. Knows nothing about
tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from ocr_rl.pages.plain_words import CAPTION, MARKS, boxes_of, is_plain
from ocr_rl.pages.reading_order import Line
from ocr_rl.pages.snippets import stands_once

_FIGURE = re.compile(r"\d+(?:[.,:/'’-]\d+)*%?")  # a number, an amount, a date or a percentage
_SIGNS = "+-−–$€£¥"  # before a figure; transcripts differ in how they write them
_JOINED = 0.5  # gap between words of one cell, at most; in heights of the row
_WIDE = 0.9  # gap between columns, at least
_ALIGNED = 3.0  # pt by which starts or ends of cells of one column differ, at most
_NEAR = 6.0  # heights of a row within which its neighbours stand
_REACH = 15  # rows above and below in which one with words may stand
_WORDS = 3.5  # of a run, in the mean of a row; prose has more
_MOST_WORDS = 6  # of a run that is a cell


@dataclass(frozen=True, slots=True, kw_only=True)
class _Word:
    text: str
    left: float
    bottom: float
    right: float
    top: float
    odd: bool
    parted: bool  # from the word before
    last: bool  # of its line


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    height: float
    runs: tuple[tuple[_Word, ...], ...]  # parted by wide gaps, from left to right

    @property
    def middle(self) -> float:
        return (self.runs[0][0].top + self.runs[0][0].bottom) / 2

    @property
    def text(self) -> str:
        return " ".join(word.text for run in self.runs for word in run)


def cells(lines: Sequence[Line], text: str, most: int, rng: Random) -> list[str]:
    """What single cells say, from every row before a second from one: at most `most`, from top to bottom.

    `text` is the page, normalised; what stands on it twice is left out.
    """
    lower = text.lower()
    choices = []
    for row in _table_rows(_rows(_words(lines))):
        parts = [part for cell in row.runs if len(cell) <= _MOST_WORDS for part in _parted(cell, _JOINED * row.height)]
        runs = [run for part in parts for run in _cut(part)]
        unique = [part for run in runs for part in _plain_parts(run) if _is_unique(part, text, lower)]
        choices.append(rng.sample(unique, len(unique)))
    deals = [(turn, k) for k, row in enumerate(choices) for turn in range(len(row))]
    first = sorted(rng.sample(deals, len(deals)), key=lambda deal: deal[0])[:most]
    return list(dict.fromkeys(choices[k][turn] for turn, k in sorted(first, key=lambda deal: (deal[1], deal[0]))))


def _words(lines: Sequence[Line]) -> Iterator[_Word]:
    for line in lines:
        tokens = line.text.split()
        boxes = boxes_of(tokens, line)
        odd = line.odd or (False,) * len(boxes)
        parted = line.parted or (False,) * len(boxes)
        for n, (k, (left, bottom, right, top)) in enumerate(boxes.items()):
            last = k == len(tokens) - 1
            yield _Word(
                text=tokens[k],
                left=left,
                bottom=bottom,
                right=right,
                top=top,
                odd=odd[n],
                parted=parted[n],
                last=last,
            )


def _rows(words: Iterator[_Word]) -> Iterator[_Row]:
    """The words that stand side by side, from top to bottom."""
    rows: list[list[_Word]] = []
    for word in sorted(words, key=lambda word: -(word.top + word.bottom)):
        anchor = rows[-1][0] if rows else None
        shared = min(word.top, anchor.top) - max(word.bottom, anchor.bottom) if anchor else 0.0
        if anchor and shared > 0.5 * min(word.top - word.bottom, anchor.top - anchor.bottom):
            rows[-1].append(word)
        else:
            rows.append([word])
    for row in rows:
        row.sort(key=lambda word: word.left)
        height = max(word.top - word.bottom for word in row)
        yield _Row(height=height, runs=tuple(_parted(row, _WIDE * height)))


def _parted(words: Sequence[_Word], gap: float) -> Iterator[tuple[_Word, ...]]:
    """The words in runs that are parted by wider gaps."""
    start = 0
    for k, (word, after) in enumerate(pairwise(words), 1):
        if after.left - word.right > gap:
            yield tuple(words[start:k])
            start = k
    yield tuple(words[start:])


def _cut(words: Sequence[_Word]) -> Iterator[Sequence[_Word]]:
    """The words in runs that are parted by something else than a space."""
    bounds = [0, *(k for k, word in enumerate(words) if k and word.parted), len(words)]
    return (words[start:end] for start, end in pairwise(bounds))


def _table_rows(rows: Iterator[_Row]) -> Iterator[_Row]:
    """The rows that have the columns of at least two rows near them, and of one with words, as a head or a label.

    The ticks of charts that stand side by side are figures alone, and far apart.
    """
    parted = [row for row in rows if len(row.runs) > 1]
    columns = (_in_columns(row, parted[max(0, k - _REACH) : k + _REACH + 1]) for k, row in enumerate(parted))
    likely = [row for row in columns if _has_cells(row)]
    for k, row in enumerate(likely):
        alike = [other for other in likely[max(0, k - _REACH) : k + _REACH + 1] if _shared_columns(row, other) >= 2]
        near = [other for other in alike if abs(other.middle - row.middle) < _NEAR * row.height]
        if len(near) >= 3 and any(_is_word(word) for other in alike for run in other.runs for word in run):
            yield row


def _in_columns(row: _Row, others: Sequence[_Row]) -> _Row:
    """The row parted only at gaps that go on in two rows near it; words of justified prose are parted at random."""
    near = [other for other in others if other is not row and abs(other.middle - row.middle) < _NEAR * row.height]
    runs = [row.runs[0]]
    for gap, run in zip(_gaps(row), row.runs[1:], strict=True):
        below = sum(any(_overlap(gap, there) > _JOINED * row.height for there in _gaps(other)) for other in near)
        runs = [*runs, run] if below >= 2 else [*runs[:-1], runs[-1] + run]
    return _Row(height=row.height, runs=tuple(runs))


def _gaps(row: _Row) -> list[tuple[float, float]]:
    return [(run[-1].right, after[0].left) for run, after in pairwise(row.runs)]


def _overlap(gap: tuple[float, float], other: tuple[float, float]) -> float:
    return min(gap[1], other[1]) - max(gap[0], other[0])


def _has_cells(row: _Row) -> bool:
    words = sum(map(len, row.runs))
    return 1 < len(row.runs) <= words <= _WORDS * len(row.runs) and not CAPTION.match(row.text)


def _shared_columns(row: _Row, other: _Row) -> int:
    return sum(
        any(
            abs(run[0].left - there[0].left) < _ALIGNED or abs(run[-1].right - there[-1].right) < _ALIGNED
            for there in other.runs
        )
        for run in row.runs
    )


def _plain_parts(run: Sequence[_Word]) -> Iterator[str]:
    """The stretches of words of a run, and each of its figures, as every transcript writes them."""
    words: list[str] = []
    for word in run:
        figure = word.text.strip(MARKS + _SIGNS)
        if not word.odd and _is_word(word):
            if not (word.last and word.text.endswith("-")):
                words.append(word.text)
                continue
        elif not word.odd and _FIGURE.fullmatch(figure):
            yield figure
        yield " ".join(words).strip(MARKS)
        words = []
    yield " ".join(words).strip(MARKS)


def _is_word(word: _Word) -> bool:
    return is_plain(word.text) and not any(map(str.isdigit, word.text))


def _is_unique(cell: str, text: str, lower: str) -> bool:
    """Whether a cell is long enough to be asked for, and stands on the page once."""
    if len(cell) == 3 and cell.isdigit():
        return text.count(cell) == 1
    return stands_once(cell, text, lower) if len(cell.replace(" ", "")) >= 4 else False
