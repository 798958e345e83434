"""Does the place that a verdict comes from hold the fact that is tested?

    python -m benchmarks.fidelity.spans --n 200

On generated pages the tree knows where each tested fact stands: the text that a test asks for, or what differs between
the page and the one on which the fact is false. Read are the page's own reference, that wrong page's, and references
with damage through which places can be followed: wrong characters, wrong cells, paragraphs in reverse order, a lost
line, a loop at the end. Prints by type and transcript how many verdicts have a place that holds all of the fact (of a
table, one of the cells that differ), and how much of the page such places are. Exits 1 below 98 %.
"""

from __future__ import annotations

import argparse
import sys
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from statistics import fmean

from rapidfuzz.distance import Indel

from ocr_rl.contract import Reading
from ocr_rl.evaluate.damage import CURVES
from ocr_rl.evaluate.tables import to_markdown_table
from ocr_rl.pages.synth.sheets.make import SHEET_KINDS, make
from ocr_rl.pages.synth.sheets.printers import to_markdown
from ocr_rl.pages.synth.sheets.sheet_tests import Fact
from ocr_rl.text.checks import load_check
from ocr_rl.text.element_checks import TableRelation
from ocr_rl.text.source_map import Span
from ocr_rl.text.spans import Located, locate

LEAST = 0.98
_OPEN, _CLOSE = "\ue010", "\ue011"  # around a fact, while a transcript is damaged
_DAMAGE = {"characters wrong": 0.03, "cells wrong": 0.3, "paragraphs reversed": 0.6}
_SOME = ("table", "footnote")  # types of which one of the differing stretches is the fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A verdict's place beside the fact's."""

    type: str
    read: str  # what was read
    covered: bool
    share: float  # of the page
    words: str


def examined(kind: str, seed: int, index: int, reading: Reading, *, with_reference: bool) -> Iterator[Case]:
    """Every fact of one page, in every transcript in which its place is known."""
    document = make(kind, Random(f"spans/{kind}/{seed}/{index}"), 1, f"{kind}_{index}.pdf")
    reference = to_markdown(document.sheets[0])
    for fact in document.facts:
        wrong = to_markdown(fact.wrong())
        for read, text, places in _read(fact, reference, wrong, Random(f"{seed}/{index}")):
            located = locate(load_check(fact.test), text, reading, reference if with_reference else None)
            lost = read == "line lost"
            covered = (any if fact.test["type"] in _SOME else all)(
                _holds(located, place, text, lost=lost) for place in places
            )
            share = sum(end - start for start, end in located.spans) / max(1, len(text))
            shown = [text[start:end] for start, end in places], [text[start:end] for start, end in located.spans]
            words = f"{read}: {fact.test} {located.verdict} {located.kind}: the fact is {shown[0]}, told is {shown[1]}"
            yield Case(type=fact.test["type"], read=read, covered=covered, share=share, words=words)


def _read(fact: Fact, reference: str, wrong: str, rng: Random) -> Iterator[tuple[str, str, list[Span]]]:
    """(what, transcript, where the fact stands in it); a lost fact stands at an empty place."""
    if fact.test["type"] == "baseline":
        if "max_length" not in fact.test and reference:
            loop = "la " * 60
            yield "loop added", f"{reference}\n\n{loop}", [(len(reference) + 2, len(reference) + 2 + len(loop))]
        return
    if fact.test["type"] == "absent":
        if places := _changes(reference, wrong):
            yield "fact false", wrong, places
        return
    true = _literal(fact, reference) or _changes(wrong, reference)
    yield "fact true", reference, true
    literal = [] if fact.test["type"] == "table" else _literal(fact, wrong)
    if places := literal or _changes(reference, wrong):
        yield "fact false", wrong, places
    marked = _marked(reference, true)
    for name, share in _DAMAGE.items():
        damaged = CURVES[name](marked, share, Random(rng.random()))
        text = damaged.replace(_OPEN, "").replace(_CLOSE, "")
        places = _unmarked(damaged)
        if text != reference and len(places) == len(true):
            yield name, text, places
    yield from _without_lines(reference, true, rng)


