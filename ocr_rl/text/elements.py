r"""How well a transcript gives each element of a page: blocks of text, tables, displayed formulas, and their order.

    compare(reference, candidate).value   # in [0, 1]; 1 if all is there, in order, and nothing else

Text is looked for in one stream of all the transcript's text, so to cut or join paragraphs costs nothing; it scores
1 - Levenshtein distance / the longer length. Tables pair one to one and score validity x TEDS-S x TEDS; formulas by how
alike they render. What the transcript has beyond all matches counts against it. To match elements and to take reading
order as an edit distance is OmniDocBench's way (arXiv 2412.07626), TEDS is Zhong et al.'s (arXiv 1911.10683).
Differences on purpose: tables are compared without regard to notation and headings; formulas as KaTeX shows them,
which is no CDM (arXiv 2409.03643); in the order long elements count more; a likeness below 0.6 counts less, because any
two texts of a language are somewhat alike. Knows nothing about tests or rewards.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import fsum
from statistics import fmean

from rapidfuzz.distance import Levenshtein

from ocr_rl.text.element import Element, elements
from ocr_rl.text.formulas import likeness
from ocr_rl.text.places import places
from ocr_rl.text.table_tree import Tree
from ocr_rl.text.teds import similarity
from ocr_rl.text.walk import Kind

Part = tuple[int, int, int]  # element, and start and end in its text
KINDS: tuple[Kind, ...] = ("text", "table", "formula")
ORDER_SHARE = 0.25  # of the value
READABLE = 0.6  # likeness from which it is the score; below, the score falls faster and is 0 at `CHANCE`
CHANCE = 0.3  # likeness of two unrelated texts of one language
AS_TEXT = {"text": 1.0, "table": 0.3, "formula": 0.8}  # worth of an element that is written as running text
NEAREST = 4  # tables or formulas of the transcript that one of the reference is compared with,
NEARLY = 0.2  # whose text is less like it by at most this than that of the likest
MOST_TEXT = 4  # lengths of the reference (and 1000 characters): longer tables, and text behind them, are not looked at
BLANK = 10  # visible characters on a blank page that halve its value


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementScores:
    """Figures of one transcript, in [0, 1]; None where the reference has no such element."""

    value: float  # content x (3/4 + 1/4 order)
    content: float  # visible length x score over the reference's elements / (their length + what is invented)
    order: float | None  # share of the matched elements, by length, that are in order; None for a single element
    recall: float  # visible length x score over the reference's elements / their length
    precision: float  # share of the transcript's visible length that has a place in the reference
    text: float | None  # score of blocks of text and headings, by length
    tables: float | None  # mean TEDS; a table that is missing counts 0
    tables_structure: float | None  # mean TEDS-S
    formulas: float | None  # mean likeness of displayed formulas
    counts: dict[Kind, tuple[int, int]]  # by kind: elements of the reference, and those that score above 0

    @property
    def parts(self) -> dict[str, float]:
        """The figures that apply, without the value."""
        names = ("content", "order", "recall", "precision", "text", "tables", "tables_structure", "formulas")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What a transcript has for an element of the reference."""

    score: float
    likeness: float  # TEDS, likeness of formulas, or similarity of text
    structure: float = 0.0  # TEDS-S
    place: tuple[int, int] = (0, 0)  # in the transcript
    parts: tuple[Part, ...] = ()  # of the transcript's elements that it was read from
    excess: float = 0.0  # visible length beyond the reference's, or for which it is too little alike


_MISSING = Match(score=0.0, likeness=0.0)
_Pairs = dict[int, tuple[int, Match]]  # element of the reference -> element of the transcript


def element_score(reference: str, candidate: str) -> float:
    """`compare(reference, candidate).value`."""
    return compare(reference, candidate).value


def compare(reference: str, candidate: str) -> ElementScores:
    """Figures of a transcript without front matter against the reference. Bounded time for any transcript."""
    wanted, shown = elements(reference), elements(candidate)
    shown_length = sum(element.length for element in shown)
    if not wanted:
        return _blank(shown_length)
    matches, invented = match(wanted, shown)
    return _figures(wanted, matches, invented, shown_length)


