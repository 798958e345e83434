"""The floor of a pass rate: what transcripts that read nothing of their page earn on the same tests.

    floors = judged_here(pages, transcripts, "strict")
    floors.levels, floors.free_share

Two such transcripts are judged, an empty one and another page's text. A test that one of them passes is free: whoever
fails to read passes it too. The other tests need reading, and `Floors.metric` is the share of these that pass. Knows
nothing about how reports look.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

from ocr_rl.contract import Page, Reading, Transcript
from ocr_rl.evaluate.figures import METRICS, Comparison, Metric, Summary, summary
from ocr_rl.evaluate.results import PageResult, judge_page

EMPTY, FOREIGN = "an empty transcript", "another page's text"
ABOVE = "above_floor"  # the name of `Floors.metric`
# Who passes fewer of the tests that need reading reads nothing. A third page's text passes some by chance (short
# cells): 0.0 % on notice and nano, 0.3 % on mixed pages.
READS = 0.02

Blind = Mapping[str, Mapping[str, Transcript]]  # by floor, by page
JudgeAll = Callable[[Sequence[tuple[Page, Transcript]]], Sequence[PageResult]]


@dataclass(frozen=True)
class Floors:
    """Page results of the transcripts that read nothing, by EMPTY and FOREIGN (the latter needs a second page)."""

    rows: Mapping[str, Sequence[PageResult]]

    @cached_property
    def tests(self) -> int:
        return len({(row.page, check.id) for rows in self.rows.values() for row in rows for check in row.checks})

    @cached_property
    def free(self) -> frozenset[tuple[str, str]]:
        """(page, id) of the tests that one of them passes."""
        every = ((row.page, check) for rows in self.rows.values() for row in rows for check in row.checks)
        return frozenset((page, check.id) for page, check in every if check.passed)

    @property
    def free_share(self) -> float:
        """Of all tests, in [0, 1]."""
        return len(self.free) / self.tests if self.tests else 0.0

    @property
    def metric(self) -> Metric:
        """Of a page's tests that need reading, the share that passes; no value for a page without any."""

        def of(row: PageResult) -> Sequence[float]:
            needed = [check.passed for check in row.checks if (row.page, check.id) not in self.free]
            return (sum(needed) / len(needed),) if needed else ()

        return Metric(name=ABOVE, label="above the floor", unit="%", better=1, of=of)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """All figures of a report, with this one behind the pass rate."""
        return (METRICS[0], self.metric, *METRICS[1:])

    def to_json(self) -> dict[str, object]:
        """The levels, and the ids of the free tests by page."""
        free: dict[str, list[str]] = {}
        for page, check in sorted(self.free):
            free.setdefault(page, []).append(check)
        levels = {name: asdict(of_floor) for name, of_floor in self.levels.items()}
        return {"levels": levels, "free_share": self.free_share, "free": free}

    @cached_property
    def levels(self) -> Mapping[str, Summary]:
        """Every figure of them, by floor."""
        return {name: summary(rows, metrics=self.metrics) for name, rows in self.rows.items()}

    def grounded(self, comparison: Comparison, before: Summary, after: Summary) -> Comparison:
        """The comparison, its changes of tests marked where neither side reads: these are no gain and no loss."""
        if not (stands(before) and stands(after)):
            return comparison
        metrics = {
            name: replace(change, at_floor=name in ("pass_rate", "tests", ABOVE))
            for name, change in comparison.metrics.items()
        }
        by_type = {type_: replace(change, at_floor=True) for type_, change in comparison.by_type.items()}
        return Comparison(metrics=metrics, by_type=by_type)


def stands(of_candidate: Summary) -> bool:
    """Whether a candidate stands at the floor: it passes hardly any test that needs reading, or none needs it."""
    above = of_candidate.metrics.get(ABOVE)
    return above is None or above.mean < READS


def blind(pages: Sequence[Page], transcripts: Sequence[PageResult] = ()) -> Blind:
    """What reads nothing of each page with tests: an empty transcript, and the text of another page.

    That is another page's reference or, where no page has one, what `transcripts` hold for another page; of another
    document where there is one, and never a text equal to the page's own.
    """
    texts = {page.id: page.reference for page in pages if page.reference and page.reference.strip()}
    texts = texts or {row.page: row.text for row in reversed(transcripts) if row.text.strip()}
    tested = [page for page in pages if page.checks]
    ids = sorted(texts)
    foreign = {page.id: _transcript(text) for page in tested if (text := _foreign(page.id, ids, texts))}
    floors = {EMPTY: {page.id: _transcript("") for page in tested}}
    return {**floors, FOREIGN: foreign} if len(foreign) == len(tested) else floors


def floors_of(pages: Sequence[Page], transcripts: Sequence[PageResult], judge: JudgeAll) -> Floors | None:
    """The floors of the pages with tests; None where there are none."""
    by_id = {page.id: page for page in pages}
    floors = blind(pages, transcripts)
    rows = {name: judge([(by_id[page], text) for page, text in floor.items()]) for name, floor in floors.items()}
    return Floors(rows) if rows[EMPTY] else None


def judged_here(pages: Sequence[Page], transcripts: Sequence[PageResult], reading: Reading) -> Floors | None:
    """The same, judged in this process."""
    return floors_of(pages, transcripts, lambda pairs: [judge_page(page, text, reading) for page, text in pairs])


def _foreign(page: str, ids: Sequence[str], texts: Mapping[str, str]) -> str:
    """The next text behind the page's own place, round and round; "" where there is none but its own."""
    start, document, own = bisect_right(ids, page), page.rsplit(":p", 1)[0], texts.get(page)
    others = [other for other in (*ids[start:], *ids[:start]) if other != page]
    apart = (other for other in others if other.rsplit(":p", 1)[0] != document)
    return next((texts[other] for other in (*apart, *others) if texts[other] != own), "")


def _transcript(text: str) -> Transcript:
    return Transcript(raw=text, body=text, finish="stop", num_tokens=0)
