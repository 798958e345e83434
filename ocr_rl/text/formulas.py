"""Formulas of a transcript: find them, and tell whether two of them are the same once rendered.

`equal` follows the rule of the public olmOCR-Bench ("compatible") or closes its holes ("strict"). Both readings compare
what a browser would show, and need no browser. Knows nothing about unit tests or rewards.

The public rule was read off the benchmark's own verdicts. Two formulas are equal if the reference's MathML is part of
the candidate's. They are also equal if every symbol of the reference can be laid on a symbol of the candidate: the two
have the same letter, and the nearest neighbours above, below, left and right lie on one another. The rule is one-sided:
what the candidate shows in addition is free, and a reference that shows nothing matches everything.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from xml.etree import ElementTree

from rapidfuzz.distance import Levenshtein

from ocr_rl.contract import Reading
from ocr_rl.text.math_layout import TooDeep, layout
from ocr_rl.text.math_match import Rect, Symbols, TooMany, embeds, symbols
from ocr_rl.text.math_render import render

CACHED_FORMULAS = 4096
DELIMITERS = (("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"), ("$", "$"))
INVISIBLE = re.compile("[\\s\u200b-\u200d\u2060-\u2064\ufeff]+")

SCRIPTED = frozenset(("msub", "msup", "msubsup", "munder", "mover", "munderover"))
GROUPS = frozenset(("mrow", "mstyle", "mpadded", "mphantom"))
NUMBERING = re.compile(r"\\tag\*?\{[^{}]*\}|\\label\{[^{}]*\}|\\notag(?![a-zA-Z])|\\nonumber(?![a-zA-Z])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """A formula made ready for comparison. MathML and symbols are empty if the formula shows nothing."""

    mathml: str
    letters: str  # of the MathML, in its order
    symbols: Symbols
    lines: Symbols  # the symbols without closing punctuation, with neighbours to the left and right only
    structure: Counter[tuple[str, ...]]  # roots, fractions, scripts and accents, which the symbols do not tell


def extract(text: str, *, dollars: bool = True) -> list[str]:
    r"""All formulas between \(..\), \[..\] and, with `dollars`, $$..$$ and $..$: kind after kind, stripped.

    A formula ends at the next closing mark, on whatever line. The formulas of one kind are removed from the text
    before the next kind is searched. As in the public benchmark, an escaped dollar counts as a dollar and environments
    without delimiters are not seen. Linear in the text.
    """
    formulas: list[str] = []
    for opening, closing in DELIMITERS if dollars else DELIMITERS[:2]:
        rest: list[str] = []
        at = 0
        while (start := text.find(opening, at)) >= 0:
            inside = start + len(opening)
            end = text.find(closing, inside + 1)
            if end < 0:
                break
            formulas.append(text[inside:end].strip())
            rest.append(text[at:start])
            at = end + len(closing)
        text = "".join(rest) + text[at:]
    return formulas


def equal(reference: str, candidate: str, reading: Reading = "compatible") -> bool:
    """Whether a candidate shows the formula of the reference. Both are TeX without delimiters.

    compatible: the public benchmark's verdict. strict: neither formula may show more than the other, and a reference
    that cannot be rendered, or shows nothing, matches only itself.
    """
    if reference == candidate:
        return True
    return _strictly_equal(reference, candidate) if reading == "strict" else _compatible(reference, candidate)


def likeness(reference: str, candidate: str) -> float:
    """How alike two formulas look, in [0, 1]; 1 where they are strictly equal.

    It is the Levenshtein similarity of their letters in the order of MathML, times 0.7 and 0.3 x the share (Dice) of
    roots, fractions, scripts and rows that they have in common. Where a formula cannot be rendered the sources are
    compared, and count half. This is no CDM (arXiv 2409.03643), which matches symbols in pictures.
    """
    if equal(reference, candidate, "strict"):
        return 1.0
    wanted, shown = prepare(NUMBERING.sub("", reference)), prepare(NUMBERING.sub("", candidate))
    if wanted is None or shown is None:
        return 0.5 * Levenshtein.normalized_similarity(reference, candidate)
    letters = Levenshtein.normalized_similarity(wanted.letters, shown.letters)
    size = wanted.structure.total() + shown.structure.total()
    structure = 2 * (wanted.structure & shown.structure).total() / size if size else 1.0
    return letters * (0.7 + 0.3 * structure)


def _compatible(reference: str, candidate: str) -> bool:
    wanted = prepare(reference)
    if wanted is None:
        return True
    shown = prepare(candidate)
    return shown is not None and (wanted.mathml in shown.mathml or embeds(wanted.symbols, shown.symbols))


def _strictly_equal(reference: str, candidate: str) -> bool:
    """Whether both have the same letters in the same lines and the same roots, fractions, scripts, accents and rows.

    The structure tells what stands above what. Rectangles do not, so that a space or a style may move symbols
    sideways. Equation numbers and closing punctuation do not count.
    """
    wanted, shown = prepare(NUMBERING.sub("", reference)), prepare(NUMBERING.sub("", candidate))
    if wanted is None or shown is None or not wanted.symbols.letters:
        return False
    if wanted.mathml == shown.mathml:
        return True
    return (
        wanted.structure == shown.structure and embeds(wanted.lines, shown.lines) and embeds(shown.lines, wanted.lines)
    )


@lru_cache(maxsize=CACHED_FORMULAS)
def prepare(tex: str) -> Formula | None:
    """The formula rendered and laid out, with the neighbours of its symbols; None if that cannot be done. Cached."""
    markup = render(tex)
    if markup is None:
        return None
    try:
        spans = [(INVISIBLE.sub("", box.text), box[1:]) for box in layout(markup.html)]
        shown = symbols(spans)
        lines = symbols(_without_end(spans))
        root = ElementTree.fromstring(f"<m>{markup.mathml}</m>")
        structure = Counter(_structure(root))
    except (TooDeep, TooMany):
        return None
    return Formula(
        mathml=INVISIBLE.sub("", markup.mathml),
        letters=_letters(root),
        symbols=shown,
        lines=replace(lines, neighbours=lines.neighbours[2:]),
        structure=structure,
    )


def _without_end(spans: list[tuple[str, Rect]]) -> list[tuple[str, Rect]]:
    """Text spans without the punctuation that ends the formula. Of a span like `1.` only a share is cut off."""
    while spans:
        text, (x, y, width, height) = spans[-1]
        if kept := text.rstrip(".,;"):
            return [*spans[:-1], (kept, (x, y, width * len(kept) / len(text), height))]
        spans = spans[:-1]
    return spans


def _structure(node: ElementTree.Element) -> Iterator[tuple[str, ...]]:
    """(kind, letters of its parts, ...) of every root, fraction, script and accent in a MathML element.

    Example: `x^{2}` gives ("sup", "x", "2"). The limits of an operator count as its scripts, because display style
    alone decides whether they stand above and below it.
    """
    for child in node.iter():
        parts = list(child)
        match child.tag:
            case "msqrt" | "mroot":
                yield child.tag, *map(_letters, parts)
            case "mfrac":
                yield "rows" if child.get("linethickness") == "0px" else "mfrac", *map(_letters, parts)
            case "mtable" if len(parts) > 1:
                yield "rows", *map(_letters, parts)
            case "msub" | "munder":
                yield "sub", _foot(parts[0]), _letters(parts[1])
            case "msup" | "mover":
                yield "accent" if child.get("accent") == "true" else "sup", _foot(parts[0]), _letters(parts[1])
            case "msubsup" | "munderover":
                yield "sub", _foot(parts[0]), _letters(parts[1])
                yield "sup", _foot(parts[0]), _letters(parts[2])
            case "menclose" if child.get("notation") != "box":
                yield "menclose", child.get("notation", ""), _letters(child)


def _letters(node: ElementTree.Element) -> str:
    return INVISIBLE.sub("", "".join(node.itertext()))


def _foot(base: ElementTree.Element) -> str:
    """The letter that a script hangs on: `)` for both (x)^2 and {(x)}^2, x for both x_i^2 and {x_i}^2."""
    while base.tag in SCRIPTED or base.tag in GROUPS:
        visible = [part for part in base if _letters(part)]
        if not visible:
            break
        base = base[0] if base.tag in SCRIPTED else visible[-1]
    return _letters(base)[-1:]
