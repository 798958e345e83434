"""The rows of a parquet file, taken apart in a worker process: documents into files, texts and tests as records.

A row may hold anything: what is wrong with one is a record too. Knows nothing about datasets.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocr_rl.file_kinds import DOCUMENTS, kind_of
from ocr_rl.files import MAX_TEXT_BYTES, Unreadable
from ocr_rl.pages import pictures
from ocr_rl.pages.hub.columns import Columns
from ocr_rl.pages.hub.documents import alone
from ocr_rl.pages.hub.parquet import batches, kinds_of
from ocr_rl.pages.workers import Refusal, guarded
from ocr_rl.text.front_matter import FIELDS, FrontMatter, parse
from ocr_rl.text.normalize import without_surrogates

MAX_DOCUMENT_BYTES = 2**28
TIMEOUT_S = 600.0  # of a group of rows
_DEFAULTS = {"is_rotation_valid": True, "rotation_correction": 0, "is_table": False, "is_diagram": False}
_SUFFIX = {"a PNG picture": ".png", "a JPEG picture": ".jpg", "a WebP picture": ".webp", "a TIFF picture": ".tif"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What became of a row."""

    row: int  # from 1, in its file
    name: str = ""  # as the row has it: of the document, or the id
    suffix: str = ""  # of the document: ".pdf" and so on
    text: str | None = None
    tests: tuple[Mapping[str, Any], ...] | None = None  # None: the table has no column of them
    test_files: tuple[str, ...] = ()
    page: int | None = None
    flaw: str = ""


@dataclass(frozen=True, slots=True)
class _Group:
    file: Path
    columns: Columns
    group: int
    first: int  # number of its first row
    out: Path


def extract(file: Path, columns: Columns, group_rows: Sequence[int], out: Path) -> Iterator[Record]:
    """A record of each row, in order; documents are written to `out` as `document_file` names them."""
    firsts = [1 + sum(group_rows[:group]) for group in range(len(group_rows))]
    jobs = [_Group(file, columns, group, first, out) for group, first in enumerate(firsts)]
    for job, records in guarded(_extracted, jobs, workers=1, timeout_s=TIMEOUT_S):
        if isinstance(records, Refusal):
            last = job.first + group_rows[job.group] - 1
            yield Record(row=job.first, flaw=f"these rows up to {last} cannot be read ({records})")
        else:
            yield from records


def document_file(out: Path, row: int) -> Path:
    return out / f"{row}.document"


def write_test_lines(job: tuple[Path, Path]) -> None:
    """The rows of a table of tests as JSON lines, without what is null. Raises Refusal."""
    file, target = job
    try:
        with target.open("w", encoding="utf-8") as lines:
            for batch in batches(file, list(kinds_of(file))):
                lines.writelines(json.dumps(_test(row), ensure_ascii=False, default=str) + "\n" for row in batch)
    except Unreadable as flaw:
        raise Refusal(str(flaw)) from None


def _test(row: Mapping[str, Any]) -> dict[str, Any]:
    """Columns that other tests need are null here, and numbers beside nulls have become floats, or texts."""
    plain = {name: whole for name, value in row.items() if (whole := _whole(value)) is not None and whole != ""}
    texts = {name: str(plain[name]) for name in ("id",) if name in plain}
    try:
        return plain | texts | {name: _number(plain[name], name) for name in ("page",) if name in plain}
    except Unreadable:
        return plain | texts  # the test is refused with its own sentence


def _whole(value: Any) -> Any:
    """Floats that beside nulls were whole numbers, or null."""
    if isinstance(value, float) and (math.isnan(value) or value.is_integer()):
        return None if math.isnan(value) else int(value)
    return value


def _number(value: Any, column: str) -> int | None:
    """A page's number, be it 2, 2.0 or "2"; None where nothing or a word stands there. Raises Unreadable."""
    try:
        number = math.nan if value is None else float(value)
    except ValueError:
        return None
    if math.isnan(number):
        return None
    if number < 0 or not number.is_integer():
        raise Unreadable(f"its {column} is {str(value)[:20]}; give the number of the page, whole and from 1")
    return int(number)


def _extracted(job: _Group) -> list[Record]:
    records: list[Record] = []
    try:
        for batch in batches(job.file, job.columns.all, groups=[job.group]):
            records += [_record(row, job, job.first + len(records) + k) for k, row in enumerate(batch)]
    except Unreadable as flaw:
        rest = "the rows behind it in its group are left out too"
        records.append(Record(row=job.first + len(records), flaw=f"{flaw}; {rest}"))
    return records


