"""Where a table test found its cell and its neighbours, and a formula test its formula, in the transcript.

Each answers with stretches of the transcript, none where nothing can be told. Knows nothing about running text.
"""

from __future__ import annotations

from collections.abc import Sequence

from rapidfuzz import fuzz, process
from rapidfuzz.distance import Levenshtein

from ocr_rl.contract import Verdict
from ocr_rl.text.distance import HALF
from ocr_rl.text.element_checks import LIKELY_FORMULAS, Look, Math, TableRelation
from ocr_rl.text.page_check import needle_of
from ocr_rl.text.source_map import Span
from ocr_rl.text.sources import Sources
from ocr_rl.text.tables import Cell

MOST_NEIGHBOURS = 3  # of a cell, that are shown as the wrong ones
MOST_ANCHORS = 50  # cells that say the same, of which the best is looked for
_DELIMITERS = (("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"), ("$", "$"))


def cell_spans(check: TableRelation, sources: Sources, least: float) -> tuple[list[Span | None], list[Span]]:
    """The cell with what its relations were found in, or with its wrong neighbours, which are told apart too.

    Where no cell says the searched text, the one most like it, if it is `least` alike.
    """
    tables = sources.prepared.tables(sources.reading, markdown=not check.ignore_markdown_tables)
    if not tables or check.cell is None:
        return [], []
    needle = needle_of(check.cell, sources.reading)
    wanted = [(name, needle_of(value, sources.reading)) for name in check.RELATIONS if (value := getattr(check, name))]
    looks = [Look(table, check.max_diffs, sources.reading) for table in tables]
    anchors = [(look, cell) for look in looks for cell in look.anchors(needle)][:MOST_ANCHORS]
    if not anchors:
        return _closest_cell(needle, looks, sources, least), []
    failed = [[relation for relation in wanted if not look.holds(cell, *relation)] for look, cell in anchors]
    best = min(range(len(anchors)), key=lambda k: len(failed[k]))
    look, cell = anchors[best]
    own = sources.cell(look.table, cell)
    if failed[best]:
        others = [other for name, _ in failed[best] for other in look.others(cell, name)[:MOST_NEIGHBOURS]]
        wrong = [span for other in others if (span := sources.cell(look.table, other))]
        return [own, *wrong], wrong
    right = [_likest(look, look.others(cell, name), text) for name, text in wanted]
    return [own, *(sources.cell(look.table, other) for other in right if other)], []


def _likest(look: Look, cells: Sequence[Cell], text: str) -> Cell | None:
    return max(cells, key=lambda cell: fuzz.ratio(look.table.by_place[cell.place], text), default=None)


def _closest_cell(needle: str, looks: Sequence[Look], sources: Sources, least: float) -> list[Span | None]:
    near = [
        (likeness, look, look.table.cells[k])
        for look in looks
        for _, likeness, k in process.extract(needle, look.table.texts, scorer=fuzz.ratio, limit=1)
    ]
    likeness, look, cell = max(near, key=lambda one: one[0], default=(0.0, looks[0], None))
    if cell is None or likeness < 100 * least:
        return []
    return [sources.cell(look.table, cell)]


def formula_spans(check: Math, verdict: Verdict, sources: Sources, least: float) -> list[Span | None]:
    """The formula that is the searched one, or the one most like it, with its delimiters."""
    formulas = sources.prepared.formulas(sources.reading, dollars=not check.ignore_dollar_delimited)
    if not formulas:
        return []
    ranked = [
        formula
        for formula, _, _ in process.extract(
            check.math, formulas, scorer=Levenshtein.normalized_similarity, limit=LIKELY_FORMULAS
        )
    ]
    if check.math in formulas:
        return [_formula_span(check.math, sources)]
    from ocr_rl.text.formulas import equal, likeness

    if verdict.passed:
        same = (formula for formula in [*ranked, *formulas] if equal(check.math, formula, sources.reading))
        return [_formula_span(next(same), sources)]
    if verdict.degree <= (0.0 if least <= HALF else least):
        return []
    return [_formula_span(max(ranked, key=lambda formula: likeness(check.math, formula)), sources)]


def _formula_span(tex: str, sources: Sources) -> Span | None:
    """Where a formula stands between its delimiters; the first of several that are written alike."""
    body = sources.body
    start = body.find(tex)
    while start >= 0:
        end = start + len(tex)
        before, behind = body[:start].rstrip(), body[end:].lstrip()
        for opening, closing in _DELIMITERS:
            if before.endswith(opening) and behind.startswith(closing):
                return len(before) - len(opening), len(body) - len(behind) + len(closing)
        start = body.find(tex, start + 1)
    return None
