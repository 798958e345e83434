"""The tests that a person looks at, with page images, and the dataset that the decisions make.

Knows nothing about HTTP.
"""

from __future__ import annotations

import shutil
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from ocr_rl import outputs
from ocr_rl.contract import UserError
from ocr_rl.files import MAX_LINE, require_objects
from ocr_rl.local_web import Wrong
from ocr_rl.pages.check_lines import PlacedCheck
from ocr_rl.pages.chosen import copy_pages, places_of
from ocr_rl.pages.dataset import load_with_contents, write_tests
from ocr_rl.pages.folder import Contents
from ocr_rl.pages.images import encoded
from ocr_rl.pages.manifest import write_manifest
from ocr_rl.pages.raster import ImageRef
from ocr_rl.pages.workers import Pool, Refusal
from ocr_rl.review.decisions import Decision, What, edited, note, read_decisions, reviewed, standing

LONGEST_PX = 1400
BACKUP = ".before-review"  # how the old file's name goes on where a dataset is changed in place
_KEPT = 16  # images
_FIGURES = ("suspicion", "failing", "agreement", "standing", "against", "readings")  # of a suspect, for people


@dataclass(slots=True, kw_only=True)
class Desk:
    """A review of one dataset; `close` ends its worker."""

    data: Path
    journal: Path
    tests: Sequence[PlacedCheck]  # in the order in which they are looked at
    figures: Mapping[str, Mapping[str, Any]]  # of suspects, by the test's id
    decisions: dict[str, Decision]
    _images: OrderedDict[tuple[str, int], bytes] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _drawing: threading.Lock = field(default_factory=threading.Lock)
    _pool: Pool = field(default_factory=lambda: Pool(encoded, workers=1, timeout_s=30.0))

    def close(self) -> None:
        self._pool.close()

    def listed(self) -> list[dict[str, Any]]:
        """Every test with what samples said, and what was decided of it."""
        return [self._shown(k) for k in range(len(self.tests))]

    def decide(self, k: int, what: str, text: str | None) -> dict[str, Any]:
        """Note a decision of test k, and show the test as it stands then. Raises Wrong."""
        was = self._test(k).fields
        if what not in get_args(What):
            raise Wrong("A test is kept, dropped or edited.")
        changed = edited(text or "", was) if what == "edit" else None
        decision = Decision(what=what, was=was, test=changed)  # type: ignore[arg-type]
        with self._lock:
            try:
                note(self.journal, decision)
            except OSError as error:
                raise Wrong(f"{self.journal}: cannot be written ({error.strerror}); nothing was decided.") from None
            self.decisions[decision.id] = decision
        return self._shown(k)

    def settle(self) -> None:
        """Take the dataset as written in place: what is decided from now on is decided of what edits made."""
        with self._lock:
            decided = [(test, standing(self.decisions, test.fields)) for test in self.tests]
            self.tests = [replace(test, fields=one.test) if one and one.test else test for test, one in decided]

    def image(self, k: int) -> bytes:
        """The page of test k as PNG. Raises Wrong."""
        test = self._test(k)
        place = test.pdf, test.number
        with self._drawing:
            if place not in self._images:
                ref = ImageRef(pdf=self.data / "pdfs" / test.pdf, number=test.number, longest_px=LONGEST_PX)
                ((_, png),) = self._pool.run([ref])
                if isinstance(png, Refusal):
                    raise Wrong(f"This page cannot be drawn: {png}.")
                self._images[place] = png
                while len(self._images) > _KEPT:
                    self._images.popitem(last=False)
            return self._images[place]

    def _test(self, k: int) -> PlacedCheck:
        if not 0 <= k < len(self.tests):
            raise Wrong("There is no such test.")
        return self.tests[k]

    def _shown(self, k: int) -> dict[str, Any]:
        test = self.tests[k]
        decision = standing(self.decisions, test.fields)
        return {
            "test": dict(test.fields),
            "place": f"{test.file.name}:{test.line}",
            "figures": self.figures.get(test.check.id, {}),
            "decision": decision.what if decision else "open",
            "edited": dict(decision.test) if decision and decision.test is not None else None,
        }


def open_desk(data: Path, suspects: Path | None, journal: Path) -> Desk:
    """UserError for a faulty dataset, for suspects of another one, and for a journal that is none."""
    decisions = read_decisions(journal)
    _, contents = load_with_contents(data)
    by_id = {test.check.id: test for tests in contents.tests.values() for test in tests}
    figures: dict[str, dict[str, Any]] = {}
    for number, row in require_objects(suspects, MAX_LINE, halves=True) if suspects else ():
        if row.get("id") not in by_id:
            if row.get("id") in decisions:  # dropped, and the dataset written in place
                continue
            raise UserError(
                f"{suspects}:{number}: {data} has no test {row.get('id')!r}; give what `ocr-rl pages rank "
                "--by suspect` wrote of this dataset."
            )
        figures[row["id"]] = {name: row[name] for name in _FIGURES if name in row}
    order = figures if suspects else by_id
    tests = [by_id[id_] for id_ in order]
    if not tests:
        raise UserError(f"{suspects or data}: holds no test to look at.")
    return Desk(data=data, journal=journal, tests=tests, figures=figures, decisions=decisions)


def apply_decisions(data: Path, journal: Path, out: Path | None) -> str:
    """Write the dataset as the decisions have it, and say what was written.

    Into the new folder `out`, whole or not at all; without one in place: the changed JSONL files of `data` are written
    anew, and each old one stays beside under its name with `BACKUP`. UserError where something stands in the way.
    """
    decisions = read_decisions(journal)
    pages, contents = load_with_contents(data)
    files = _by_file(contents)
    left = {file: list(reviewed(tests, decisions)) for file, tests in files.items()}
    before = sum(map(len, files.values()))
    count = sum(map(len, left.values()))
    changed = {file: tests for file, tests in left.items() if tests != files[file]}
    if out is None:
        _write_in_place(changed)
        where = ", ".join(sorted(file.name for file in changed)) or "nothing"
        return f"{count} of {before} tests are left; written in {data}: {where}"
    if out.exists():
        raise UserError(f"{out}: is there already; give a new folder with --out.")
    with outputs.new_folder(out) as aside:
        copy_pages(replace(contents, tests={}), places_of(pages, contents), aside)
        for file, tests in left.items():
            write_tests(aside / file.name, tests)
        write_manifest(aside, {"review": data.name, "tests": count, "of": before})
    return f"{count} of {before} tests are left; the dataset is {out}"


def _by_file(contents: Contents) -> dict[Path, list[Mapping[str, Any]]]:
    tests = sorted((t for tests in contents.tests.values() for t in tests), key=lambda test: (test.file, test.line))
    by_file: dict[Path, list[Mapping[str, Any]]] = {}
    for test in tests:
        by_file.setdefault(test.file, []).append(test.fields)
    return by_file


def _write_in_place(files: Mapping[Path, Sequence[Mapping[str, Any]]]) -> None:
    backups = {file: file.with_name(file.name + BACKUP) for file in files}
    if taken := [path for path in backups.values() if path.exists()]:
        raise UserError(f"{taken[0]}: is there already, an earlier review left it; move it away.")
    for file, tests in files.items():
        with file.open("rb") as old, backups[file].open("xb") as kept:  # never over another one, of a moment ago too
            shutil.copyfileobj(old, kept)
        shutil.copystat(file, backups[file])
        write_tests(file, tests)
