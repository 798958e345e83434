"""Formulas as the letters and figures that they show, for texts that are compared by letters and figures alone.

OmniDocBench's code asks pylatexenc for this; here the letters stand alone, and signs that are none are left out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import cache

_TOKEN = re.compile(
    r"\\(?:begin|end)\s*\{[^{}]*\}(?:\s*\{[^{}]*\})?|\\([A-Za-z]+)\*?|\\.|%[^\n]*|[{}]|[^\\%{}]", re.DOTALL
)
_GREEK = (  # noqa: SIM905 (a list would be twenty lines)
    "alpha beta gamma delta zeta eta theta iota kappa mu nu xi omicron pi rho sigma tau upsilon chi psi omega"
).split()
_FUNCTIONS = (  # noqa: SIM905
    "sin cos tan cot sec csc sinh cosh tanh coth arcsin arccos arctan log ln lg exp lim sup inf max min "
    "limsup liminf det dim ker arg deg gcd hom Pr"
).split()
_LETTERS: Mapping[str, str] = (
    {name: unicodedata.lookup(f"GREEK SMALL LETTER {name}") for name in _GREEK}
    | {name.capitalize(): unicodedata.lookup(f"GREEK CAPITAL LETTER {name}") for name in (*_GREEK, "epsilon", "phi")}
    | {"lambda": "λ", "Lambda": "Λ", "varepsilon": "ε", "epsilon": "ϵ", "vartheta": "ϑ", "varphi": "φ", "phi": "ϕ"}
    | {"varsigma": "ς", "varrho": "ϱ", "varpi": "ϖ", "varkappa": "ϰ", "digamma": "ϝ", "ell": "ℓ", "hbar": "ħ"}
    | {"hslash": "ℏ", "wp": "℘", "aleph": "ℵ", "beth": "ℶ", "imath": "ı", "o": "ø", "O": "Ø", "AA": "Å", "aa": "å"}
    | {"ss": "ß", "i": "ı", "j": "ȷ", "l": "ł", "L": "Ł", "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ"}
    | {name: name for name in _FUNCTIONS}
)
_ACCENTS = {"hat": "\u0302", "bar": "\u0305", "tilde": "\u0303", "dot": "\u0307", "ddot": "\u0308", "vec": "\u20d7"} | {
    "acute": "\u0301",
    "grave": "\u0300",
    "check": "\u030c",
    "breve": "\u0306",
}
_STYLES = {
    "mathbf": "MATHEMATICAL BOLD",
    "mathit": "MATHEMATICAL ITALIC",
    "mathcal": "MATHEMATICAL SCRIPT",
    "mathscr": "MATHEMATICAL SCRIPT",
    "mathbb": "MATHEMATICAL DOUBLE-STRUCK",
    "mathfrak": "MATHEMATICAL FRAKTUR",
    "mathsf": "MATHEMATICAL SANS-SERIF",
    "mathtt": "MATHEMATICAL MONOSPACE",
}
_OLDER = {
    "DOUBLE-STRUCK": "DOUBLE-STRUCK",
    "SCRIPT": "SCRIPT",
    "FRAKTUR": "BLACK-LETTER",
}  # in Unicode before the others
_UNSHOWN = frozenset(("mbox", "hspace", "vspace", "label", "color", "xrightarrow", "xleftarrow", "rule"))
_DEEPEST = 50


def shown(tex: str) -> str:
    """The letters, figures and underscores of a formula, with blanks and signs that do not matter between them."""
    tokens = [(match[0], match[1]) for match in _TOKEN.finditer(tex)]
    return _several(tokens, 0, _DEEPEST)[0]


def _several(tokens: list[tuple[str, str | None]], at: int, depth: int) -> tuple[str, int]:
    """Up to the bracket that closes, and where it stands."""
    parts = []
    while at < len(tokens) and tokens[at][0] != "}":
        part, at = _one(tokens, at, depth)
        parts.append(part)
    return "".join(parts), at


def _one(tokens: list[tuple[str, str | None]], at: int, depth: int) -> tuple[str, int]:
    text, name = tokens[at]
    at += 1
    if text == "{" and depth:
        inner, at = _several(tokens, at, depth - 1)
        return inner, at + 1
    if name in _STYLES or name in _ACCENTS or name in _UNSHOWN:
        while at < len(tokens) and tokens[at][0].isspace():
            at += 1
        if at == len(tokens) or not depth or tokens[at][0] == "}":
            return "", at
        inner, at = _one(tokens, at, depth - 1)
        if name in _UNSHOWN:
            return "", at
        if name in _ACCENTS:
            return unicodedata.normalize("NFC", inner + _ACCENTS[name]), at
        return "".join(_styled(_STYLES[name], sign) for sign in inner), at
    if name is not None:
        return _LETTERS.get(name, ""), at
    return ("" if text[0] in "\\%{}" else text), at


@cache
def _styled(style: str, sign: str) -> str:
    if not (sign.isascii() and sign.isalnum()):
        return sign
    kind = "DIGIT" if sign.isdigit() else "CAPITAL" if sign.isupper() else "SMALL"
    name = unicodedata.name(sign).rpartition(" ")[2]
    older = _OLDER.get(style.partition(" ")[2])
    for full in (f"{style} {kind} {name}", f"{older} {kind} {name}"):
        try:
            return unicodedata.lookup(full)
        except KeyError:
            continue
    return sign
