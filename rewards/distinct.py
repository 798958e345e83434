"""Reward: the transcript does not say the same thing again, anywhere."""

from __future__ import annotations

from dataclasses import dataclass

from ocr_rl.contract import Page, Score, Transcript, per_transcript


@dataclass(frozen=True, slots=True, kw_only=True)
class Distinct:
    """1 - the share of letters and digits that lie in a run of `run` of them that stood in the transcript before.

    Case, white space, punctuation and markup without letters do not count. Sees a page written twice and a loop that
    is left again, where `repetition` sees only a loop at the end; forms that repeat long labels lose a little. Needs no
    reference. An empty transcript has 1.
    """

    run: int = 32

    def __post_init__(self) -> None:
        if self.run < 1:
            raise ValueError(f"run must be at least 1, got {self.run}")

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        text = "".join(filter(str.isalnum, transcript.body.lower()))
        seen: set[str] = set()
        again = end = 0  # characters that were there before; where the last run of them ends
        for start in range(len(text) - self.run + 1):
            piece = text[start : start + self.run]
            if piece in seen:
                again += start + self.run - max(start, end)
                end = start + self.run
            seen.add(piece)
        return Score(value=1 - again / max(1, len(text)), why=f"{again} of {len(text)} letters and digits came before")
