"""Reward: the transcript has no more text than its page holds."""

from __future__ import annotations

from dataclasses import dataclass

from ocr_rl.contract import Page, Score, Transcript, per_transcript
from ocr_rl.text.text_checks import Baseline
from ocr_rl.text.visible import budget, see

STEEP = 8  # what a transcript loses for each share of the page's length that it is too long


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """1 up to the page's own length, then a straight line down to 0 where the transcript is an eighth too long.

    So steep a slope makes it dear to write a line twice in two readings and let the tests choose.

    Lengths count what is seen (`visible.count_visible`), so markup, LaTeX commands and alternative texts cost nothing.
    The page's length is the smallest `max_length` of its baseline tests; without such a test it is the reference's
    length, 2 % and 3 more (`visible.budget`). A page with neither has no score. A short transcript is within every
    budget, so weigh this reward beside one that reads the page.
    """

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        limits = [c.max_length for c in page.checks if isinstance(c, Baseline) and c.max_length is not None]
        if limits:
            most = max(0, min(limits))
        elif page.reference is not None:
            most = budget(see(page.reference).length)
        else:
            return Score(value=None, why="the page has neither a reference nor a baseline test with max_length")
        length = see(transcript.body).length
        value = min(1.0, max(0.0, 1 - STEEP * (length - most) / max(1, most)))
        return Score(value=value, why=f"{length} visible characters, at most {most}")
