"""Pages of layouts that text layers get wrong, each with its true transcript: drawn by hand, one text object a piece.

    PAGES["columns 10 pt"](rng)    (a content stream for `document`, the transcript in Markdown)

Widths are PDFium's own of Helvetica, so that gutters and spaces are as wide as they are called.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from random import Random

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c


def _words(text: str) -> list[str]:
    return text.split()


_NOUNS = _words(
    "harbour committee lighthouse treasurer engineer member letter winter surplus museum crane pier boat concrete "
    "minute proposal keeper storm volunteer meeting ledger signal granary bridge warden captain orchard mill "
)
_VERBS = _words("approved repaired described opened measured refused carried visited counted painted sold kept ")
_ADJECTIVES = _words("northern old narrow careful wooden distant quiet recent heavy broken second public ")
_LINKS = _words("before after because while although until when where ")
Page = tuple[str, str]  # content stream, transcript


def sentence(rng: Random) -> str:
    """About a dozen words with a full stop."""
    a, b, c, d = (f"the {rng.choice(_ADJECTIVES)} {rng.choice(_NOUNS)}" for _ in range(4))
    text = f"{a} {rng.choice(_VERBS)} {b} {rng.choice(_LINKS)} {c} {rng.choice(_VERBS)} {d}."
    return text[0].upper() + text[1:]


@cache
def _widths() -> tuple[float, ...]:
    """Of the characters below 127, in heights of type."""
    with pdfium.PdfDocument.new() as document:
        font = pdfium_c.FPDFText_LoadStandardFont(document, b"Helvetica")
        width = ctypes.c_float()
        return tuple(
            width.value if pdfium_c.FPDFFont_GetGlyphWidth(font, k, 1000.0, ctypes.byref(width)) else 0.0
            for k in range(127)
        )


def width(text: str, size: float) -> float:
    return sum(_widths()[ord(c)] for c in text) / 1000 * size


def put(text: str, x: float, y: float, size: float = 11, font: str = "F1", matrix: str = "1 0 0 1") -> str:
    safe = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return f"BT /{font} {size} Tf {matrix} {x:.2f} {y:.2f} Tm ({safe}) Tj ET\n"


def wrapped(text: str, room: float, size: float = 11) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if width(longer, size) <= room else [*lines, word]
    return lines


def paragraph(rng: Random, sentences: int = 6) -> str:
    return " ".join(sentence(rng) for _ in range(sentences))


def prose(text: str, y: float, x: float = 72, room: float = 460, size: float = 11) -> str:
    return "".join(put(line, x, y - 14 * k, size) for k, line in enumerate(wrapped(text, room, size)))


def columns(rng: Random, gutter: float) -> Page:
    """Two columns drawn row by row, each filled to its edge: words are spread over the room."""
    room = (468 - gutter) / 2
    texts = [paragraph(rng, 7) for _ in range(2)]
    both = [wrapped(text, room) for text in texts]
    rows = ""
    for k in range(max(map(len, both))):
        for side, lines in enumerate(both):
            if k < len(lines):
                last = k == len(lines) - 1
                rows += _spread(lines[k], 72 + side * (room + gutter), 700 - 14 * k, None if last else room)
    return rows, "\n\n".join(texts)


def _spread(line: str, x: float, y: float, room: float | None, size: float = 11) -> str:
    extra = 0.0 if room is None or " " not in line else (room - width(line, size)) / line.count(" ")
    return f"{extra:.3f} Tw {put(line, x, y, size)}0 Tw\n"


def table(rng: Random) -> Page:
    """Ruled cells whose words reach close to the rules."""
    rows = [[" ".join(sentence(rng).strip(".").split()[k : k + 4]) for k in (0, 3, 6)] for _ in range(6)]
    wide = [max(width(row[k], 10) for row in rows) + 6 for k in range(3)]
    lefts = [72 + sum(wide[:k]) for k in range(4)]
    drawn = "".join(f"{x:.1f} {700 - 18 * 5 - 6} m {x:.1f} 712 l S\n" for x in lefts)
    drawn += "".join(f"72 {712 - 18 * k} m {lefts[3]:.1f} {712 - 18 * k} l S\n" for k in range(7))
    drawn += "".join(
        put(text, lefts[c] + 3, 700 - 18 * r, 10) for r, row in enumerate(rows) for c, text in enumerate(row)
    )
    text = paragraph(rng, 3)
    cells = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return drawn + prose(text, 560), f"<table>{cells}</table>\n\n{text}"


def labels(rng: Random, padding: float) -> Page:
    """Rows of a label and a value, as in forms and CVs; the value starts close behind the longest label."""
    rows = [[" ".join(sentence(rng).strip(".").split()[k : k + 5]) for k in (0, 5)] for _ in range(5)]
    left = 72 + max(width(row[0], 11) for row in rows) + padding
    drawn = "".join(put(a, 72, 700 - 16 * k) + put(b, left, 700 - 16 * k) for k, (a, b) in enumerate(rows))
    text = paragraph(rng, 3)
    cells = "".join(f"<tr><td>{a}</td><td>{b}</td></tr>" for a, b in rows)
    return drawn + prose(text, 560), f"<table>{cells}</table>\n\n{text}"


def marks(rng: Random, rise: float, tex: str) -> Page:
    """Words with a raised or lowered number behind them."""
    drawn, truth = "", []
    for k in range(10):
        words = sentence(rng).split()
        at, number = rng.randint(2, 8), str(rng.randint(10, 99))
        first, rest = " ".join(words[:at]), " ".join(words[at:])
        x = 72 + width(first, 11)
        drawn += put(first, 72, 700 - 16 * k) + put(number, x, 700 - 16 * k + rise, 7)
        drawn += put(rest, x + width(number, 7) + width(" ", 11), 700 - 16 * k)
        truth.append(f"{first}{tex.format(number)} {rest}")
    return drawn, "\n\n".join(truth)


def numbered(rng: Random, gap: float) -> Page:
    """Text with a number before every line."""
    text = paragraph(rng, 14)
    lines = wrapped(text, 430)
    drawn = "".join(
        put(str(k), 90 - width(str(k), 11) - gap, 700 - 14 * k) + put(line, 90, 700 - 14 * k)
        for k, line in enumerate(lines, 11)
    )
    return drawn, text


def tight(rng: Random, space: float, sign: str) -> Page:
    """Words so far apart, in heights of type; between them stands no character, or a space that takes no room."""
    text = paragraph(rng, 12)
    drawn = ""
    for k, line in enumerate(wrapped(text, 430)):
        back = -space * 1000 if not sign else _widths()[32] - space * 1000
        words = f"{sign}) {back:.0f} (".join(line.split())
        drawn += f"BT /F1 11 Tf 72 {700 - 14 * k} Td [({words})] TJ ET\n"
    return drawn, text


def slanted(rng: Random, matrix: str) -> Page:
    """Prose below a watermark or beside a stamp."""
    text, mark = paragraph(rng, 12), " ".join(sentence(rng).strip(".").split()[:6])
    return put(mark, 40, 150, 30, matrix=matrix) + prose(text, 700), text


def formulas(rng: Random) -> Page:
    """Single letters and raised ones in prose, in italics."""
    drawn, truth = "", []
    for k in range(12):
        words = sentence(rng).split()
        at, letter = rng.randint(3, 6), rng.choice("xsaunI")
        first, rest = " ".join(words[:at]), " ".join(words[at:])
        x = 72 + width(first + " ", 11)
        drawn += (
            put(first, 72, 700 - 16 * k) + put(letter, x, 700 - 16 * k, font="F2") + put("2", x + 6, 704 - 16 * k, 7)
        )
        drawn += put(rest, x + 14, 700 - 16 * k)
        truth.append(f"{first} ${letter}^2$ {rest}")
    return drawn, "\n\n".join(truth)


def leaders(rng: Random) -> Page:
    """A line of dots or to sign on ends the page; the transcript has its own number of them, and no newline."""
    text = paragraph(rng, 5)
    sign = rng.choice("._")
    return prose(text, 700) + put(
        f"Signature {sign * 50}", 72, 560
    ), f"{text}\n\nSignature {sign * rng.randint(40, 80)}"


PAGES: dict[str, Callable[[Random], Page]] = {
    **{f"columns {gutter} pt": partial(columns, gutter=gutter) for gutter in (10, 12, 14, 16)},
    "ruled table": table,
    "form": partial(labels, padding=7),
    "cv": partial(labels, padding=11),
    "superscripts": partial(marks, rise=4, tex="$^{{{}}}$"),
    "notes": partial(marks, rise=4, tex="<sup>{}</sup>"),
    "subscripts": partial(marks, rise=-3, tex="$_{{{}}}$"),
    "numbered 6 pt": partial(numbered, gap=6),
    "numbered 4 pt": partial(numbered, gap=4),
    "tight 0.12 em": partial(tight, space=0.12, sign=""),
    "tight, spaces": partial(tight, space=0.12, sign=" "),
    "no room": partial(tight, space=0.0, sign=" "),
    "watermark": partial(slanted, matrix="0.7071 0.7071 -0.7071 0.7071"),
    "stamp": partial(slanted, matrix="0 1 -1 0"),
    "formulas": formulas,
    "leaders": leaders,
}


def document(pages: Sequence[str], *, rotate: int = 0, unicode_map: dict[str, str] | None = None) -> bytes:
    """A PDF of a page for each content stream; with `unicode_map`, which says what its letters are called."""
    pairs = "".join(f"<{ord(a):02X}> <{ord(b):04X}>\n" for a, b in (unicode_map or {}).items())
    spaces = "1 begincodespacerange <00> <FF> endcodespacerange"
    cmap = f"begincmap\n{spaces}\n{len(unicode_map or {})} beginbfchar\n{pairs}endbfchar\nendcmap"
    called = "/ToUnicode 5 0 R" if unicode_map else ""
    objects = {
        3: f"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica {called} >>",
        4: "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Oblique >>",
        5: f"<< /Length {len(cmap)} >>\nstream\n{cmap}\nendstream",
    }
    resources = "<< /Font << /F1 3 0 R /F2 4 0 R >> >>"
    return assembled(objects, pages, f"/MediaBox [0 0 612 792] /Rotate {rotate}", resources)


def assembled(objects: Mapping[int, str], pages: Sequence[str], about: str, resources: str) -> bytes:
    """A PDF of these objects, numbered from 3 to 9, and a page for each content stream.

    `about`: what the dictionary of each page says besides. There is no table of the objects: readers make one.
    """
    kids = " ".join(f"{10 + 2 * k} 0 R" for k in range(len(pages)))
    objects = {
        1: "<< /Type /Catalog /Pages 2 0 R >>",
        2: f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        **objects,
    }
    for k, content in enumerate(pages):
        here = f"{about} /Contents {11 + 2 * k} 0 R /Resources {resources}"
        objects[10 + 2 * k] = f"<< /Type /Page /Parent 2 0 R {here} >>"
        objects[11 + 2 * k] = f"<< /Length {len(content)} >>\nstream\n{content}\nendstream"
    body = "".join(f"{k} 0 obj\n{content}\nendobj\n" for k, content in objects.items())
    return f"%PDF-1.7\n{body}trailer << /Size 99 /Root 1 0 R >>\n%%EOF\n".encode()
