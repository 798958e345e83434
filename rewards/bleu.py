"""Reward: sentence BLEU of a transcript against the page's reference (as sacrebleu has it; Post, arXiv 1804.08771)."""

from __future__ import annotations

from dataclasses import dataclass

from ocr_rl.contract import Page, Score, Transcript, per_transcript
from ocr_rl.text.ngrams import sentence_bleu


@dataclass(frozen=True, slots=True, kw_only=True)
class Bleu:
    """Sentence BLEU against the reference, in [0, 1]; no score for a page without reference.

    sacrebleu signature: nrefs:1|case:mixed|eff:yes|tok:13a|smooth:exp|version:2.6.0. Sentence BLEU is not comparable
    with corpus BLEU. Against a blank reference a blank transcript scores 1 and any other 0.
    """

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        if page.reference is None:
            return Score(value=None, why="the page has no reference")
        if not page.reference.strip():
            return Score(value=float(not transcript.body.strip()), why="the page is blank")
        result = sentence_bleu(transcript.body, page.reference)
        parts = {f"precision_{n}": share / 100 for n, share in enumerate(result.precisions, 1)}
        why = f"{result.length} words against {result.reference_length}, brevity penalty {result.brevity:.2f}"
        # a perfect score may come out as 100.00000000000004
        return Score(value=min(1.0, max(0.0, result.score / 100)), parts=parts, why=why)
