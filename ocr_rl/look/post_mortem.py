"""`ocr-rl look`: a run's folder becomes a folder with one page to open, index.html, and what it loads on demand.

    index.html          curves, a strip of pages by steps, lists, and numbers of every group
    data/s000120.js     the samples of step 120; data/e000120_0.js the transcripts of an evaluation of set 0
    data/p00012.js      page 12: its image, its tests, what they came to over the run

`refresh` renders what is new since the last time, so that a run under way can be looked at. Files of others are never
written over (`ocr_rl.outputs`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ocr_rl import outputs
from ocr_rl.contract import Page
from ocr_rl.evaluate.run_report import longest_px_of
from ocr_rl.look.findings import Visit
from ocr_rl.look.html import data_file, index_html
from ocr_rl.look.judged import Job, judge_all, open_judges
from ocr_rl.look.overview import overview
from ocr_rl.look.records import (
    Tests,
    evaluation_record,
    evaluation_visit,
    group_record,
    history_record,
    page_record,
    tests_of,
    visit_of,
)
from ocr_rl.look.run_log import (
    RunFolder,
    evaluation_files,
    group_files,
    open_run,
    pages_of,
    read_evaluation,
    read_step,
)
from ocr_rl.pages.images import image_of

Signature = tuple[int, int]  # of a file: time and size


class PostMortem:
    """A run's page in the folder `out`, brought up to date by `refresh`; `close` ends its workers."""

    def __init__(self, run: Path, out: Path, *, workers: int = 2, live: bool = False) -> None:
        """UserError where `run` is no run, or where somebody else's index.html stands in `out`.

        A page that is `live` asks for what `refresh` has added since it was opened.
        """
        self.run: RunFolder = open_run(run)
        self.out, self.live, self.turn = out, live, 0
        outputs.refuse_taken([out / "index.html"])
        self.sets = {name: k for k, name in enumerate(sorted(self.run.sources))} or {"": 0}
        self.numbers: dict[str, int] = {}  # of pages, by id
        self._judges = open_judges(workers)
        self._visits: dict[Path, list[Visit]] = {}  # by the file that they were read from
        self._signatures: dict[Path, Signature | None] = {}
        self._owed: set[str] = set()  # pages with visits that their files do not have yet
        self._flaws: dict[Path, list[str]] = {}
        self._tests: dict[str, Tests] = {}
        self._pages: dict[str, Page] = {}
        self._longest_px = longest_px_of(run)
        self._notes: dict[str, str] = {}  # of page sources, by name
        self._closed = dict(self.run.sources)
        self._open_sources()

    @property
    def visits(self) -> list[Visit]:
        return [visit for visits in self._visits.values() for visit in visits]

    @property
    def notes(self) -> list[str]:
        """What is missing or damaged, in sentences."""
        notes = [note for note in self._notes.values() if note]
        return notes + [flaw for flaws in self._flaws.values() for flaw in flaws]

    def refresh(self, *, shows: bool = False, ended: Callable[[], bool] = lambda: False) -> bool:
        """Render what is new; whether there was anything. `shows` how far it is; gives up where it has `ended`."""
        self._open_sources()
        samples = [(path, partial(self._step, step, path)) for step, path in group_files(self.run.folder).items()]
        evaluations = [
            (path, partial(self._evaluation, step, name, path))
            for step, name, path in evaluation_files(self.run.folder, [name for name in self.sets if name])
        ]
        new = [(path, render) for path, render in (*samples, *evaluations) if self._is_new(path)]
        for path, render in tqdm(new, desc="looking", unit="file", disable=not shows or len(new) < 2):
            if ended():
                return False
            signature = _signature(path)  # before it is read: what comes meanwhile is new the next time
            self._visits[path], self._flaws[path] = render()
            self._owed |= {visit.page for visit in self._visits[path]}
            self._signatures[path] = signature
        owed, by_page = sorted(self._owed), defaultdict[str, list[Visit]](list)
        for visit in self.visits:
            by_page[visit.page].append(visit)
        for page in tqdm(owed, desc="pages", unit="page", disable=not shows or len(owed) < 2):
            if ended():
                return False
            self._write_page(page, by_page[page])
            self._owed.discard(page)
        metrics = self.run.folder / "metrics.jsonl"
        if not (self._is_new(metrics) or new or owed) and (self.out / "index.html").exists():
            return False
        self._write_index(_signature(metrics))
        return True

    def _write_index(self, of_metrics: Signature | None) -> None:
        view = overview(self.run, self.visits, self.numbers, self.sets, self.notes)
        if self.live:
            self.turn += 1
            view["turn"] = self.turn
        outputs.write(self.out / "index.html", index_html(view, live=self.live))
        if self.live:
            self._write("now", {"turn": self.turn})
        self._signatures[self.run.folder / "metrics.jsonl"] = of_metrics

    def close(self) -> None:
        self._judges.close()

    def _is_new(self, path: Path) -> bool:
        signature = _signature(path)
        return signature is not None and signature != self._signatures.get(path)

    def _open_sources(self) -> None:
        """Those that were not there yet: a run that has just begun typesets its pages."""
        for name, source in list(self._closed.items()):
            pages, self._notes[name] = pages_of(self.run, name, source)
            if pages:
                self._pages |= pages
                del self._closed[name]

    def _step(self, step: int, path: Path) -> tuple[list[Visit], list[str]]:
        groups, flaws = read_step(path)
        tests = [self._tests_of(group.page_id) for group in groups]
        checks = [list(page.checks) if (page := self._pages.get(group.page_id)) else [] for group in groups]
        jobs = [Job(of, group.bodies) for of, group in zip(checks, groups, strict=True) if of]
        judged = iter(judge_all(self._judges, jobs))
        results = [next(judged) if of else None for of in checks]
        all_of = list(zip(groups, tests, results, strict=True))
        records = [group_record(group, self._number(group.page_id), result) for group, _, result in all_of]
        self._write(f"s{step:06d}", {"groups": records})
        return [visit_of(step, group, of, result) for group, of, result in all_of], flaws

    def _evaluation(self, step: int, name: str, path: Path) -> tuple[list[Visit], list[str]]:
        results, flaws = read_evaluation(path)
        for result in results:
            if not self._tests_of(result.page):
                self._tests[result.page] = [(check.id, check.type, "") for check in result.checks]
        records = [evaluation_record(row, self._number(row.page), self._tests_of(row.page)) for row in results]
        self._write(f"e{step:06d}_{self.sets[name]}", {"groups": records})
        return [evaluation_visit(step, name, result) for result in results], flaws

    def _number(self, page: str) -> int:
        return self.numbers.setdefault(page, len(self.numbers))

    def _tests_of(self, page: str) -> Tests:
        if page not in self._tests:
            self._tests[page] = tests_of(self._pages[page].checks) if page in self._pages else []
        return self._tests[page]

    def _write_page(self, id_: str, visits: list[Visit]) -> None:
        images = partial(image_of, longest_px=self._longest_px)
        tests = self._tests_of(id_)
        record = page_record(self._pages.get(id_), id_, tests, images)
        history = history_record(visits, self.sets, tests)
        self._write(f"p{self._number(id_):05d}", {**record, "history": history})

    def _write(self, name: str, content: Any) -> None:
        outputs.write(self.out / "data" / f"{name}.js", data_file(name, content))


def _signature(path: Path) -> Signature | None:
    """None where there is no such file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def look(run: Path, out: Path, *, workers: int = 2) -> Path:
    """Write the post-mortem of a run into the folder `out`; returns its index.html."""
    with closing(PostMortem(run, out, workers=workers)) as page:
        page.refresh(shows=True)
    return out / "index.html"
