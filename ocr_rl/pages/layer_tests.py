"""Unit tests of a page from its text layer: present, order, absent and baseline tests.

The layer passes them itself, in both readings. A test asks for a run of plain words of one line: a formula, a footnote
mark, a word cut by a hyphen or a gap as between cells ends a run, since a transcript may write what is there in another
way. Knows nothing about folders.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import groupby, pairwise
from random import Random

from ocr_rl.pages.layer_cells import cells
from ocr_rl.pages.plain_words import CAPTION, MARKS, Box, boxes_of, is_plain
from ocr_rl.pages.reading_order import Line
from ocr_rl.pages.snippets import Test, baseline, named, passing, some, stands_once
from ocr_rl.pages.text_layer import Layer
from ocr_rl.text.normalize import normalize
from ocr_rl.text.visible import budget, count_visible

_MOST = {"present": 50, "order": 24, "cell": 40}
_LINES = 3  # of a block for which there is a present test
_CELLS = 3  # that make a page without running text worth asking


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """Words of a line that stand on the page once."""

    text: str
    stretch: Line  # the part of a line, without a gap as between cells, in which the words stand


def layer_tests(layer: Layer, pdf: str, rng: Random) -> list[Test]:
    """The tests of a page; none if nothing on it stands once and can be asked for.

    There is a present test for about every third line of running text, one for every shorter block, and some for the
    cells of every row of a table. Order tests compare neighbours of one column, since the order of columns may be in
    doubt. A line that may be a running header or footer is neither required nor forbidden. The length is limited if the
    layer explains all that is seen.
    """
    body = [line for line in layer.lines if not line.running and not line.slanted]
    inner = [line for line in body if not line.margin]
    text = normalize("\n".join(line.text for line in layer.lines))
    lower = text.lower()
    numbered = sum(any(_is_number(token) for token in _edges(line)) for line in inner if line.text.count(" ") > 3) >= 3
    pieces = []
    for block in _blocks(inner):
        for at in range(0, len(block), _LINES):
            lines = block[at : at + _LINES]
            candidates = (_piece(line, text, lower, rng, numbered=numbered) for line in rng.sample(lines, len(lines)))
            pieces += [piece] if (piece := next(filter(None, candidates), None)) else []
    tests: list[Test] = [
        {"type": "present", "text": piece.text, "max_diffs": len(piece.text) // 20}
        for piece in some(pieces, _MOST["present"], rng)
    ]
    asked_cells = cells(inner, text, _MOST["cell"], rng)
    if not pieces and len(asked_cells) < _CELLS:
        return []
    tests += [{"type": "present", "text": cell, "max_diffs": 0} for cell in asked_cells]
    orders = [
        {"type": "order", "before": first.text, "after": second.text, "max_diffs": 1}
        for first, second in pairwise(pieces)
        if _above(first.stretch, second.stretch)
    ]
    tests += some(orders, _MOST["order"], rng)
    rest = normalize("\n".join(line.text for line in body)).lower()
    edges = [line.text for line in layer.lines if line.running and sum(map(str.isalpha, line.text)) >= 4]
    absent = [edge for edge in edges if len(edge) >= 6 and normalize(edge).lower() not in rest]
    tests += [{"type": "absent", "text": edge} for edge in absent]
    own = "\n\n".join(line.text for line in body)
    tests = [*passing(tests, own)]
    if (asked_for := _as_policies_write(body)) != own:
        tests = [*passing(tests, asked_for)]
    tests.append(baseline(own, strange=layer.strange))
    if layer.explained:
        # Running headers count towards the budget, so that a transcript with them is not too long.
        tests.append({"type": "baseline", "max_length": budget(count_visible(text))})
    return named(tests, pdf, layer.number)


def _blocks(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Neighbouring lines one below the other, as close as lines of a paragraph and of about one height."""
    block: list[Line] = []
    for line in lines:
        if block and not _goes_on(block[-1], line):
            yield block
            block = []
        block.append(line)
    if block:
        yield block


def _goes_on(line: Line, below: Line) -> bool:
    height = max(line.top - line.bottom, below.top - below.bottom)
    shared = min(line.right, below.right) - max(line.left, below.left)
    return shared > 0 and line.bottom + 0.5 * height > below.top > line.bottom - 0.9 * height


def _above(first: Line, second: Line) -> bool:
    """Whether the second line follows the first in one column, and neither may float, as a caption does."""
    if CAPTION.match(first.text) or CAPTION.match(second.text):
        return False
    heights = [line.top - line.bottom for line in (first, second)]
    shared = min(first.right, second.right) - max(first.left, second.left)
    near = 0 < first.bottom - second.top < 8 * max(heights) if first.bottom > second.top else False
    return (
        near
        and min(heights) > 0.8 * max(heights)
        and shared > 0.5 * min(first.right - first.left, second.right - second.left)
    )


