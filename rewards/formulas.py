"""Reward: the share of the reference's formulas that a transcript has."""

from __future__ import annotations

from dataclasses import dataclass

from ocr_rl.contract import Page, Score, Transcript, per_transcript
from ocr_rl.text.checks import judge
from ocr_rl.text.element_checks import Math
from ocr_rl.text.visible import see


@dataclass(frozen=True, slots=True, kw_only=True)
class Formulas:
    r"""Share of the reference's different formulas that the transcript has; no score if the reference has none.

    The transcript has a formula if it passes the math test of olmOCR-Bench in the strict reading: one of its formulas,
    between \(..\), \[..\], $$..$$ or $..$, renders as this one does. Formulas that the reference lacks cost nothing.
    """

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        if page.reference is None:
            return Score(value=None, why="the page has no reference")
        formulas = dict.fromkeys(formula.tex for formula in see(page.reference).formulas)
        checks = [
            Math(pdf=str(page.pdf), page=page.number, id=f"{page.id}:{formula}", type="math", math=formula)
            for formula in formulas
        ]
        if not checks:
            return Score(value=None, why="the reference has no formula")
        verdicts = judge(checks, transcript.body, "strict")
        passed = sum(verdict.passed for verdict in verdicts)
        first = next((f"; {verdict.why}" for verdict in verdicts if not verdict.passed), "")
        return Score(value=passed / len(checks), why=f"{passed} of {len(checks)} formulas found{first}")
