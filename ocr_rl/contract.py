"""The nouns that plug-ins see: Page, Check, Verdict, Transcript, Score, Reward.

This file needs the standard library alone, and a reward package may depend on this file alone. It knows nothing about
reading PDFs, models or files on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

Finish = Literal["stop", "length", "abort"]


class UserError(Exception):
    """Wrong input from outside. The message is one sentence that names the file, the field and the way out.

    The command line prints it without a traceback and exits with code 2.
    """


class NoWorker(Exception):
    """A worker process could not begin: no input is at fault, so that nothing goes on as if one were.

    The command line prints the sentence as it does a UserError's.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a check says of a transcript. `why` tells people what was searched and what stands closest to it."""

    passed: bool
    why: str = ""
    degree: float = 0.0  # how nearly it passes, in [0, 1]; 1 where it does

    def __post_init__(self) -> None:
        object.__setattr__(self, "degree", 1.0 if self.passed else min(1.0, max(0.0, self.degree)))


class Check(Protocol):
    """One unit test of a page. `ocr_rl.text.checks` implements the eight olmOCR-Bench types."""

    @property
    def id(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def asked(self) -> int | None:
        """How many characters of the page the test asks for; None for a test of the page as a whole."""
        ...

    def run(self, prepared: Any, reading: Reading) -> Verdict:
        """Judge a transcript prepared by `ocr_rl.text.checks.prepare`."""
        ...


# compatible: the public olmOCR-Bench's verdicts, quirks included; strict: without the holes that a policy would learn.
Reading = Literal["compatible", "strict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a PDF, with what is known of its true content."""

    id: str  # "<first 8 hex digits of the document's sha256>:p3"
    pdf: Path
    number: int  # 1-based
    reference: str | None = None  # the true transcript without front matter (Markdown, HTML tables, LaTeX)
    checks: Sequence[Check] = ()
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """All that a reward may see of a sample."""

    raw: str  # as the policy wrote it
    body: str  # without the front matter
    finish: Finish  # "stop" iff the policy ended by itself (EOS)
    num_tokens: int

    def __post_init__(self) -> None:
        if self.num_tokens < 0:
            raise ValueError(f"num_tokens must not be negative, got {self.num_tokens}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a reward gives to a transcript.

    `value` lies in [0, 1]. None says that the reward does not apply to the *page*, and then it is None for the whole
    group. `parts` are the pieces of which the value is made, such as pass rates by type. `why` is a line for people.
    """

    value: float | None
    parts: Mapping[str, float] = field(default_factory=dict)
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Earned:
    """A part of a reward's value, and the stretches of a transcript's body that it comes from (characters, half-open).

    Without stretches it is of the whole transcript. An empty one is where something is missing. `wrong` is what inside
    of the stretches is not as it should be; empty where that is all of them.
    """

    adds: float
    spans: tuple[tuple[int, int], ...] = ()
    wrong: tuple[tuple[int, int], ...] = ()


@runtime_checkable
class Reward(Protocol):
    """A reward plug-in: a frozen dataclass whose fields are its options.

    It sees all sibling transcripts of one page, which medoid and diversity need, and returns a score for each, in
    order. It must be pure, picklable and deterministic, and use no network. Malformed model output gets a low score. An
    exception is a fault of the reward: it is counted as a fault and never becomes a score of 0.
    """

    def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]: ...


def per_transcript(
    judge: Callable[[Any, Page, Transcript], Score],
) -> Callable[[Any, Page, Sequence[Transcript]], Sequence[Score]]:
    """Lift a method `(self, page, transcript) -> Score` to the group signature of `Reward`."""

    @wraps(judge)
    def over_group(self: Any, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
        return [judge(self, page, transcript) for transcript in group]

    return over_group