def _edges(line: Line) -> Sequence[str]:
    tokens = line.text.split()
    return tokens[0], tokens[-1]


def _is_number(token: str) -> bool:
    return token.strip(MARKS).isdigit()


def _piece(line: Line, text: str, lower: str, rng: Random, *, numbered: bool) -> _Piece | None:
    """Three to eight words of a line that stand on the page once."""
    runs = [(run, where) for run, where in _runs(line, numbered=numbered) if len(run) >= 3 and len(" ".join(run)) >= 14]
    for run, where in rng.sample(runs, min(2, len(runs))):
        for _ in range(2):
            length = min(len(run), rng.randint(4, 8))
            at = rng.randint(0, len(run) - length)
            piece = " ".join(run[at : at + length])
            if len(piece) >= 14 and stands_once(piece, text, lower):
                return _Piece(text=piece, stretch=where)
    return None


def _runs(line: Line, *, numbered: bool = False) -> Iterator[tuple[list[str], Line]]:
    """The runs of plain words without a gap between them as between cells, each with its stretch.

    Where lines are `numbered`, a number that begins or ends one may be the line's own.
    """
    tokens = line.text.split()
    boxes = boxes_of(tokens, line)
    stretches, odd = _stretches(line, boxes, tokens), _odd_tokens(line, boxes)
    run: list[str] = []
    for k, token in enumerate(tokens):
        cut = k == len(tokens) - 1 and token.endswith("-")
        edge = numbered and k in (0, len(tokens) - 1) and _is_number(token)
        plain = is_plain(token) and not cut and not edge and k not in odd
        parted = k > 0 and stretches[k] is not stretches[k - 1]
        if run and (not plain or parted):
            yield run, stretches[k - 1]
            run = []
        if plain:
            run.append(token)
    if run:
        yield run, stretches[-1]


def _odd_tokens(line: Line, boxes: Mapping[int, Box]) -> set[int]:
    return {k for k, odd in zip(boxes, line.odd, strict=bool(line.odd) and bool(boxes)) if odd}


def _stretches(line: Line, boxes: Mapping[int, Box], tokens: Sequence[str]) -> list[Line]:
    """The stretch in which each token stands; a line without boxes is one."""
    starts = [n for n, wide in enumerate(_wide_gaps(line, boxes, tokens)) if wide and n]
    places, stretches = [*boxes], [line] * len(tokens)
    if not starts:
        return stretches
    for first, last in pairwise([0, *starts, len(places)]):
        there = [boxes[k] for k in places[first:last]]
        stretch = replace(line, left=there[0][0], right=max(box[2] for box in there))
        begin = places[first] if first else 0
        stretches[begin:] = [stretch] * (len(tokens) - begin)
    return stretches


def _wide_gaps(line: Line, boxes: Mapping[int, Box], tokens: Sequence[str]) -> list[bool]:
    """For each word with a box: whether something else than a space is before it."""
    height = line.top - line.bottom
    gaps = [boxes[b][0] - boxes[a][2] - 0.3 * height * (not tokens[a][-1].isalnum()) for a, b in pairwise(boxes)]
    usual = min((gap for gap in gaps if gap > 0.1 * height), default=height)
    wide = [False, *(gap > 0.9 * height or gap > max(0.5 * height, 1.7 * usual) for gap in gaps)]
    parted = line.parted or (False,) * len(boxes)
    return [a or b for a, b in zip(wide, parted, strict=True)] if boxes else []


def _as_policies_write(lines: Sequence[Line]) -> str:
    """The text as a good transcript writes it: paragraphs, rows of tables in HTML, odd words as formulas."""
    paragraphs = []
    for line in lines:
        tokens = line.text.split()
        boxes = boxes_of(tokens, line)
        odd, stretches = _odd_tokens(line, boxes), _stretches(line, boxes, tokens)
        words = [escape(f"${token}$" if k in odd else token, quote=False) for k, token in enumerate(tokens)]
        parts = [
            " ".join(word for word, _ in group)
            for _, group in groupby(zip(words, stretches, strict=True), key=lambda pair: id(pair[1]))
        ]
        row = "".join(f"<td>{part}</td>" for part in parts)
        paragraphs.append(f"<table><tr>{row}</tr></table>" if len(parts) > 1 else "".join(parts))
    return "\n\n".join(paragraphs)
