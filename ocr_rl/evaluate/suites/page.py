"""What every suite is made of: its pages, its figures, and where a candidate's texts lie. Knows no suite."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ocr_rl.config.explain import first_fault
from ocr_rl.contract import UserError
from ocr_rl.files import Unreadable, read_text

MAX_BYTES = 2**29  # of a file of references
MOST = 100_000  # characters of an answer that count: no page has more, and a loop would take hours
Scores = Mapping[str, Sequence[float]]  # of a page, by figure and rule: one value, or one an element


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure of a suite."""

    label: str
    better: int  # 1: higher is better
    note: str = ""  # where it is not what its authors compute


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A benchmark as its authors lay it out, read from a folder."""

    name: str
    licence: str
    figures: Mapping[str, Figure]  # by the names in `Scores`
    pages: Sequence[str]
    read: Callable[[Path], Mapping[str, Any]]  # a candidate's answers by page; a page that it lacks is left out
    score: Callable[[str, Any], Scores]  # of a page, for the candidate's answer or None
    source: str  # what the pages were read from
    note: str = ""  # what of it is not read


def read_json(path: Path) -> Any:
    """UserError for what is no JSON, or too large."""
    try:
        return json.loads(read_text(path, MAX_BYTES))
    except Unreadable as flaw:
        raise UserError(f"{path}: {flaw}.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: this is not JSON ({str(error)[:80]}); take a whole copy of the file.") from None


def require_layout(rows: Any, layout: TypeAdapter[Any], path: Path, whose: str) -> None:
    """UserError, with the place of the first fault, where the rows are not laid out so."""
    try:
        layout.validate_python(rows)
    except (ValidationError, RecursionError) as error:
        said = first_fault(error) if isinstance(error, ValidationError) else "it is nested too deeply"
        raise UserError(
            f"{path}: is not laid out as {whose}: {said}. Take it as it was published, or write it so."
        ) from None


def texts_in(folder: Path, stems: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The Markdown of each page, under that one of its stems that is there.

    UserError where none is, where a page has two, and where one file would be the answer of two pages.
    """
    if not folder.is_dir():
        raise UserError(f"--candidate {folder}: there is no such folder.")
    texts: dict[str, str] = {}
    pages: dict[Path, str] = {}
    for page, names in stems.items():
        found = [path for name in dict.fromkeys(names) if (path := folder / f"{name}.md").is_file()]
        if len(found) > 1:
            both = " and ".join(str(path.relative_to(folder)) for path in found[:2])
            raise UserError(f"--candidate {folder}: answers page {page} twice, in {both}; leave the one that is meant.")
        if not found:
            continue
        path = found[0]
        if path in pages:
            both = f"{pages[path]} and {page}"
            raise UserError(
                f"{path}: would be the answer of two pages, {both}; name answers as the pages, folders too."
            )
        pages[path] = page
        try:
            texts[page] = read_text(path)[:MOST]
        except Unreadable as flaw:
            raise UserError(f"{path}: {flaw}.") from None
    if not texts:
        example = next(iter(stems.values()))[0]
        raise UserError(f"--candidate {folder}: holds no page of the suite, as {example}.md would be one.")
    return texts


def only_file(folder: Path, names: Sequence[str], suite: str) -> Path:
    """The one file of the first name that is there. UserError for none, or for several."""
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; give the one that {suite} was fetched to.")
    for name in names:
        if matches := sorted(folder.glob(name)):
            if len(matches) > 1:
                both = " and ".join(str(path.relative_to(folder)) for path in matches[:2])
                raise UserError(f"{folder}: holds {both}; leave the one that is meant.")
            return matches[0]
    raise UserError(f"{folder}: is no {suite}, there is no {names[0]} in it.")
