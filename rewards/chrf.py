"""Reward: character n-gram F-score against the page's reference (sacrebleu; Popovic, WMT 2015, W15-3049)."""

from __future__ import annotations

from dataclasses import dataclass

from ocr_rl.contract import Page, Score, Transcript, per_transcript
from ocr_rl.text.figures import Text, chrf, pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Chrf:
    """Sentence chrF2 against the reference, in [0, 1]; no score for a page without reference.

    sacrebleu signature: nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0. White space does not count.
    Against a blank reference a blank transcript scores 1 and any other 0.
    text: "seen" compares what a reader sees, "written" the texts as they are.
    """

    text: Text = "seen"

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        if page.reference is None:
            return Score(value=None, why="the page has no reference")
        figure = chrf(pair(page.reference, transcript.body, self.text))
        return Score(value=figure.value, why=figure.why)