def _record(row: Mapping[str, Any], job: _Group, number: int) -> Record:
    columns = job.columns
    try:
        page = _number(row[columns.page], columns.page) if columns.page else None
        data, suffix = _document(row[columns.document], page)
        text, tests = _text(row, columns), _tests(row, columns)
        if text is None and not tests:
            raise Unreadable("it has neither a text nor tests")
        document_file(job.out, number).write_bytes(data)
    except Unreadable as flaw:
        return Record(row=number, flaw=str(flaw))
    except (TypeError, ValueError) as error:  # a kind of value that nobody thought of costs its own row alone
        return Record(row=number, flaw=f"it cannot be read ({type(error).__name__}: {error})"[:200])
    return Record(
        row=number,
        name=str(row.get(columns.name or "") or row.get(columns.id or "") or ""),
        suffix=suffix,
        text=text,
        tests=tests,
        test_files=tuple(map(str, row.get(columns.test_files or "") or ())),
        page=page,
    )


def _document(value: Any, page: int | None) -> tuple[bytes, str]:
    """The bytes of a document of one page, and the ending of its name."""
    data = value.get("bytes") if isinstance(value, Mapping) else value
    if not isinstance(data, bytes) or not data:
        raise Unreadable("it holds no document")
    if len(data) > MAX_DOCUMENT_BYTES:
        raise Unreadable(f"its document is larger than {MAX_DOCUMENT_BYTES // 2**20} MiB")
    kind = kind_of(data[:1024])
    suffix = _SUFFIX.get(kind) if pictures.is_picture(data) else ".pdf" if b"%PDF-" in data[:1024] else None
    if suffix is None:
        raise Unreadable(f"its document is no {DOCUMENTS}" + (f" but {kind}" if kind else ""))
    try:
        return alone(data, page), suffix
    except Refusal as refusal:
        raise Unreadable(f"its document cannot be used: {refusal}") from None


def _text(row: Mapping[str, Any], columns: Columns) -> str | None:
    """The transcript, with its front matter where the table has the fields of it."""
    text = row.get(columns.text or "")
    fields: Mapping[str, Any] = {name: row.get(name) for name in columns.front_matter}
    if columns.text == "response":
        fields, text = _response(text)
    text = None if text is None else without_surrogates(text)
    if text is not None and len(text.encode()) > MAX_TEXT_BYTES:
        raise Unreadable(f"its text is longer than {MAX_TEXT_BYTES // 2**20} MiB")
    if not fields:
        return text
    front = _front_matter(fields)  # a page without a text has none on it: olmOCR's tables say so by null
    return (front.to_text() if front else "") + (text or "")


def _response(text: Any) -> tuple[Mapping[str, Any], str | None]:
    """The answer of a model that olmOCR's first mix keeps whole, as JSON."""
    try:
        answer = json.loads(text or "")
    except (ValueError, RecursionError):
        raise Unreadable("its response is no JSON") from None
    if not isinstance(answer, dict) or not isinstance(answer.get("natural_text"), str | None):
        raise Unreadable("its response has no natural_text")
    fields = {name: answer.get(name) for name in FIELDS} if all(name in answer for name in FIELDS) else {}
    return fields, answer.get("natural_text")


def _front_matter(fields: Mapping[str, Any]) -> FrontMatter | None:
    """What is null has olmOCR's own default; None where a field has no value that it may have."""
    known = {name: _whole(fields[name]) for name in FIELDS}
    whole = {name: _DEFAULTS.get(name) if value is None else value for name, value in known.items()}
    return parse("".join(f"{name}: {json.dumps(value)}\n" for name, value in whole.items()))


def _tests(row: Mapping[str, Any], columns: Columns) -> tuple[dict[str, Any], ...] | None:
    """The tests of a row, in one of the three ways in which `ocr_rl.interop` takes them. Raises Unreadable."""
    if columns.tests is None:
        return None
    tests = row[columns.tests] or []
    if isinstance(tests, str):
        try:
            lines = tests.split("\n")
            tests = json.loads(tests) if tests.lstrip().startswith("[") else [json.loads(x) for x in lines if x.strip()]
        except (ValueError, RecursionError):
            raise Unreadable("its tests are neither a JSON list nor JSON lines") from None
    else:
        tests = [json.loads(json.dumps(_test(test), default=str)) if isinstance(test, dict) else test for test in tests]
    if not all(isinstance(test, dict) for test in tests):
        raise Unreadable("its tests are no list of objects")
    return tuple(tests)
