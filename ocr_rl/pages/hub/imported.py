"""Tables of pages from a hub become a dataset.

    import_tables(place, out, seed)   `ocr-rl pages import PLACE --out DIR` where PLACE holds parquet files

Rows with tests become pages with those tests; of rows with a text alone, tests are mined from it. Rows that are tests
themselves (olmOCR-Bench as a data set) go with the documents in `pdfs/` beside them. What cannot be used is named, with
its file and row.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from unicodedata import normalize

from ocr_rl.contract import UserError
from ocr_rl.files import Unreadable
from ocr_rl.pages.documents import SUFFIXES
from ocr_rl.pages.harvest import Crop, Harvest, require_empty, shown, shown_name, write_harvest
from ocr_rl.pages.hub.columns import Columns, columns_of, is_tests
from ocr_rl.pages.hub.extract import Record, document_file, extract, write_test_lines
from ocr_rl.pages.hub.parquet import group_sizes, kinds_of, require_reader
from ocr_rl.pages.imported import keep_bench, keep_pairs
from ocr_rl.pages.tree import tree
from ocr_rl.pages.workers import Refusal, guarded

SUFFIX = ".parquet"
_UNSAFE = re.compile(r"[^\w. (),+=@&'-]+")
_FILE = re.compile(r"(.{1,900}?)(\.pdf|\.png|\.jpg|\.webp|\.tif|\.md|\.jsonl:(\d+))(?=[:, ]|$)")
_LONGEST_NAME = 200  # bytes of a stem


def tables_in(place: Path) -> list[Path]:
    """The parquet files that a place is or holds."""
    if place.suffix.lower() == SUFFIX and not place.is_dir():
        return [place]
    return list(tree(place, (SUFFIX,)).once(SUFFIX).values()) if place.is_dir() else []


def import_tables(place: Path, out: Path, seed: int) -> Harvest:
    """Write a dataset from the rows of parquet files. UserError where none can be used, or `out` is not empty."""
    require_empty(out)
    require_reader(place)
    crop = Crop()
    with TemporaryDirectory(prefix="ocr-rl-import-") as name:
        aside = _Aside(Path(name))
        for table in _surveyed(tables_in(place), crop):
            if table.columns is None:
                aside.take_tests(table.file, crop)
            else:
                aside.take_pages(table.file, table.columns, table.group_rows, crop)
        aside.keep(place if place.is_dir() else place.parent, out, crop, seed)
        return write_harvest(crop, out, {"verb": "import", "source": shown_name(place), "seed": seed})


@dataclass(frozen=True, slots=True)
class _Table:
    file: Path
    columns: Columns | None  # None: its rows are tests
    group_rows: Sequence[int]


def _surveyed(files: Iterable[Path], crop: Crop) -> list[_Table]:
    """The files that can be used; a line for each of the others. UserError where there is none."""
    tables: list[_Table] = []
    for file, table in guarded(_table, files, workers=1, timeout_s=60):
        if isinstance(table, Refusal):
            crop.left_out.append(f"{shown(file)}: {table}")
        else:
            tables.append(table)
    if not tables:
        raise UserError(f"{crop.left_out[0]}.")
    return tables


def _table(file: Path) -> _Table:
    try:
        kinds = kinds_of(file)
        return _Table(file, None if is_tests(kinds) else columns_of(kinds), group_sizes(file))
    except Unreadable as flaw:
        raise Refusal(str(flaw)) from None


class _Aside:
    """The rows as files, in the layouts that `imported` reads."""

    def __init__(self, root: Path) -> None:
        self.raw, self.pairs, self.bench, self.tests = (root / name for name in ("raw", "pairs", "bench", "tests"))
        for folder in (self.raw, self.pairs, self.bench / "pdfs", self.tests):
            folder.mkdir(parents=True)
        self.origin: dict[str, str] = {}  # path of a document without its ending -> "file, row N"
        self.taken: Counter[str] = Counter()
        self.own_tests: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}  # by the stem of their file, with origins

    def take_pages(self, file: Path, columns: Columns, group_rows: Sequence[int], crop: Crop) -> None:
        if not sum(group_rows):
            crop.left_out.append(f"{shown(file)}: it has no rows")
        for record in extract(file, columns, group_rows, self.raw):
            where = f"{shown(file)}, row {record.row}"
            if record.flaw:
                crop.left_out.append(f"{where}: {record.flaw}")
            else:
                self._put(record, f"{file.stem}-{record.row:06d}", where)

    def _put(self, record: Record, otherwise: str, where: str) -> None:
        stem = self._stem(record, otherwise)
        root = self.pairs if record.tests is None else self.bench / "pdfs"
        target = root / f"{stem}{record.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        document_file(self.raw, record.row).replace(target)
        self.origin[str(root / stem)] = where
        if record.text is not None:
            (root / f"{stem}.md").write_text(record.text, encoding="utf-8")
        files = (*record.test_files, *(["imported"] * len(record.tests or ())))
        for number, (test, of_file) in enumerate(zip(record.tests or (), files, strict=False), 1):
            of_page = {"pdf": f"{stem}{record.suffix}", "page": 1}
            named = {**test, "id": f"{stem}-test{number}"} if test.get("id") is None else test
            placed = {**of_page, **named, **of_page}
            self.own_tests.setdefault(_safe(of_file) or "imported", []).append((where, placed))

    def _stem(self, record: Record, otherwise: str) -> str:
        """A name below the folder that no other row has, and that leads nowhere else."""
        *folders, last = [part for name in PurePosixPath(record.name).parts if (part := _safe(name))] or [otherwise]
        stem = "/".join([*map(_folder, folders[-4:]), _without_ending(last) or otherwise])
        again = self.taken[stem.casefold()]
        self.taken[stem.casefold()] += 1
        if not again:
            return stem
        number = record.page if again == 1 and record.page != 1 else None  # further pages of one document have numbers
        while (other := f"{stem}_pg{number}" if number else f"{stem}-{again + 1}").casefold() in self.taken:
            number, again = None, again + 1
        self.taken[other.casefold()] += 1
        return other

    def take_tests(self, file: Path, crop: Crop) -> None:
        """Tests of documents that stand beside the table."""
        name, again = _safe(file.stem) or "tests", 1
        while (target := self.tests / (f"{name}.jsonl" if again == 1 else f"{name}-{again}.jsonl")).exists():
            again += 1  # tables of several folders may have one name
        ((_, refusal),) = guarded(write_test_lines, [(file, target)], workers=1, timeout_s=600)
        if isinstance(refusal, Refusal):
            crop.left_out.append(f"{shown(file)}: {refusal}")
        self.origin[str(target.with_suffix(""))] = shown(file)

    def keep(self, folder: Path, out: Path, crop: Crop, seed: int) -> None:
        before = len(crop.left_out)
        if any(self.pairs.iterdir()):
            keep_pairs(self.pairs, out, crop, seed)
        if any((self.bench / "pdfs").iterdir()):
            for stem, tests in self.own_tests.items():
                with (self.bench / f"{stem}.jsonl").open("w", encoding="utf-8") as lines:
                    lines.writelines(json.dumps(test) + "\n" for _, test in tests)  # ASCII: half a surrogate pair
            keep_bench(self.bench, self.bench, crop)
        if any(self.tests.iterdir()):
            documents = next((place for place in _near(folder) if (place / "pdfs").is_dir()), None)
            if documents is None:
                raise UserError(
                    f"{folder}: its rows are tests, and no folder pdfs/ with their pages stands beside them."
                )
            keep_bench(documents, self.tests, crop)
        crop.left_out[before:] = [self._named(line) for line in crop.left_out[before:]]

    def _named(self, line: str) -> str:
        """A line about a file that was put aside says which row it was."""
        match = _FILE.match(line)
        if match is None:
            return line
        place, number, rest = Path(match[1]), int(match[3] or 0), line[match.end() :]
        if number and place.parent == self.bench:
            return f"{self.own_tests[place.name][number - 1][0]}: one of its tests{rest}"
        where = self.origin.get(match[1])
        if where is None:
            return line
        return f"{where}, row {number}{rest}" if number else f"{where}{rest.removeprefix(', page 1')}"


def _near(folder: Path) -> tuple[Path, ...]:
    return (folder, folder / "bench_data", folder.parent, folder.parent / "bench_data")


def _safe(name: str) -> str:
    """A part of a path that any file system takes; empty for one that leads elsewhere."""
    part = _UNSAFE.sub("_", normalize("NFC", name)).encode()[:_LONGEST_NAME].decode(errors="ignore")
    return part if part.strip("._") else ""


def _without_ending(name: str) -> str:
    return os.path.splitext(name)[0] if name.lower().endswith((*SUFFIXES, ".md")) else name


def _folder(name: str) -> str:
    """No folder is named as a file may be."""
    return name if _without_ending(name) == name else name.replace(".", "_")
