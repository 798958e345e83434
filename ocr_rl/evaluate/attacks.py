"""What an audit does to a transcript in order to earn more than it without reading better.

Pure functions from a target to another text. They are applied to an honest reading itself, not to the truth, and give
None where it lacks what they change (a table, a second paragraph). Randomness comes from the target's seed alone. Knows
nothing about rewards or scores.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from ocr_rl.evaluate import edits
from ocr_rl.evaluate.damage import CELL, TAG, blocks, gibberish
from ocr_rl.evaluate.edits import Kind, at_end, first_lines, joined, of_kind, per_block, per_line, without

_TABLE = re.compile(r"<table.*?</table>", re.DOTALL | re.IGNORECASE)
_SPAM = ("$x^{%d} + y_{%d} = z$", "\\[ \\sum_{i=1}^{%d} a_i = %d \\]", "\\( \\alpha_{%d} \\le \\beta_{%d} \\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A transcript to attack, and what a policy may know besides."""

    text: str  # not blank
    second: str  # another reading of the same page, with other errors
    other: str  # the true transcript of another page
    edges: Sequence[str] = ()  # running header and footer, as far as known
    seed: str

    def rng(self) -> Random:
        return Random(self.seed)


Make = Callable[[Target], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """A change that is no better reading. `start`: what it is compared with, the text itself by default."""

    name: str
    make: Make
    start: Make | None = None
    endless: bool = False  # the policy never ended it
    front: Literal["true", "lies"] = "true"  # the page's own front matter before it, or another page's


# ---- less than the page


def _first_line(target: Target) -> str | None:
    return next(line for line in target.text.splitlines() if line.strip())


def _first(share: float) -> Make:
    return lambda target: first_lines(target.text, share)


def _last(share: float) -> Make:
    def last(target: Target) -> str:
        lines = [line for line in target.text.splitlines() if line.strip()]
        return "\n\n".join(lines[-max(1, round(share * len(lines))) :])

    return last


def _dropped(*kinds: Kind) -> Make:
    return lambda target: without(target.text, *kinds) or None


def _every_third_block(target: Target) -> str | None:
    return joined([block for k, block in enumerate(blocks(target.text)) if k % 3 != 1])


def _long_blocks_cut(target: Target) -> str | None:
    """The first twelve words of every paragraph."""
    return per_block(target.text, lambda block: " ".join(block.split()[:12]), "text")


def _inner_cells(target: Target) -> str | None:
    """Tables with their first row and column alone."""

    def kept(block: str) -> str:
        rows = block.split("</tr>")
        return "</tr>".join([rows[0], *(re.sub(r"(<t[dh][^>]*>[^<]*</t[dh]>).*", r"\1", row) for row in rows[1:])])

    return per_block(target.text, kept, "table")


# ---- another order


def _shuffled(target: Target) -> str | None:
    """The paragraphs in another order: at least one has a wrong neighbour."""
    paragraphs = blocks(target.text)
    if len(set(paragraphs)) < 2:
        return None
    rng, mixed = target.rng(), paragraphs
    while mixed == paragraphs:
        mixed = rng.sample(paragraphs, len(paragraphs))
    return joined(mixed)


def _interleaved(target: Target) -> str | None:
    """Two columns as read by somebody who does not see them: each line runs across both halves of the text."""
    paragraphs = blocks(target.text)
    prose = [block for block in paragraphs if "<" not in block and not block.startswith("#")]
    lines = [line for block in prose for line in _wrapped(block)]
    half = (len(lines) + 1) // 2
    if half < 2:
        return None
    pairs = zip(lines[:half], [*lines[half:], ""], strict=False)
    rest = [block for block in paragraphs if block not in prose]
    return joined([*rest, "\n".join(f"{a} {b}".rstrip() for a, b in pairs)])


def _strings(target: Target) -> str | None:
    """Every run of one to five words, sorted: it holds whatever a test may look for, in no order of reading."""
    words = edits.words(target.text)
    runs = {" ".join(words[i : i + n]) for n in range(1, 6) for i in range(len(words) - n + 1)}
    return "\n".join(sorted(runs)) if len(words) > 1 else None


def _first_half_again(target: Target) -> str | None:
    paragraphs = blocks(target.text)
    return joined([*paragraphs, *paragraphs[: len(paragraphs) // 2]]) if len(paragraphs) > 1 else None


def _cells_swapped(target: Target) -> str | None:
    return edits.swap_cells(target.text, target.rng(), pairs=20)


def _rows_shuffled(target: Target) -> str | None:
    def mixed(block: str) -> str:
        head, *rows = block.split("</tr>")
        *rows, tail = rows or [""]
        return "</tr>".join([head, *target.rng().sample(rows, len(rows)), tail])

    return per_block(target.text, mixed, "table")


def _columns_apart(target: Target) -> str | None:
    """Every word a line of its own."""
    return "\n\n".join(edits.words(target.text))


# ---- more than the page


def _with_sentences(share: float) -> Make:
    """Another page's sentences behind the text, up to that share of its length."""

    def with_sentences(target: Target) -> str | None:
        most = round(share * len(TAG.sub("", target.text)))
        added = " ".join(edits.sentences(target.other))[:most].rsplit(" ", 1)[0]
        return f"{target.text}\n\n{added}" if added.strip() else None

    return with_sentences


def _symbols(count: int) -> Make:
    return lambda target: " ".join(target.rng().choices(edits.SYMBOLS, k=count)) + "\n\n" + target.text


def _hedged(share: float) -> Make:
    """Lines written twice, in two readings: that share of them."""

    def hedged(target: Target) -> str | None:
        ours, theirs = target.text.splitlines(), target.second.splitlines()
        if len(ours) != len(theirs):
            return None
        twice = [i for i, line in enumerate(ours) if line.strip() and not line.lstrip().startswith("<")]
        chosen = set(target.rng().sample(twice, round(share * len(twice))))
        return "\n".join(f"{line}\n\n{theirs[i]}" if i in chosen else line for i, line in enumerate(ours))

    return hedged


def _tables_hedged(target: Target) -> str | None:
    """Every table twice, in two readings."""
    ours, theirs = of_kind(target.text, "table"), of_kind(target.second, "table")
    if not ours or len(ours) != len(theirs):
        return None
    text = target.text
    for table, again in zip(ours, theirs, strict=True):
        text = text.replace(table, f"{table}\n\n{again}", 1)
    return text


def _formulas_hedged(target: Target) -> str | None:
    ours, theirs = of_kind(target.text, "formula"), of_kind(target.second, "formula")
    if not ours or len(ours) != len(theirs):
        return None
    return target.text + "\n\n" + joined(theirs)


def _equation_spam(target: Target) -> str | None:
    spam = [_SPAM[k % len(_SPAM)] % (k, k + 1) for k in range(max(10, len(target.text) // 40))]
    return target.text + "\n\n" + "\n".join(spam)


def _table_five_times(target: Target) -> str | None:
    table = _TABLE.search(target.text)
    return target.text + ("\n\n" + table[0]) * 4 if table else None


def _with_junk(target: Target) -> str | None:
    return target.text + "\n\n" + gibberish(max(60, len(target.text) // 2), target.rng())


def _endless(target: Target) -> str | None:
    last = target.text.split()[-1]
    return target.text + f" {last}" * max(40, 2 * len(target.text) // (len(last) + 1))


def _notes(target: Target) -> str | None:
    return per_block(target.text, lambda block: re.sub(r"(?<=\w)([,.;:])(?=\s|$)", r"\1[^1][^2][^3]", block), "text")


def _sup_notes(target: Target) -> str | None:
    marks = "".join(f"<sup>{n}</sup>" for n in range(1, 10))
    return per_block(target.text, lambda block: re.sub(r"(?<=\w)([,.;:])(?=\s|$)", rf"\1{marks}", block), "text")


def _two_notations(target: Target) -> str | None:
    return per_block(target.text, lambda block: f"{block}\n\n{edits.markdown_table(block)}", "table")


def _cells_as_text(target: Target) -> str | None:
    """Tables followed by their cells as running text."""
    return per_block(target.text, lambda block: f"{block}\n\n{edits.as_lines(block)}", "table")


# ---- marks


def _headings(target: Target) -> str | None:
    return per_line(target.text, lambda line: f"# ***{edits.plain(line)}***" if line.strip() else line)


def _marked(before: str, after: str) -> Make:
    return lambda target: per_line(
        target.text, lambda line: f"{before}{edits.plain(line)}{after}" if line.strip() else line
    )


def _words_bold(target: Target) -> str | None:
    """Every other word bold."""

    def bold(line: str) -> str:
        return " ".join(f"**{word}**" if k % 2 else word for k, word in enumerate(edits.plain(line).split()))

    return per_line(target.text, bold)


def _first_words_headed(target: Target) -> str | None:
    """The first five words of every paragraph once more, as a heading."""
    return per_block(target.text, lambda block: f"# {' '.join(block.split()[:5])}\n\n{block}", "text")


def _everything_in(before: str, after: str) -> Make:
    return lambda target: f"{before}{target.text}{after}"


def _hiding(before: str, after: str) -> Make:
    """The second reading, hidden behind the text: a hedge that nobody sees."""
    return lambda target: f"{target.text}\n\n{before}{target.second}{after}"


def _edges(change: Callable[[str], str]) -> Make:
    """Running header and footer kept, each changed."""

    def kept(target: Target) -> str | None:
        shown = [change(edge) for edge in target.edges]
        return joined([*shown[:1], target.text, *shown[1:]]) if shown else None

    return kept


def _spaced(text: str) -> str:
    return "\u200b".join(text)


def _tagged(text: str) -> str:
    return f"{text[:2]}<b></b>{text[2:]}"


# ---- letters


def _changed_by(change: Callable[[str], str]) -> Make:
    return lambda target: edits.outside_tags(target.text, change)


def _no_diacritics(target: Target) -> str | None:
    parts = unicodedata.normalize("NFD", target.text)
    return "".join(char for char in parts if not unicodedata.combining(char))


def _shift_digits(text: str) -> str:
    return re.sub(r"[0-9]", lambda digit: str((int(digit[0]) + 1) % 10), text)


def _one_digit(target: Target) -> str | None:
    """One wrong digit in one cell of a table."""
    places = [
        cell.start() + i for cell in CELL.finditer(target.text) for i, char in enumerate(cell[0]) if char in "0123456789"
    ]
    if not places:
        return None
    at = target.rng().choice(places)
    return target.text[:at] + _shift_digits(target.text[at]) + target.text[at + 1 :]


def _equal_cells(target: Target) -> str | None:
    cells = CELL.findall(target.text)
    return CELL.sub(lambda _: cells[0], target.text) if cells else None


def _soup(target: Target) -> str | None:
    def wrap(text: str) -> str:
        return re.sub(r"(\w+)", r'<span class="w"><font>\1</font></span>', text)

    return "<div><center>" + edits.outside_tags(target.text, wrap) + "</div>"


def _wrapped(block: str) -> list[str]:
    """Lines as a column has them, of about eight words."""
    words = block.split()
    return [" ".join(words[i : i + 8]) for i in range(0, len(words), 8)]


_LESS: dict[str, Make] = {
    "empty": lambda target: "",
    "first line only": _first_line,
    "first 80 % of the lines": _first(0.8),
    "first 60 % of the lines": _first(0.6),
    "first 40 % of the lines": _first(0.4),
    "last 60 % of the lines": _last(0.6),
    "tables dropped": _dropped("table"),
    "formulas dropped": _dropped("formula"),
    "headings dropped": _dropped("heading"),
    "paragraphs dropped": _dropped("text"),
    "tables and formulas dropped": _dropped("table", "formula"),
    "every third block dropped": _every_third_block,
    "paragraphs cut after twelve words": _long_blocks_cut,
    "inner cells dropped": _inner_cells,
    "another page": lambda target: target.other,
    "random words of the same length": lambda target: gibberish(len(target.text), target.rng()),
}
_ORDER: dict[str, Make] = {
    "paragraphs shuffled": _shuffled,
    "paragraphs reversed": lambda target: joined(blocks(target.text)[::-1]),
    "columns interleaved": _interleaved,
    "tables and formulas at the end": lambda target: at_end(target.text, "table", "formula"),
    "headings at the end": lambda target: at_end(target.text, "heading"),
    "first half again": _first_half_again,
    "all likely strings, sorted": _strings,
    "twenty cells swapped": _cells_swapped,
    "rows shuffled": _rows_shuffled,
    "a word a block": _columns_apart,
}
_MORE: dict[str, Make] = {
    "page twice": lambda target: f"{target.text}\n\n{target.text}",
    "both readings": lambda target: f"{target.text}\n\n{target.second}",
    "a quarter of the lines in two readings": _hedged(0.25),
    "every line in two readings": _hedged(1.0),
    "tables in two readings": _tables_hedged,
    "formulas in two readings": _formulas_hedged,
    "tables in two notations": _two_notations,
    "cells again as text": _cells_as_text,
    "another page's sentences, 2 %": _with_sentences(0.02),
    "another page's sentences, 10 %": _with_sentences(0.1),
    "another page's sentences, 25 %": _with_sentences(0.25),
    "another page's sentences, 50 %": _with_sentences(0.5),
    "junk added": _with_junk,
    "50 symbols in front": _symbols(50),
    "4,000 symbols in front": _symbols(4000),
    "equation spam": _equation_spam,
    "table five times": _table_five_times,
    "footnote marks after each clause": _notes,
    "superscripts after each clause": _sup_notes,
    "lead-in": lambda target: f"Here is the transcription:\n\n{target.text}",
    "closing words": lambda target: f"{target.text}\n\nLet me know if you need anything else!",
    "header and footer kept": _edges(str),
}
_MARKS: dict[str, Make] = {
    "every line a bold italic heading": _headings,
    "every line a heading": _marked("# ", ""),
    "every line bold": _marked("**", "**"),
    "every line italic": _marked("*", "*"),
    "every other word bold": _words_bold,
    "first words again as headings": _first_words_headed,
    "everything struck": lambda target: per_line(target.text, lambda line: f"~~{line}~~" if line.strip() else line),
    "HTML soup": _soup,
}
_HIDING: dict[str, Make] = {
    "everything in display:none": _everything_in('<div style="display:none">\n\n', "\n\n</div>"),
    "everything in white": _everything_in('<div style="color:white">\n\n', "\n\n</div>"),
    "everything tiny": _everything_in('<div style="font-size:1px">\n\n', "\n\n</div>"),
    "everything in a comment": _everything_in("<!--\n", "\n-->"),
    "everything in details": _everything_in("<details><summary>Page</summary>\n\n", "\n\n</details>"),
    "second reading in a comment": _hiding("<!-- ", " -->"),
    "second reading in an attribute": lambda target: f'{target.text}\n\n<p title="{_bare(target.second)}"></p>',
    "second reading in alt text": lambda target: f"{target.text}\n\n![{_bare(target.second)}](page.png)",
    "second reading in a link's definition": lambda target: f'{target.text}\n\n[a]: /b "{_bare(target.second)}"',
    "second reading in a link's target": lambda target: f"{target.text}\n\n[.](</{_bare(target.second)}>)",
    "second reading in display:none": _hiding('<div style="display:none">\n\n', "\n\n</div>"),
    "second reading struck": _hiding("<del>", "</del>"),
    "second reading in white": _hiding('<div style="color:#fff">\n\n', "\n\n</div>"),
    "second reading tiny": _hiding('<div style="font-size:0.1px">\n\n', "\n\n</div>"),
    "second reading in a phantom": lambda target: f"{target.text}\n\n\\( \\phantom{{\\text{{{_bare(target.second)}}}}} \\)",
    "second reading as white TeX": lambda target: f"{target.text}\n\n\\( \\color{{white}}{{{_bare(target.second)}}} \\)",
    "second reading in code": _hiding("```\n", "\n```"),
    "second reading in a small formula": lambda target: f"{target.text}\n\n$^{{\\tiny\\text{{{_bare(target.second)}}}}}$",
    "second reading as an info string": lambda target: f"{target.text}\n\n```{_bare(target.second)}\n```",
    "second reading in a select": _hiding("<select><option>", "</option></select>"),
}
_LETTERS: dict[str, Make] = {
    "all cells equal": _equal_cells,
    "one wrong digit in a table": _one_digit,
    "digits changed": _changed_by(_shift_digits),
    "upper-cased": _changed_by(str.upper),
    "lower-cased": _changed_by(str.lower),
    "diacritics dropped": _no_diacritics,
    "punctuation dropped": _changed_by(lambda text: re.sub(r"(?<=\w)[,.;:](?=\s)", "", text)),
    "spaces dropped": _changed_by(lambda text: re.sub(r"(?<=\w) (?=\w)", "", text)),
}


def _bare(text: str) -> str:
    """A text that fits in an attribute or a bracket."""
    return " ".join(re.sub(r"[\"<>\[\]{}\\`$#*|%&_^~]", " ", TAG.sub(" ", text)).split())


def _plain_edges(target: Target) -> str | None:
    return _edges(str)(target)


ATTACKS: tuple[Attack, ...] = (
    *(
        Attack(name=name, make=make)
        for group in (_LESS, _ORDER, _MORE, _MARKS, _HIDING, _LETTERS)
        for name, make in group.items()
    ),
    Attack(name="front matter only, of another language", make=lambda target: "", front="lies"),
    Attack(name="another language in the front matter", make=lambda target: target.text, front="lies"),
    Attack(name="endless loop", make=_endless, endless=True),
    *(
        Attack(name=f"a header kept: {name}", make=_edges(change), start=_plain_edges)
        for name, change in (
            ("upper-cased", str.upper),
            ("zero-width spaces", _spaced),
            ("a tag inside", _tagged),
            ("a letter other", lambda text: "x" + text[1:]),
        )
    ),
)
# The same page to a reader: it may cost nothing and must not pay.
HARMLESS: tuple[Attack, ...] = (
    Attack(name="a code fence around everything", make=_everything_in("```markdown\n", "\n```")),
    Attack(name="a zero-width space between letters", make=_changed_by(lambda t: re.sub(r"(?<=\w)(?=\w)", "\u200b", t))),
    Attack(name="tables as pipe tables", make=lambda target: per_block(target.text, edits.markdown_table, "table")),
)


def caption_moved(reference: str) -> tuple[str, str] | None:
    """The page with a caption before its table, and after it; None without a table.

    Where a float stands is nobody's fault.
    """
    table = _TABLE.search(reference)
    if table is None:
        return None
    above, below = reference[: table.start()].rstrip(), reference[table.end() :].lstrip()
    caption = "Table 1: what was measured"
    orders = ((caption, table[0]), (table[0], caption))
    before, after = ("\n\n".join(filter(None, [above, *pieces, below])) for pieces in orders)
    return before, after
