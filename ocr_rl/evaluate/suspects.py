"""Tests that are likely to be wrong themselves: samples that read the rest of a page well agree on another reading.

The suspicion of a test is the share of a page's samples that fail it and share one contradiction of it, each sample
counted by how well it does on the page's other tests: failing share x agreement x standing, in [0, 1]. Pure functions;
`contradictions` knows what a sample says against a test.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from ocr_rl.contract import Check, Transcript
from ocr_rl.evaluate.contradictions import THERE, TURNED, contradictions, reading
from ocr_rl.text.checks import Prepared, prepare

ALONE = frozenset({THERE, TURNED})  # contradictions that say nothing of a place
MOST_READINGS = 5  # different ones that are kept for people


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One sample before one test."""

    passed: bool
    degree: float  # 1 where it passes
    against: Collection[str] = ()  # the contradictions
    reading: str = ""  # for people


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """What a page's samples say against one test."""

    id: str
    value: float  # in [0, 1]
    failing: float  # share of the samples
    agreement: float  # share of the failing samples that share the contradiction of most
    standing: float  # mean degree of the samples on the page's other tests
    tests: int  # of the page that are contradicted so
    against: str  # that contradiction; "" where none fails
    readings: Sequence[tuple[str, int]]  # what failing samples read there, and how many of them, most first


def look_at(checks: Sequence[Check], transcripts: Sequence[Transcript]) -> list[list[Look]]:
    """A row for each transcript, a look for each check, in the strict reading."""
    return [[_look(check, prepared) for check in checks] for prepared in (prepare(one.body) for one in transcripts)]


def _look(check: Check, prepared: Prepared) -> Look:
    verdict = check.run(prepared, "strict")
    if verdict.passed:
        return Look(passed=True, degree=1.0)
    against = contradictions(check, prepared, verdict)
    return Look(passed=False, degree=verdict.degree, against=against, reading=reading(check, prepared, verdict))


def suspicions(ids: Sequence[str], looks: Sequence[Sequence[Look]]) -> list[Suspicion]:
    """One a test, in the order of `ids`; `looks` has a row for each sample of the page, at least one."""
    totals = [sum(look.degree for look in row) for row in looks]
    others = max(1, len(ids) - 1)
    columns = [[row[k] for row in looks] for k in range(len(ids))]
    shared = Counter(statement for column in columns for statement in held_by_most(column))
    return [
        suspicion(
            id_, column, [(total - look.degree) / others for total, look in zip(totals, column, strict=True)], shared
        )
        for id_, column in zip(ids, columns, strict=True)
    ]


def held_by_most(looks: Sequence[Look]) -> set[str]:
    """The contradictions that at least half of the samples hold against a test."""
    counts = Counter(statement for look in looks for statement in look.against)
    return {statement for statement, count in counts.items() if 2 * count >= len(looks)}


def suspicion(
    id_: str, looks: Sequence[Look], standings: Sequence[float], shared: Mapping[str, int] | None = None
) -> Suspicion:
    """Of one test: a look and a standing for each sample.

    `shared`: how many tests of the page most samples contradict so, this one included.
    """
    failing = [look for look in looks if not look.passed]
    weights: dict[str, float] = defaultdict(float)
    counts = Counter(statement for look in looks for statement in look.against)
    for look, standing in zip(looks, standings, strict=True):
        for statement in look.against:
            weights[statement] += standing / len(looks)
    tests = {one: 1 if one in ALONE else max(1, (shared or {}).get(one, 1)) for one in weights}
    for statement, number in tests.items():
        weights[statement] /= number
    most = max(weights, key=lambda statement: (weights[statement], statement), default="")
    return Suspicion(
        id=id_,
        value=weights[most] if most else 0.0,
        failing=len(failing) / len(looks),
        agreement=counts[most] / len(failing) if most else 0.0,
        standing=fmean(standings),
        tests=tests.get(most, 1),
        against=most,
        readings=_counted(look.reading for look in failing),
    )


def _counted(readings: Iterable[str]) -> list[tuple[str, int]]:
    counts: dict[str, int] = defaultdict(int)
    for text in readings:
        counts[text] += 1
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_READINGS]
