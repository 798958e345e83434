"""A transcript cut into blocks, and texts as they are compared, in the way that OmniDocBench's own code does both.

Defined by that code at v1.5 (opendatalab/OmniDocBench, Apache-2.0; arXiv 2412.07626), written anew. Places count as
there: formulas and tables by where they stand, paragraphs by the letters of the paragraphs before them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ocr_rl.evaluate.suites.omnidocbench.unicode_tex import shown

TEXT, FORMULA, INLINE, TABLE, LATEX_TABLE = "text", "formula", "inline", "table", "latex table"

_IMAGE = re.compile(r"!\[.*?\]\(.*?\)")
_FENCE = re.compile(r"^```(?:markdown|html|latex)\n?|```\n?$", re.MULTILINE)
_PAGE = re.compile(r"</?(?:html|body)>")
_LONG_RUNS = ((re.compile("_{4,}"), "____"), (re.compile(" {4,}"), "    "))
_FORMULA = re.compile(r"\$\$(.*?)\$\$|\\\[(.*?)\\\]|\$(.*?)\$|\\\((.*?)\\\)", re.DOTALL)
_DOLLARS = re.compile(r"\$\$(.*?)\$\$|\$(.*?)\$|\\\((.*?)\\\)", re.DOTALL)
_INLINE = re.compile(r"\$(.*?)\$|\\\((.*?)\\\)")
_HTML_ENDS = re.compile(r"(<table[^>]*>)|</table>")
_TEX_TABLE = re.compile(r"\\begin{table}.*?\\end{table}|\\begin{tabular}.*?\\end{tabular}", re.DOTALL)
_ROW = re.compile(r"\|.*?\|\n")  # of a table in Markdown
_HTML = re.compile(r"<table.*?</table>", re.DOTALL)
_TEX_WRAPS = re.compile(r"\\(?:title|text|section\*?)\s*\{\s*(.*?)\s*\}", re.DOTALL)
_ARRAY = re.compile(r"\\begin\{array\}\{([^}]*)\}(.*?)\\end\{array\}", re.DOTALL)
_NO_COLUMN = re.compile(r"\s+|\||[@!]\{[^}]*\}")


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a transcript."""

    kind: str
    text: str
    place: int
    norm: str = ""  # as it is compared


def cut(text: str) -> list[Block]:
    """The blocks of a transcript, kind by kind, each in order."""
    text = _FENCE.sub("", _IMAGE.sub("", text))
    for pattern, instead in _LONG_RUNS:
        text = pattern.sub(instead, text)
    text = _PAGE.sub("", text)
    blocks: list[Block] = []
    for kind, found in ((LATEX_TABLE, _tex_tables), (TABLE, _html_tables)):
        for start, end in found(text):
            blocks.append(Block(kind, text[start:end], start))
            text = _blanked(text, start, end)
    for match in _FORMULA.finditer(text):
        block, stays = _formula(match)
        blocks.append(block)
        text = text if stays else _blanked(text, *match.span())
    if len(_ROW.findall(f"{text}\n")) > 1:
        text = _with_html(text)
        for match in _HTML.finditer(text):
            blocks.append(Block(TABLE, match[0], match.start()))
            text = _blanked(text, *match.span())
    blocks += _paragraphs(_TEX_WRAPS.sub(r"\1", text))
    blocks.sort(key=lambda block: block.place)
    rank = {kind: k for k, kind in reversed(list(enumerate(map(_family, blocks))))}
    return sorted(blocks, key=lambda block: rank[_family(block)])


def _family(block: Block) -> str:
    return FORMULA if block.kind == INLINE else block.kind


def _blanked(text: str, start: int, end: int) -> str:
    return f"{text[:start]}{' ' * (end - start)}{text[end:]}"


def _tex_tables(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in _TEX_TABLE.finditer(text)]


def _html_tables(text: str) -> list[tuple[int, int]]:
    """Those that stand in no other; one that is not closed is none, and those in it count."""
    found: list[tuple[int, int]] = []
    opened: list[int] = []
    for tag in _HTML_ENDS.finditer(text):
        if tag[1]:
            opened.append(tag.start())
        elif opened:
            start = opened.pop()
            found = [(a, b) for a, b in found if a < start] + [(start, tag.end())]
    return found


def _formula(match: re.Match[str]) -> tuple[Block, bool]:
    """And whether it stays in its paragraph."""
    line = " ".join(match[0].strip().split("\n"))
    if match[2] is not None and not _DOLLARS.search(line):
        return Block(FORMULA, line, match.start()), False
    groups = (1,) if match[1] else (2, 3)
    tex = _DOLLARS.sub(lambda part: rf"\[{''.join(part[k] or '' for k in groups)}\]", line)
    return Block(FORMULA if match[1] else INLINE, tex, match.start()), not match[1]


