"""The pen that writes a document: what its blocks share, such as the subject and the numbers of headings and tables.

Knows nothing about blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from ocr_rl.pages.synth.sheets import prose


@dataclass(slots=True, kw_only=True)
class Pen:
    """Writes about one subject, and counts the things that are numbered."""

    rng: Random
    subject: prose.Subject
    math: float = 0.0  # share of sentences with a formula
    notes: float = 0.0  # share of paragraphs with a footnote
    emphasis: float = 0.06  # share of sentences with a bold or an italic word
    counts: dict[str, int] = field(default_factory=dict)
    sections: list[int] = field(default_factory=list)

    def next(self, what: str) -> int:
        self.counts[what] = self.counts.get(what, self.rng.randint(0, 8)) + 1
        return self.counts[what]

    def sentence(self) -> str:
        return prose.sentence(self.rng, self.subject)

    def words(self, template: str) -> str:
        text = prose.filled(template, self.rng, self.subject)
        return text[0].upper() + text[1:]
