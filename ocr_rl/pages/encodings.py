"""Whether the letters of a text layer are those that are drawn.

A typeface in a PDF may call its letters as it likes: shifted by one, or exchanged. Such a layer has vowels and words of
the usual length. But an `l` that does not rise, or a `g` that does not descend, is none, in every language; and where
letters of one shape are exchanged, they follow each other as in no language.

Knows nothing about PDFs.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import median_low

from ocr_rl.pages.glyphs import Glyph

_LOW = frozenset("aceomnrsuvwxzавгежзиклмнопстхчшъыьэюяαεινοπστυωκ")  # as high as an x
_HIGH = frozenset("bdfhklδθλ")  # they rise above it
_DEEP = frozenset("gpqyруγηρχμ")  # they go below the line
_LETTERS = 60  # of a typeface, at least
_KINDS = 8  # different letters of it, at least
_WRONG = 0.2  # share of letters that do not look as they are called


def encoding_fault(glyphs: Iterable[Glyph]) -> str:
    """Why the letters are not trusted; empty if they are."""
    typefaces: dict[int, list[Glyph]] = defaultdict(list)
    for glyph in glyphs:
        if glyph.upright and glyph.text in _LOW | _HIGH | _DEEP:
            typefaces[glyph.typeface].append(glyph)
    if any(_is_exchanged(letters) for letters in typefaces.values()):
        return "a broken encoding: letters that are not what is drawn"
    return ""


def _is_exchanged(glyphs: Sequence[Glyph]) -> bool:
    """Whether too many letters of a typeface are higher or deeper than letters of their name."""
    counts = Counter(glyph.text for glyph in glyphs)
    if len(glyphs) < _LETTERS or len(counts) < _KINDS:
        return False
    shapes: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for glyph in glyphs:
        em = glyph.em or 1.0
        shapes[glyph.text].append(((glyph.top - glyph.baseline) / em, (glyph.baseline - glyph.bottom) / em))
    tops = {letter: median_low([top for top, _ in shape]) for letter, shape in shapes.items()}
    deeps = {letter: median_low([deep for _, deep in shape]) for letter, shape in shapes.items()}
    low = sorted(tops[letter] for letter in counts if letter in _LOW)
    if not low or max(tops.values()) < 1.2 * min(tops.values()):  # small capitals are all of one height
        return False
    x = low[len(low) // 2]
    wrong = sum(
        count
        for letter, count in counts.items()
        if (letter in _LOW and (tops[letter] > 1.25 * x or deeps[letter] > 0.25 * x))
        or (letter in _HIGH and tops[letter] < 1.15 * x)
        or (letter in _DEEP and deeps[letter] < 0.1 * x)
    )
    return wrong > _WRONG * len(glyphs)


# The pairs of letters, without accents, of which most words of European languages consist.
_SPELT = (
    "th he in er an re nd at on nt ha es st en ed to it ou ea hi is or ti as te et ng of al de se le sa si ar ve ra "
    "ld ur ch ei ie ge ne un be au sc di da ic we ai la me qu ma co ta ri li ro lo no os el ue ad do io ce ca ss ec "
    "tr ac il pr ol pa em am mo oo ll om nc ct ho us ci na sp po pe ui ns ir so su mi va ij oe ee aa ik ak ke ka sk "
    "ko ku nn ni je wi cz rz ow "
)
_PAIRS = frozenset(_SPELT.split())
_WORD = re.compile("[a-z]{3,}")
_ENOUGH = 400  # pairs on a page that tell its language from none
_COMMON = 0.4  # Polish and Vietnamese have 0.6; a text whose vowels and consonants are exchanged 0.2 to 0.5


def is_no_language(text: str) -> bool:
    """Whether the letters of a text follow each other as in no European language, though it has Latin letters."""
    plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(c))
    pairs = [word[k : k + 2] for word in _WORD.findall(plain) for k in range(len(word) - 1)]
    return len(pairs) >= _ENOUGH and sum(pair in _PAIRS for pair in pairs) < _COMMON * len(pairs)
