"""Reward: how much of the reference a transcript shares, character by character or word by word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ocr_rl.contract import Page, Score, Transcript, per_transcript
from ocr_rl.text.distance import indel_similarity


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffRatio:
    """1 - (insertions + deletions) / (both lengths) against the reference; no score for a page without reference.

    It is rapidfuzz's normalised Indel similarity, as in olmOCR's edit-distance reward, but of the body without front
    matter. White space at both ends does not count. unit: "word" compares words between white space, so that a word is
    right or wrong as a whole.
    """

    unit: Literal["character", "word"] = "character"

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        if page.reference is None:
            return Score(value=None, why="the page has no reference")
        body, reference = transcript.body.strip(), page.reference.strip()
        a, b = (body, reference) if self.unit == "character" else (body.split(), reference.split())
        why = f"{len(a)} {self.unit}s against {len(b)} of the reference"
        return Score(value=indel_similarity(a, b), why=why)
