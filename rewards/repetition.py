"""Reward: the transcript does not end in a loop."""

from __future__ import annotations

from dataclasses import dataclass

from ocr_rl.contract import Page, Score, Transcript, per_transcript

COPIES = 4  # so many copies of a piece, back to back, are a loop
SHORTEST = 50  # characters after the first copy; dot leaders, empty cells and lines for signatures are shorter


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition:
    """1 - the share of the transcript that is a loop at its end; 1 without a loop.

    A loop is an ending of at least four copies of one piece of any length. The first copy may be cut off in front, and
    the last behind. All copies but the first count. White space at both ends does not count. A loop that the text
    leaves again is not seen, nor is a loop with a counter in it. It needs no reference.
    """

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        text = transcript.body.strip()
        # The last characters of a loop stand in it before; to look for them costs much less than to look for the loop.
        repeated, piece = _loop(text) if text.find(text[-SHORTEST:]) < len(text) - SHORTEST else (0, "")
        if repeated < SHORTEST:
            return Score(value=1.0)
        why = f"{repeated} of {len(text)} characters repeat {piece[:40]!r}"
        return Score(value=1 - repeated / len(text), why=why)


def _loop(text: str) -> tuple[int, str]:
    """(characters after the first copy, piece) of the longest loop at the end; (0, "") if there is none.

    It computes Knuth, Morris and Pratt's prefix function of the text read backwards. An ending of n characters whose
    longest border has b characters repeats every n - b characters. Linear in the text.
    """
    backwards = text[::-1]
    border = [0] * len(text)
    b, repeated, period = 0, 0, 0
    for i in range(1, len(text)):
        while b and backwards[i] != backwards[b]:
            b = border[b - 1]
        b += backwards[i] == backwards[b]
        border[i] = b
        if b > repeated and i + 1 >= COPIES * (i + 1 - b):
            repeated, period = b, i + 1 - b
    return repeated, text[len(text) - period :]
