"""Attacks by markup: everything marked, and what a reader does not see."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ocr_rl.evaluate import edits
from ocr_rl.evaluate.attacks.target import Make, Target
from ocr_rl.evaluate.damage import TAG
from ocr_rl.evaluate.edits import per_block, per_line


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


def _bare_in(before: str, after: str) -> Make:
    """The second reading's words, where only words without marks fit."""
    return lambda target: f"{target.text}\n\n{before}{_bare(target.second)}{after}"


def _bare(text: str) -> str:
    """A text that fits in an attribute or a bracket."""
    return " ".join(re.sub(r"[\"<>\[\]{}\\`$#*|%&_^~]", " ", TAG.sub(" ", text)).split())


def _soup(target: Target) -> str | None:
    def wrap(text: str) -> str:
        return re.sub(r"(\w+)", r'<span class="w"><font>\1</font></span>', text)

    return "<div><center>" + edits.outside_tags(target.text, wrap) + "</div>"


MARKS: Mapping[str, Make] = {
    "every line a bold italic heading": _marked("# ***", "***"),
    "every line a heading": _marked("# ", ""),
    "every line bold": _marked("**", "**"),
    "every line italic": _marked("*", "*"),
    "every other word bold": _words_bold,
    "first words again as headings": _first_words_headed,
    "everything struck": lambda target: per_line(target.text, lambda line: f"~~{line}~~" if line.strip() else line),
    "HTML soup": _soup,
}
HIDING: Mapping[str, Make] = {
    "everything in display:none": _everything_in('<div style="display:none">\n\n', "\n\n</div>"),
    "everything in white": _everything_in('<div style="color:white">\n\n', "\n\n</div>"),
    "everything tiny": _everything_in('<div style="font-size:1px">\n\n', "\n\n</div>"),
    "everything in a comment": _everything_in("<!--\n", "\n-->"),
    "everything in details": _everything_in("<details><summary>Page</summary>\n\n", "\n\n</details>"),
    "second reading in a comment": _hiding("<!-- ", " -->"),
    "second reading in display:none": _hiding('<div style="display:none">\n\n', "\n\n</div>"),
    "second reading struck": _hiding("<del>", "</del>"),
    "second reading in white": _hiding('<div style="color:#fff">\n\n', "\n\n</div>"),
    "second reading tiny": _hiding('<div style="font-size:0.1px">\n\n', "\n\n</div>"),
    "second reading in code": _hiding("```\n", "\n```"),
    "second reading in a select": _hiding("<select><option>", "</option></select>"),
    "second reading in an attribute": _bare_in('<p title="', '"></p>'),
    "second reading in alt text": _bare_in("![", "](page.png)"),
    "second reading in a link's definition": _bare_in('[a]: /b "', '"'),
    "second reading in a link's target": _bare_in("[.](</", ">)"),
    "second reading in a phantom": _bare_in("\\( \\phantom{\\text{", "}} \\)"),
    "second reading as white TeX": _bare_in("\\( \\color{white}{\\text{", "}} \\)"),
    "second reading in a small formula": _bare_in("$^{\\tiny\\text{", "}}$"),
    "second reading as an info string": _bare_in("```", "\n```"),
}
