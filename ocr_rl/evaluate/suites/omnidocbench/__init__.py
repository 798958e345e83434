"""OmniDocBench (v1.5 and v1.6), and benchmarks laid out like it: text and order as edit distances, TEDS, TEDS-S.

    FOLDER/OmniDocBench.json (or any one *.json)     [{"layout_dets": [...], "extra": {"relation": []}, "page_info"}]
    FOLDER/gt/**/*.json                              PureDocBench: such an object a file

A candidate is a folder of `<image's stem>.md`. Figures are those of the authors' code at v1.5 with `quick_match`
(opendatalab/OmniDocBench, Apache-2.0; arXiv 2412.07626), what looks like an accident in it included; but for formulas,
which are compared as KaTeX renders them, which is no CDM, and for pages that a candidate lacks: they count.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, FiniteFloat, TypeAdapter
from rapidfuzz.distance import Levenshtein

from ocr_rl.contract import UserError
from ocr_rl.evaluate.suites.omnidocbench.blocks import (
    FORMULA,
    INLINE,
    LATEX_TABLE,
    TABLE,
    TEXT,
    Block,
    alnum,
    array_lines,
    cut,
    normal,
    ordered,
)
from ocr_rl.evaluate.suites.omnidocbench.matching import match
from ocr_rl.evaluate.suites.omnidocbench.tables import tables
from ocr_rl.evaluate.suites.omnidocbench.unicode_tex import shown
from ocr_rl.evaluate.suites.page import Figure, Scores, Suite, only_file, read_json, require_layout, texts_in
from ocr_rl.extras import require
from ocr_rl.text.formulas import likeness
from ocr_rl.text.front_matter import split_front_matter
from ocr_rl.text.tex import formulas

COUNTED = ("text_block", "title", "code_txt", "code_txt_caption", "reference")  # what counts as text
ASIDE = (  # what may be in a transcript or not
    ("equation_caption", "figure_caption", "figure_footnote", "table_caption", "table_footnote", "code_algorithm")
    + ("code_algorithm_caption", "header", "footer", "page_footnote", "page_number")
)
CATEGORIES = (*COUNTED, *ASIDE, "equation_isolated")
MOST = 100_000  # pairs of blocks that are looked at; what a longer transcript has behind them has no match
REAL = "__real_"  # in the name of PureDocBench's photographs
FIGURES = {
    "text_edit": Figure(label="text edit distance", better=-1),
    "teds": Figure(label="TEDS", better=1, note="of each table of the reference; a missing one counts 0"),
    "teds_s": Figure(label="TEDS-S", better=1),
    "formulas": Figure(label="formulas (KaTeX)", better=1, note="stands where the authors have CDM, which needs TeX"),
    "order_edit": Figure(label="order edit distance", better=-1),
}


class Truth(NamedTuple):
    """A block of the reference."""

    category: str
    text: str  # as it stands there: text or TeX
    norm: str  # as it is compared


@dataclass(frozen=True, slots=True)
class Reference:
    """A page: its blocks in reading order, and its tables."""

    blocks: Sequence[Truth]
    places: Sequence[float]  # in the order of blocks, 0 for none; counted with empty blocks, as the authors' code does
    tables: Sequence[str]


def _or_none(value: Any) -> Any:
    return value or None


Id = int | str | None
Empty = BeforeValidator(_or_none)  # "" and [] are nothing, as null is


class _Item(BaseModel):
    category_type: str
    anno_id: Id
    order: Annotated[FiniteFloat | None, Empty] = None
    text: Annotated[str | None, Empty] = None
    latex: Annotated[str | None, Empty] = None
    html: Annotated[str | None, Empty] = None


class _Relation(BaseModel):
    relation_type: str | None = None
    source_anno_id: Id = None
    target_anno_id: Id = None


class _Extra(BaseModel):
    relation: Annotated[list[_Relation] | None, Empty] = None


class _Info(BaseModel):
    image_path: str


class _Page(BaseModel):
    layout_dets: list[_Item]
    extra: Annotated[_Extra | None, Empty] = None


class _Named(_Page):
    page_info: _Info


ONE_PAGE: TypeAdapter[Any] = TypeAdapter(_Page)
LAYOUT: TypeAdapter[Any] = TypeAdapter(list[_Named])
WHOSE = "OmniDocBench's annotations"


def omnidocbench(folder: Path) -> Suite:
    """UserError for a folder in another layout."""
    path = only_file(folder, ("OmniDocBench.json", "*.json", "**/*.json"), "OmniDocBench")
    rows = read_json(path)
    require_layout(rows, LAYOUT, path, WHOSE)
    images = [Path(row["page_info"]["image_path"]).name for row in rows]
    if twice := next((image for image, times in Counter(images).items() if times > 1), None):
        raise UserError(f"{path}: two pages have the image {twice}; take the file as it was published.")
    stems = {image: [Path(image).stem, Path(image).stem.replace(".pdf", ""), image] for image in images}
    reference = {image: page_of(row) for image, row in zip(images, rows, strict=True)}
    return _suite("OmniDocBench", "for research only, not for commercial use", reference, stems, path.name)


def puredocbench(folder: Path) -> Suite:
    """A file for each page below gt/, in OmniDocBench's layout; a page's name is its path. UserError as above.

    A candidate may be of any of the three tracks: a real photograph is named `<page>__real_<how>` there.
    """
    paths = sorted((folder / "gt").rglob("*.json"))
    if not paths:
        only_file(folder, ("gt/**/*.json",), "PureDocBench")
    reference: dict[str, Reference] = {}
    for path in paths:
        row = read_json(path)
        require_layout(row, ONE_PAGE, path, WHOSE)
        reference[path.relative_to(folder / "gt").with_suffix("").as_posix()] = page_of(row)
    suite = _suite("PureDocBench", "CC BY 4.0", reference, {}, "gt/")
    return replace(suite, read=partial(_of_a_track, list(reference)))


def _of_a_track(pages: Sequence[str], folder: Path) -> dict[str, str]:
    """Photographs by their pages' paths, or by their names alone, wherever they lie."""
    files = [path.relative_to(folder).with_suffix("").as_posix() for path in sorted(folder.rglob(f"*{REAL}*.md"))]
    known = set(pages)
    whole, named = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for file in files:
        page = file.split(REAL)[0]
        (whole[page] if page in known else named[Path(page).name]).append(file)
    places = {page: [page, Path(page).name, *(whole[page] or named[Path(page).name])] for page in pages}
    return texts_in(folder, places)


