"""Reward: character n-gram F-score against the page's reference (as sacrebleu has it; Popovic, WMT 2015, W15-3049)."""

from __future__ import annotations

from dataclasses import dataclass

from ocr_rl.contract import Page, Score, Transcript, per_transcript
from ocr_rl.text.ngrams import sentence_chrf


@dataclass(frozen=True, slots=True, kw_only=True)
class Chrf:
    """Sentence chrF2 against the reference, in [0, 1]; no score for a page without reference.

    sacrebleu signature: nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0. White space does not count.
    Against a blank reference a blank transcript scores 1 and any other 0.
    """

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        if page.reference is None:
            return Score(value=None, why="the page has no reference")
        if not page.reference.strip():
            return Score(value=float(not transcript.body.strip()), why="the page is blank")
        value = sentence_chrf(transcript.body, page.reference) / 100
        # as with BLEU, the mean over orders may end a hair beside 1
        return Score(value=min(1.0, max(0.0, value)))
