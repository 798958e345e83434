"""Where the elements of a page stand in a transcript: what each one was read from, what is missing, what is invented.

    places = element_spans(reference, body)
    places.elements[0].spans      # in characters of body; empty: the place where a missing one belongs
    places.invented               # what no element of the reference claims

Elements are matched as `elements` scores them. Knows nothing about tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ocr_rl.text.element import Element, elements
from ocr_rl.text.elements import Part, match
from ocr_rl.text.source_map import SourceMap, Span, gap, merged, without_tags
from ocr_rl.text.walk import Kind

_SHORTEST = 2  # visible characters that are shown as invented, at least
_BETWEEN = "\ue001"  # elements; equal to nothing in a transcript


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementPlace:
    """An element of the reference, and what of the transcript was matched with it."""

    kind: Kind
    score: float  # [0, 1]
    length: float  # visible characters of the reference's element
    reference: Span | None  # in the reference
    spans: tuple[Span, ...]  # in the transcript


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementPlaces:
    """All elements of a page, in the reference's order, and what the transcript has beyond them."""

    elements: tuple[ElementPlace, ...]
    invented: tuple[Span, ...]
    invented_length: float  # visible characters that count as invented


def element_spans(reference: str, body: str) -> ElementPlaces:
    """Places of the reference's elements in a transcript without front matter; no spans beyond 20,000 characters."""
    wanted, shown = elements(reference), elements(body)
    own_length = float(sum(element.length for element in shown))
    matches, invented = match(wanted, shown) if wanted else ([], own_length)
    true, own = _Joined(wanted, reference), _Joined(shown, body)
    places = []
    for n, (element, found_in) in enumerate(zip(wanted, matches, strict=True)):
        there = true.span((n, 0, len(element.text)))
        spans = [own.span(part) for part in found_in.parts]
        if not spans and there:
            spans = [gap(reference, there, body)]
        told = merged(span for span in spans if span)
        places.append(
            ElementPlace(kind=element.kind, score=found_in.score, length=element.length, reference=there, spans=told)
        )
    claimed = [part for one in matches for part in one.parts]
    rest = (own.span(part) for part in _rest(shown, claimed))
    stretches = merged(span for span in rest if span and span[0] < span[1])
    return ElementPlaces(elements=tuple(places), invented=stretches, invented_length=invented)


def _rest(shown: Sequence[Element], claimed: Sequence[Part]) -> list[Part]:
    """What of each element nobody claims."""
    rest = list[Part]()
    for m, element in enumerate(shown):
        at = 0
        for _, start, end in [*sorted(part for part in claimed if part[0] == m), (m, len(element.text), 0)]:
            if len(element.text[at:start].strip()) >= _SHORTEST:
                rest.append((m, at, start))
            at = max(at, end)
    return rest


class _Joined:
    """The texts of elements one after the other, and the map from there to what they are of."""

    def __init__(self, some: Sequence[Element], source: str) -> None:
        self._starts = [0]
        for element in some:
            self._starts.append(self._starts[-1] + len(element.text) + 1)
        self._map = SourceMap(_BETWEEN.join(element.text for element in some), without_tags(source))

    def span(self, part: Part) -> Span | None:
        element, start, end = part
        return self._map.span(self._starts[element] + start, self._starts[element] + end)
