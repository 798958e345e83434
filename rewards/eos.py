"""Reward: the transcript ended by itself."""

from __future__ import annotations

from dataclasses import dataclass

from ocr_rl.contract import Page, Score, Transcript, per_transcript


@dataclass(frozen=True, slots=True, kw_only=True)
class Eos:
    """1 if the policy ended the transcript itself (EOS), 0 if it was cut off."""

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        ended = transcript.finish == "stop"
        why = "" if ended else f"{transcript.finish} after {transcript.num_tokens} tokens"
        return Score(value=float(ended), why=why)
