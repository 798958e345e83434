"""Reward: a transcript agrees with its siblings, without any reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from ocr_rl.contract import Page, Score, Transcript


@dataclass(frozen=True, slots=True, kw_only=True)
class Medoid:
    """1 - edits to the group's medoid / edits between the two siblings that are least alike (Levenshtein).

    The medoid is the transcript with the fewest edits to all others; of several such, the first. Equal siblings score
    1, and so does a transcript without siblings; an empty group has no scores. Of two siblings that differ the first
    scores 1 and the second 0. It is olmOCR's medoid reward, but of the body without front matter.
    """

    def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
        if not group:
            return []
        bodies = [transcript.body for transcript in group]
        edits_GG = cdist(bodies, bodies, scorer=Levenshtein.distance)
        to_medoid_G = edits_GG[edits_GG.sum(axis=1).argmin()].tolist()
        most = int(edits_GG.max()) or 1
        return [Score(value=1 - edits / most, why=f"{edits} edits from the medoid") for edits in to_medoid_G]
