"""DP-Bench (Upstage): NID, TEDS and TEDS-S of a page, as its own code defines them.

    FOLDER/dataset/reference.json, or FOLDER/reference.json     {"a.pdf": {"elements": [{"category", "content"}]}}

NID is the Indel similarity of the page's text but for tables, figures and charts: the elements' texts with a blank
after each, without line breaks. TEDS and TEDS-S are those of the page's first table, `thead` and `tbody` taken out. A
candidate is a file like the reference's, or a folder of `<stem>.md`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import (
    Any,  # pydantic asks for these before Python 3.12
)

from pydantic import BaseModel, TypeAdapter
from rapidfuzz import fuzz

from ocr_rl.contract import UserError
from ocr_rl.evaluate.suites.page import MOST, Figure, Scores, Suite, only_file, read_json, require_layout, texts_in
from ocr_rl.text.element import elements
from ocr_rl.text.front_matter import split_front_matter
from ocr_rl.text.table_tree import Tree, tree, tree_of
from ocr_rl.text.teds import similarity

_NOT_TEXT = frozenset(("figure", "table", "chart"))
_SECTIONS = re.compile(r"</?(?:thead|tbody)>")
_OUTER = re.compile(r"<table>(.*)</table>", re.DOTALL)
FIGURES = {
    "nid": Figure(label="NID", better=1),
    "teds": Figure(label="TEDS", better=1),
    "teds_s": Figure(label="TEDS-S", better=1),
}


class _Content(BaseModel):
    text: str | None = None
    html: str | None = None


class _Element(BaseModel):
    category: str
    content: _Content | None = None


class _Page(BaseModel):
    elements: list[_Element]


LAYOUT: TypeAdapter[Any] = TypeAdapter(dict[str, _Page])


@dataclass(frozen=True, slots=True)
class PageText:
    """What is compared of a page."""

    text: str
    table: Tree | None  # the first
    has_table: bool


def load(folder: Path) -> Suite:
    path = only_file(folder, ("dataset/reference.json", "reference.json", "**/reference.json"), "DP-Bench")
    reference = _pages(path)
    return Suite(
        name="DP-Bench",
        licence="MIT",
        figures=FIGURES,
        pages=list(reference),
        read=lambda place: _answers(place, list(reference)),
        score=lambda page, answer: score(reference[page], answer),
        source=path.name,
    )


def score(reference: PageText, answer: PageText | None) -> Scores:
    """A page without an answer is one with an empty answer."""
    answer = answer or PageText("", None, False)
    nid = fuzz.ratio(reference.text, answer.text) / 100 if reference.text or answer.text else 1.0
    if not reference.has_table:
        return {"nid": [nid]}
    both = (reference.table, answer.table)
    whole, structure = (
        [similarity(*both, structure_only=only) if both[0] and both[1] else 0.0]  # type: ignore[misc]
        for only in (False, True)
    )
    return {"nid": [nid], "teds": whole, "teds_s": structure}


def _answers(place: Path, pages: Sequence[str]) -> dict[str, PageText]:
    if place.is_dir():
        texts = texts_in(place, {page: [Path(page).stem] for page in pages})
        return {page: _of_markdown(split_front_matter(text)[1]) for page, text in texts.items()}
    if place.suffix.lower() != ".json":
        raise UserError(f"--candidate {place}: is no folder of Markdown, nor JSON like DP-Bench's reference.json.")
    return _pages(place)


def _pages(path: Path) -> dict[str, PageText]:
    rows = read_json(path)
    require_layout(rows, LAYOUT, path, "DP-Bench's reference.json")
    return {name: of_elements(row["elements"]) for name, row in rows.items()}


def of_elements(rows: Sequence[Mapping[str, Any]]) -> PageText:
    """A page as its authors write it down. Figures may have no content."""
    texts = [_of(row, "text") for row in rows if row["category"].lower() not in _NOT_TEXT]
    tables = [_of(row, "html") for row in rows if row["category"].lower() == "table"]
    first = _SECTIONS.sub("", f"<table>{_inner(tables[0][:MOST])}</table>") if tables else ""
    text = "".join(f"{text} " for text in texts).replace("\n", "")[:MOST]
    return PageText(text, tree(first), bool(tables))


def _of(row: Mapping[str, Any], what: str) -> str:
    return (row.get("content") or {}).get(what) or ""


def _inner(html: str) -> str:
    outer = _OUTER.search(html)
    return outer[1] if outer else html


def _of_markdown(text: str) -> PageText:
    blocks = elements(text)
    tables = [block.table for block in blocks if block.table is not None]
    texts = "".join(f"{block.text} " for block in blocks if block.table is None).replace("\n", "")
    return PageText(texts, tree_of(tables[0]) if tables else None, bool(tables))
