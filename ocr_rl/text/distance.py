"""Where in a text something like a given text (the needle) stands, and how alike the two are.

Built on rapidfuzz. Knows nothing about the meaning of the texts: callers normalise them first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from rapidfuzz import fuzz
from rapidfuzz.distance import Indel, Levenshtein

HALF = 0.5
WORD = 64  # characters that rapidfuzz compares at once
SHORTEST_PIECE = 4  # characters; a shorter piece of a needle stands nearly everywhere
MOST_PLACES = 24  # windows compared around pieces of a needle; if there are more, the whole text is searched
MOST_HITS = 20_000  # places of a needle's piece, from either end; a text that has more is made of nothing else


class Near(NamedTuple):
    """The window text[start:end] that is most like the needle."""

    similarity: float  # 1 - (insertions + deletions) / (both lengths), in [0, 1]
    start: int
    end: int


def closest(needle: str, text: str) -> Near:
    """The window of `text` that is most like the needle, for messages that say where the needle may have gone.

    A window is as long as the needle, or shorter where an end of the text cuts it off. The search has two steps. It
    first compares the windows around places where a quarter of the needle stands unchanged. If none of them is half
    alike, it looks for the needle's first 64 characters in the whole text. A window that is less than half alike does
    not count (similarity 0), because any two texts of one language are nearly that much alike.

    A text shorter than the needle is compared as a whole; no part of the needle is searched in it.
    """
    if not needle or len(text) < len(needle):
        return Near(Indel.normalized_similarity(needle, text), 0, len(text))
    near = _around_pieces(needle, text, 4, len(needle) // 4)
    if near and near.similarity >= HALF:
        return near
    near = _anywhere(needle[:WORD], text, HALF)  # the start of a long needle, since all of it takes much longer
    if len(needle) <= WORD or near.similarity == 0.0:
        return near
    start, end = near.start, min(len(text), near.start + len(needle))
    similarity = Indel.normalized_similarity(needle, text[start:end])
    return Near(similarity, start, end) if similarity >= HALF else Near(0.0, 0, 0)


def close_enough(needle: str, text: str, least: float) -> Near | None:
    """The most similar window of `text` if its similarity is at least `least`, else None. The search is exact.

    The needle must not be empty, and the text must be at least as long as the needle.
    """
    at = text.find(needle)
    if at >= 0:
        return Near(1.0, at, at + len(needle))
    most_edits = int((1.0 - least) * 2 * len(needle) + 1e-9)
    if most_edits == 0:
        return None
    # Of most_edits + 1 pieces of the needle at least one stands unchanged in such a window.
    near = _around_pieces(needle, text, most_edits + 1, most_edits)
    if near is None:
        near = _anywhere(needle, text, least)
    return near if near.similarity >= least else None


def _anywhere(needle: str, text: str, least: float) -> Near:
    alignment = fuzz.partial_ratio_alignment(needle, text, score_cutoff=100.0 * least)
    return Near(alignment.score / 100.0, alignment.dest_start, alignment.dest_end) if alignment else Near(0.0, 0, 0)


def _around_pieces(needle: str, text: str, pieces: int, slack: int) -> Near | None:
    """The best window that holds one of `pieces` equal pieces of the needle, at most `slack` characters off its place.

    The similarity is 0 if no piece stands in the text. None if this search cannot tell: if the pieces are too short
    or stand at too many places, or if the best window is cut off although the text goes on there.
    """
    size = len(needle) // pieces
    if size < SHORTEST_PIECE:
        return None
    starts: set[int] = set()  # where the needle would start, by the places of its pieces
    for offset in range(0, size * pieces, size):
        piece = needle[offset : offset + size]
        at = text.find(piece)
        while at >= 0:
            starts.add(at - offset)
            if len(starts) > MOST_PLACES:
                return None
            at = text.find(piece, at + 1)
    best, window = Near(0.0, 0, 0), (0, 0)
    if not starts:
        return best
    end = -1
    behind, reach = len(text), len(needle) + slack
    regions: list[tuple[int, int]] = []
    for start in sorted(starts):
        first, last = max(0, start - slack), min(behind, start + reach)
        if first < end:
            first = regions.pop()[0]
        regions.append((first, last))
        end = last
    for first, last in regions:
        near = _anywhere(needle, text[first:last], best.similarity)
        if near.similarity > best.similarity:
            best, window = Near(near.similarity, near.start + first, near.end + first), (first, last)
    cut = best.end - best.start < len(needle)
    if cut and (best.start == window[0] > 0 or best.end == window[1] < len(text)):
        return None
    return best


def partial_similarity(a: str, b: str) -> float:
    """rapidfuzz's partial ratio in [0, 1]: the *shorter* of the two texts against windows of the longer one."""
    return fuzz.partial_ratio(a, b) / 100.0


def within(similarity: float, needle_len: int, window_len: int, max_diffs: int, allowance: int = 0) -> bool:
    """Whether similarity >= 1 - max_diffs / allowance, computed in whole numbers.

    The similarity is 1 - edits / (needle_len + window_len) with a whole number of edits. In floating point a tie would
    fall on either side by accident. `allowance` is the needle's length unless it is given.
    """
    edits = round((1.0 - similarity) * (needle_len + window_len))
    return edits * (allowance or needle_len) <= max_diffs * (needle_len + window_len)


class Match(NamedTuple):
    """text[start:end] is `distance` edits (Levenshtein) from the needle."""

    start: int
    end: int
    distance: int


