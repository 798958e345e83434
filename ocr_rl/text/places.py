"""Where each of several texts stands in one longer text (the stream), each letter of which belongs to one of them.

Texts that stand there unchanged are placed first. A long text that was misread is placed by a chain of its unchanged
pieces, as a read is placed in a genome (Li, "minimap2", arXiv:1708.01492): pieces in order, with a price for each jump,
so that another text may stand in its middle. What is left is looked for where the stream is still free. Time is bounded
for any stream. Knows nothing about blocks or scores.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rapidfuzz import fuzz
from rapidfuzz.distance import Indel, ScoreAlignment

from ocr_rl.text.normalize import joins

LONG = 24  # characters; a shorter text is only looked for where no long one stands
PIECE = 8  # characters of an unchanged piece, at least
MOST_PLACES = 4  # of 8 characters; if they stand at more places they say nothing
MOST_PIECES = 120  # of a text, the longest
LOOK_BACK = 40  # pieces before one that a chain may have left out
JUMP = 12  # characters that a jump to another part of the stream costs a chain, at most
HOLE = 16  # characters that may stand between two pieces beyond those of the text; a longer hole is left free
WORD = 64  # characters that rapidfuzz compares at once
LEAST = 0.4  # similarity (insertions and deletions) of a text without unchanged pieces

Stretch = tuple[int, int]  # start and end in the stream


class _Piece(NamedTuple):
    """stream[at : at + length] is text[offset : offset + length]."""

    at: int
    offset: int
    length: int


@dataclass(slots=True)
class _Part:
    """A stretch that belongs to a text, and how many characters of that text are missing at either end of it."""

    text: int
    start: int
    end: int
    before: int = 0
    behind: int = 0


class Places(NamedTuple):
    stream: str
    starts: list[int]  # of the blocks
    stretches: list[list[Stretch]]  # of each text, in order; none if it is not found


def places(texts: Sequence[str], blocks: Sequence[str], *, longest: int) -> Places:
    """The blocks as one stream, and where each text stands in its first `longest` characters."""
    stream, starts = joined(blocks)
    desk = _Desk(stream[:longest], zip(blocks, starts, strict=True))
    for n, text in enumerate(texts):
        desk.take_block(n, text)
    by_length = sorted(set(range(len(texts))) - desk.placed, key=lambda n: (-len(texts[n]), n))
    long = [n for n in by_length if len(texts[n]) >= LONG]
    for n in long:
        desk.take_unchanged(n, texts[n])
    misread = [n for n in long if n not in desk.placed]
    index = _index(desk.stream) if misread else {}
    for n in misread:
        desk.take_chain(n, texts[n], index)
    for n in by_length[len(long) :]:
        desk.take_unchanged(n, texts[n])
    desk.grow()
    for n in by_length:
        if n not in desk.placed:
            desk.take_similar(n, texts[n])
    stretches: list[list[Stretch]] = [[] for _ in texts]
    for part in sorted(desk.parts, key=lambda part: part.start):
        stretches[part.text].append((part.start, part.end))
    return Places(stream, starts, stretches)


class _Desk:
    """The stream, and what of it is taken."""

    def __init__(self, stream: str, blocks: Iterable[tuple[str, int]]) -> None:
        self.stream = stream
        self.parts: list[_Part] = []
        self.placed: set[int] = set()  # texts
        self._taken = bytearray(len(self.stream))
        self._blocks: dict[str, deque[int]] = defaultdict(deque)  # where each block starts
        for block, start in blocks:
            if start + len(block) <= len(stream):
                self._blocks[block].append(start)

    def take_block(self, n: int, text: str) -> None:
        """Take the first free block that is the text."""
        if starts := self._blocks.get(text):
            start = starts.popleft()
            self._take(_Part(n, start, start + len(text)))

    def take_unchanged(self, n: int, text: str) -> None:
        """Take the first free place where the text stands as it is, and as words of its own if it is short."""
        at = self.stream.find(text)
        while at >= 0:
            end = at + len(text)
            if self._taken.find(1, at, end) < 0 and (len(text) >= LONG or self._stands_alone(at, end)):
                self._take(_Part(n, at, end))
                return
            at = self.stream.find(text, at + 1)

    def take_chain(self, n: int, text: str, index: Mapping[str, Sequence[int]]) -> None:
        """Take what lies between the pieces of the best chain, if it holds an eighth of the text."""
        chain = _chain(self._pieces(text, index))
        if sum(piece.length for piece in chain) < max(2 * PIECE, len(text) // 8):
            return
        parts = [_Part(n, chain[0].at, chain[0].at + chain[0].length, before=chain[0].offset)]
        offset = chain[0].offset + chain[0].length  # of the text behind the last piece
        for piece in chain[1:]:
            part, missing = parts[-1], piece.offset - offset
            if piece.at - part.end - missing <= HOLE and self._taken.find(1, part.end, piece.at) < 0:
                part.end = piece.at + piece.length
            else:
                part.behind = missing // 2
                parts.append(_Part(n, piece.at, piece.at + piece.length, before=missing - missing // 2))
            offset = piece.offset + piece.length
        parts[-1].behind = len(text) - offset
        for part in parts:
            self._take(part)

    def grow(self) -> None:
        """Give each part what it lacks at its ends, as far as that is free; two that want the same share it."""
        self.parts.sort(key=lambda part: part.start)
        ends = [_Part(-1, 0, 0), *self.parts, _Part(-1, len(self.stream), len(self.stream))]
        for left, right in zip(ends[:-1], ends[1:], strict=True):
            room, wanted = right.start - left.end, left.behind + right.before
            share = min(left.behind, room if wanted <= room or not wanted else room * left.behind // wanted)
            left.end += share
            right.start -= min(right.before, room - share)
        for part in self.parts:
            self._mark(part)

    def take_similar(self, n: int, text: str) -> None:
        """Take the free window that is most like the text, if that is alike at all."""
        needle = text if len(text) <= 2 * WORD else text[:WORD]  # since all of a long one takes much longer
        best, start, end = LEAST, 0, 0
        for a, b in self._free():
            room = self.stream[a:b]
            if len(room) <= len(needle):
                if len(room) > best * len(needle) / 2 and (alike := Indel.normalized_similarity(needle, room)) > best:
                    best, start, end = alike, a, b
            elif (near := _window(needle, room, best)) and near.score > 100 * best:
                best, start, end = near.score / 100, a + near.dest_start, a + near.dest_end
                end = min(b, end + len(text) - len(needle))
        if end:
            self._take(_Part(n, start, end))

    def _take(self, part: _Part) -> None:
        self.parts.append(part)
        self.placed.add(part.text)
        self._mark(part)

    def _mark(self, part: _Part) -> None:
        self._taken[part.start : part.end] = b"\1" * (part.end - part.start)

    def _free(self) -> Iterator[Stretch]:
        end = 0
        while (start := self._taken.find(0, end)) >= 0:
            end = self._taken.find(1, start)
            end = end if end >= 0 else len(self.stream)
            yield start, end

    def _stands_alone(self, start: int, end: int) -> bool:
        """Whether no ASCII word is cut at either end; other scripts may write words without spaces."""
        around = self.stream[max(0, start - 1) : start + 1], self.stream[end - 1 : end + 1]
        return not any(len(pair) == 2 and pair.isalnum() and pair.isascii() for pair in around)

    def _pieces(self, text: str, index: Mapping[str, Sequence[int]]) -> list[_Piece]:
        """Maximal unchanged pieces of at least 8 characters, all of them free, by their place in the stream."""
        taken = self._taken
        runs: dict[int, list[list[int]]] = defaultdict(list)  # at - offset -> first and last offset of each run
        for offset in range(len(text) - PIECE + 1):
            for at in index.get(text[offset : offset + PIECE], ()):
                if taken[at] or taken[at + PIECE - 1]:
                    continue
                of_diagonal = runs[at - offset]
                if of_diagonal and of_diagonal[-1][1] == offset - 1:
                    of_diagonal[-1][1] = offset
                else:
                    of_diagonal.append([offset, offset])
        pieces = [
            _Piece(diagonal + first, first, last - first + PIECE)
            for diagonal, of_diagonal in runs.items()
            for first, last in of_diagonal
        ]
        return sorted(sorted(pieces, key=lambda piece: -piece.length)[:MOST_PIECES])


def joined(blocks: Sequence[str]) -> tuple[str, list[int]]:
    """The blocks parted by spaces, where their script writes any, and where each starts."""
    pieces: list[str] = []
    starts: list[int] = []
    length = 0
    for block in blocks:
        if pieces and not joins(pieces[-1], block):
            pieces.append(" ")
            length += 1
        starts.append(length)
        pieces.append(block)
        length += len(block)
    return "".join(pieces), starts


def _index(stream: str) -> dict[str, list[int]]:
    """Where each 8 characters of the stream stand, if that is at few places."""
    index: dict[str, list[int]] = {}
    for at in range(len(stream) - PIECE + 1):
        where = index.setdefault(stream[at : at + PIECE], [])
        if len(where) <= MOST_PLACES:
            where.append(at)
    return {piece: where for piece, where in index.items() if len(where) <= MOST_PLACES}


def _chain(pieces: Sequence[_Piece]) -> list[_Piece]:
    """The pieces, in order in both texts and without overlap, that are worth most: their lengths less their jumps."""
    if len(pieces) < 2:
        return list(pieces)
    worth: list[int] = []
    back: list[int] = []  # the piece before, or -1
    for n, piece in enumerate(pieces):
        best, before, (at, offset, length) = piece.length, -1, piece
        for m in range(n - 1, max(-1, n - LOOK_BACK - 1), -1):
            other = pieces[m]
            if worth[m] + length <= best or other.offset >= offset:
                continue
            overlap = max(0, other.at + other.length - at, other.offset + other.length - offset)
            jump = abs(at - offset - other.at + other.offset)
            together = worth[m] + length - overlap - (jump if jump < JUMP else JUMP)
            if overlap < length and together > best:
                best, before = together, m
        worth.append(best)
        back.append(before)
    at = max(range(len(pieces)), key=worth.__getitem__)
    chain = [pieces[at]]
    while (at := back[at]) >= 0:
        other, piece = pieces[at], chain[0]
        overlap = max(0, other.at + other.length - piece.at, other.offset + other.length - piece.offset)
        chain[0] = _Piece(piece.at + overlap, piece.offset + overlap, piece.length - overlap)
        chain.insert(0, other)
    return chain


def _window(needle: str, room: str, least: float) -> ScoreAlignment | None:
    return fuzz.partial_ratio_alignment(needle, room, score_cutoff=100 * least)
