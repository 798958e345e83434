"""Rewards: how few characters, or words, must change to turn the transcript into the reference."""

from __future__ import annotations

from dataclasses import dataclass

from ocr_rl.contract import Page, Score, Transcript, per_transcript
from ocr_rl.text.figures import Text, cer, pair, wer


@dataclass(frozen=True, slots=True, kw_only=True)
class Cer:
    """1 - min(1, character error rate); no score for a page without reference.

    The rate is Levenshtein edits / characters of the reference. Against a blank reference a blank transcript scores 1
    and any other 0.
    text: "seen" compares what a reader sees, with one space for white space; "written" the texts as they are, but for
    white space at both ends.
    """

    text: Text = "seen"

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        if page.reference is None:
            return Score(value=None, why="the page has no reference")
        figure = cer(pair(page.reference, transcript.body, self.text))
        return Score(value=1 - min(1.0, figure.value), why=figure.why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wer:
    """1 - min(1, word error rate); no score for a page without reference.

    The rate of `Cer`, counted in words between white space, or in characters where the reference's script has no
    spaces. Case and punctuation count. text: as of `Cer`.
    """

    text: Text = "seen"

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        if page.reference is None:
            return Score(value=None, why="the page has no reference")
        figure = wer(pair(page.reference, transcript.body, self.text))
        return Score(value=1 - min(1.0, figure.value), why=figure.why)
