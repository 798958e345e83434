"""Reward: a transcript agrees with its siblings, without any reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from ocr_rl.contract import Page, Score, Transcript
from ocr_rl.text.figures import Text, one_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Medoid:
    """1 - edits to the group's medoid / edits between the two siblings that are least alike (Levenshtein).

    The medoid is the transcript with the fewest edits to all others; of several such, the first. Equal siblings score
    1, and so does a transcript without siblings; an empty group has no scores. Of two siblings that differ the first
    scores 1 and the second 0.
    text: "seen" compares what a reader sees. "written" compares the texts as they are: olmOCR's medoid reward, of the
    body without front matter.
    """

    text: Text = "seen"

    def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
        bodies = [one_text(t.body) if self.text == "seen" else t.body for t in group]
        if not bodies:
            return []
        edits_GG = cdist(bodies, bodies, scorer=Levenshtein.distance)
        to_medoid_G = edits_GG[edits_GG.sum(axis=1).argmin()].tolist()
        most = int(edits_GG.max()) or 1
        return [Score(value=1 - edits / most, why=f"{edits} edits from the medoid") for edits in to_medoid_G]
