"""All that a study's report is made of, in one file: what other people rebuild its figures from.

No page, weight or sample of training is in it. The pages are typeset again from the study's seeds.
"""

from __future__ import annotations

import io
import lzma
import tarfile
from pathlib import Path

from ocr_rl import outputs
from ocr_rl.contract import UserError
from ocr_rl.evaluate.results import read_rows
from ocr_rl.pages.source import open_pages
from ocr_rl.run import read_json, read_jsonl
from ocr_rl.study.folder import Folder, bind, claim
from ocr_rl.study.plan import START, Study

NAME = "study_rows.tar.xz"
_KINDS = (
    "study.json",
    "test/*.jsonl",
    "failed/*.txt",
    "pairs/*.why.json",
    "runs/*/metrics.jsonl",
    "runs/*/done.json",
    "runs/*/eval/*/validation.jsonl",
)
_ENV = {"cores", "platform", "date", "packages"}  # what a report says of it
_LARGEST = 2**30  # of all that is unpacked


def pack(folder: Folder) -> bytes:
    """The same bytes for the same files."""
    box = io.BytesIO()
    with tarfile.open(fileobj=box, mode="w:xz") as archive:
        for path in sorted(path for kind in _KINDS for path in folder.root.glob(kind)):
            entry = tarfile.TarInfo(path.relative_to(folder.root).as_posix())
            entry.size = path.stat().st_size
            with path.open("rb") as content:
                archive.addfile(entry, content)
    return box.getvalue()


def unpack(rows: Path, out: Path, study: Study) -> None:
    """Into a folder that is new or empty. Raises UserError for anything but what `pack` writes of this study."""
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: is there already; rows are unpacked into a new folder, give another --out.")
    try:
        with tarfile.open(rows, mode="r:xz") as archive:
            entries: list[tarfile.TarInfo] = []
            size = 0
            for entry in archive:
                size += entry.size
                if size > _LARGEST:
                    raise UserError(f"{rows}: unpacks to more than {_LARGEST // 2**20} MB, which no study's rows do.")
                if not (entry.isreg() and _is_ours(entry.name)):
                    raise UserError(f"{rows}: holds other files than a study's rows; give the {NAME} of a report.")
                entries.append(entry)
            with outputs.new_folder(out) as whole:
                archive.extractall(whole, entries, filter="data")
                _read_all(whole, rows)
                _refuse_others(whole, rows, study)
    except (OSError, EOFError, tarfile.TarError, lzma.LZMAError) as error:
        raise UserError(f"{rows}: cannot be unpacked ({error}); give the {NAME} of a study's report.") from None


def bind_rows(study: Study, folder: Folder) -> None:
    """The test pages beside rows that may be of another machine. Raises UserError where they are of other pages."""
    bind(folder, (study.test,))
    pages = {page.id for page in open_pages(study.test, folder.pages)}
    if lost := sorted({row.page for row in read_rows(folder.test("start"))} - pages):
        raise UserError(
            f"{folder.test('start')}: speaks of the page {lost[0]}, which is none of the study's test pages as they "
            "are typeset here; rebuild the report with the version of ocr-rl that ran the study."
        )


def _read_all(folder: Path, rows: Path) -> None:
    """UserError where a file is not what a study writes, before anything is made of it."""
    for path in sorted(folder.rglob("*.json*")):
        try:
            if path.suffix == ".json":
                read_json(path)
            elif path.name == "metrics.jsonl":
                read_jsonl(path)
            else:
                read_rows(path)
        except UserError as error:
            raise UserError(f"{rows}: {str(error).replace(f'{folder}/', '')}") from None


def _refuse_others(folder: Path, rows: Path, study: Study) -> None:
    """UserError for another study's rows, and for some that are not whole: a report would speak of other pages."""
    begun = read_json(folder / "study.json") if (folder / "study.json").exists() else {}
    if not isinstance(env := begun.get("env"), dict) or not env.keys() >= _ENV:
        raise UserError(
            f"{rows}: study.json has no whole env ({', '.join(sorted(_ENV))}); give the {NAME} of a report."
        )
    try:
        claim(study, Folder(folder), begun.get("start", ""))
    except UserError:
        raise UserError(f"{rows}: holds the rows of another study; name that one.") from None
    for kind in ("", "-siblings"):  # transcripts of the test pages, and samples of the validation pages
        first = Folder(folder).test(f"{START}{kind}")
        whole = _tests_of(first) if first.exists() else None
        for path in sorted(folder.glob("test/*.jsonl")):
            if whole is None or path.stem.endswith("-siblings") != bool(kind):
                continue
            of_run = _tests_of(path)
            if odd := sorted(page for page in whole.keys() | of_run.keys() if whole.get(page) != of_run.get(page)):
                name, like = path.relative_to(folder), first.relative_to(folder)
                raise UserError(
                    f"{rows}: {name} has other pages or tests than {like} (first: {odd[0]}); pack one study again."
                )


def _tests_of(path: Path) -> dict[str, set[str]]:
    """The tests' ids, by page."""
    by_page: dict[str, set[str]] = {}
    for row in read_rows(path):
        by_page.setdefault(row.page, set()).update(check.id for check in row.checks)
    return by_page


def _is_ours(name: str) -> bool:
    parts = Path(name).parts
    return ".." not in parts and any(len(parts) == len(Path(kind).parts) and Path(name).match(kind) for kind in _KINDS)
