"""Which pages are worth their tokens: how much better a page's best sample is than its mean, and which tests part them.

PaddleOCR-VL-1.6 (arXiv:2606.03264) chose the pages of its RL by best minus mean reward of 16 samples. Here tests are
looked at too: a page that its samples always pass, or of which they never read anything, rests. Pure functions of
rewards and verdicts; this file knows nothing about files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Literal

FLAT = 1e-9  # rewards this near to one another are the same

Rest = Literal["", "always", "never", "flat"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Headroom:
    """What samples of one page show of it."""

    page: str
    samples: int
    mean: float  # reward
    best: float
    shares: Mapping[str, float]  # of the samples that pass a test, by the test's id
    rests: Rest  # why there is nothing to learn from it: every test passed, none passed, or all rewards the same

    @property
    def headroom(self) -> float:
        """Best minus mean reward."""
        return self.best - self.mean

    @property
    def contested(self) -> int:
        """How many tests some siblings pass and some fail."""
        return sum(0 < share < 1 for share in self.shares.values())

    @property
    def disagreement(self) -> float:
        """Mean of p (1 - p) over the tests, p the share of samples that pass; 0.25 at most."""
        return fmean([share * (1 - share) for share in self.shares.values()] or [0.0])

    def to_json(self) -> dict[str, Any]:
        figures = {name: getattr(self, name) for name in ("headroom", "contested", "disagreement")}
        return {**asdict(self), "shares": dict(self.shares), **figures}


def headroom_of(
    page: str, rewards: Sequence[float], passed: Mapping[str, Sequence[bool]], asks: Mapping[str, bool] | None = None
) -> Headroom:
    """`rewards`: one a sample, not empty. `passed`: by a test's id, one a sample.

    `asks`: whether a test asks for something that must be read; a test that an empty transcript passes (of a header
    that must be absent, say) does not count where a page is never passed. By default every test asks.
    """
    shares = {name: fmean(map(float, verdicts)) for name, verdicts in passed.items()}
    asked = [share for name, share in shares.items() if asks is None or asks.get(name, True)]
    rests: Rest = ""
    if shares and all(share == 1 for share in shares.values()):
        rests = "always"
    elif asked and not any(asked):
        rests = "never"
    elif max(rewards) - min(rewards) <= FLAT:
        rests = "flat"
    return Headroom(page=page, samples=len(rewards), mean=fmean(rewards), best=max(rewards), shares=shares, rests=rests)


def ranked(pages: Sequence[Headroom]) -> list[Headroom]:
    """Most headroom first; of equal ones the more disagreement by test; pages that rest stand last."""
    return sorted(pages, key=lambda page: (page.rests != "", -page.headroom, -page.disagreement, page.page))


def chosen(pages: Sequence[Headroom], top: float | None) -> list[Headroom]:
    """The first pages that do not rest, `first_of` all; every one of them without `top`."""
    awake = [page for page in ranked(pages) if not page.rests]
    return awake if top is None else awake[: first_of(len(pages), top)]


def first_of(number: int, top: float) -> int:
    """How many of so many `top` means: itself from 1 on, below 1 that share, at least one."""
    return int(top) if top >= 1 else max(1, round(top * number))
