"""One form for text that means the same: Markdown emphasis, white space, quotes and dashes.

The searched text and the transcript both go through `normalize` before they are compared. It has the rules of the
public olmOCR-Bench, in their order. Headings, links, code, LaTeX, entities and other tags stay as they are. Knows
nothing about tests or tables.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from operator import itemgetter

import numpy as np

# These single characters are replaced last. U+FF3F, for one, is therefore never taken for a mark of emphasis.
_SINGLE = {
    **dict.fromkeys("\u2018\u2019\u201a", "'"),
    **dict.fromkeys("\u201c\u201d\u201e", '"'),
    **dict.fromkeys("\u2011\u2012\u2013\u2014\u2212", "-"),
    "\uff3f": "_",
    "\u00b5": "\u03bc",
}
_BREAK = re.compile(r"<br/?>")
_TAG = re.compile(r"</?[bi]>")
_DOUBLE_STAR = re.compile(r"\*\*(?P<inside>.*?)\*\*")
_DOUBLE_LINE = re.compile(r"__(?P<inside>.*?)__")
_DOUBLE = re.compile(r"(\*\*|__)(?P<inside>.*?)\1")
_SINGLE_MARK = re.compile(r"([*_])(?P<inside>.*?)\1")  # outer spans only: *a _b_ c* becomes a _b_ c
_INSIDE = itemgetter("inside")  # much faster than a template such as r"\g<inside>"
_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")
_ALPHANUMERIC = re.compile(r"[^\W_]+")

ASCII_SPACES = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f"  # what str.isspace takes for white space, but for the space itself
SPACES = (
    f"{ASCII_SPACES}\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
LONG = 500
LONGEST_MARK_RUN = 1_000  # combining marks in a row; sorting them takes quadratic time, and no writing has so many


def normalize(text: str) -> str:
    """The form in which texts are compared. White space at an end stays, as one space."""
    if "<" in text:
        text = _BREAK.sub(" ", text)
    marked = "*" in text or "_" in text
    if marked and "**" in text:
        text = _DOUBLE_STAR.sub(_INSIDE, text)
    if marked and "__" in text:
        text = _DOUBLE_LINE.sub(_INSIDE, text)
    if "<" in text:
        text = _TAG.sub("", text)
    if marked and ("**" in text or "__" in text):
        text = _DOUBLE.sub(_INSIDE, text)
    if marked:
        text = _SINGLE_MARK.sub(_INSIDE, text)
    if (replaced := text if text.isascii() else _replace_single(text)).isascii():
        return collapse(replaced)  # nothing in it composes
    return _replace_single(compose(collapse(text)))


def _replace_single(text: str) -> str:
    for single, replacement in _SINGLE.items():  # `replace` is much faster than `translate` or a regular expression
        text = text.replace(single, replacement)
    return text


def normalize_all(texts: Sequence[str]) -> list[str]:
    """`normalize` of each text. Where the result is the same all are normalised as one text, which is faster."""
    joined = "\0".join(texts)
    if any(mark in joined for mark in "*_<") or joined.count("\0") != len(texts) - 1:
        return [normalize(text) for text in texts]
    return normalize(joined).split("\0")


def collapse(text: str) -> str:
    """Every run of Unicode white space becomes one space; nothing is stripped."""
    if len(text) < LONG:
        words = text.split()
        if not words:
            return " " if text else ""
        return f"{' ' if text[0].isspace() else ''}{' '.join(words)}{' ' if text[-1].isspace() else ''}"
    # Splitting a long text would take twice the time.
    for space in ASCII_SPACES if text.isascii() else SPACES:
        text = text.replace(space, " ")
    while "  " in text:
        text = text.replace("  ", " ")
    return text


def compose(text: str) -> str:
    """Unicode NFC, in bounded time: a run of more than 1,000 combining marks is composed in pieces."""
    # A mark takes at least two bytes, so this text cannot hold a long run. (Searching for marks takes longer.)
    if len(text.encode("utf-8", "surrogatepass")) < len(text) + LONGEST_MARK_RUN:
        return unicodedata.normalize("NFC", text)
    if marks := "".join(c for c in set(text) if unicodedata.combining(c)):
        long_run = re.compile(f"[{re.escape(marks)}]{{{LONGEST_MARK_RUN}}}")
        if long_run.search(text):
            cuts = [0, *(match.end() for match in long_run.finditer(text)), len(text)]
            return "".join(unicodedata.normalize("NFC", text[a:b]) for a, b in zip(cuts[:-1], cuts[1:], strict=True))
    return unicodedata.normalize("NFC", text)


def without_surrogates(text: str) -> str:
    """The text with U+FFFD for every lone surrogate, since no UTF-8 file can hold one."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def canonical(text: str) -> str:
    """One form for characters that no reader tells apart: composed letters, ligatures, widths, hyphens, quotes.

    It is NFC after Unicode's compatibility forms of the sorts wide, narrow, no-break, presentation (Arabic) and compat,
    and of mathematical bold, italic, sans-serif and monospace letters. What looks different stays different:
    superscripts, circled digits, fractions, double-struck and script letters. White space is left alone.
    """
    if text.isascii():
        return text
    for character in set(text):  # `replace` is much faster than `translate`
        if character > "\x7f" and (form := _CANONICAL[ord(character)]) != character:
            text = text.replace(character, form)
    return compose(text)


