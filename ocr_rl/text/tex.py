r"""Formulas in running text: where they stand between their delimiters, and how many symbols they show.

The delimiters are \(..\), \[..\], $$..$$ and $..$. Between single dollars a formula stays in its paragraph, and a price
is none: no space behind the first dollar or before the second, no digit behind the second (the rule of pandoc). What
holds HTML is no formula: a comment could end inside it. Knows nothing about how formulas are compared (`formulas`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

_TOKEN = re.compile(r"\\[\s\S]|\$\$?")
_INLINE = re.compile(r"\$(?![\s$])((?:\\.|[^$\\\n]|\n(?![ \t]*\n)){1,500}?)(?<!\s)\$(?![\d$])")
_CLOSING = {"\\(": "\\)", "\\[": "\\]", "$$": "$$"}
_MARKUP = re.compile(
    r"<!--|</?(?:[bi]|br|hr|em|del|div|font|h[1-6]|img|li|ol|p|pre|small|span|strong|style|sub|sup|t[dhr]|table|ul)[\s/>]",
    re.IGNORECASE,
)
_UNSEEN = re.compile(r"(?<!\\)%[^\n]*|\\[hv]?phantom\s*\{[^{}]*\}|\\label\{[^{}]*\}")
# An argument is free only if it is a name that TeX has or a length: a line of the page in it is searched, so it counts.
_WRITTEN = re.compile(
    r"\\(?:begin|end)\s*\{(?:[bBpvV]?matrix|smallmatrix|aligned|alignedat|align|array|cases|rcases|gather|gathered|split"
    r"|equation|multline|subarray|CD)\*?\}"
    r"|\\(?:text|math)?color\s*\{(?:black|blue|brown|cyan|gr[ae]y|green|magenta|orange|purple|red|teal|violet|white|yellow"
    r"|#[a-fA-F0-9]{3,6})\}"
    r"|\\[hv]space\*?\s*\{-?[\d.]{1,8}\s*(?:pt|em|ex|cm|mm|in|mu|px)\}"
    r"|\\([a-zA-Z]+)\*?|\\(.)|[{}^_&~\s]",
    re.DOTALL,
)
# Commands that place, size or dress symbols, and show none of their own.
_SILENT = frozenset(
    ("left", "right", "middle", "big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "biggl", "biggr", "Biggl")
    + ("Biggr", "displaystyle", "textstyle", "scriptstyle", "scriptscriptstyle", "frac", "dfrac", "tfrac", "cfrac")
    + ("binom", "dbinom", "tbinom", "over", "text", "textrm", "textbf", "textit", "textsf", "texttt", "textnormal")
    + ("mbox", "hbox", "mathrm", "mathbf", "mathit", "mathsf", "mathtt", "mathnormal", "mathbb", "mathcal", "mathscr")
    + ("mathfrak", "boldsymbol", "bm", "pmb", "rm", "bf", "it", "sf", "tt", "cal", "operatorname", "limits", "nolimits")
    + ("quad", "qquad", "thinspace", "tag", "overset", "underset", "stackrel", "substack", "array", "hline", "cline")
    + ("notag", "nonumber", "label", "smash", "mathop", "mathbin", "mathrel", "mathord", "mathopen", "mathclose")
    + ("mathpunct",)
)


class Formula(NamedTuple):
    """text[start:end] is a formula with its delimiters."""

    start: int
    end: int
    tex: str  # between the delimiters, without comments and phantoms
    mark: str  # the opening delimiter

    @property
    def displayed(self) -> bool:
        return self.mark in ("\\[", "$$")


def formulas(text: str) -> Iterator[Formula]:
    """Every formula of a text, in order. Linear in the text."""
    if "$" not in text and "\\" not in text:
        return
    upcoming: dict[str, int] = {}  # where the next closing mark of a kind stands, or the next piece of HTML

    def after(mark: str, at: int) -> int:
        if upcoming.get(mark, -1) < at:
            markup = _MARKUP.search(text, at) if mark == "<" else None
            where = text.find(mark, at) if mark != "<" else markup.start() if markup else -1
            upcoming[mark] = where if where >= 0 else len(text)
        return upcoming[mark]

    at = 0
    while match := _TOKEN.search(text, at):
        start, at = match.span()
        if match[0] == "$":
            if (inline := _INLINE.match(text, start)) is None:
                continue
            end, behind = inline.end(1), inline.end()
        elif closing := _CLOSING.get(match[0]):
            end = after(closing, at)
            behind = end + len(closing)
        else:
            continue
        if end < len(text) and after("<", at) >= end:
            tex = text[at:end]
            shown = _UNSEEN.sub("", tex).strip() if "%" in tex or "\\" in tex else tex.strip()
            yield Formula(start, behind, shown, match[0])
            at = behind


def with_formulas(text: str, instead: Callable[[Formula], str]) -> str:
    """The text with something else in the place of every formula."""
    pieces, at = [], 0
    for formula in formulas(text):
        pieces += [text[at : formula.start], instead(formula)]
        at = formula.end
    return "".join([*pieces, text[at:]]) if at else text


def without_delimiters(text: str) -> str:
    r"""The text with `x^2` for `$x^2$` and for `\(x^2\)`."""
    return with_formulas(text, lambda formula: formula.tex)


def only_formulas(text: str) -> bool:
    """Whether a text has nothing but formulas, and the punctuation that may follow one."""
    return not with_formulas(text, lambda formula: "").strip(" .,;:\n")


def count_symbols(tex: str) -> int:
    r"""About how many symbols a formula shows: letters and signs, and one for a command such as `\alpha`."""
    commands = sum(1 for match in _WRITTEN.finditer(tex) if (name := match[1]) is not None and name not in _SILENT)
    return commands + len(_WRITTEN.sub("", tex))
