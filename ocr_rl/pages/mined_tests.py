"""Unit tests of a page from its text layer, or from its Markdown transcript.

A test from a transcript passes with that transcript, in both readings. What a test searches stands on the page once.
Knows nothing about folders.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from ocr_rl.pages.reading_order import Line
from ocr_rl.pages.snippets import stands_once
from ocr_rl.pages.text_layer import Layer
from ocr_rl.text import formulas
from ocr_rl.text.checks import load_check, prepare
from ocr_rl.text.normalize import normalize
from ocr_rl.text.tables import html_tables
from ocr_rl.text.visible import budget, count_visible, see
from ocr_rl.text.walk import Mark

Test = dict[str, Any]
_LONE_ACCENT = re.compile("[¨´`ˆ˜¸¯˘˙˚˝ˇ]")  # TeX's old typefaces print an accented letter in two parts
# The most tests of a type on a page.
_PER_TYPE = {"present": 5, "order": 3, "absent": 4, "table": 6, "math": 4, "format": 4, "footnote": 3, "baseline": 1}


# --- tests from a text layer ------------------------------------------------------------------------------------------


def layer_tests(layer: Layer, pdf: str, rng: Random) -> list[Test]:
    """Present, order, absent and baseline tests of a page.

    Order tests compare two places of one column, since the order of columns may be in doubt. A line that may be a
    running header or footer is neither required nor forbidden.
    """
    body = [line for line in layer.lines if not line.running]
    text = normalize("\n".join(line.text for line in layer.lines))
    lower = text.lower()
    prose = [line for line in body if _is_prose(line) and not line.margin]
    tests: list[Test] = []
    pieces = [(line, piece) for line in prose if (piece := _piece(line.text, text, lower, rng))]
    chosen = rng.sample(pieces, min(_PER_TYPE["present"], len(pieces)))
    tests += [{"type": "present", "text": piece, "max_diffs": len(piece) // 20} for _, piece in chosen]
    for _ in range(3 * _PER_TYPE["order"]):
        if len(pieces) < 2 or sum(test["type"] == "order" for test in tests) == _PER_TYPE["order"]:
            break
        (first, before), (second, after) = rng.sample(pieces, 2)
        if _above(first, second):
            tests.append({"type": "order", "before": before, "after": after, "max_diffs": 1})
    rest = normalize("\n".join(line.text for line in body)).lower()
    edges = [line.text for line in layer.lines if line.running and sum(map(str.isalpha, line.text)) >= 4]
    tests += [
        {"type": "absent", "text": edge} for edge in edges if len(edge) >= 6 and normalize(edge).lower() not in rest
    ]
    if pieces:
        # Running headers count towards the budget, so that a transcript with them is not too long.
        tests += [{"type": "baseline"}, {"type": "baseline", "max_length": budget(count_visible(text))}]
    return _named(tests, pdf, layer.number) if pieces else []


def _is_prose(line: Line) -> bool:
    words = line.text.split()
    return len(words) >= 5 and sum(c.isalpha() or c == " " for c in line.text) > 0.85 * len(line.text)


def _above(first: Line, second: Line) -> bool:
    """Whether both lines stand in one column, and the first well above the second."""
    shared = min(first.right, second.right) - max(first.left, second.left)
    narrow = min(first.right - first.left, second.right - second.left)
    wide = max(first.right - first.left, second.right - second.left)
    return shared > 0.8 * wide and narrow > 0.5 * wide and first.bottom > second.top + 2


def _piece(line: str, text: str, lower: str, rng: Random) -> str | None:
    """Some whole words of a line that stand on the page once. A last word cut off by a hyphen is not among them."""
    words = line.split()[: -1 if line.endswith("-") else None]
    if len(words) < 4:
        return None
    length = min(len(words), rng.randint(4, 8))
    at = rng.randint(0, len(words) - length)
    piece = " ".join(words[at : at + length])
    if len(piece) < 16 or _LONE_ACCENT.search(piece):
        return None
    return piece if stands_once(piece, text, lower) else None


# --- tests from Markdown ----------------------------------------------------------------------------------------------


def markdown_tests(text: str, pdf: str, number: int, rng: Random) -> list[Test]:
    """Tests that the transcript passes in both readings. A blank transcript gives one baseline test."""
    if not any(c.isalnum() for c in text):
        return _named([{"type": "baseline", "max_length": 0}], pdf, number)
    candidates = [*_prose_tests(text, rng), *_table_tests(text, rng), *_mark_tests(text), {"type": "baseline"}]
    rng.shuffle(candidates)
    prepared, kept, counts = prepare(text), [], Counter[str]()
    for test in _named(candidates, pdf, number):
        if counts[test["type"]] == _PER_TYPE[test["type"]]:
            continue
        try:
            check = load_check(test)
        except ValueError:
            continue
        if check.run(prepared, "strict").passed and check.run(prepared, "compatible").passed:
            counts[test["type"]] += 1
            kept.append(test)
    return kept


def _prose_tests(text: str, rng: Random) -> Iterator[Test]:
    page = normalize(text)
    lower = page.lower()
    lines = [line for line in text.split("\n") if line.strip() and not re.search(r"[<>|\\\[\]$#]", line)]
    pieces = [piece for line in lines if (piece := _piece(re.sub(r"[*_]", "", line), page, lower, rng))]
    for piece in rng.sample(pieces, min(6, len(pieces))):
        yield {"type": "present", "text": piece, "max_diffs": len(piece) // 20}
    for _ in range(4):
        if len(pieces) >= 2:
            first, second = sorted(rng.sample(range(len(pieces)), 2))
            yield {"type": "order", "before": pieces[first], "after": pieces[second], "max_diffs": 0}


def _table_tests(text: str, rng: Random) -> Iterator[Test]:
    tables = html_tables(text)
    seen = Counter(normalize(cell.text) for table in tables for cell in table.cells.values())
    for table in tables:
        if table.fault:
            continue
        for cell in rng.sample(list(table.cells.values()), min(8, len(table.cells))):
            way = rng.choice(("left", "right", "up", "down"))
            others = table.neighbours(cell, way)
            if len(others) == 1 and all(c.text.strip() and seen[normalize(c.text)] == 1 for c in (cell, others[0])):
                yield {"type": "table", "cell": cell.text, way: others[0].text}


def _mark_tests(text: str) -> Iterator[Test]:
    page = normalize(text)
    for formula in dict.fromkeys(formulas.extract(text, dollars=False)):
        if len(formula) >= 8:
            yield {"type": "math", "math": formula}
    kinds: tuple[Mark, ...] = ("heading", "bold", "italic")
    for kind in kinds:
        for piece in see(text).marked[kind]:
            if 4 <= len(piece) <= 200 and page.count(normalize(piece)) == 1:
                yield {"type": "format", "text": piece.strip(), "format": kind}
    for match in re.finditer(r"(\w[^\n\[\]<>]{12,60}\w[.,;]?)\[\^(\w{1,3})\](?!:)", text):
        yield {"type": "footnote", "marker": match[2], "appears_before_marker": match[1][-40:].split(" ", 1)[-1]}


def _named(tests: Sequence[Test], pdf: str, number: int) -> list[Test]:
    """The tests with their PDF, page and id, such as "scan_p3_order2"."""
    counts: Counter[str] = Counter()
    named = []
    for test in tests:
        counts[test["type"]] += 1
        name = f"{pdf.removesuffix('.pdf')}_p{number}_{test['type']}{counts[test['type']]}"
        named.append({"pdf": pdf, "page": number, "id": name, **test})
    return named
