"""The tests of a page on all samples of a step, judged when a run is looked at: in worker processes, in bounded time.

A transcript is any text and a page may have hundreds of tests: a group that takes too long is left unjudged, alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ocr_rl.contract import Check, Verdict
from ocr_rl.evaluate.results import judge_each
from ocr_rl.pages.workers import Pool, Refusal

TIMEOUT_S = 120.0  # for the samples of one page


@dataclass(frozen=True, slots=True)
class Job:
    """Transcripts without front matter, and the tests of their page."""

    checks: Sequence[Check]
    bodies: Sequence[str]


Judged = list[Sequence[Verdict]]  # by sample and test


def open_judges(workers: int) -> Pool:
    return Pool(judge_bodies, workers=workers, timeout_s=TIMEOUT_S)


def judge_bodies(job: Job) -> Judged:
    """By the strict reading, as rewards do; siblings that are alike are judged once."""
    verdicts = {body: judge_each(job.checks, body, "strict") for body in dict.fromkeys(job.bodies)}
    return [verdicts[body] for body in job.bodies]


def judge_all(pool: Pool, jobs: Iterable[Job]) -> Iterator[Judged | Refusal]:
    """Verdicts of each group in order, or why there are none."""
    return (result for _, result in pool.run(jobs))
