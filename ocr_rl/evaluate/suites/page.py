"""What every suite is made of: its pages, its figures, and where a candidate's texts lie. Knows no suite."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocr_rl.contract import UserError
from ocr_rl.files import Unreadable, read_text

MAX_BYTES = 2**29  # of a file of references
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
    note: str = ""  # what of it is not read


def read_json(path: Path) -> Any:
    """UserError for what is no JSON, or too large."""
    try:
        return json.loads(read_text(path, MAX_BYTES))
    except Unreadable as flaw:
        raise UserError(f"{path}: {flaw}.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: this is not JSON ({str(error)[:80]}); fetch the file again.") from None


def texts_in(folder: Path, stems: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The Markdown of each page, under the first of its stems that is there. UserError where none is."""
    if not folder.is_dir():
        raise UserError(f"--candidate {folder}: there is no such folder.")
    texts: dict[str, str] = {}
    for page, names in stems.items():
        path = next((path for name in names if (path := folder / f"{name}.md").is_file()), None)
        if path is not None:
            try:
                texts[page] = read_text(path)
            except Unreadable as flaw:
                raise UserError(f"{path}: {flaw}.") from None
    if not texts:
        example = next(iter(stems.values()))[0]
        raise UserError(f"--candidate {folder}: holds no page of the suite, as {example}.md would be one.")
    return texts


def first_file(folder: Path, names: Sequence[str], suite: str) -> Path:
    """The first of the files that is there. UserError otherwise."""
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; give the one that {suite} was fetched to.")
    for name in names:
        if matches := sorted(folder.glob(name)):
            return matches[0]
    raise UserError(f"{folder}: is no {suite}, there is no {names[0]} in it.")
