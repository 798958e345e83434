"""Reward: how much of the reference a transcript shares, character by character or word by word."""

from __future__ import annotations

from dataclasses import dataclass

from ocr_rl.contract import Page, Score, Transcript, per_transcript
from ocr_rl.text.figures import Text, Unit, diff_ratio, pair


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffRatio:
    """1 - (insertions + deletions) / (both lengths) against the reference; no score for a page without reference.

    It is rapidfuzz's normalised Indel similarity. unit: "word" compares words between white space, so that a word is
    right or wrong as a whole.
    text: "seen" compares what a reader sees. "written" compares the texts as they are, but for white space at both
    ends: olmOCR's edit-distance reward, of the body without front matter.
    """

    unit: Unit = "character"
    text: Text = "seen"

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        if page.reference is None:
            return Score(value=None, why="the page has no reference")
        figure = diff_ratio(pair(page.reference, transcript.body, self.text), self.unit)
        return Score(value=figure.value, why=figure.why)
