"""Reward: how well a transcript gives each element of its page (`ocr_rl.text.elements`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ocr_rl.contract import Earned, Page, Score, Transcript, per_transcript
from ocr_rl.text.element_spans import element_spans
from ocr_rl.text.elements import compare


@dataclass(frozen=True, slots=True, kw_only=True)
class Elements:
    """Element score against the reference, in [0, 1]; no score for a page without reference.

    Blocks of text by edit similarity, tables by validity x TEDS-S x TEDS, displayed formulas by how alike they render,
    reading order by edit distance over matched elements; what is missing or invented counts against it.

    part: "value" is all of it; any other part is a reward by itself, and has no score where the reference has no such
    element.
    """

    part: Literal[
        "value", "content", "order", "recall", "precision", "text", "tables", "tables_structure", "formulas"
    ] = "value"

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        if page.reference is None:
            return Score(value=None, why="the page has no reference")
        scores = compare(page.reference, transcript.body)
        why = ", ".join(f"{there} of {all_} {kind}s" for kind, (all_, there) in scores.counts.items())
        return Score(value=getattr(scores, self.part), parts=scores.parts, why=why or "the page is blank")

    def place(self, page: Page, body: str) -> list[Earned]:
        """A part for each element of the page, and one for what is invented: the content. Order has no place."""
        if page.reference is None or self.part not in ("value", "content"):
            return []
        found = element_spans(page.reference, body)
        length = sum(element.length for element in found.elements)
        parts = [Earned(adds=e.length * e.score / length, spans=e.spans) for e in found.elements]
        recall = sum(part.adds for part in parts)
        lost = recall * found.invented_length / (length + found.invented_length) if length else 0.0
        return [*parts, Earned(adds=-lost, spans=found.invented)]
