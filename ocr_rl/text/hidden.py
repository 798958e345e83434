"""What a browser does not show: characters without a glyph, comments, elements that hide or strike their text.

Rules are broad on purpose. No honest transcript makes letters white, tiny or transparent, so nobody is hurt by a rule
that takes a little too much for hidden. Knows nothing about Markdown.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache

from ocr_rl.text.html_rows import unescape

_HIDDEN_ELEMENTS = frozenset(
    ("annotation", "audio", "canvas", "datalist", "del", "head", "iframe", "map", "noembed", "noframes", "noscript")
    + ("object", "rp", "s", "script", "select", "strike", "style", "template", "title", "video")
)
_UNLESS_OPEN = frozenset(["details", "dialog"])
_HIDING_STYLE = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)|content-visibility\s*:\s*hidden|line-through"
    r"|opacity\s*[:(]\s*(?:0?\.[0-2]|0(?![\d.]*[1-9])|[0-9](?:\.\d+)?%|[12]\d(?:\.\d+)?%)"
    r"|(?:font(?:-size)?|line-height|zoom)\s*:[^;]*?(?<![\d.])(?:0|0?\.[0-3]\d*(?:r?em)|[0-3](?:\.\d+)?p[xt]|[0-3]?\d%)(?![\d.])"
    r"|(?<!-)(?:max-)?(?:height|width)\s*:\s*(?:[01](?:\.\d+)?(?:p[xt])?|0?\.\d+r?em)(?![\d.%a-z])"
    r"|(?<![-\w])color\s*:\s*(?:transparent|#[a-f0-9]{3}0(?![a-f0-9])|#[a-f0-9]{6}0[a-f0-9]"
    r"|(?:rgb|hsl)a?\((?:[^),/]*,){3}\s*0?\.?[01]?%?\s*\)|(?:rgb|hsl)a?\([^)/]*/\s*0?\.?[01]?%?\s*\))"
    r"|-(?:webkit-)?text-fill-color|(?:text-indent|left|top|right|bottom|margin(?:-\w+)?)\s*:\s*(?:-\d{2,}(?:\.\d+)?r?em|-\d{3}|\d{4})"
    r"|letter-spacing\s*:\s*-(?:[1-9]|0?\.[5-9]\d*r?em)"
    r"|(?<!-)clip(?:-path)?\s*:|mask|scale\w*\s*\(\s*0|translate\w*\s*\(\s*-|rotate[xy]\s*\(\s*90|z-index\s*:\s*-|position\s*:\s*fixed"
    r"|\\|/\*|url\(|@import|content\s*:",
    re.IGNORECASE,
)
_ATTRIBUTE = re.compile(r"""([^\s/>="']+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>"']*)))?""")
_WHITE = re.compile(
    r"(?<![-\w])(?:color\s*:\s*)?(?:white(?:smoke)?|snow|ivory|azure|ghostwhite|floralwhite|mintcream|transparent"
    r"|#?[ef]{3}(?![a-f0-9])|#?(?:[ef][a-f0-9]){3}|rgba?\(\s*2[3-5]\d[,\s]+2[3-5]\d[,\s]+2[3-5]\d"
    r"|hsla?\([^)]*[,\s](?:9[3-9]|100)(?:\.\d+)?%\s*[,/)])",
    re.IGNORECASE,
)
_COMMENT_END = re.compile("--!?>")
# Letters of Unicode that are empty, and marks that change a glyph without being one.
_EMPTY = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_KEPT = "\t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85"  # control characters that count as white space


def without_invisible(text: str) -> str:
    """The text without zero-width and control characters, soft hyphens and letters that are empty."""
    for character in _invisible() & set(text):
        text = text.replace(character, "")
    return text


def without_comments(source: str) -> str:
    """HTML without comments. One that is never closed hides the rest."""
    if "<!--" not in source:
        return source
    pieces, at = [], 0
    while (start := source.find("<!--", at)) >= 0:
        pieces.append(source[at:start])
        if source.startswith((">", "->"), start + 4):
            at = source.index(">", start) + 1
            continue
        end = _COMMENT_END.search(source, start + 4)
        if end is None:
            return "".join(pieces)
        at = end.end()
    return "".join([*pieces, source[at:]])


def hides(name: str, attributes: str) -> bool:
    """Whether an element with this name and these attributes (as written) hides its text from a reader."""
    if name in _HIDDEN_ELEMENTS:
        return True
    if not attributes.strip(" /\n"):
        return name in _UNLESS_OPEN
    values = {key.lower(): unescape(a or b or c) for key, a, b, c in _ATTRIBUTE.findall(attributes[:10_000])}
    if "hidden" in values or (name in _UNLESS_OPEN and "open" not in values):
        return True
    style = values.get("style", "")
    if _HIDING_STYLE.search(style) or (name == "font" and _WHITE.match(values.get("color", ""))):
        return True
    on_white = "background" not in style.lower()  # white on another ground is seen
    return on_white and any(_WHITE.match(rule.strip()) for rule in style.split(";") if ":" in rule)


@cache
def _invisible() -> frozenset[str]:
    characters = map(chr, range(sys.maxunicode + 1))
    return frozenset(
        character
        for character in characters
        if (unicodedata.category(character) in ("Cf", "Cc") and character not in _KEPT) or _EMPTY.match(character)
    )
