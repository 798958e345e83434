"""Reward: the share of the page's unit tests that a transcript passes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ocr_rl.contract import Page, Reading, Score, Transcript, per_transcript
from ocr_rl.text.checks import judge


@dataclass(frozen=True, slots=True, kw_only=True)
class PassRate:
    """Share of the page's unit tests that pass; no score for a page without tests.

    reading: "strict" closes the holes of the public benchmark, "compatible" has them.
    by: "micro" counts every test alike, "macro" every test type.
    """

    reading: Reading = "strict"
    by: Literal["micro", "macro"] = "micro"

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        if not page.checks:
            return Score(value=None, why="the page has no tests")
        verdicts = judge(page.checks, transcript.body, self.reading)
        by_type: dict[str, list[bool]] = defaultdict(list)
        for check, verdict in zip(page.checks, verdicts, strict=True):
            by_type[check.type].append(verdict.passed)
        parts = {name: _share(passed) for name, passed in by_type.items()}
        value = _share([v.passed for v in verdicts]) if self.by == "micro" else sum(parts.values()) / len(parts)
        failed = [f"{c.id} ({c.type}): {v.why}" for c, v in zip(page.checks, verdicts, strict=True) if not v.passed]
        more = f" | and {len(failed) - 3} more" if len(failed) > 3 else ""
        why = f"{len(verdicts) - len(failed)} of {len(verdicts)} tests pass"
        return Score(value=value, parts=parts, why=f"{why}; {' | '.join(failed[:3])}{more}" if failed else why)


def _share(passed: Sequence[bool]) -> float:
    return sum(passed) / len(passed)