def _suite(
    name: str, licence: str, reference: Mapping[str, Reference], stems: Mapping[str, Sequence[str]], source: str
) -> Suite:
    if any(block.category == "equation_isolated" for page in reference.values() for block in page.blocks):
        require("py_mini_racer", f"formulas of {name} are compared as KaTeX renders them in V8")
    return Suite(
        name=name,
        licence=licence,
        figures=FIGURES,
        pages=list(reference),
        read=partial(texts_in, stems=stems),
        score=lambda page, answer: score(reference[page], split_front_matter(answer or "")[1]),
        source=source,
    )


# --- the reference ----------------------------------------------------------------------------------------------------


def page_of(row: Mapping[str, Any]) -> Reference:
    """A page of the annotations."""
    items = _joined(row["layout_dets"], (row.get("extra") or {}).get("relation") or [])
    found = [item.get("html") or "" for item in sorted(items, key=_order) if item["category_type"] == "table"]
    kept = [item for item in items if item["category_type"] in CATEGORIES]
    kept.sort(key=lambda item: (_order(item), CATEGORIES.index(item["category_type"])))
    blocks = [block for item in kept for block in _blocks(item)]
    return Reference(
        [truth for truth, _ in blocks if truth.text and truth.norm],
        [place for _, place in blocks],
        [table for table in found if table],
    )


def _order(item: Mapping[str, Any]) -> float:
    return float(item.get("order") or 0)


def _blocks(item: Mapping[str, Any]) -> list[tuple[Truth, float]]:
    """One, with its place; a formula that is an array of one column is a block a line."""
    category, place = item["category_type"], _order(item)
    if category != "equation_isolated":
        text = str(item.get("text") or "")
        return [(Truth(category, text, normal(TEXT, text)), place)]
    tex = str(item.get("latex") or "")
    lines = array_lines(tex)
    if lines is None:
        return [(Truth(category, tex, normal(FORMULA, tex)), place)]
    texs = [rf"\[{line}\]" for line in lines]
    return [
        (Truth(category, line, normal(FORMULA, line)), round(place + k / 10, 1)) for k, line in enumerate(texs, start=1)
    ]