def first_and_last(needle: str, text: str, max_diffs: int) -> tuple[int, int] | None:
    """Where the first and the last near match of `needle` start; None if there is no match.

    A near match is within a Levenshtein distance of `max_diffs`. Of matches whose ranges overlap only the nearest
    counts; of equally near ones the longest. With max_diffs 0 every exact hit counts, also where hits overlap.
    """
    if max_diffs == 0:
        at = text.find(needle)
        return None if at < 0 else (at, text.rfind(needle))
    # Of max_diffs + 1 equal pieces of a needle one stands unchanged in every match. A short needle has no such pieces.
    if len(needle) // (max_diffs + 1) < 3:
        return _first_and_last_short(needle, text, max_diffs)
    matches = sorted(set(_from_pieces(needle, text, max_diffs)))
    if not matches:
        return None
    return _best(_leading_group(matches)).start, _best(_trailing_group(matches)).start


def _best(group: Iterable[Match]) -> Match:
    return min(group, key=lambda match: (match.distance, match.start - match.end, match.start))


def _leading_group(matches: Sequence[Match]) -> list[Match]:
    """The first of the matches (sorted by start), and all that overlap it directly or through others."""
    end = matches[0].end
    group: list[Match] = []
    for match in matches:
        if group and match.start >= end:
            break
        end = max(end, match.end)
        group.append(match)
    return group


def _trailing_group(matches: Sequence[Match]) -> list[Match]:
    by_end = sorted(matches, key=lambda match: -match.end)
    start = by_end[0].start
    group: list[Match] = []
    for match in by_end:
        if group and match.end <= start:
            break
        start = min(start, match.start)
        group.append(match)
    return group


def _from_pieces(needle: str, text: str, max_diffs: int) -> Iterator[Match]:
    size = len(needle) // (max_diffs + 1)
    for start in range(0, len(needle) - size + 1, size):
        piece, before, after = needle[start : start + size], needle[:start][::-1], needle[start + size :]
        for at in _hits(piece, text, max(0, start - max_diffs), MOST_HITS // (max_diffs + 1)):
            right = _grow(after, text[at + size : max(0, at - start + len(needle) + max_diffs)], max_diffs)
            if right is None:
                continue
            rest = max_diffs - right[0]
            left = _grow(before, text[max(0, at - start - rest) : at][::-1], rest)
            if left is not None:
                yield Match(at - left[1], at + size + right[1], left[0] + right[0])


def _hits(piece: str, text: str, start: int, most: int) -> list[int]:
    """Where `piece` stands in text[start:]: at most the first `most` and the last `most` places."""
    hits: list[int] = []
    at = text.find(piece, start)
    while at >= 0 and len(hits) < most:
        hits.append(at)
        at = text.find(piece, at + 1)
    if at < 0:
        return hits
    end, last = len(text), hits[-1]
    while len(hits) < 2 * most and (at := text.rfind(piece, last + 1, end)) >= 0:
        hits.append(at)
        end = at + len(piece) - 1
    return hits


def _grow(needle: str, window: str, max_diffs: int) -> tuple[int, int] | None:
    """(distance, length) of the start of `window` that is nearest to the needle; the longest of equally near ones."""
    n = len(needle)
    if window.startswith(needle):
        return 0, n
    if max_diffs == 0:
        return None
    best, length = max_diffs, -1
    for size in range(max(0, n - max_diffs), min(len(window), n + max_diffs) + 1):
        edits = Levenshtein.distance(needle, window[:size], score_cutoff=best)
        if edits <= best:
            best, length = edits, size
    return None if length < 0 else (best, length)


def _first_and_last_short(needle: str, text: str, max_diffs: int) -> tuple[int, int] | None:
    """`first_and_last` for short needles: it tries every window that starts with one of the needle's first characters.

    All windows are compared at once, in arrays. S: the starts that are tried.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    wanted = np.frombuffer(needle.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    starts_S = np.flatnonzero(np.isin(codes, wanted[: max_diffs + 1]))
    n, reach = len(needle), len(needle) + max_diffs
    padded = np.concatenate([codes, np.full(reach, 0xFFFFFFFF, dtype=np.uint32)])
    rows = [np.full(len(starts_S), i, dtype=np.int16) for i in range(n + 1)]  # distance from needle[:i] to the window
    least_S = np.full(len(starts_S), max_diffs + 1, dtype=np.int16)
    length_S = np.zeros(len(starts_S), dtype=np.int64)  # the longest of the nearest windows
    longest_S = np.zeros(len(starts_S), dtype=np.int64)  # the longest of all near windows
    for size in range(1, reach + 1):
        chars_S = padded[starts_S + size - 1]
        diagonal, rows[0] = rows[0], np.full(len(starts_S), size, dtype=np.int16)
        for i in range(1, n + 1):
            cost = np.minimum(diagonal + (chars_S != wanted[i - 1]), np.minimum(rows[i], rows[i - 1]) + 1)
            diagonal, rows[i] = rows[i], cost.astype(np.int16)
        near_S = (rows[n] <= max_diffs) & (starts_S + size <= len(codes))
        longest_S[near_S] = size
        better_S = near_S & (rows[n] <= least_S)
        least_S[better_S], length_S[better_S] = rows[n][better_S], size
    hits = np.flatnonzero(longest_S)
    if not len(hits):
        return None
    starts, ends = starts_S[hits], np.maximum.accumulate((starts_S + longest_S)[hits])
    heads = np.concatenate([[0], np.flatnonzero(starts[1:] >= ends[:-1]) + 1, [len(hits)]])  # first match of a group
    best = []
    for a, b in ((heads[0], heads[1]), (heads[-2], heads[-1])):
        group = hits[a:b]
        nearest = np.lexsort((starts_S[group], -length_S[group], least_S[group]))[0]
        best.append(int(starts_S[group[nearest]]))
    return best[0], best[1]
