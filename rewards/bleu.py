"""Reward: sentence BLEU of a transcript against the page's reference (sacrebleu; Post, arXiv 1804.08771)."""

from __future__ import annotations

from dataclasses import dataclass

from ocr_rl.contract import Page, Score, Transcript, per_transcript
from ocr_rl.text.figures import Text, bleu, pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Bleu:
    """Sentence BLEU against the reference, in [0, 1]; no score for a page without reference.

    sacrebleu signature: nrefs:1|case:mixed|eff:yes|tok:13a|smooth:exp|version:2.6.0, and tok:char where the reference's
    script has no spaces. Sentence BLEU cannot be compared with corpus BLEU. Against a blank reference a blank
    transcript scores 1 and any other 0.
    text: "seen" compares what a reader sees, "written" the texts as they are.
    """

    text: Text = "seen"

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        if page.reference is None:
            return Score(value=None, why="the page has no reference")
        figure = bleu(pair(page.reference, transcript.body, self.text))
        return Score(value=figure.value, parts=figure.parts, why=figure.why)
