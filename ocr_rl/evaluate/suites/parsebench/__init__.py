"""ParseBench (LlamaIndex): rules on what a page's text holds, how it is marked and which data points its charts give.

    FOLDER/text_content.jsonl, text_formatting.jsonl, chart.jsonl, table.jsonl      a rule a line:
    {"pdf": "docs/text/a.pdf", "category", "id", "type", "rule": "{...}", "expected_markdown", "tags"}

Content faithfulness and semantic formatting are weighted means of a document's rules, as its own code weights them.
layout.jsonl asks where on the page a text stands, which no transcript says: it is not read. A candidate is a folder of
`<pdf's stem>.md`, or of `text/<stem>.md` and the like.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ocr_rl.contract import UserError
from ocr_rl.evaluate.suites.page import MAX_BYTES, Figure, Scores, Suite, only_file, texts_in
from ocr_rl.evaluate.suites.parsebench.rules import RULES, score
from ocr_rl.evaluate.suites.parsebench.text import Rule, Seen
from ocr_rl.files import Unreadable, read_text
from ocr_rl.text.element import elements
from ocr_rl.text.front_matter import split_front_matter
from ocr_rl.text.table_tree import Tree
from ocr_rl.text.teds import similarity

PARTS = ("text_content", "text_formatting", "chart", "table")
FIGURES = {
    "faithfulness": Figure(label="content faithfulness", better=1),
    "formatting": Figure(label="semantic formatting", better=1),
    "charts": Figure(label="chart data points", better=1),
    "teds": Figure(label="TEDS", better=1, note="of each table; stands where the authors have GTRM"),
}
CORRECT = (
    "missing_word_percent",
    "unexpected_word_percent",
    "too_many_word_occurence_percent",
    "missing_sentence_percent",
    "unexpected_sentence_percent",
    "too_many_sentence_occurence_percent",
    "extra_content",
    "bag_of_digit_percent",
)
STYLED = ("bold", "strikeout", "sup", "sub")  # what counts in the figure; other styles have rules alone
BETA = 0.5  # of the F-score of what must be marked (recall) and what must not (precision)
ORDER_WEIGHT = 0.5
RARE_WEIGHT = 0.2  # of formulas and of code


_ANY = Seen("any\n\n<table><tr><td>any</td><td>1</td></tr></table>")  # reaches what rules do with a table, too


@dataclass(slots=True)
class Page:
    """What is asked of a document."""

    rules: list[Rule] = field(default_factory=list)
    tables: list[Tree] = field(default_factory=list)


def load(folder: Path) -> Suite:
    """UserError for a folder in another layout."""
    only_file(folder, tuple(f"{part}.jsonl" for part in PARTS), "ParseBench")
    pages: dict[str, Page] = defaultdict(Page)
    left: Counter[str] = Counter()
    for path in (folder / f"{part}.jsonl" for part in PARTS):
        for number, row in _rows(path) if path.exists() else ():
            try:
                _add(pages, left, row)
            except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
                raise UserError(
                    f"{path}:{number}: is no rule as ParseBench writes them ({error!r:.80}); take the file as it was "
                    "published."
                ) from None
    others = ", ".join(f"{times:,} {name}" for name, times in left.most_common() if times)
    return Suite(
        name="ParseBench",
        licence="Apache-2.0",
        figures=FIGURES,
        pages=list(pages),
        read=partial(texts_in, stems={page: [page, Path(page).name] for page in pages}),
        score=lambda page, answer: scored(pages[page], split_front_matter(answer or "")[1]),
        source=", ".join(f"{part}.jsonl" for part in PARTS if (folder / f"{part}.jsonl").exists()),
        note=f"Not run: {others}." if others else "",
    )


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        lines = read_text(path, MAX_BYTES).split("\n")
    except Unreadable as flaw:
        raise UserError(f"{path}: {flaw}.") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                raise UserError(f"{path}:{number}: this is not JSON; take a whole copy of the file.") from None


def _add(pages: dict[str, Page], left: Counter[str], row: Mapping[str, Any]) -> None:
    pdf = Path(row["pdf"])
    name, kind = f"{pdf.parent.name}/{pdf.stem}", row["type"]
    payload = row.get("rule") or {}
    payload = json.loads(payload) if isinstance(payload, str) else payload
    rule = {**payload, "type": kind}
    if kind == "expected_markdown":
        trees = _trees(row.get("expected_markdown") or rule["expected_markdown"])
        pages[name].tables += trees
        left["expected_markdown without a table"] += not trees
    elif kind in RULES:
        _require_sound(rule)
        score(rule, _ANY)  # raises where the rule is of another shape
        pages[name].rules.append(rule)
    else:
        left[kind] += 1


def _require_sound(rule: Rule) -> None:
    """ValueError for what no rule holds and what would silently be a figure: numbers that are none, or below 0."""
    for name, kind in (("labels", list), ("normalize_numbers", bool)):
        if not isinstance(rule.get(name), kind | None):
            raise ValueError(f"{name} is {type(rule[name]).__name__}")
    numbers = [rule.get("max_diffs") or 0, rule.get("relative_tolerance") or 0]
    numbers += [times for name, bag in rule.items() if name.startswith("bag_of_") for times in (bag or {}).values()]
    if not all(0 <= float(number) < math.inf for number in numbers):
        raise ValueError("a count, an allowance or a tolerance is negative or no number")


# --- figures ----------------------------------------------------------------------------------------------------------


def scored(page: Page, text: str) -> Scores:
    """The figures of a document, and the scores of its rules by their types."""
    seen = Seen(text)
    kinds: dict[str, list[float]] = defaultdict(list)
    for rule in page.rules:
        kinds[rule["type"]].append(score(rule, seen))
    means = {kind: sum(scores) / len(scores) for kind, scores in kinds.items()}
    correct = [means[kind] for kind in CORRECT if kind in means]
    titles = [means[kind] for kind in ("is_title", "title_hierarchy_percent") if kind in means]
    faithfulness = [(_mean(correct), 1.0), (means.get("order"), ORDER_WEIGHT)]
    formatting = [(_style(kinds), 1.0), (_mean(titles), 1.0)]
    formatting += [(means.get(kind), RARE_WEIGHT) for kind in ("is_latex", "is_code_block")]
    figures = {
        "faithfulness": _weighted(faithfulness),
        "formatting": _weighted(formatting),
        "charts": [means["chart_data_point"]] if "chart_data_point" in means else [],
        "teds": _teds(page.tables, _trees(text)) if page.tables else [],
    }
    return {name: values for name, values in figures.items() if values} | kinds


def _style(kinds: Mapping[str, Sequence[float]]) -> float | None:
    """An F-score in which what must not be marked and is not is precision."""
    marked = [value for style in STYLED for value in kinds.get(f"is_{style}", ())]
    plain = [value for style in STYLED for value in kinds.get(f"is_not_{style}", ())]
    if not marked and not plain:
        return None
    recall, precision = (sum(values) / len(values) if values else 1.0 for values in (marked, plain))
    return (1 + BETA**2) * recall * precision / (BETA**2 * recall + precision) if recall or precision else 0.0


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _weighted(parts: Sequence[tuple[float | None, float]]) -> list[float]:
    """The mean over what a document has rules for; none where it has none."""
    there = [(value, weight) for value, weight in parts if value is not None]
    total = sum(weight for _, weight in there)
    return [sum(value * weight for value, weight in there) / total] if there else []


# --- tables by TEDS ---------------------------------------------------------------------------------------------------


def _trees(text: str) -> list[Tree]:
    """The tables of a text, Markdown and HTML, as TEDS compares them."""
    return [tree for block in elements(text) if (tree := block.tree) is not None]


def _teds(wanted: Sequence[Tree], shown: Sequence[Tree]) -> list[float]:
    """The likest pairs first; a table that is missing counts 0."""
    likest = sorted(
        ((similarity(a, b), k, j) for k, a in enumerate(wanted) for j, b in enumerate(shown)),
        reverse=True,
    )
    scores, taken = dict.fromkeys(range(len(wanted)), 0.0), set[int]()
    done: set[int] = set()
    for alike, k, j in likest:
        if k not in done and j not in taken:
            scores[k] = alike
            done.add(k)
            taken.add(j)
    return list(scores.values())