def _without_lines(text: str, places: Sequence[Span], rng: Random) -> Iterator[tuple[str, str, list[Span]]]:
    """A text that lost lines, the line of a fact among them: the fact stands where the lines around it meet."""
    lines = text.splitlines(keepends=True)
    starts = [0, *accumulate(map(len, lines))]
    own = {bisect_right(starts, start) - 1 for start, _ in places}
    if len(own) != 1 or any(end > starts[min(own) + 1] for _, end in places):
        return
    (line,) = own
    lost = {line, *(k for k in range(len(lines)) if rng.random() < 0.2)}
    before = "".join(piece for k, piece in enumerate(lines[:line]) if k not in lost)
    behind = "".join(piece for k, piece in enumerate(lines[line:], line) if k not in lost)
    hole = len(before.rstrip()), len(before) + len(behind) - len(behind.lstrip())
    yield "line lost", before + behind, [hole]


def _literal(fact: Fact, text: str) -> list[Span]:
    """Where the texts that a test asks for stand as they are, each once; nowhere if one of them does not."""
    if fact.test["type"] == "table":
        return _cells(fact, text)
    wanted = {"present": ("text",), "order": ("before", "after")}.get(fact.test["type"], ())
    texts = [fact.test[name] for name in wanted]
    if not texts or any(text.count(one) != 1 for one in texts):
        return []
    return [(text.find(one), text.find(one) + len(one)) for one in texts]


def _cells(fact: Fact, text: str) -> list[Span]:
    """The cells whose texts a table test asks for, where a text is that of one cell alone."""
    texts = [fact.test[name] for name in ("cell", *TableRelation.RELATIONS) if fact.test.get(name)]
    alone = [one for one in texts if text.count(f">{one}<") == 1]
    return [(at, at + len(one)) for one in alone if (at := text.find(f">{one}<") + 1)]


def _changes(before: str, after: str) -> list[Span]:
    """The stretches of `after` that are not as in `before`, without white space at their ends."""
    spans = [(op.dest_start, op.dest_end) for op in Indel.opcodes(before, after) if op.tag == "insert"]
    return [span for start, end in spans if (span := _stripped(after, start, end))]


def _stripped(text: str, start: int, end: int) -> Span | None:
    inner = text[start:end].strip()
    at = start + text[start:end].find(inner)
    return (at, at + len(inner)) if inner else None


def _marked(text: str, places: Sequence[Span]) -> str:
    pieces, at = [], 0
    for start, end in sorted(places):
        pieces += [text[at:start], _OPEN, text[start:end], _CLOSE]
        at = end
    return "".join(pieces) + text[at:]


def _unmarked(text: str) -> list[Span]:
    """The marked places, in the text without marks."""
    places, at = list[Span](), 0
    for k, piece in enumerate(text.split(_OPEN)):
        inside, _, behind = piece.partition(_CLOSE) if k else ("", "", piece)
        if k:
            places.append((at, at + len(inside)))
        at += len(inside) + len(behind)
    return places


def _holds(located: Located, place: Span, text: str, *, lost: bool) -> bool:
    """Whether a place holds the fact; of a lost one, whether it lies where the fact did."""
    if lost:
        return any(place[0] <= low and high <= place[1] for low, high in located.spans)
    start, end = _stripped(text, *place) or place
    return any(low <= start and end <= high for low, high in located.spans)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fidelity.spans")
    parser.add_argument("--n", type=int, default=100, help="pages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=SHEET_KINDS, default="mixed")
    parser.add_argument("--reading", choices=("strict", "compatible"), default="strict")
    parser.add_argument("--show", type=int, default=8, help="how many places to print that miss the fact")
    parser.add_argument("--alone", action="store_true", help="without the page's own text to place what is lost")
    args = parser.parse_args(arguments)
    started = time.perf_counter()
    cases = [
        case
        for k in range(args.n)
        for case in examined(args.kind, args.seed, k, args.reading, with_reference=not args.alone)
    ]
    for case in [case for case in cases if not case.covered][: args.show]:
        print(case.words)
    by: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case in cases:
        by[case.type, case.read].append(case)
    rows = [[*key, *_figures(some)] for key, some in sorted(by.items())]
    print(
        to_markdown_table(
            ["type", "read", "verdicts", "covered", "of the page"], [*rows, ["all", "", *_figures(cases)]]
        )
    )
    print(f"{args.n} pages of kind {args.kind}, {args.reading}, {time.perf_counter() - started:.0f} s")
    return 0 if fmean(case.covered for case in cases) >= LEAST else 1


def _figures(cases: Sequence[Case]) -> list[str]:
    covered = fmean(case.covered for case in cases)
    return [str(len(cases)), f"{covered:.2%}", f"{fmean(case.share for case in cases):.1%}"]


if __name__ == "__main__":
    sys.exit(main())