def match(wanted: Sequence[Element], shown: Sequence[Element]) -> tuple[list[Match], float]:
    """What a transcript's elements have for each element of the reference, and the visible length of what is beyond."""
    pairs = _pairs(wanted, shown, "table", _alike_tables) | _pairs(wanted, shown, "formula", _alike_formulas)
    return _matches(wanted, shown, pairs)


# --- Tables and formulas: pairs ---------------------------------------------------------------------------------------


def _pairs(
    wanted: Sequence[Element], shown: Sequence[Element], kind: Kind, alike: Callable[[Element, Element], Match]
) -> _Pairs:
    """Pairs of tables or of formulas, the most alike first; none of two that have nothing in common."""
    own = [n for n, element in enumerate(wanted) if element.kind == kind]
    others = [m for m, element in enumerate(shown) if element.kind == kind or (kind == "formula" and element.tex)]
    pairs = _equal_pairs(wanted, shown, own, others)
    taken = {m for m, _ in pairs.values()}
    others = [m for m in others if m not in taken]
    tried = [
        (alike(wanted[n], shown[m]), n, m) for n in own if n not in pairs for m in _nearest(wanted[n], shown, others)
    ]
    for match, n, m in sorted(tried, key=lambda pair: (-pair[0].score, pair[1:])):
        if match.score > 0 and n not in pairs and m not in taken:
            taken.add(m)
            pairs[n] = (m, replace(match, excess=max(0, shown[m].length - wanted[n].length)))
    return pairs


def _equal_pairs(
    wanted: Sequence[Element], shown: Sequence[Element], own: Sequence[int], others: Sequence[int]
) -> _Pairs:
    """Pairs of tables or formulas that are the same, in order."""
    places: dict[tuple[str, Tree | None], deque[int]] = defaultdict(deque)
    texts = {wanted[n].text for n in own}
    for m in others:
        if shown[m].text in texts:
            places[shown[m].text, shown[m].tree].append(m)
    same = Match(score=1.0, likeness=1.0, structure=1.0)
    keys = {n: (wanted[n].text, wanted[n].tree) for n in own}
    return {n: (places[key].popleft(), same) for n, key in keys.items() if places[key]}


def _nearest(element: Element, shown: Sequence[Element], others: Sequence[int]) -> list[int]:
    """Those of `others` whose text is nearly as much like the element's as the likest one's."""
    most = MOST_TEXT * len(element.text) + 1000
    alike = {m: _similarity(element.text, shown[m].text) for m in others if len(shown[m].text) <= most}
    least = max(alike.values(), default=0.0) - NEARLY
    return sorted((m for m in alike if alike[m] >= least), key=lambda m: (-alike[m], m))[:NEAREST]


def _alike_tables(wanted: Element, shown: Element) -> Match:
    """Validity counts against the reference's own. A table without structure is worth its words."""
    assert wanted.tree and shown.tree
    as_text = AS_TEXT["table"] * _readable(_similarity(wanted.text, shown.text))
    teds, structure = (similarity(wanted.tree, shown.tree, structure_only=only) for only in (False, True))
    validity = min(1.0, shown.validity / wanted.validity) if wanted.validity else 1.0
    return Match(score=max(as_text, validity * structure * teds), likeness=teds, structure=structure)


def _alike_formulas(wanted: Element, shown: Element) -> Match:
    alike = 1.0 if wanted.text == shown.text else likeness(wanted.tex, shown.tex)
    return Match(score=_readable(alike), likeness=alike)


# --- Text: places in the stream ---------------------------------------------------------------------------------------


