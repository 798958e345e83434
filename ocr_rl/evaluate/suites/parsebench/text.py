"""A transcript as ParseBench's rules see it: folded, without LaTeX, cut into sentences and words, its headings.

Defined by the benchmark's own code (run-llama/ParseBench at facdaf0, Apache-2.0), written anew, with every view made
once a transcript instead of once a rule.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from typing import Any

from ocr_rl.evaluate.suites.parsebench.tables import with_cells, without_tables
from ocr_rl.text.html_rows import unescape

Rule = Mapping[str, Any]
SHORTEST_SENTENCE = 7  # characters
SHORTEST_WORD = 2


class Unusable(ValueError):
    """A rule that the authors' code cannot make, which fails there on every transcript."""


def filled(value: Any) -> Any:
    """What a rule must have. Unusable where it is empty."""
    if not value or (isinstance(value, str) and not value.strip()):
        raise Unusable
    return value


_CJK_WORD = "\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff\u3040-\u309f\u30a0-\u30ff\uac00-\ud7af"
_KEEPS_MARKS = re.compile(f"[{_CJK_WORD}\u1100-\u11ff\u0b80-\u0bff\u0c80-\u0cff]")
_CJK = re.compile(f"[{_CJK_WORD}]")
_CJK_RUNS = re.compile(f"[{_CJK_WORD}]+|[^{_CJK_WORD}]+")
_WORD = re.compile(r"\w+")
_LINK = re.compile(r"<((?:https?://|mailto:)[^>\s]+|[^>@\s]+@[^>@\s]+\.[^>@\s]+)>", re.IGNORECASE)
_TAG = re.compile(r"</?[^>]+>")
_SPACES = re.compile(r"\s+")
_BLANKS = re.compile(" +")
_DOTS = re.compile(r"\.(?:\s*\.)+")

_QUOTES = str.maketrans(
    dict.fromkeys("‘’‚‛`´ʼʹ＇′‵ʻˊˋ", "'")
    | dict.fromkeys("“”„‟〝〞＂″‶ˮ", '"')
    | dict(zip("，．：；！？（）、。", ",.:;!?(),.", strict=True))
)
_SIGNS = str.maketrans(
    dict.fromkeys("●○◦∙⦁·", "•") | dict.fromkeys("⮾ⓧ⨂", "⊗") | dict.fromkeys("–—‑‒−", "-") | {"＿": "_", "µ": "μ"}
)
_BEFORE = [  # of the marks of Markdown, and their order counts
    (re.compile(r"<br\s*/?>"), " "),
    (_SPACES, " "),
    (re.compile(r"\*\*(.*?)\*\*"), r"\1"),
    (re.compile(r"__(.*?)__"), r"\1"),
    (re.compile(r"</?[bi]>"), ""),
    (re.compile(r"\*(.*?)\*"), r"\1"),
    (re.compile(r"_(.*?)_"), r"\1"),
    (re.compile("_"), " "),
]
_AFTER = [
    (re.compile("…"), "..."),
    (re.compile(r"</?ins>|</?u>"), ""),
    (re.compile("~~"), ""),
    (re.compile("</?mark>"), ""),
    (re.compile(r"\$\$"), ""),
    (re.compile(r"</?(?:s|del|strike)>|</?span\b[^>]*>", re.IGNORECASE), ""),
    (re.compile(r"<sup[^>]*>.*?</sup>", re.IGNORECASE), ""),
    (re.compile(r"<sub[^>]*>.*?</sub>", re.IGNORECASE), ""),
    (re.compile("[¹²³⁰⁴-⁹₀-₉]+"), ""),
    (re.compile("-{2,}"), "-"),
    (re.compile(r"\.{2,}\s*$"), ""),
]


_PLAIN = re.compile(r"(?:[A-Za-z0-9,;:()'\"/%+=?!]|\.(?!\.)|-(?!-)| (?! ))*")  # what stays but for its case


def fold(text: str) -> str:
    """What every comparison is made on: in lower case, without accents, marks of Markdown and footnote figures."""
    if _PLAIN.fullmatch(text):
        return text.lower()
    text = _LINK.sub(r"\1", text).translate(_QUOTES)
    for pattern, instead in _BEFORE:
        text = pattern.sub(instead, text)
    text = _without_accents(text).translate(_SIGNS)
    for pattern, instead in _AFTER:
        text = pattern.sub(instead, text)
    return text.lower()


