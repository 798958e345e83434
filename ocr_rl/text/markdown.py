"""Pieces of a Markdown transcript: headings, bold and italic spans, places of footnote markers, images.

They are what the public olmOCR-Bench takes for such: any tag that starts with b opens bold, and the two stars of a pair
may stand pages apart. What a reader would see is told by `visible`. Every search is linear. Knows nothing about tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ocr_rl.contract import Reading

_HEADING = re.compile(r"^#{1,6}\s+(.+)$", re.MULTILINE)
_LONE_STAR = re.compile(r"(?<!\*)\*(?!\*)")
_LONE_LINE = re.compile(r"(?<!_)_(?!_)")
_IMAGE = re.compile(r"!\[.*?\]\(.*?\)")
_SUPERSCRIPT_DIGITS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def headings(text: str) -> list[str]:
    """The text of lines that start with one to six # and white space, and of <h1> to <h6>."""
    return [*_HEADING.findall(text), *_elements(text, "h[1-6]")]


def bold(text: str) -> list[str]:
    """The text between two ** or two __, and in <b> and <strong>."""
    return [*_between(text, "**"), *_between(text, "__"), *_elements(text, "b"), *_elements(text, "strong")]


def italic(text: str) -> list[str]:
    """The text between two lone * or two lone _, and in <i> and <em>."""
    marked = [*_between_marks(text, _LONE_STAR), *_between_marks(text, _LONE_LINE)]
    return [*marked, *_elements(text, "i"), *_elements(text, "em")]


PIECES = {"heading": headings, "bold": bold, "italic": italic}


def footnote_places(text: str, marker: str, reading: Reading) -> list[tuple[int, int]]:
    """(start, end) of each place of a footnote's marker: `[^m]`, `<sup>m</sup>` and, for digits, superscripts like ².

    The definition `[^m]:` is no place. The strict reading does not find the marker 1 in the superscript 12.
    """
    quoted = re.escape(marker)
    places = [match.span() for match in re.finditer(rf"\[\^{quoted}\](?!:)", text)]
    places += _superscripts(text, marker, reading)
    if marker.isascii() and marker.isdigit():
        digits = marker.translate(_SUPERSCRIPT_DIGITS)
        matches = re.finditer(re.escape(digits), text)
        if reading == "strict":
            matches = re.finditer(rf"(?<![⁰¹²³⁴⁵⁶⁷⁸⁹]){digits}(?![⁰¹²³⁴⁵⁶⁷⁸⁹])", text)
        places += [match.span() for match in matches]
    return places


def _superscripts(text: str, marker: str, reading: Reading) -> Iterator[tuple[int, int]]:
    """Places of `<sup>` elements that hold the marker alone, also after a `<sup>` that was left open.

    The search starts at closing tags, so that a million open tags cost no more than reading them.
    """
    opening = re.compile(r"<sup(?=[\s/>])" if reading == "strict" else r"<sup", re.IGNORECASE)
    for closed in re.finditer(rf">({re.escape(marker)})</sup>", text, re.IGNORECASE):
        since = text.rfind(">", 0, closed.start()) + 1
        opened = opening.search(text, since, closed.start() + 1)
        if opened and (reading == "compatible" or closed[1] == marker):
            yield opened.start(), closed.end()


def without_images(text: str) -> str:
    """The text without `![alternative text](address)`."""
    return _IMAGE.sub("", text) if "![" in text and "](" in text else text


def _elements(text: str, name: str) -> Iterator[str]:
    """The content of elements: from an opening tag whose name starts with `name` to the next closing tag."""
    opening, closing = re.compile(rf"<{name}", re.IGNORECASE), re.compile(rf"</{name}>", re.IGNORECASE)
    at = 0
    while opened := opening.search(text, at):
        inside = text.find(">", opened.end()) + 1
        closed = closing.search(text, inside) if inside else None
        if closed is None:
            return
        yield text[inside : closed.start()]
        at = closed.end()


def _between(text: str, mark: str) -> Iterator[str]:
    at = text.find(mark)
    while at >= 0:
        end = text.find(mark, at + len(mark))
        if end < 0:
            return
        yield text[at + len(mark) : end]
        at = text.find(mark, end + len(mark))


def _between_marks(text: str, mark: re.Pattern[str]) -> Iterator[str]:
    marks = mark.finditer(text)
    for opened in marks:
        closed = next(marks, None)
        if closed is None:
            return
        yield text[opened.end() : closed.start()]