def _joined(items: Sequence[Mapping[str, Any]], relations: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The items, those of one text that a column's end cuts as one, behind the others.

    A piece that two relations name stands twice in its text, as in the authors' code.
    """
    chains: list[list[Any]] = []
    for relation in relations:
        if relation.get("relation_type") == "truncated":
            ends = [relation.get("source_anno_id"), relation.get("target_anno_id")]
            if met := [chain for chain in chains if set(chain) & set(ends)]:
                for chain in met:
                    chain += ends
            else:
                chains.append(ends)
    by_id = {item["anno_id"]: item for item in items}
    cut_ids = {key for chain in chains for key in chain}
    whole = [item for item in items if item["anno_id"] not in cut_ids]
    for chain in chains:
        pieces = sorted((by_id[key] for key in chain if key in by_id), key=_order)
        if pieces:
            whole.append({**pieces[0], "text": "".join(str(piece.get("text") or "") for piece in pieces)})
    return whole


# --- the figures ------------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    """Blocks of the page, and those of the transcript that stand for them."""

    category: str  # what most of the page's are
    truths: tuple[int, ...]
    blocks: tuple[int, ...]


def score(reference: Reference, text: str) -> Scores:
    """Of a page: text and order once, tables and formulas each for itself."""
    blocks = cut(text)
    teds, teds_s, loose = tables(reference.tables, blocks)
    flow = ordered([block for block in blocks if block.kind not in (TABLE, LATEX_TABLE)] + loose)
    # The code's lists of places and kinds keep empty blocks, its lists of texts do not.
    flow = flow[: MOST // max(1, len(reference.blocks))]
    texts = [block for block in flow if block.norm]
    groups = match(
        [truth.norm for truth in reference.blocks],
        [truth.category in ASIDE for truth in reference.blocks],
        [block.norm for block in texts],
    )
    pairs = [Pair(_category(reference, ours), tuple(ours), tuple(theirs)) for ours, theirs in groups]
    scores: dict[str, list[float]] = {"teds": teds, "teds_s": teds_s, "formulas": _formulas(reference, pairs, texts)}
    counted = [pair for pair in pairs if pair.category in COUNTED]
    if counted:
        scores["text_edit"] = [_text_edit(reference, pairs, texts, flow)]
        scores["order_edit"] = _order_edit(reference, counted, flow)
    return scores


def _category(reference: Reference, truths: Sequence[int]) -> str:
    return Counter(reference.blocks[k].category for k in truths).most_common(1)[0][0]


def _text_edit(reference: Reference, pairs: Sequence[Pair], texts: Sequence[Block], flow: Sequence[Block]) -> float:
    """Edits over longer lengths; of formulas those that a text stands for."""
    edits = length = 0
    for pair in pairs:
        truths = [reference.blocks[k] for k in pair.truths]
        given = "".join(texts[j].norm for j in pair.blocks)
        wanted = "".join(truth.norm for truth in truths)
        if pair.category not in COUNTED:
            if not pair.blocks or flow[pair.blocks[0]].kind != TEXT:
                continue
            looks = shown(" ".join(truth.text for truth in truths))
            wanted = alnum(looks) or looks
        edits += Levenshtein.distance(wanted, given)
        length += max(len(wanted), len(given))
    return edits / length if length else 0.0


def _order_edit(reference: Reference, pairs: Sequence[Pair], flow: Sequence[Block]) -> list[float]:
    """Edit distance of the text blocks' places as the transcript has them, over the longer of both."""
    places = {pair: [reference.places[k] for k in pair.truths if reference.places[k]] for pair in pairs}
    wanted = sorted(place for found in places.values() for place in found)
    read = sorted((pair for pair in places if pair.blocks), key=lambda pair: flow[pair.blocks[0]].place)
    given = [place for pair in read for place in places[pair]]
    return [Levenshtein.distance(wanted, given) / max(len(wanted), len(given))] if wanted or given else []


def _formulas(reference: Reference, pairs: Sequence[Pair], texts: Sequence[Block]) -> list[float]:
    """A value for each formula: how like the group looks in which it is matched; 0 without a match."""
    values: dict[int, float] = defaultdict(float)
    for pair in pairs:
        wanted = " ".join(_bare(reference.blocks[k].text) for k in pair.truths)
        given = " ".join(_tex(texts[j]) for j in pair.blocks)
        alike = likeness(wanted, given) if pair.category == "equation_isolated" and given else 0.0
        values |= dict.fromkeys(pair.truths, alike)
    return [values[k] for k, truth in enumerate(reference.blocks) if truth.category == "equation_isolated"]


def _bare(tex: str) -> str:
    return tex.strip().removeprefix("\\[").removesuffix("\\]").strip().strip("$")


def _tex(block: Block) -> str:
    if block.kind in (FORMULA, INLINE):
        return _bare(block.text)
    return " ".join(formula.tex for formula in formulas(block.text))