def _without_accents(text: str) -> str:
    if text.isascii():
        return text
    kept: list[str] = []
    for sign in unicodedata.normalize("NFD", text):
        if unicodedata.category(sign) != "Mn" or (kept and _KEEPS_MARKS.match(kept[-1])):
            kept.append(sign)
    return unicodedata.normalize("NFC", "".join(kept))


def decoded(text: str) -> str:
    """Entities decoded up to twice, and not where that makes more of them."""
    for _ in range(2):
        onward = unescape(text)
        if onward == text or onward.count("&") > text.count("&"):
            break
        text = onward
    return text


def _bare(folded: str) -> str:
    return _TAG.sub(" ", _LINK.sub(r"\1", decoded(folded)))


# --- sentences and words ----------------------------------------------------------------------------------------------

_LEAD = re.compile(r"^(?:\s*(?:#{1,6}\s+|>\s+|[*+-]\s+|\d+[.)]\s+))+")
_EDGES = re.compile(r"^\W+|\W+$")
_CUTS = re.compile(r"\n+|(?<!\d)\.(?!\d)|[!?]+|[。、，！？；…‥⋯]+")


@lru_cache(maxsize=100_000)
def sentence(text: str) -> str:
    """A sentence as it is compared; empty where fewer than SHORTEST_SENTENCE characters are left of it."""
    text = _bare(_DOTS.sub(" ", fold(text).strip().strip(".")))
    text = _EDGES.sub("", _LEAD.sub("", text).strip()).strip()
    text = _SPACES.sub(" ", text)
    return text if len(text) >= SHORTEST_SENTENCE else ""


def _sentences(text: str) -> Counter[str]:
    """Of a text; a piece too short for a sentence goes with the next one, and the last of all with the one before."""
    found: list[tuple[str, str]] = []
    carried = ""
    for piece in filter(None, map(str.strip, _CUTS.split(_DOTS.sub(" ", text)))):
        piece = f"{carried} {piece}" if carried else piece
        whole = sentence(piece)
        carried = "" if whole else piece
        if whole:
            found.append((piece, whole))
    if carried and found:
        joined = f"{found[-1][0]} {carried}"
        found[-1] = joined, sentence(joined)
    return Counter(whole for _, whole in found if whole)


def words(text: str, shortest: int = SHORTEST_WORD) -> list[str]:
    """Words of letters, figures and underscores; signs of Chinese, Japanese and Korean that touch are one."""
    found: list[str] = []
    for run in _WORD.findall(text):
        for part in _CJK_RUNS.findall(run) if _CJK.search(run) else [run]:
            if len(part) >= shortest or _CJK.match(part):
                found.append(part)
    return found


def is_cjk(word: str) -> bool:
    return _CJK.search(word) is not None


@lru_cache(maxsize=100_000)
def word_parts(word: str) -> list[str]:
    """A word of the reference, cut as transcripts are."""
    return words(_LEAD.sub("", _bare(fold(word))).strip(), shortest=1)


# --- LaTeX and code ----------------------------------------------------------------------------------------------

_BLOCK_TEX = re.compile(r"\$\$(?:[^$]|\$[^$])+\$\$")
_INLINE_TEX = re.compile(r"\$(?!\d)(?:[^$\\\n]|\\.)+\$")
_COMMAND = re.compile(r"\\(?:[a-zA-Z]+|[^a-zA-Z])")
_NO_TEX_LETTER = re.compile(r"[^0-9a-zA-Z+\-*/=<>().,]")
_MADE = re.compile(r"^`{3,}(?:mermaid|description)[^\S\n]*\n.*?^`{3,}[^\S\n]*$", re.MULTILINE | re.DOTALL)
_IMAGE = re.compile(r"!\[[^\]]*\]\([^)]*\)")
_ANY_TAG = re.compile(r"<[^>]+>")


def without_latex(text: str) -> str:
    """Formulas by their letters, figures and signs alone."""
    text = _BLOCK_TEX.sub(lambda tex: f" {_essence(tex[0][2:-2])} ", text)
    return _INLINE_TEX.sub(lambda tex: _essence(tex[0][1:-1]), text)


