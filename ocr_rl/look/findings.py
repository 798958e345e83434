"""What a run did to its pages and tests: learnt, forgotten, never read; where reward rose and truth did not.

Works on visits: what the samples of a page came to at a step, in numbers alone. *Truth* is the share of a page's tests
that its samples pass. Pure functions, no files.

With two or more visits of a page the first half of them is compared with the last half (the middle one of an odd
number is in neither), so that one lucky sample makes no finding.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev

CLEAR = 0.05  # change of a page's truth that is worth a line
LOW, HIGH = 0.25, 0.75  # a test is learnt from at most the one to at least the other, forgotten the other way
STILL = 0.05  # share of a type's tests whose samples disagree at which it teaches nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """The samples of a page at a step; of a held-out page its transcript at an evaluation."""

    step: int
    set: str  # "" for pages that are learnt from
    page: str
    samples: int
    tests: tuple[str, ...]  # ids
    types: tuple[str, ...]
    passes: tuple[int, ...] | None  # by test: how many samples pass it; None where nothing was judged
    best: float | None = None  # the largest truth of a sample
    reward: float | None = None  # mean
    spread: float | None = None  # standard deviation of the rewards
    against: tuple[int, int] = (0, 0)  # pairs of siblings that reward and truth order differently, and all they order

    @property
    def truth(self) -> float | None:
        if self.passes is None or not self.passes:
            return None
        return sum(self.passes) / (self.samples * len(self.passes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a page, or a test of it, came to over its visits."""

    set: str
    page: str
    test: str = ""
    type: str = ""
    before: float
    after: float
    visits: int
    step: int  # of the last visit, where one can see it

    @property
    def by(self) -> float:
        return self.after - self.before