class _Canonical(dict[int, str]):
    """Code point -> its canonical form, worked out when it is first met."""

    def __missing__(self, code: int) -> str:
        self[code] = form = _canonical_form(chr(code))
        return form


def _canonical_form(character: str) -> str:
    sort, _, _ = unicodedata.decomposition(character).partition(" ")
    folded = unicodedata.normalize("NFKC", character)
    if sort in _SAME_LOOK:
        return folded
    if (
        sort == "<compat>"
        and character not in _OTHER_LOOK
        and not any(c == " " or unicodedata.combining(c) for c in folded)
    ):
        return folded
    name = unicodedata.name(character, "")
    if sort == "<font>" and not re.search("DOUBLE-STRUCK|FRAKTUR|BLACK-LETTER|SCRIPT|TURNED|REVERSED", name):
        return folded
    return character


_SAME_LOOK = frozenset(
    ("<wide>", "<narrow>", "<noBreak>", "<initial>", "<medial>", "<final>", "<isolated>", "<vertical>")
)
_OTHER_LOOK = frozenset("\u017f\u2100\u2101\u2105\u2106\u2116\u2121\u213b")  # long s; signs such as a/c, No and TEL
_CANONICAL = _Canonical(
    {
        **{ord(c): "'" for c in "\u2018\u2019\u201a\u201b\u2032\u02b9\u02bc\u02bb\uff07"},
        **{ord(c): '"' for c in "\u201c\u201d\u201e\u201f\u2033\uff02"},
        **{ord(c): "-" for c in "\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\ufe58\ufe63\uff0d\u2500"},
        **{ord(c): "\u00b7" for c in "\u2219\u22c5\u2027\u30fb\uff65"},
        ord("\u00b5"): "\u03bc",
        ord("\u2044"): "/",
        ord("\u2215"): "/",
        ord("\u2236"): ":",
        ord("\u223c"): "~",
        ord("\u2223"): "|",
    }
)


# Han, kana and their punctuation: white space beside them says nothing. Thai, Lao, Tibetan, Myanmar, Khmer: words are
# written without spaces, so that a line may end anywhere.
_WIDE = "\u3001-\u303f\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_JOINED = "\u0e01-\u0fff\u1000-\u109f\u1780-\u17ff"
_LOOSE = re.compile(rf"(?<=[{_WIDE}])\s+|\s+(?=[{_WIDE}])|(?<=[{_JOINED}])\s+(?=[{_JOINED}])")
_UNSPACED = re.compile(f"[{_WIDE}{_JOINED}]")


def without_loose_spaces(text: str) -> str:
    """The text without white space where its script writes none, so that wrapped lines are equal to whole ones."""
    return _LOOSE.sub("", text) if not text.isascii() and _UNSPACED.search(text) else text


def joins(a: str, b: str) -> bool:
    """Whether the script writes no space between two texts."""
    return without_loose_spaces(f"{a[-1:]} {b[:1]}") == a[-1:] + b[:1]


def count_unspaced(text: str) -> int:
    """How many letters belong to scripts that write words without spaces."""
    return 0 if text.isascii() else len(_UNSPACED.findall(text))


def letters_and_digits(text: str) -> str:
    """The alphanumeric characters of the text (of any script), in lower case."""
    return _NOT_ALPHANUMERIC.sub("", text).lower()


def count_alphanumeric(text: str) -> int:
    return sum(map(len, _ALPHANUMERIC.findall(text)))


def has_alphanumeric(text: str) -> bool:
    return _ALPHANUMERIC.search(text) is not None


def reaches(text: str, lowest: int) -> bool:
    """Whether some character's code point is at least `lowest`, which is at most U+D800.

    The text must not hold lone surrogates.
    """
    return not text.isascii() and int(np.frombuffer(text.encode("utf-16-le"), np.uint16).max()) >= lowest


def tail_repeats(text: str, longest: int = 5) -> list[int]:
    """How often the last n characters stand back to back at the end, for n = 1 .. `longest`.

    Example: "so so so" gives 2 for n = 3, since " so" stands there twice. The count is 0 if the text is shorter than n.
    A run of white space counts as one space. Nothing is stripped, so a trailing newline is a character.
    """
    size = 50 + longest
    while True:
        tail = collapse(text[-size:])
        counts = [_repeats(tail, n) for n in range(1, longest + 1)]
        if size >= len(text) or all(n * (count + 1) < len(tail) for n, count in enumerate(counts, 1)):
            return counts
        size *= 8  # the repeats may go on in front of this tail


def _repeats(text: str, n: int) -> int:
    tail = text[-n:]
    end, count = len(text), 0
    while len(tail) == n and end >= n and text.startswith(tail, end - n):
        end, count = end - n, count + 1
    return count
