"""Reward: the transcript has no more text than its page holds."""

from __future__ import annotations

from dataclasses import dataclass

from ocr_rl.contract import Page, Score, Transcript, per_transcript
from ocr_rl.text.normalize import count_alphanumeric
from ocr_rl.text.text_checks import Baseline

LEAST = 10  # letters and digits that every budget has in addition


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """1 up to the page's budget of letters and digits, beyond it budget / letters and digits of the transcript.

    The budget is the smallest `max_length` of the page's baseline tests. Without such a test it is `slack` times the
    letters and digits of the reference, plus 10. A page with neither has no score. A short transcript is within every
    budget, so weigh this reward beside one that reads the page.
    """

    slack: float = 1.25

    def __post_init__(self) -> None:
        if not 1 <= self.slack < float("inf"):
            raise ValueError(f"slack must be at least 1, got {self.slack}")

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        limits = [c.max_length for c in page.checks if isinstance(c, Baseline) and c.max_length is not None]
        if limits:
            most = max(0, min(limits))
        elif page.reference is not None:
            most = round(self.slack * count_alphanumeric(page.reference)) + LEAST
        else:
            return Score(value=None, why="the page has neither a reference nor a baseline test with max_length")
        count = count_alphanumeric(transcript.body)
        return Score(value=min(1.0, most / max(1, count)), why=f"{count} letters and digits, at most {most}")
