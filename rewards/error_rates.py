"""Rewards: how few characters, or words, must change to turn the transcript into the reference."""

from __future__ import annotations

from dataclasses import dataclass

from ocr_rl.contract import Page, Score, Transcript, per_transcript
from ocr_rl.text.distance import character_error_rate, word_error_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Cer:
    """1 - min(1, character error rate); no score for a page without reference.

    The rate is Levenshtein edits / characters of the reference. White space counts, except at both ends. Against a
    blank reference a blank transcript scores 1 and any other 0.
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

    The rate of `Cer`, counted in words between white space. Case and punctuation count.
    """

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        if page.reference is None:
            return Score(value=None, why="the page has no reference")
        rate = word_error_rate(page.reference, transcript.body)
        return Score(value=1 - min(1.0, rate), why=f"word error rate {rate:.3f}")
