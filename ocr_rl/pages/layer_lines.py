"""Lines of a page from its glyphs: which words stand in one line, where a line is parted, which words are odd.

PDFium joins what stands at one height: cells beside each other, columns, line numbers. A gap parts a line where it is
wider than the spaces of the line or the page, where a rule is drawn in it, where the next cell is a piece of its own,
and where it is too narrow to be a space. A line is cut into several where a rule or a white stripe goes through it.
Knows nothing about tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median_low

from ocr_rl.pages.glyphs import Glyph
from ocr_rl.pages.ink import Drawn, has_rule
from ocr_rl.pages.reading_order import Line

_Row = list[list[Glyph]]  # words
# In heights of type:
_NARROW = 0.1  # the narrowest space
_WIDE = 0.4  # the narrowest gap that may be more than a space
_GUTTER = 0.6  # the narrowest gap that is a gutter, if it goes on in two other lines
_APART = 0.8  # what no space reaches
_JUMP = 0.08  # by which letters of a word stand farther apart than its others, at most
_RAISED = 0.08  # by which letters of a line stand higher or lower than its others, at most
_NEAR = 4.0  # within which the lines stand in which a gutter goes on
# As a share:
_USUAL = 1.5  # a gap that is so many times the line's usual space is more than a space
_USUAL_OF_PAGE = 1.9
_SIZES = (0.85, 1.18)  # letters' sizes in a line
_PIECES = 0.25  # spaces of a page between which text objects change, if that says anything


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    """What is usual on a page."""

    space: float  # between words, in heights of type
    in_pieces: bool  # whether words of one line are drawn piece by piece
    mathematical: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gap:
    """What is between two words of a row."""

    start: float  # pt
    end: float
    width: float  # heights of type; by the room that the letters take, which is more than between their inks
    parts: bool  # whether it is no space
    ruled: bool


def lines(glyphs: Iterable[Glyph], drawn: Drawn, *, mathematical: bool = False) -> list[Line]:
    """The lines, in the order of the glyphs; what stands slanted or sideways comes last, as lines that are `slanted`.

    `mathematical`: whether the page has typefaces of formulas, where numbers and single letters may be formulas.
    """
    rows, slanted = _rows(glyphs)
    page = _page_of(rows, mathematical)
    gaps = [_gaps(row, page, drawn) for row in rows]
    upright = [
        _line(row[start:end], gaps[k][start : end - 1], page)
        for k, row in enumerate(rows)
        for start, end in pairwise([0, *_cuts(k, rows, gaps), len(row)])
    ]
    return [line for line in upright if line.text] + [_slanted(word) for word in slanted]


def _rows(glyphs: Iterable[Glyph]) -> tuple[list[_Row], list[list[Glyph]]]:
    """The words that stand upright in stretches without a line break, a wide gap or a jump, and all other words."""
    rows: list[_Row] = [[[]]]
    slanted: list[list[Glyph]] = [[]]
    box = (0.0, 0.0, 0.0, 0.0)  # of the row
    for glyph in glyphs:
        if glyph.text in " \n":
            rows += [[[]]] if glyph.text == "\n" and rows[-1][0] else []
            rows[-1] += [[]] if glyph.text == " " and rows[-1][-1] else []
            slanted += [[]] if slanted[-1] else []
            continue
        if not glyph.upright:
            slanted[-1].append(glyph)
            continue
        here = glyph.left, glyph.bottom, glyph.right, glyph.top
        size = max(here[3] - here[1], box[3] - box[1], 4.0)
        begun = bool(rows[-1][0])
        if begun and (
            here[0] - box[2] > 1.6 * size or here[0] < box[2] - 3 * size or abs(here[1] - box[1]) > 1.2 * size
        ):
            rows.append([[]])
            begun = False
        box = _around([box, here]) if begun else here
        rows[-1][-1].append(glyph)
    return [[word for word in row if word] for row in rows if row[0]], [word for word in slanted if word]


def _page_of(rows: Sequence[_Row], mathematical: bool) -> _Page:
    pairs = [(word[-1], after[0]) for row in rows for word, after in pairwise(row)]
    widths = [(after.start - word.end) / word.em for word, after in pairs if word.em > 0]
    changes = sum(word.piece != after.piece for word, after in pairs)
    return _Page(
        space=median_low([width for width in widths if 0 < width < _APART] or [0.3]),
        in_pieces=changes > _PIECES * len(pairs),
        mathematical=mathematical,
    )


def _gaps(row: _Row, page: _Page, drawn: Drawn) -> list[_Gap]:
    """The gaps between the words of a row."""
    em = _em(row)
    pairs = [(word[-1], after[0]) for word, after in pairwise(row)]
    widths = [(after.start - word.end) / em for word, after in pairs]
    usual = median_low(widths) if len(widths) >= 4 else page.space
    most = max(_WIDE, min(_USUAL * usual, _USUAL_OF_PAGE * page.space))
    bottom, top = min(g.bottom for word in row for g in word), max(g.top for word in row for g in word)
    gaps = []
    for (word, after), width in zip(pairs, widths, strict=True):
        piece = word.piece != after.piece and not page.in_pieces
        # A rule needs room beside it; looking for one takes time.
        may_hold = piece or width > min(_WIDE, 1.2 * page.space)
        ruled = may_hold and has_rule(word.right, bottom, after.left, top, drawn)
        parts = width > min(_APART, most) or width < _NARROW or piece or ruled
        gaps.append(_Gap(start=word.end, end=after.start, width=width, parts=parts, ruled=ruled))
    return gaps


def _em(row: _Row) -> float:
    """The height of a row's type; from its ink where the typeface does not tell."""
    known = [glyph.em for word in row for glyph in word if glyph.em > 0]
    return median_low(known) if known else max(1.0, 1.4 * median_low([g.top - g.bottom for word in row for g in word]))