@dataclass(frozen=True, slots=True, kw_only=True)
class Teaching:
    """How much a test type taught in each third of the run: shares of its tests on the pages drawn."""

    type: str
    split: tuple[float, ...]  # some siblings pass, some fail: only these teach
    whole: tuple[float, ...]  # all pass
    none: tuple[float, ...]  # none passes
    tests: int

    @property
    def ever(self) -> bool:
        """Whether it taught in some third."""
        return max(self.split) > STILL

    @property
    def stopped(self) -> str:
        """Why it teaches no more, or never did; "" while it does."""
        if len(self.split) < 2 or self.split[-1] > max(STILL, self.split[0] / 4):
            return ""
        return "all samples pass" if self.whole[-1] >= self.none[-1] else "no sample passes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """Steps over which reward rose and truth did not."""

    first: int
    last: int
    reward: tuple[float, float]
    truth: tuple[float, float]
    measured: str  # on what truth was: "" the samples' own tests, else a held-out set


def page_changes(visits: Iterable[Visit]) -> list[Change]:
    """Pages with two or more judged visits, from the largest loss of truth to the largest gain."""
    changes = []
    for (name, page), judged in _by_page(visits).items():
        if len(judged) > 1:
            before, after = (fmean(_truth(visit) for visit in half) for half in _halves(judged))
            changes.append(_change(name, page, judged, before, after))
    return sorted(changes, key=lambda change: (change.by, change.page))


def test_changes(visits: Iterable[Visit]) -> tuple[list[Change], list[Change], list[Change]]:
    """Tests learnt, tests forgotten, and tests that no sample of any visit passed (`after` is 0, `before` too)."""
    learnt, forgotten, never = [], [], []
    for (name, page), judged in _by_page(visits).items():
        for i, (test, type_) in enumerate(zip(judged[-1].tests, judged[-1].types, strict=True)):
            of_test = [visit for visit in judged if visit.tests == judged[-1].tests]
            halves = _halves(of_test) if len(of_test) > 1 else (of_test, of_test)
            before, after = (_pass_share(half, i) for half in halves)
            change = _change(name, page, of_test, before, after, test, type_)
            if before <= LOW and after >= HIGH:
                learnt.append(change)
            elif before >= HIGH and after <= LOW:
                forgotten.append(change)
            elif all(_passes(visit)[i] == 0 for visit in of_test):
                never.append(change)
    return learnt, forgotten, sorted(never, key=lambda change: -change.visits)


def never_read(visits: Iterable[Visit]) -> list[Change]:
    """Pages whose best sample ever passes less than half of their tests; `after` is its share."""
    pages = []
    for (name, page), judged in _by_page(visits).items():
        best = max(visit.best or 0.0 for visit in judged)
        if best < 0.5:
            pages.append(_change(name, page, judged, best, best))
    return sorted(pages, key=lambda change: (change.after, change.page))


def teaching(visits: Iterable[Visit]) -> list[Teaching]:
    """By test type, over the pages that are learnt from; those that stopped teaching first."""
    learning = [visit for visit in visits if not visit.set and visit.passes and visit.samples > 1]
    if not learning:
        return []
    first, last = min(visit.step for visit in learning), max(visit.step for visit in learning)
    counts: dict[str, list[list[int]]] = defaultdict(lambda: [[0, 0, 0] for _ in range(3)])
    for visit in learning:
        third = min(2, 3 * (visit.step - first) // max(1, last - first + 1))
        for type_, passed in zip(visit.types, _passes(visit), strict=True):
            kind = 1 if passed == visit.samples else 2 if passed == 0 else 0
            counts[type_][third][kind] += 1
    rows = [_teaching(type_, of_type) for type_, of_type in counts.items()]
    return sorted(rows, key=lambda row: (not row.stopped, row.type))


def _teaching(type_: str, thirds: Sequence[Sequence[int]]) -> Teaching:
    seen = [counts for counts in thirds if sum(counts)]
    split, whole, none = (tuple(counts[kind] / sum(counts) for counts in seen) for kind in range(3))
    return Teaching(type=type_, split=split, whole=whole, none=none, tests=sum(map(sum, thirds)))


def partings(visits: Sequence[Visit], blocks: int = 8) -> list[Parting]:
    """Neighbouring blocks of steps between which the reward clearly rose while truth did not."""
    learning = [visit for visit in visits if not visit.set and visit.reward is not None]
    steps = sorted({visit.step for visit in learning})
    size = max(2, math.ceil(len(steps) / blocks))
    parts = [steps[k : k + size] for k in range(0, len(steps), size)]
    rows = [[visit for visit in learning if part[0] <= visit.step <= part[-1]] for part in parts]
    risen = []
    for before, after in pairwise(rows):
        rewards = [[visit.reward for visit in some if visit.reward is not None] for some in (before, after)]
        truths = [[visit.truth for visit in some if visit.truth is not None] for some in (before, after)]
        if all(truths) and _rises(*rewards) and fmean(truths[1]) <= fmean(truths[0]):
            risen.append(_parting(before, after, (fmean(truths[0]), fmean(truths[1])), ""))
    return risen + _held_out_partings(visits, learning)


def _held_out_partings(visits: Sequence[Visit], learning: Sequence[Visit]) -> list[Parting]:
    """The same between evaluations: the steps after one against those before it."""
    risen = []
    for name in dict.fromkeys(visit.set for visit in visits if visit.set):
        means: dict[int, list[float]] = defaultdict(list)
        for visit in visits:
            if visit.set == name and visit.truth is not None:
                means[visit.step].append(visit.truth)
        evaluations = sorted(means)
        for start, middle, end in zip(evaluations, evaluations[1:], evaluations[2:], strict=False):
            before = [visit for visit in learning if start < visit.step <= middle]
            after = [visit for visit in learning if middle < visit.step <= end]
            truth = (fmean(means[middle]), fmean(means[end]))
            if before and after and truth[1] <= truth[0] and _rises(_rewards(before), _rewards(after)):
                risen.append(_parting(before, after, truth, name))
    return risen


def _parting(before: Sequence[Visit], after: Sequence[Visit], truth: tuple[float, float], measured: str) -> Parting:
    reward = (fmean(_rewards(before)), fmean(_rewards(after)))
    first, last = min(visit.step for visit in after), max(visit.step for visit in after)
    return Parting(first=first, last=last, reward=reward, truth=truth, measured=measured)


def _rises(before: Sequence[float], after: Sequence[float]) -> bool:
    """By more than the standard error of the difference (Welch)."""
    if min(len(before), len(after)) < 2:
        return False
    error = math.sqrt(stdev(before) ** 2 / len(before) + stdev(after) ** 2 / len(after))
    return fmean(after) - fmean(before) > error


def disagreement(rewards: Sequence[float | None], truths: Sequence[float]) -> tuple[int, int]:
    """Of pairs of siblings that both order: how many reward and truth order differently, and how many there are."""
    against = ordered = 0
    pairs = [(r, t) for r, t in zip(rewards, truths, strict=True) if r is not None]
    for k, (reward, truth) in enumerate(pairs):
        for other, other_truth in pairs[:k]:
            way = (reward - other) * (truth - other_truth)
            ordered += way != 0
            against += way < 0
    return against, ordered


def _by_page(visits: Iterable[Visit]) -> Mapping[tuple[str, str], list[Visit]]:
    """Judged visits of each page, by step."""
    by_page: dict[tuple[str, str], list[Visit]] = defaultdict(list)
    for visit in visits:
        if visit.truth is not None:
            by_page[visit.set, visit.page].append(visit)
    return {key: sorted(some, key=lambda visit: visit.step) for key, some in by_page.items()}


def _halves(visits: Sequence[Visit]) -> tuple[Sequence[Visit], Sequence[Visit]]:
    half = len(visits) // 2
    return visits[:half], visits[-half:]


def _change(
    name: str, page: str, visits: Sequence[Visit], before: float, after: float, test: str = "", type_: str = ""
) -> Change:
    step = visits[-1].step
    return Change(set=name, page=page, test=test, type=type_, before=before, after=after, visits=len(visits), step=step)


def _pass_share(visits: Sequence[Visit], i: int) -> float:
    return sum(_passes(visit)[i] for visit in visits) / sum(visit.samples for visit in visits)


def _rewards(visits: Iterable[Visit]) -> list[float]:
    return [visit.reward for visit in visits if visit.reward is not None]


def _truth(visit: Visit) -> float:
    assert visit.truth is not None  # `_by_page` leaves the others out
    return visit.truth


def _passes(visit: Visit) -> tuple[int, ...]:
    assert visit.passes is not None
    return visit.passes
