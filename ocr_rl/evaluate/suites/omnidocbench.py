"""OmniDocBench (v1.5 and v1.6), and benchmarks laid out like it: text and order as edit distances, TEDS, TEDS-S.

    FOLDER/OmniDocBench.json (or any one *.json)     [{"layout_dets": [...], "extra": {"relation": []}, "page_info"}]
    FOLDER/gt/**/*.json                              PureDocBench: such an object a file

A candidate is a folder of `<image's stem>.md`. Definitions are those of the paper (arXiv 2412.07626). The matching is
this project's own: each block of the reference takes the likest run of up to twelve blocks of the transcript, or
several of its blocks one of the transcript's, likest pairs first. The official code cuts and joins blocks in another
way, so text and order differ from its figures (docs/bench.md has by how much). Formulas are compared as KaTeX renders
them, which is no CDM.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rapidfuzz.distance import Levenshtein

from ocr_rl.contract import UserError
from ocr_rl.evaluate.suites.page import Figure, Scores, Suite, first_file, read_json, texts_in
from ocr_rl.evaluate.suites.tables import teds
from ocr_rl.text.element import Element, elements
from ocr_rl.text.formulas import likeness
from ocr_rl.text.front_matter import split_front_matter
from ocr_rl.text.table_tree import Node, Tree
from ocr_rl.text.tex import formulas

TEXT = frozenset(("text_block", "title", "code_txt", "code_txt_caption", "reference"))  # what counts as text
ASIDE = frozenset(  # what may be in a transcript or not
    ("figure_caption", "figure_footnote", "table_caption", "table_footnote", "code_algorithm", "header", "footer")
    + ("code_algorithm_caption", "page_footnote", "page_number", "equation_caption")
)
FARTHEST = 0.7  # distance from which two blocks are not each other's
RUN = 12  # blocks
REAL = "__real_"  # in the name of PureDocBench's photographs
MOST = 100_000  # pairs of blocks that are looked at; what a longer transcript has behind them has no match
_KEPT = re.compile(r"[^\w一-鿿]+")
_DOLLARS = re.compile(r"^[\s$]+|[\s$]+$")
FIGURES = {
    "text_edit": Figure(
        label="text edit distance", better=-1, note="the matching is this project's, see docs/bench.md"
    ),
    "teds": Figure(label="TEDS", better=1, note="of each table of the reference; a missing one counts 0"),
    "teds_s": Figure(label="TEDS-S", better=1),
    "formulas": Figure(label="formulas (KaTeX)", better=1, note="stands where the authors have CDM, which needs TeX"),
    "order_edit": Figure(label="order edit distance", better=-1, note="the matching is this project's"),
}


@dataclass(frozen=True, slots=True)
class Truth:
    """A block of the reference."""

    kind: str  # "text", "aside" or "formula"
    text: str  # letters and digits alone
    tex: str = ""


@dataclass(frozen=True, slots=True)
class Reference:
    """A page: its blocks in reading order, and its tables."""

    blocks: Sequence[Truth]
    tables: Sequence[Tree]


def omnidocbench(folder: Path) -> Suite:
    """UserError for a folder in another layout."""
    path = first_file(folder, ("OmniDocBench.json", "*.json", "**/*.json"), "OmniDocBench")
    rows = read_json(path)
    try:
        images = [Path(row["page_info"]["image_path"]).name for row in rows]
    except (AttributeError, KeyError, TypeError) as error:
        raise _strange(path, error) from None
    stems = {image: [Path(image).stem, Path(image).stem.replace(".pdf", ""), image] for image in images}
    reference = {image: _page(row, path) for image, row in zip(images, rows, strict=True)}
    return _suite("OmniDocBench", "for research only, not for commercial use", reference, stems)


def puredocbench(folder: Path) -> Suite:
    """A file for each page below gt/, in OmniDocBench's layout; a page's name is its path. UserError as above.

    A candidate may be of any of the three tracks: a real photograph is named `<page>__real_<how>` there.
    """
    first_file(folder, ("gt/**/*.json",), "PureDocBench")
    files = {path.relative_to(folder / "gt").with_suffix(""): path for path in sorted((folder / "gt").rglob("*.json"))}
    reference = {name.as_posix(): _page(read_json(path), path) for name, path in files.items()}
    suite = _suite("PureDocBench", "CC BY 4.0", reference, {})
    return replace(suite, read=partial(_of_a_track, list(reference)))


def _of_a_track(pages: Sequence[str], folder: Path) -> dict[str, str]:
    real: dict[str, str] = {}
    for path in sorted(folder.rglob(f"*{REAL}*.md")):
        name = path.relative_to(folder).with_suffix("").as_posix()
        real |= {name.split(REAL)[0]: name, path.name.split(REAL)[0]: name}
    names = {page: [page, Path(page).name, real.get(page, ""), real.get(Path(page).name, "")] for page in pages}
    return texts_in(folder, {page: [name for name in found if name] for page, found in names.items()})


def _suite(name: str, licence: str, reference: Mapping[str, Reference], stems: Mapping[str, Sequence[str]]) -> Suite:
    return Suite(
        name=name,
        licence=licence,
        figures=FIGURES,
        pages=list(reference),
        read=partial(texts_in, stems=stems),
        score=lambda page, answer: score(reference[page], split_front_matter(answer or "")[1]),
    )


def _page(row: Any, path: Path) -> Reference:
    try:
        return page_of(row)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _strange(path, error) from None


def _strange(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: is not laid out as OmniDocBench's annotations are ({error!r}).")


# --- the reference ----------------------------------------------------------------------------------------------------


def page_of(row: Mapping[str, Any]) -> Reference:
    """A page of the annotations. KeyError, TypeError or ValueError for anything else."""
    items = _joined(row["layout_dets"], (row.get("extra") or {}).get("relation") or [])
    items.sort(key=lambda item: item.get("order") or 0)
    blocks = [block for item in items if (block := _block(item)) is not None]
    tables = [_table(item.get("html") or "") for item in items if item["category_type"] == "table"]
    return Reference(blocks, tables)


def _table(html: str) -> Tree:
    """Headings are cells, and sections of rows are none, as the authors take them."""
    return next((tree for block in elements(html) if (tree := block.tree) is not None), Tree(Node("table"), 0))


def _block(item: Mapping[str, Any]) -> Truth | None:
    category = item["category_type"]
    if category == "equation_isolated":
        tex = _DOLLARS.sub("", item.get("latex") or "")
        return Truth("formula", _letters(tex), tex)
    kind = "text" if category in TEXT else "aside" if category in ASIDE else ""
    text = _letters(item.get("text") or "")
    return Truth(kind, text) if kind and text else None


def _joined(items: Sequence[Mapping[str, Any]], relations: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The items, those of one text that a column's end cuts as one."""
    first: dict[Any, Any] = {}
    by_id = {item["anno_id"]: dict(item) for item in items}
    for relation in relations:
        if relation.get("relation_type") == "truncated":
            source, target = (first.get(relation[end], relation[end]) for end in ("source_anno_id", "target_anno_id"))
            if source == target or source not in by_id or target not in by_id:
                continue
            source, target = sorted((source, target), key=lambda key: by_id[key].get("order") or 0)
            by_id[source]["text"] = f"{by_id[source].get('text') or ''}{by_id.pop(target).get('text') or ''}"
            first |= {key: source for key, value in first.items() if value == target} | {target: source}
    return list(by_id.values())


