"""Reward: as many tables and as many formulas as the reference has, whatever they say."""

from __future__ import annotations

from dataclasses import dataclass

from ocr_rl.contract import Page, Score, Transcript, per_transcript


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementCount:
    r"""0.5 for the reference's number of HTML tables, 0.5 for its number of formulas; no score without reference.

    Formulas between $$..$$, \(..\) and \[..\] are counted, kind by kind; $..$ and Markdown tables are not seen. It is
    olmOCR's element-count reward with two differences: it counts in the body without front matter, and a page without
    reference has no score instead of 0. If the reference has no element, a transcript without elements scores 1.
    """

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        if page.reference is None:
            return Score(value=None, why="the page has no reference")
        counts, wanted = _counts(transcript.body), _counts(page.reference)
        parts = {name: float(counts[name] == wanted[name]) for name in wanted}
        why = ", ".join(f"{counts[name]} {name} against {wanted[name]} of the reference" for name in wanted)
        return Score(value=sum(parts.values()) / len(parts), parts=parts, why=why)


def _counts(text: str) -> dict[str, int]:
    formulas = _count(text, "$$", "$$") + _count(text, "\\(", "\\)") + _count(text, "\\[", "\\]")
    return {"tables": _count(text.lower(), "<table", ">", "</table>"), "formulas": formulas}


def _count(text: str, *marks: str) -> int:
    """How often the marks stand in the text one after the other, without overlap. Linear in the text."""
    count = at = 0
    while True:
        for mark in marks:
            place = text.find(mark, at)
            if place < 0:
                return count
            at = place + len(mark)
        count += 1