def _essence(tex: str) -> str:
    return _NO_TEX_LETTER.sub("", _COMMAND.sub(" ", tex)) or "LATEX"


# --- headings ---------------------------------------------------------------------------------------------------------

_ESCAPED_HEADING = re.compile(r"(?m)^\\(#{1,6}\s+)")
_MD_HEADING = re.compile(r"^\s*(#{1,6})\s+(.+?)\s*$")
_CLOSING_MARKS = re.compile(r"\s+#+\s*$")
_HTML_HEADING = re.compile(r"<h([1-6])[^>]*>\s*(.*?)\s*</h\1>", re.IGNORECASE)
_MD_BOLD = re.compile(r"^\s*\*\*\s*(.+?)\s*\*\*\s*$")
_HTML_BOLD = re.compile(r"^\s*<b[^>]*>\s*(.*?)\s*</b>\s*$", re.IGNORECASE)
BOLD_LEVEL = 7  # of a line that is bold as a whole: below every heading


def _titles_in(line: str) -> Iterator[tuple[int, str]]:
    """(level, text) of the headings of a line."""
    if heading := _MD_HEADING.match(line):
        yield len(heading[1]), _CLOSING_MARKS.sub("", heading[2]).strip()
    for heading in _HTML_HEADING.finditer(line):
        yield int(heading[1]), _ANY_TAG.sub(" ", heading[2]).strip()
    if bold := _MD_BOLD.match(line):
        yield BOLD_LEVEL, bold[1]
    if bold := _HTML_BOLD.match(line):
        yield BOLD_LEVEL, _ANY_TAG.sub(" ", bold[1]).strip()


class Seen:
    """A transcript and what is made of it, each on first use."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def folded(self) -> str:
        return fold(self.text)

    @cached_property
    def without_apostrophes(self) -> str:
        return self.folded.replace("'", "").replace("’", "")

    @cached_property
    def in_order(self) -> str:
        """What the order of texts is looked up in."""
        return as_ordered(self.text)

    @cached_property
    def _plain(self) -> str:
        return without_latex(_MADE.sub(" ", self.text))

    @cached_property
    def sentences(self) -> Counter[str]:
        """Those outside tables."""
        return _sentences(without_tables(_IMAGE.sub(" ", self._plain)))

    @cached_property
    def for_sentences(self) -> str:
        """The whole text with its tables' cells, in which sentences are looked up."""
        text = with_cells(_IMAGE.sub(" ", self._plain))
        return _SPACES.sub(" ", _bare(_DOTS.sub(" ", fold(text))))

    @cached_property
    def words(self) -> Counter[str]:
        """Those outside tables."""
        return Counter(words(_bare(fold(without_tables(self._plain)))))

    @cached_property
    def for_words(self) -> str:
        return _bare(fold(with_cells(self._plain)))

    @cached_property
    def words_and_cells(self) -> Counter[str]:
        return Counter(words(self.for_words))

    @cached_property
    def whole_words(self) -> Counter[str]:
        """Runs of letters and figures between others, with those of tables."""
        return Counter(_WORD.findall(self.for_words))

    @cached_property
    def digits(self) -> Counter[str]:
        """Outside tags; those of tables count again as cells and as rows."""
        text = _ANY_TAG.sub(" ", with_cells(self.text))
        return Counter(sign for sign in text if sign in "0123456789")

    @cached_property
    def forms(self) -> list[str]:
        """The text as it stands, with entities decoded, and with escaped headings and bold restored."""
        plain = decoded(self.text)
        return list(dict.fromkeys((self.text, plain, _ESCAPED_HEADING.sub(r"\1", plain).replace(r"\*\*", "**"))))

    @cached_property
    def titles(self) -> list[tuple[int, int, str]]:
        """(line, level, folded text) of every heading, in order."""
        lines = ((k, line) for form in self.forms for k, line in enumerate(form.splitlines()))
        found = {(k, level, fold(text).strip()) for k, line in lines for level, text in _titles_in(line)}
        return sorted(title for title in found if title[2])


def as_ordered(text: str) -> str:
    return _BLANKS.sub(" ", _DOTS.sub(" ", fold(without_latex(text))))
