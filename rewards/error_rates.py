"""Rewards: how few characters, or words, would have to change to make the reference."""

from __future__ import annotations

from dataclasses import dataclass

from ocr_rl.contract import Page, Score, Transcript, per_transcript
from ocr_rl.text.distance import character_error_rate, word_error_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Cer:
    """1 - min(1, character error rate); no score for a page without reference.

    Levenshtein edits over the characters of the reference; white space counts, but not at both ends. Against a blank
    reference a blank transcript scores 1 and any other 0.
    """

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        if page.reference is None:
            return Score(value=None, why="the page has no reference")
        rate = character_error_rate(page.reference.strip(), transcript.body.strip())
        return Score(value=1 - min(1.0, rate), why=f"character error rate {rate:.3f}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wer:
    """1 - min(1, word error rate); no score for a page without reference.

    As `Cer`, in words between white space; case and punctuation count.
    """

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        if page.reference is None:
            return Score(value=None, why="the page has no reference")
        rate = word_error_rate(page.reference, transcript.body)
        return Score(value=1 - min(1.0, rate), why=f"word error rate {rate:.3f}")