def _with_html(text: str) -> str:
    """Tables of Markdown as HTML. As there, the line before one is lost, and cells with a colon or three dashes."""
    lines, whole = [""], False
    for line in text.replace("\r", "").split("\n"):
        if row := _ROW.search(f"{line}\n"):
            lines = [*(lines if whole else lines[:-1]), *_html_row(row[0], first=not whole)]
        else:
            lines += ["</table>", "", "", line] if whole else [line]
        whole = row is not None
    return "\n".join([*lines, "</table>", "", ""] if whole else lines)


def _html_row(row: str, *, first: bool) -> list[str]:
    cells = [cell.strip() for cell in row.strip().split("|")[1:-1]]
    kept = [f'      <td colspan="1" rowspan="1">{cell}</td>' for cell in cells if ":" not in cell and "---" not in cell]
    return (["", "", '<table border="1" >'] if first else []) + (["    <tr>", *kept, "    </tr>"] if kept else [])


def _paragraphs(text: str) -> Iterator[Block]:
    pieces = text.split("\n\n")
    at = 0
    for piece in pieces if len(pieces) > 1 else text.split("\n"):
        lines = [line.strip() for line in piece.strip().split("\n")]
        whole = "\n".join(line for line in lines if line)
        if whole.startswith("<table") and whole.endswith("</table>"):
            yield Block(TABLE, whole, at)
        elif whole.startswith("$") and whole.endswith("$"):
            if whole.replace("$", "").strip():
                yield Block(FORMULA, whole, at)
        elif whole:
            yield Block(TEXT, whole, at)
        at += len(piece)


def ordered(blocks: Sequence[Block]) -> list[Block]:
    """Texts and formulas by their places, those within lines last; a formula in one column is a formula a line."""
    flow = sorted(blocks, key=lambda block: (block.kind == INLINE, block.place))
    return [replace(part, norm=normal(part.kind, part.text)) for block in flow for part in _lines_of(block)]


def _lines_of(block: Block) -> list[Block]:
    lines = array_lines(block.text) if block.kind in (FORMULA, INLINE) else None
    if lines is None:
        return [block]
    return [replace(block, text=rf"\[{line}\]", place=block.place + block.text.find(line)) for line in lines]


def array_lines(tex: str) -> list[str] | None:
    """Of a formula that is an array of one column; None for any other."""
    array = _ARRAY.search(tex)
    if array is None or _NO_COLUMN.sub("", array[1]) not in ("l", "c", "r"):
        return None
    return [line.strip() for line in array[2].split(r"\\") if line.strip()]


# --- texts as they are compared ---------------------------------------------------------------------------------------

_WRITTEN = re.compile(r"\\t|\\n|\t|\n|/t|/n")
_NO_LETTER = re.compile(r"[^\w一-鿿]")
_INNER = re.compile(r"\\\[(.+?)(?<!\\)\\\]")
_DRESS = re.compile(r"\\(?:tag|hspace|begin|end)\{.*?\}|\\arraycolsep.*?\}")
_UNCOMPARED = (  # in this order, wherever they stand
    ("mathbf", "mathrm", "mathnormal", "mathit", "mathbb", "mathcal", "mathscr", "mathfrak", "mathsf", "mathtt")
    + ("textbf", "text", "boldmath", "boldsymbol", "operatorname", "bm", "symbfit", "mathbfcal", "symbf")
    + ("scriptscriptstyle", "notag", "setlength", "coloneqq", "space", "thickspace", "thinspace", "medspace")
    + ("nobreakspace", "negmedspace", "quad", "qquad", "enspace", "substackw", " ", "$$", "left", "right")
    + ("displaystyle",)
)


def normal(kind: str, text: str) -> str:
    return tex_normal(text) if kind in (FORMULA, INLINE) else letters(text)


def letters(text: str) -> str:
    """Letters, figures and underscores of a text, with its formulas as they look."""
    return alnum(_INLINE.sub(_looks, text))


def _looks(match: re.Match[str]) -> str:
    tex = re.sub(r"\\([\\_&%^])", "", match[1] if match[1] is not None else match[2])
    return shown(tex).strip() if re.search(r"[\\^_]", tex) else match[0]


def alnum(text: str) -> str:
    return _NO_LETTER.sub("", _WRITTEN.sub("", text))


def tex_normal(tex: str) -> str:
    """Without blanks, fonts and sizes, in lower case."""
    tex = tex.strip().strip("$").strip("\n")
    if inner := _INNER.search(tex):
        tex = inner[1].strip()
    tex = _DRESS.sub("", tex).strip(".")
    for name in _UNCOMPARED:
        tex = tex.replace(f"\\{name}" if name.isalpha() else name, "")
    return tex.lower()
