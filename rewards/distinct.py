"""Reward: the transcript nowhere repeats itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from ocr_rl.contract import Page, Score, Transcript, per_transcript
from ocr_rl.text.normalize import letters_and_digits

FEW = 16  # pieces; around more than so many it is faster to keep every run


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
        repeated = end = 0  # number of repeated characters; where the last repeat ends
        for start in repeats(text, self.run):
            repeated += start + self.run - max(start, end)
            end = start + self.run
        why = f"{repeated} of {len(text)} letters and digits came before"
        return Score(value=1 - repeated / max(1, len(text)), why=why)


def repeats(text: str, run: int) -> Iterator[int]:
    """Where runs of characters start that stood there before, in order."""
    half = max(1, run // 2)
    # Of the pieces between two multiples of half a run, every repeat holds one. On most pages few stood there before.
    pieces = (at for at in range(half, len(text), half) if _stood_before(text, at, half))
    if len(some := list(islice(pieces, FEW + 1))) <= FEW:
        starts = sorted({start for at in some for start in range(at - half + 1, at + 1)})
        yield from (start for start in starts if start + run <= len(text) and _stood_before(text, start, run))
        return
    seen: set[str] = set()
    for start in range(len(text) - run + 1):
        piece = text[start : start + run]
        if piece in seen:
            yield start
        seen.add(piece)


def _stood_before(text: str, start: int, length: int) -> bool:
    return text.find(text[start : start + length], 0, start + length - 1) >= 0