def _matches(wanted: Sequence[Element], shown: Sequence[Element], pairs: _Pairs) -> tuple[list[Match], float]:
    """What the transcript has for each element of the reference, and the visible length of what it has beyond."""
    running = sorted(set(range(len(shown))) - {m for m, _ in pairs.values()})
    left = [n for n in range(len(wanted)) if n not in pairs]
    most = MOST_TEXT * sum(len(element.text) for element in wanted) + 1000
    stream, starts, stretches = places([wanted[n].text for n in left], [shown[m].text for m in running], longest=most)
    matches = [_MISSING] * len(wanted)
    for n, (m, match) in pairs.items():
        behind = bisect_left(running, m)  # the first block of the stream behind the pair
        place = starts[behind] if behind < len(starts) else len(stream), m
        matches[n] = replace(match, place=place, parts=((m, 0, len(shown[m].text)),))
    claimed = [0.0] * len(running)  # characters of each block that have a place in the reference, without spaces
    for n, parts in zip(left, stretches, strict=True):
        window = "".join(stream[start:end] for start, end in parts)
        alike = _similarity(wanted[n].text, window.strip())
        if score := _readable(alike):
            own: list[Part] = []
            for start, end in parts:
                for block in range(max(0, bisect_right(starts, start) - 1), bisect_left(starts, end)):
                    first, last = max(start, starts[block]), min(end, starts[block] + len(shown[running[block]].text))
                    claimed[block] += _count(stream[first:last]) * score / alike
                    own.append((running[block], first - starts[block], last - starts[block]))
            worth = AS_TEXT[wanted[n].kind] * score
            of_kind = 0.0 if wanted[n].table else worth  # running text is no table at all
            matches[n] = Match(score=worth, likeness=of_kind, place=(parts[0][0], len(shown)), parts=tuple(own))
    rest = (
        shown[m].length * max(0.0, 1 - own / _count(shown[m].text)) for m, own in zip(running, claimed, strict=True)
    )
    invented = fsum(rest)
    return matches, invented + sum(match.excess for _, match in pairs.values())


def _count(text: str) -> int:
    return len(text) - text.count(" ")


def _similarity(a: str, b: str) -> float:
    return Levenshtein.normalized_similarity(a, b)


def _readable(alike: float) -> float:
    """The likeness as a score: what is no better than chance is worth nothing."""
    return alike if alike >= READABLE else max(0.0, alike - CHANCE) * READABLE / (READABLE - CHANCE)


def _blank(length: int) -> ElementScores:
    value = BLANK / (BLANK + length)
    return ElementScores(
        value=value,
        content=value,
        order=None,
        recall=1.0,
        precision=float(not length),
        text=None,
        tables=None,
        tables_structure=None,
        formulas=None,
        counts={},
    )


def _figures(wanted: Sequence[Element], matches: Sequence[Match], invented: float, shown_length: int) -> ElementScores:
    both = list(zip(wanted, matches, strict=True))
    length = sum(element.length for element in wanted)
    reached = fsum(element.length * match.score for element, match in both)
    content = reached / (length + invented)
    order = _order(both) if len(wanted) > 1 else None
    by_kind: dict[Kind, list[tuple[Element, Match]]] = {
        kind: own for kind in KINDS if (own := [pair for pair in both if pair[0].kind == kind])
    }
    text, tables, formulas = (by_kind.get(kind) for kind in KINDS)
    return ElementScores(
        value=content if order is None else content * (1 - ORDER_SHARE * (1 - order)),
        content=content,
        order=order,
        recall=reached / length,
        precision=1 - min(1.0, invented / shown_length) if shown_length else 0.0,
        text=fsum(e.length * m.score for e, m in text) / sum(e.length for e, _ in text) if text else None,
        tables=fmean(match.likeness for _, match in tables) if tables else None,
        tables_structure=fmean(match.structure for _, match in tables) if tables else None,
        formulas=fmean(match.likeness for _, match in formulas) if formulas else None,
        counts={kind: (len(own), sum(match.score > 0 for _, match in own)) for kind, own in by_kind.items()},
    )


def _order(both: Sequence[tuple[Element, Match]]) -> float:
    """Share of the matched elements, by length, that need not be moved: those of the heaviest ascending sequence.

    That is 1 - an edit distance between the two orders in which to move an element costs its length. So a small element
    at the wrong place never costs more than it would cost to leave it out.
    """
    there = sorted((match.place, n, element.length) for n, (element, match) in enumerate(both) if match.score > 0)
    kept: list[int] = []  # by place: length of the heaviest ascending sequence that ends here
    for at, (_, n, length) in enumerate(there):
        kept.append(length + max((kept[k] for k in range(at) if there[k][1] < n), default=0))
    return max(kept, default=1) / sum(length for _, _, length in there) if there else 1.0
