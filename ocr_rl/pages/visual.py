"""The letters of a line from left to right, as they stand on paper: what a PDF's text layer holds.

Words of scripts that run from right to left are turned round, with their numbers as they are, and so is the order of
the words in a line of such scripts. A short form of Unicode's algorithm (UAX 9) for lines whose layout nobody sees:
enough for readers of PDFs, which turn such words round again.
"""

from __future__ import annotations

import re
import unicodedata

_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]")
_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")


def visual_order(line: str) -> str:
    """The line with its words from right to left turned round; the same line where it has none."""
    letters = len(_RIGHT_TO_LEFT.findall(line))
    if not letters:
        return line
    words = [_turned(word) if _RIGHT_TO_LEFT.search(word) else word for word in line.split(" ")]
    if 2 * letters > sum(map(str.isalpha, line)):
        return " ".join(reversed(words))
    ordered: list[str] = []
    run: list[str] = []
    for word in [*words, ""]:
        if _RIGHT_TO_LEFT.search(word):
            run.append(word)
        else:
            ordered += [*reversed(run), word]
            run = []
    return " ".join(ordered[:-1])


def _turned(word: str) -> str:
    """The word backwards; numbers stay, and marks stay behind their letter."""
    clusters: list[str] = []
    place = 0
    while place < len(word):
        number = _NUMBER.match(word, place)
        end = number.end() if number else place + 1
        while end < len(word) and unicodedata.combining(word[end]):
            end += 1
        clusters.append(word[place:end])
        place = end
    return "".join(reversed(clusters))
