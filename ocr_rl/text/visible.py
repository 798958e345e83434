"""What a reader sees of a transcript: its blocks in order, as a browser would show the rendered Markdown.

    seen = see(transcript)
    seen.text, seen.blocks, seen.tables, seen.formulas, seen.marked["heading"], seen.length

Comments, attributes, hidden or zero-size elements, struck text, alternative texts, link targets and characters without
a glyph are not seen (`hidden`). Formulas are cut out first, because their marks are not Markdown's. Markdown is read by
markdown-it-py (CommonMark with tables and strikethrough), and the HTML that it makes by `walk`. Knows nothing about
tests or rewards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any

from markdown_it import MarkdownIt

from ocr_rl.text.hidden import without_comments, without_invisible
from ocr_rl.text.normalize import canonical, collapse, without_loose_spaces, without_surrogates
from ocr_rl.text.tables import Table, markdown_tables
from ocr_rl.text.tex import Formula, count_symbols, formulas, only_formulas, with_formulas, without_delimiters
from ocr_rl.text.walk import FOOTNOTE_SIGN, OF_MARKDOWN, Block, Mark, walk

_FOOTNOTE = "[^"  # Markdown would take "[^1]: Note" for the target of a link
_PRIVATE = re.compile("[\ue000-\ue002]")
_FENCE = re.compile(r"\s*(`{3,}|~{3,})[a-zA-Z]*[ \t]*\n(.*?)\n?\1\s*", re.DOTALL)
_HASHES = re.compile(r"^[ \t]*#{1,6}[ \t]+", re.MULTILINE)
_MARKS = re.compile(r"\*\*|\\[()\[\]]")
_LEADERS = re.compile(r"([._\-–—=*~·•…])\1{1,99}")


@dataclass(frozen=True)
class Seen:
    """All that a reader sees of a transcript."""

    blocks: Sequence[Block]
    marked: Mapping[Mark, Sequence[str]]  # the text of every heading, bold and italic span
    notes: str  # the text with superscripts as <sup>..</sup>, where footnote markers are looked for

    @cached_property
    def text(self) -> str:
        """The blocks one after the other, parted by blank lines; list items behind their marker."""
        return "\n\n".join(map(_with_marker, self.blocks))

    @cached_property
    def tables(self) -> list[Table]:
        return [block.table for block in self.blocks if block.table is not None]

    @cached_property
    def formulas(self) -> list[Formula]:
        """The formulas with TeX in them, in order."""
        return [formula for block in self.blocks for formula in formulas(block.text) if formula.tex]

    @cached_property
    def bare(self) -> str:
        """The text without bullets and without what formulas are wrapped in, as figures compare it."""
        return "\n".join(
            without_delimiters(block.text if block.marker == "-" else _with_marker(block)) for block in self.blocks
        )

    @cached_property
    def length(self) -> int:
        """Visible characters: see `count_visible`."""
        return sum(count_visible(_with_marker(block)) for block in self.blocks)


@lru_cache(maxsize=64)  # the rewards of a mix see the same siblings one after the other
def see(text: str) -> Seen:
    """What a reader sees of a transcript without front matter. Bounded time for any text."""
    source = without_invisible(_PRIVATE.sub("\ufffd", without_surrogates(text)))
    if fenced := _FENCE.fullmatch(source):  # wrapped in a code fence as a whole
        source = fenced[2]
    source, cut = _without_formulas(source)
    blocks, marked, notes = walk(_shown_html(_markdown().render(source)), cut)
    return Seen(blocks=[piece for block in blocks for piece in _recognised(block)], marked=marked, notes=notes)


@lru_cache(maxsize=1 << 16)
def see_phrase(text: str) -> str:
    """What a reader sees of a phrase that a test searches. Of block markup only headings are read: `1. One` keeps its
    number.

    Cached, because many transcripts are searched for a test's text.
    """
    if text.isascii() and text.isprintable() and not any(mark in text for mark in "<&\\[]`~*_$#"):
        return text
    source = _HASHES.sub("", without_invisible(_PRIVATE.sub("\ufffd", without_surrogates(text))))
    source, cut = _without_formulas(source)
    blocks, _, _ = walk(_shown_html(_markdown().renderInline(source)), cut)
    return "\n".join(block.text for block in blocks)


def searchable(seen: str) -> str:
    """The form in which the strict reading compares seen text: one look, one form.

    Delimiters of formulas are gone, and so are the double stars that raw HTML leaves as they are, and white space in
    scripts that write none.
    """
    return without_loose_spaces(collapse(canonical(_MARKS.sub("", without_delimiters(seen)))))


def count_visible(text: str) -> int:
    """How long a seen text is: letters, digits and signs.

    Of a formula the symbols count that it shows. Spaces do not count, and a leader such as `.....` counts as one sign.
    """
    symbols: list[int] = []

    def counted(formula: Formula) -> str:
        symbols.append(count_symbols(formula.tex))
        return "\n"

    rest = short_leaders(with_formulas(text, counted))
    return sum(symbols) + sum(map(len, rest.split()))


def short_leaders(text: str) -> str:
    """The text with one sign for a leader such as `.....`."""
    return _LEADERS.sub(r"\1", text)


def budget(length: int) -> int:
    """How many visible characters a transcript of a page of this length may have: 2 % and 3 more than the page."""
    return length + length // 50 + 3


def _shown_html(source: str) -> str:
    return without_comments(without_invisible(source))  # Markdown has read entities such as &shy;


def _with_marker(block: Block) -> str:
    return f"{block.marker} {block.text}" if block.marker else block.text


def _without_formulas(source: str) -> tuple[str, list[str]]:
    """The source with a private character and a number for every formula, and the formulas as shown."""
    cut: list[str] = []

    def numbered(formula: Formula) -> str:
        closing = source[formula.end - len(formula.mark) : formula.end]
        cut.append(f"{formula.mark}{formula.tex}{closing}" if formula.tex else "")
        return f"\ue000{len(cut) - 1}\ue001"

    return with_formulas(source, numbered).replace(_FOOTNOTE, FOOTNOTE_SIGN), cut


def _recognised(block: Block) -> Sequence[Block]:
    """The block, or what it turns out to be: displayed formulas, or a table that lacks its rule."""
    if block.kind != "text":
        return [block]
    shown = list(formulas(block.text))
    if shown and all(formula.displayed for formula in shown) and only_formulas(block.text):
        return [Block(kind="formula", text=block.text[f.start : f.end]) for f in shown]
    lines = block.text.split("\n")
    if len(lines) > 1 and all("|" in line for line in lines) and (tables := markdown_tables(block.text)):
        return [Block(kind="table", text=block.text.replace("|", " "), table=tables[0], markdown=True)]
    return [block]


@cache
def _markdown() -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    markdown.disable("code")  # what stands far to the right on a page is no program, and an indented table is a table
    markdown.add_render_rule("list_item_open", _numbered_item)
    markdown.add_render_rule("table_open", lambda *_: f"<table{OF_MARKDOWN}>\n")
    return markdown


def _numbered_item(self: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    """An item with the number that its source gives it: a page may begin or go on anywhere."""
    return f'<li value="{tokens[index].info}">' if tokens[index].info else "<li>"
