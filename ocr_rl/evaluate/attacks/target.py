"""What an attack may know, and what an attack is: a function from that to another text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A transcript to attack, and what a policy may know besides."""

    text: str  # not blank
    second: str  # another reading of the same page, with other errors
    other: str  # the true transcript of another page
    edges: Sequence[str] = ()  # running header and footer, as far as known
    seed: str

    def rng(self) -> Random:
        return Random(self.seed)


Make = Callable[[Target], str | None]  # None where the text lacks what it changes
