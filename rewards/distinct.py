"""Reward: the transcript nowhere repeats itself."""

from __future__ import annotations

from dataclasses import dataclass

from ocr_rl.contract import Page, Score, Transcript, per_transcript
from ocr_rl.text.normalize import letters_and_digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Distinct:
    """1 - the share of letters and digits that repeat what stood in the transcript before.

    A repeat is a run of `run` letters and digits that stood there before. Case, white space, punctuation and markup
    without letters do not count. It sees a page written twice and a loop that ends again, where `repetition` sees only
    a loop at the end. Forms that repeat long labels lose a little. It needs no reference; an empty transcript scores 1.
    """

    run: int = 32

    def __post_init__(self) -> None:
        if self.run < 1:
            raise ValueError(f"run must be at least 1, got {self.run}")

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        text = letters_and_digits(transcript.body)
        starts = range(len(text) - self.run + 1) if _repeats(text, max(1, self.run // 2)) else range(0)
        seen: set[str] = set()
        repeated = end = 0  # number of repeated characters; where the last repeat ends
        for start in starts:
            piece = text[start : start + self.run]
            if piece in seen:
                repeated += start + self.run - max(start, end)
                end = start + self.run
            seen.add(piece)
        why = f"{repeated} of {len(text)} letters and digits came before"
        return Score(value=1 - repeated / max(1, len(text)), why=why)


def _repeats(text: str, length: int) -> bool:
    """Whether some piece between two multiples of `length` stood there before: any repeat twice as long holds one."""
    return any(text.find(text[at : at + length], 0, at + length - 1) >= 0 for at in range(length, len(text), length))
