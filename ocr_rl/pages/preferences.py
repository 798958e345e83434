"""Somebody's own preferences: a JSONL file of pairs, one JSON object a line with pdf, page, chosen and rejected.

    {"pdf": "invoice.pdf", "page": 1, "chosen": "Total: 12", "rejected": "Tota: 12"}

`page` counts from 1; `pdf` is the path below pdfs/, and the file name is enough where no other PDF has it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from unicodedata import normalize

from ocr_rl.contract import Page, UserError
from ocr_rl.files import MAX_GROUP, require_objects
from ocr_rl.pages.documents import other_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """Two transcripts of one page, as texts."""

    page_id: str
    chosen: str
    rejected: str


def read_preferences(path: Path, pages: Sequence[Page], section: str = "dpo") -> list[Preference]:
    """The pairs of a file, whose pages must be among `pages`, those of a recipe's section.

    UserError with the line and the field.
    """
    ids = {(page.pdf, page.number): page.id for page in pages}
    by_ending: dict[tuple[str, ...], list[Path]] = {}  # PDFs by each way to end their path
    pdfs = dict.fromkeys(page.pdf for page in pages)
    roots = dict.fromkeys(folder for pdf in pdfs for folder in pdf.parents if folder.name == "pdfs")
    links = {root / name: pdf for root in roots for name, pdf in other_names(root).items() if pdf in pdfs}
    for named, pdf in {**{pdf: pdf for pdf in pdfs}, **links}.items():
        parts = tuple(normalize("NFC", part) for part in named.parts)
        for start in range(len(parts)):
            by_ending.setdefault(parts[start:], []).append(pdf)
    preferences = []
    for number, row in require_objects(path, MAX_GROUP):
        try:
            preferences.append(_preference(row, ids, by_ending, section))
        except ValueError as fault:
            raise UserError(f"{path}:{number}: {fault}.") from None
    if not preferences:
        raise UserError(f"{section}.preferences: {path} holds no pair.")
    return preferences


def _preference(
    row: Mapping[str, Any],
    ids: Mapping[tuple[Path, int], str],
    by_ending: Mapping[tuple[str, ...], Sequence[Path]],
    section: str,
) -> Preference:
    """Raises ValueError saying which field is wrong."""
    if missing := [name for name in ("pdf", "page", "chosen", "rejected") if name not in row]:
        raise ValueError(f"no field {missing[0]}; a pair has pdf, page, chosen and rejected")
    name, number, texts = row["pdf"], row["page"], (row["chosen"], row["rejected"])
    if not (isinstance(name, str) and type(number) is int):
        raise ValueError("pdf must be the name of a file, page a whole number")
    if odd := [field for field in ("chosen", "rejected") if not isinstance(row[field], str)]:
        raise ValueError(f"{odd[0]} must be a text, got {json.dumps(row[odd[0]])[:80]}")
    if texts[0] == texts[1]:
        raise ValueError("chosen and rejected must be two different texts")
    parts = PurePosixPath(normalize("NFC", name)).parts
    pdfs = tuple(dict.fromkeys(by_ending.get(("pdfs", *parts)) or by_ending.get(parts) or ()))
    if len(pdfs) > 1:
        raise ValueError(f"{len(pdfs)} PDFs are called {name!r}; give the path below pdfs/")
    page_id = ids.get((pdfs[0], number)) if pdfs else None
    if page_id is None:
        raise ValueError(f"{name!r} page {number} is no page of {section}.pages")
    return Preference(page_id=page_id, chosen=texts[0], rejected=texts[1])
