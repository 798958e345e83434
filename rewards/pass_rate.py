"""Rewards: the share of the page's unit tests that a transcript passes, and how nearly it passes them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

from ocr_rl.contract import Check, Page, Reading, Score, Transcript, Verdict
from ocr_rl.text.checks import TYPES, judge
from ocr_rl.text.suggest import did_you_mean

By = Literal["micro", "macro", "length", "weighted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PassRate:
    """Share of the page's unit tests that pass; no score for a page without tests.

    reading: "strict" closes the holes of the public benchmark, "compatible" has them.
    by: "micro" counts every test alike, "macro" every type of test alike. "length" counts a test by the characters of
    the page that it asks for, and a test of the whole page as the mean of the others. "weighted" counts types by
    `weights`; a type that is not named has weight 1.
    floors: the share that a type should reach at least. If types stay below their floors, the smallest share / floor
    scales the value, so that no type is given up for the others.
    """

    reading: Reading = "strict"
    by: By = "micro"
    weights: Mapping[str, float] = field(default_factory=dict)
    floors: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for option, low in (("weights", 0.0), ("floors", 1e-6)):
            for name, value in getattr(self, option).items():
                if name not in TYPES:
                    raise ValueError(f"{option} names no test type {name!r}{did_you_mean(name, TYPES)}")
                if not low <= value < float("inf") or (option == "floors" and value > 1):
                    raise ValueError(f"{option} of {name!r} is out of range, got {value}")
        if bool(self.weights) != (self.by == "weighted"):
            raise ValueError('weights go with by = "weighted", and by = "weighted" needs weights')

    @staticmethod
    def value_of(verdict: Verdict) -> float:
        return float(verdict.passed)

    def shares(self, checks: Sequence[Check]) -> list[float]:
        """What each test counts, before floors; they sum to 1."""
        if self.by in ("micro", "length"):
            counts = _lengths(checks) if self.by == "length" else [1.0] * len(checks)
        else:
            of_type = Counter(check.type for check in checks)
            counts = [self.weights.get(check.type, 1.0) / of_type[check.type] for check in checks]
        return [count / sum(counts) for count in counts]

    def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
        weights = {check.type: self.weights.get(check.type, 1.0) for check in page.checks}
        if not any(weights.values()):
            silent = Score(value=None, why="the page has no tests" + (" that count" if page.checks else ""))
            return [silent] * len(group)
        lengths = _lengths(page.checks) if self.by == "length" else None
        return [self._score(page, transcript, weights, lengths) for transcript in group]

    def _score(
        self, page: Page, transcript: Transcript, weights: Mapping[str, float], lengths: Sequence[float] | None
    ) -> Score:
        by_type: dict[str, list[float]] = defaultdict(list)
        verdicts = judge(page.checks, transcript.body, self.reading)
        for check, verdict in zip(page.checks, verdicts, strict=True):
            by_type[check.type].append(self.value_of(verdict))
        parts = {name: fmean(values) for name, values in by_type.items()}
        if self.by in ("micro", "length"):
            value = fmean(map(self.value_of, verdicts), lengths)
        else:
            value = sum(weights[name] * share for name, share in parts.items()) / sum(weights.values())
        value *= min([1.0, *(parts[name] / floor for name, floor in self.floors.items() if name in parts)])
        failed = [f"{c.id} ({c.type}): {v.why}" for c, v in zip(page.checks, verdicts, strict=True) if not v.passed]
        more = f" | and {len(failed) - 3} more" if len(failed) > 3 else ""
        why = f"{len(verdicts) - len(failed)} of {len(verdicts)} tests pass"
        return Score(value=value, parts=parts, why=f"{why}; {' | '.join(failed[:3])}{more}" if failed else why)


@dataclass(frozen=True, slots=True, kw_only=True)
class PassDegree(PassRate):
    """Mean degree to which the page's unit tests pass; no score for a page without tests.

    The degree of a test is 1 where it passes and tells else how near the transcript comes: how alike the closest place
    is, how many of a cell's neighbours are right (`Verdict.degree`). Options as those of `pass_rate`; a test counts by
    the length of what it asks for unless `by` says otherwise. Siblings that fail the same tests differ here, so that
    fewer groups are flat.
    """

    by: By = "length"

    @staticmethod
    def value_of(verdict: Verdict) -> float:
        return verdict.degree


def _lengths(checks: Sequence[Check]) -> list[float]:
    """The weight of each check: what it asks for, or the mean of the others where it asks for no text."""
    asked = [check.asked for check in checks]
    usual = fmean([length for length in asked if length is not None] or [1.0])
    return [max(1.0, usual if length is None else length) for length in asked]
