"""Reward: the transcript stays well below the largest length that the policy may write."""

from __future__ import annotations

from dataclasses import dataclass

from ocr_rl.contract import Page, Score, Transcript, per_transcript

PARTS = 5  # the reward falls in the last of so many parts of the limit: 4,096 of 20,480 tokens in DAPO


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """1 up to four fifths of `max_tokens`, then a straight line down to 0 at `max_tokens`.

    This is DAPO's soft over-long punishment (Yu et al., arXiv 2503.14476, section 3.4), moved from [-1, 0] to [0, 1].
    max_tokens: at most the recipe's `sampling.max_tokens`. It needs no reference and does not read the text.
    """

    max_tokens: int = 4096

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        left = self.max_tokens - transcript.num_tokens
        value = min(1.0, max(0.0, PARTS * left / self.max_tokens))
        return Score(value=value, why=f"{transcript.num_tokens} of {self.max_tokens} tokens")
