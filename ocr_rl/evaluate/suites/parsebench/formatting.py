"""ParseBench's rules on formatting: bold and other marks, headings, formulas, code, the page's header and footer.

Defined by the benchmark's own code (run-llama/ParseBench at facdaf0, Apache-2.0), written anew.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from ocr_rl.evaluate.suites.parsebench.text import Rule, Seen, decoded, filled, fold

STYLES = ("bold", "italic", "underline", "strikeout", "mark", "sup", "sub")
NEAREST = 8  # openings before a text that are tried; those farther off have another one in between
FARTHEST = 10_000  # characters from there to the text
# Marks that may stand between the words of a text, each in one way only, so that no transcript makes the search long.
_MARKS = r"(?:\*|~~|_|</?\w+(?:\s[^>]*)?>)*"
_ESCAPED = re.compile(r"\\([!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~])")
_OTHER_MARKS: Mapping[str, list[tuple[str, str]]] = {
    "bold": [(r"(?s)\*\*\*(.+?)\*\*\*", r"\1"), (r"(?s)\*\*(.+?)\*\*", r"\1"), (r"(?i)</?b>", "")],
    "italic": [
        (r"(?<!\*)\*(?!\*)(.+?)(?<!\*)\*(?!\*)", r"\1"),
        (r"(?<!_)_(?!_)(.+?)(?<!_)_(?!_)", r"\1"),
        (r"(?i)</?(?:i|em)>", ""),
    ],
    "underline": [(r"(?i)</?(?:u|ins)>", "")],
    "strikeout": [("~~", ""), (r"(?i)</?(?:s|del|strike)>", "")],
    "mark": [(r"(?i)</?mark\b[^>]*>", "")],
    "sup": [(r"(?i)</?sup>", "")],
    "sub": [(r"(?i)</?sub>", "")],
}
_TIDY = [(r"[^\S\n]+", " "), (r" ?\n ?", "\n"), (r" ([,;:!?.\)\]\}])", r"\1")]
_SMALL = {  # characters that are raised or lowered by themselves
    "sup": re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱᵃᵇᶜᵈᵉᶠᵍʰʲᵏˡᵐᵒᵖʳˢᵗᵘᵛʷˣʸᶻᴬᴮᴰᴱᴳᴴᴵᴶᴷᴸᴹᴺᴼᴾᴿᵀᵁⱽᵂ]+"),
    "sub": re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ]+"),
}


class Frame(NamedTuple):
    """Marks around a text: how they open, all from there to the text, and all from the text to where they close."""

    opening: re.Pattern[str]
    left: re.Pattern[str]
    right: re.Pattern[str]


def _frame(opening: str, closing: str, marks: str, filler: str = "") -> Frame:
    patterns = (opening, f"{opening}{filler}{marks}", f"{marks}{filler}{closing}")
    return Frame(*(re.compile(f"(?ism){pattern}") for pattern in patterns))


@lru_cache(maxsize=32)
def _frames(kind: str, marks: str) -> Sequence[Frame]:
    """A text may be a part of what is bold or italic, and is all of what another tag holds."""
    if kind == "title":  # a heading, or a line that is bold as a whole
        return (
            _frame(r"^#{1,6}\s+", "", marks),
            _frame(r"<h[1-6][^>]*>\s*", r"\s*</h[1-6]>", marks),
            _frame(r"^\s*\*\*\s*", r"\s*\*\*\s*$", marks),
            _frame(r"^\s*<b[^>]*>\s*", r"\s*</b>\s*$", marks),
        )
    if kind == "bold":
        return (
            _frame(r"\*\*(?!\s)", r"(?<!\s)\*\*", marks, r"(?:(?!\*\*).)*?"),
            _frame("<b>", "</b>", marks, "(?:(?!</b>).)*?"),
            _frame(r"^[ \t]*#{1,6}[ \t]+", "", marks, r"[^\n]*?"),
        )
    if kind == "italic":
        return (
            _frame(r"(?<!\*)\*(?!\*)", r"\*(?!\*)", marks, r"(?:(?!\*(?!\*)).)*?"),
            _frame("(?<!_)_(?!_)", "_(?!_)", marks, "(?:(?!_(?!_)).)*?"),
            _frame("<i>", "</i>", marks, "(?:(?!</i>).)*?"),
            _frame("<em>", "</em>", marks, "(?:(?!</em>).)*?"),
        )
    if kind == "strikeout":
        return _frame("~~", "~~", marks), _frame("<(?:s|del|strike)>", "</(?:s|del|strike)>", marks)
    tags = ("u", "ins") if kind == "underline" else (kind,)
    return tuple(_frame(f"<{tag}>", f"</{tag}>", marks) for tag in tags)


@lru_cache(maxsize=256)
def _openings(opening: re.Pattern[str], text: str) -> list[int]:
    return [match.start() for match in opening.finditer(text)]


def _stands(words: Sequence[str], kind: str, marks: str, text: str) -> bool:
    """Whether the words stand in a frame, with blanks and `marks` between them."""
    frames = [(frame, starts) for frame in _frames(kind, marks) if (starts := _openings(frame.opening, text))]
    if not frames or not all(word.lower() in text.lower() for word in words if word.isascii()):
        return False
    core = re.compile(rf"{marks}\s+{marks}".join(map(re.escape, words)), re.IGNORECASE)
    found = core.search(text)
    while found:
        for frame, starts in frames:
            last = bisect_right(starts, found.start())
            near = (start for start in starts[max(0, last - NEAREST) : last] if found.start() - start <= FARTHEST)
            opened = any(frame.left.fullmatch(text, start, found.start()) for start in near)
            if opened and frame.right.match(text, found.end()):
                return True
        found = core.search(text, found.start() + 1)
    return False


def styled(kind: str, wanted: bool, rule: Rule, seen: Seen) -> float:
    """Whether a text stands in marks of a kind (bold, sup, ...); in headings too, where that is bold."""
    return _is_styled(kind, filled(rule.get("text")).strip(), seen) == wanted


def _is_styled(kind: str, text: str, seen: Seen) -> bool:
    words, plain = text.split(" "), _ESCAPED.sub(r"\1", seen.text)
    if _stands(words, kind, _MARKS, plain) or _stands(words, kind, "", _without_marks(plain, kind)):
        return True
    small = _SMALL[kind].findall(seen.text) if kind in _SMALL else []
    return any(text.lower() in unicodedata.normalize("NFKD", run).lower() for run in small)


@lru_cache(maxsize=16)
def _without_marks(text: str, kept: str) -> str:
    for kind, steps in _OTHER_MARKS.items():
        for pattern, instead in steps if kind != kept else []:
            text = re.sub(pattern, instead, text)
    for pattern, instead in _TIDY:
        text = re.sub(pattern, instead, text)
    return text


def title(rule: Rule, seen: Seen) -> float:
    """Whether a text stands as a heading of any level, or as a line that is bold."""
    text = filled(rule.get("text")).strip()
    if any(_stands(text.split(" "), "title", _MARKS, plain) for plain in seen.forms):
        return True
    whole = fold(text).strip()
    return bool(whole) and any(whole == found for _, _, found in seen.titles)


def title_hierarchy(rule: Rule, seen: Seen) -> float:
    """The share of headings that are there, of children below their parents and of siblings in order."""
    titles: set[str] = set()
    pairs: list[tuple[str, str, bool]] = []  # first, second, whether the second is deeper
    _walk("", rule.get("title_hierarchy"), titles, pairs)
    if not titles:
        return 0.0
    first: dict[str, tuple[int, int]] = {}
    for line, level, text in seen.titles:
        first.setdefault(text, (line, level))
    kept = sum(text in first for text in titles)
    for one, other, deeper in pairs:
        if one in first and other in first:
            (line, level), (later, below) = first[one], first[other]
            kept += line < later and (level < below or not deeper)
    return kept / (len(titles) + len(pairs))


def _walk(parent: str, children: Any, titles: set[str], pairs: list[tuple[str, str, bool]]) -> None:
    """Roots have no parent, and no order among themselves."""
    listed = children if isinstance(children, list) else [children]
    siblings: list[str] = []
    for item in listed:
        below = item.items() if isinstance(item, Mapping) else [(item, None)] if isinstance(item, str) else []
        for raw, grandchildren in below:
            child = fold(raw).strip() if isinstance(raw, str) else ""
            if child:
                titles.add(child)
                siblings.append(child)
                if parent:
                    pairs.append((parent, child, True))
                _walk(child, grandchildren, titles, pairs)
    if parent:
        pairs += [(one, other, False) for one, other in zip(siblings, siblings[1:], strict=False)]


_DELIMITED = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"(?<!\\)\$\$(.+?)(?<!\\)\$\$",
        r"(?<!\\)\$(?!\$)(.+?)(?<!\\)\$(?!\$)",
        r"\\\((.+?)\\\)",
        r"\\\[(.+?)\\\]",
    )
)
_PAIRS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))


def latex(rule: Rule, seen: Seen) -> float:
    """Whether a formula stands between delimiters, letter for letter but for blanks."""
    wanted = filled(_formula(filled(rule.get("formula"))))
    return any(
        _formula(found) == wanted for text in seen.forms for pattern in _DELIMITED for found in pattern.findall(text)
    )


def _formula(tex: str) -> str:
    tex = tex.strip()
    for opening, closing in _PAIRS:
        if tex.startswith(opening) and tex.endswith(closing) and len(tex) >= len(opening + closing):
            tex = tex[len(opening) : -len(closing)]
            break
    return re.sub(r"\s+", "", decoded(tex))


_FENCED = re.compile(r"(?ms)^[ \t]*```(?P<language>[^\n`]*)\n(?P<code>.*?)[ \t]*\n[ \t]*```[ \t]*$")


def code_block(rule: Rule, seen: Seen) -> float:
    language, wanted = filled(rule.get("language")).strip().lower(), filled(rule.get("code")).strip()
    blocks = (block for text in seen.forms for block in _FENCED.finditer(text))
    codes = [block["code"].strip() for block in blocks if block["language"].strip().lower() == language]
    tight = re.sub(r"\s+", " ", wanted)
    return any(wanted in code or tight in re.sub(r"\s+", " ", code) for code in codes)


_DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212"


def in_section(tag: str, rule: Rule, seen: Seen) -> float:
    """Whether a text stands within <page_header> or <page_footer>."""
    signs = (
        f"[{re.escape(_DASHES)}]" if sign in _DASHES else r"\s+" if sign == " " else re.escape(sign)
        for sign in filled(rule.get("text")).strip()
    )
    return re.search(rf"(?is)<{tag}>[^<]*?{''.join(signs)}[^<]*?</{tag}>", seen.text) is not None