def _cuts(k: int, rows: Sequence[_Row], gaps: Sequence[Sequence[_Gap]]) -> list[int]:
    """Before which words of a row it is cut: behind a rule, and behind a gutter that goes on in two rows near it."""
    if not any(gap.parts for gap in gaps[k]):
        return []
    em, y = _em(rows[k]), rows[k][0][0].baseline
    near = [
        gaps[other]
        for other in range(max(0, k - 8), min(len(rows), k + 9))
        if other != k and 0.5 * em < abs(rows[other][0][0].baseline - y) < _NEAR * em
    ]

    def goes_on(gap: _Gap) -> bool:
        return sum(any(min(gap.end, g.end) - max(gap.start, g.start) > 0.5 * em for g in row) for row in near) >= 2

    return [
        at for at, gap in enumerate(gaps[k], 1) if gap.ruled or (gap.parts and gap.width > _GUTTER and goes_on(gap))
    ]


def _line(row: _Row, gaps: Sequence[_Gap], page: _Page) -> Line:
    """A line of words that follow one another."""
    lettered = [k for k, word in enumerate(row) if any(glyph.text.isalnum() for glyph in word)]
    parted = [False, *(gap.parts for gap in gaps)]
    left, bottom, right, top = _box([glyph for word in row for glyph in word])
    before = [-1, *lettered]
    letters = [glyph for word in row for glyph in word if glyph.text.isalnum()]
    baseline = median_low([glyph.baseline for glyph in letters]) if letters else 0.0
    em = median_low([glyph.em for glyph in letters]) if letters else 0.0
    return Line(
        text=" ".join("".join(glyph.text for glyph in word) for word in row),
        left=left,
        bottom=bottom,
        right=right,
        top=top,
        words=tuple(_box([glyph for glyph in row[k] if glyph.text.isalnum()]) for k in lettered),
        odd=tuple(_is_odd(row, k, baseline, em, page) for k in lettered),
        parted=tuple(any(parted[before[n] + 1 : k + 1]) for n, k in enumerate(lettered)),
    )


def _slanted(word: Sequence[Glyph]) -> Line:
    left, bottom, right, top = _box(word)
    boxes = tuple((glyph.left, glyph.bottom, glyph.right, glyph.top) for glyph in word)
    text = "".join(glyph.text for glyph in word)
    return Line(text=text, left=left, bottom=bottom, right=right, top=top, words=boxes, slanted=True)


def _is_odd(row: _Row, k: int, baseline: float, em: float, page: _Page) -> bool:
    """Whether a word may be written in another way than its letters say.

    It stands higher or lower than its line, or is larger or smaller; its typeface changes; its letters have a space
    between them; or it is a single letter of another typeface, or a number on a page of formulas.
    """
    word = row[k]
    letters = [glyph for glyph in word if glyph.text.isalnum()]
    if any(abs(glyph.baseline - baseline) > _RAISED * (em or 10.0) for glyph in letters):
        return True
    if em and any(not _SIZES[0] * em <= glyph.em <= _SIZES[1] * em for glyph in letters):
        return True
    if any(glyph.typeface != letters[0].typeface for glyph in letters):
        return True
    if len(letters) == 1 or letters[0].text.isdigit():
        if page.mathematical:
            return True
        around = [*row[max(0, k - 1) : k], *row[k + 1 : k + 2]]
        return len(letters) == 1 and any(other[0].typeface != letters[0].typeface for other in around)
    return bool(em) and _has_space(word, em)


def _has_space(word: Sequence[Glyph], em: float) -> bool:
    """Whether two letters of a word stand farther apart than the others, or one upon the other."""
    gaps = [(after.start - glyph.end) / em for glyph, after in pairwise(word)]
    if len(gaps) < 2:
        return bool(gaps) and not -0.4 < gaps[0] < _JUMP
    usual = median_low(gaps)
    return max(gaps) - usual > _JUMP or min(gaps) < -0.4


def _box(glyphs: Sequence[Glyph]) -> tuple[float, float, float, float]:
    return _around([(glyph.left, glyph.bottom, glyph.right, glyph.top) for glyph in glyphs])


def _around(boxes: Sequence[tuple[float, float, float, float]]) -> tuple[float, float, float, float]:
    left, bottom, right, top = zip(*boxes, strict=True)
    return min(left), min(bottom), max(right), max(top)