# --- the transcript ---------------------------------------------------------------------------------------------------


def score(reference: Reference, text: str) -> Scores:
    """Of a page: text and order once, tables and formulas each for itself."""
    blocks = elements(text)
    shown = [block for block in blocks if block.table is None]
    pairs = matched(reference.blocks, [_letters(block.text) for block in shown])
    trees = [tree for block in blocks if (tree := block.tree) is not None]
    scores: dict[str, list[float]] = {
        "formulas": [
            likeness(truth.tex, _tex(pairs[k], shown)) if k in pairs else 0.0
            for k, truth in enumerate(reference.blocks)
            if truth.kind == "formula"
        ],
        "teds": teds(reference.tables, trees),
        "teds_s": teds(reference.tables, trees, structure_only=True),
    }
    if any(truth.kind == "text" for truth in reference.blocks):
        scores |= {"text_edit": [_text_edit(reference.blocks, shown, pairs)]}
        scores |= {"order_edit": [_order_edit(reference.blocks, pairs)]}
    return scores


Pairs = Mapping[int, tuple[int, int]]  # a block of the reference -> the run of the transcript's, which it may share


def matched(truths: Sequence[Truth], shown: Sequence[str]) -> dict[int, tuple[int, int]]:
    """Likest first: a block with a run of up to RUN, or a run of neighbours in the reference with one block."""
    shown = shown[: MOST // max(1, len(truths))]
    texts = [truth.text for truth in truths]
    alike = [(distance, k, k + 1, low, high) for distance, k, low, high in _runs(texts, shown)]
    alike += [(distance, low, high, at, at + 1) for distance, at, low, high in _runs(shown, texts) if high - low > 1]
    pairs: dict[int, tuple[int, int]] = {}
    taken: set[int] = set()
    for _, start, end, low, high in sorted(alike):
        if not taken & set(range(low, high)) and not pairs.keys() & set(range(start, end)):
            taken |= set(range(low, high))
            pairs |= dict.fromkeys(range(start, end), (low, high))
    return pairs


def _runs(texts: Sequence[str], others: Sequence[str]) -> Iterator[tuple[float, int, int, int]]:
    """(distance, text, start, end) of every run of up to RUN of the others that is alike enough to a text."""
    for k, text in enumerate(texts):
        for low in range(len(others)):
            run = ""
            for high in range(low + 1, min(low + RUN, len(others)) + 1):
                run += others[high - 1]
                if len(run) * (1 - FARTHEST) > len(text):
                    break
                if run and len(run) >= len(text) * (1 - FARTHEST):
                    distance = Levenshtein.normalized_distance(text, run, score_cutoff=FARTHEST)
                    if distance <= FARTHEST:
                        yield distance, k, low, high


def _text_edit(truths: Sequence[Truth], shown: Sequence[Element], pairs: Pairs) -> float:
    """Edits over longer lengths, of the text's matches, of what is missing and of what nothing in the page is like."""
    edits = length = 0
    groups: dict[tuple[int, int], list[str]] = {}
    for k, truth in enumerate(truths):
        if truth.kind == "text" and k in pairs:
            groups.setdefault(pairs[k], []).append(truth.text)
        elif truth.kind == "text":
            edits, length = edits + len(truth.text), length + len(truth.text)
    for (low, high), texts in groups.items():
        wanted, given = "".join(texts), "".join(_letters(block.text) for block in shown[low:high])
        edits += Levenshtein.distance(wanted, given)
        length += max(len(wanted), len(given))
    return edits / length if length else 0.0


def _order_edit(truths: Sequence[Truth], pairs: Pairs) -> float:
    """Edit distance of the text blocks' places as the transcript has them, over the longer of both."""
    wanted = [k for k, truth in enumerate(truths) if truth.kind == "text"]
    given = sorted((k for k in wanted if k in pairs), key=lambda k: (pairs[k][0], k))
    return Levenshtein.distance(wanted, given) / max(1, len(wanted))


def _tex(run: tuple[int, int], shown: Sequence[Element]) -> str:
    blocks = shown[run[0] : run[1]]
    return " ".join(block.tex or " ".join(formula.tex for formula in formulas(block.text)) for block in blocks)


def _letters(text: str) -> str:
    """As the authors compare: without tabs and line breaks that are written as such, marks and blanks."""
    return _KEPT.sub("", text.replace("\\t", "").replace("\\n", ""))
