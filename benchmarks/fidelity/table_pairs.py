"""Pairs of HTML tables for `benchmarks.fidelity.teds`: composed, damaged, badly nested, real.

Composed tables have sections, headings, spans, inline tags and entities. Damage edits cells, rows, columns, spans and
tags, leaves end tags out or cuts a table off. Real tables are those of transcripts, each with each and with damaged
ones, and PubTabNet's samples.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from ocr_rl.contract import UserError
from ocr_rl.text.tables import Table, html_tables, markdown_tables

Pair = tuple[str, str]  # reference, candidate


@dataclass(frozen=True, slots=True)
class HtmlTable:
    """Rows of HTML cells by section; None for rows straight in the table."""

    sections: tuple[tuple[str | None, tuple[tuple[str, ...], ...]], ...]

    def __str__(self) -> str:
        text = ""
        for name, rows in self.sections:
            inner = "\n".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
            text += f"<{name}>{inner}</{name}>" if name else inner
        return f"<table>{text}</table>"


def collect(num: int, texts: Path | None, beside: Path, rng: random.Random) -> dict[str, list[Pair]]:
    """Sets of pairs by name."""
    sets: dict[str, list[Pair]] = {"made on the spot": [damaged(composed(rng), rng) for _ in range(num)]}
    sets["badly nested"] = [mangled(first_rows(composed(rng), 4), rng) for _ in range(num)]
    if texts:
        tables = real_tables(texts)
        if not tables:
            raise UserError(f"--texts: no .md file in {texts} has a table; name a folder of transcripts")
        pairs = [(str(a), str(b)) for a, b in combinations(tables, 2)]
        sets["of transcripts"] = pairs + [damaged(first_rows(table), rng) for table in tables for _ in range(6)]
    if (beside / "sample_gt.json").is_file():
        truth = json.loads((beside / "sample_gt.json").read_text(encoding="utf-8"))
        outputs = json.loads((beside / "sample_pred.json").read_text(encoding="utf-8"))
        sets["PubTabNet's samples"] = [(_inner(truth[name]["html"]), _inner(outputs[name])) for name in truth]
    return sets


def _inner(page: str) -> str:
    return page.removeprefix("<html><body>").removesuffix("</body></html>")


def real_tables(folder: Path) -> list[HtmlTable]:
    found = []
    for path in sorted(folder.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        found += [as_html(table) for table in html_tables(text) + markdown_tables(text) if len(table.cells) > 1]
    return found


def as_html(table: Table) -> HtmlTable:
    rows: list[list[str]] = [[] for _ in range(table.num_rows)]
    for place in sorted(table.cells):
        cell = table.cells[place]
        text = cell.text.replace("&", "&amp;").replace("<", "&lt;")
        rows[cell.row].append(f'<td colspan="{cell.colspan}" rowspan="{cell.rowspan}">{text}</td>')
    return HtmlTable(((None, tuple(map(tuple, rows))),))


def first_rows(table: HtmlTable, most: int = 12) -> HtmlTable:
    """The first rows of each section: the peer takes minutes for a large table and one nearly like it."""
    return HtmlTable(tuple((name, rows[:most]) for name, rows in table.sections))


WORDS = (
    "total",
    "net",
    "sales",
    "1,204",
    "3.7",
    "(12)",
    "North",
    "café",
    "東京",
    "rate",
    "±",
    "&amp;",
    "&lt;5",
    "p&nbsp;q",
    "&mdash;",
    "é&#769;",
    "n/a",
    "Q1",
)
INLINE = (
    "<b>{}</b>",
    "<i>{}</i>",
    "<sup>{}</sup>",
    "{}<br>",
    "<b><i>{}</i></b>",
    "<sub>{}</sub> ",
    "<span class='x'>{}</span>",
)


def content(rng: random.Random) -> str:
    words = " ".join(rng.choices(WORDS, k=rng.choice((0, 1, 1, 2, 3, 6))))
    return rng.choice(INLINE).format(words) if rng.random() < 0.2 else words


def cell(rng: random.Random, tag: str = "td") -> str:
    spans = "".join(f" {name}={rng.randint(2, 4)}" for name in ("colspan", "rowspan") if rng.random() < 0.06)
    return f"<{tag}{spans}>{content(rng)}</{tag}>"


def composed(rng: random.Random) -> HtmlTable:
    num_rows, num_cols = rng.randint(1, 14), rng.randint(1, 8)
    heading = rng.choice(("td", "td", "th"))
    head = [tuple(cell(rng, heading) for _ in range(num_cols)) for _ in range(rng.randint(1, 2))]
    body = [tuple(cell(rng) for _ in range(num_cols)) for _ in range(num_rows)]
    if rng.random() < 0.3:
        return HtmlTable(((None, tuple(head + body)),))
    parts = [("thead", tuple(head))] if rng.random() < 0.9 else []
    cut = rng.randint(1, num_rows) if rng.random() < 0.2 else num_rows
    return HtmlTable(
        (*parts, ("tbody", tuple(body[:cut])), *([("tbody", tuple(body[cut:]))] if cut < num_rows else []))
    )


Rows = list[tuple[str, ...]]


def _cells(rows: Rows, rng: random.Random) -> Rows:
    return [tuple(cell(rng) if rng.random() < 0.15 else old for old in row) for row in rows]


def _letters(rows: Rows, rng: random.Random) -> Rows:
    """Letters of the text misread, outside tags and entities."""
    old, new = rng.choice("abcdet1237"), rng.choice("xyz")
    return [tuple(re.sub(rf"{old}(?=[^<>&;]*<)", new, cell) for cell in row) for row in rows]


def _drop_row(rows: Rows, rng: random.Random) -> Rows:
    gone = rng.randrange(len(rows))
    return rows[:gone] + rows[gone + 1 :]


def _repeat_row(rows: Rows, rng: random.Random) -> Rows:
    k = rng.randrange(len(rows))
    return rows[: k + 1] + rows[k:]


def _swap_rows(rows: Rows, rng: random.Random) -> Rows:
    return rng.sample(rows, len(rows)) if rng.random() < 0.3 else rows[1:] + rows[:1]


def _drop_column(rows: Rows, rng: random.Random) -> Rows:
    gone = rng.randrange(max(1, max(map(len, rows))))
    return [row[:gone] + row[gone + 1 :] for row in rows]


def _split_row(rows: Rows, rng: random.Random) -> Rows:
    k = rng.randrange(len(rows))
    at = rng.randint(0, len(rows[k]))
    return [*rows[:k], rows[k][:at], rows[k][at:], *rows[k + 1 :]]


def _shift_cells(rows: Rows, rng: random.Random) -> Rows:
    return [row[1:] if rng.random() < 0.3 else row for row in rows]


DAMAGES: tuple[Callable[[Rows, random.Random], Rows], ...] = (
    *(_cells, _letters, _drop_row, _repeat_row),
    *(_swap_rows, _drop_column, _split_row, _shift_cells),
)


def damaged(table: HtmlTable, rng: random.Random) -> Pair:
    """The table, and one that 0 to 5 edits made of it."""
    sections = list(table.sections)
    for _ in range(rng.randint(0, 5)):
        k = rng.randrange(len(sections))
        name, rows = sections[k]
        if rows:
            sections[k] = name, tuple(rng.choice(DAMAGES)(list(rows), rng))
    text = str(replace(table, sections=tuple(sections)))
    chance = rng.random()
    if chance < 0.1:
        text = text.replace("thead>", "tbody>") if "thead" in text else text.replace("<tr>", "<tr><th>x</th>", 1)
    elif chance < 0.2:
        text = text.replace("</td>", "").replace("</tr>", "")  # end tags may be left out
    elif chance < 0.25:
        text = (
            text.replace("<th", "<td")
            .replace("</th>", "</td>")
            .replace("<tdead", "<thead")
            .replace("</tdead", "</thead")
        )
    elif chance < 0.3:
        text = text[: text.rfind("<", 0, len(text) * 2 // 3)] + "</table>"
    return str(table), text


STRAY = (
    "tr",
    "/tr",
    "td",
    "/td",
    "th",
    "tbody",
    "/tbody",
    "thead",
    "/table",
    "table",
    "b",
    "/b",
    "p",
    "/p",
    "div",
    "/div",
)


def mangled(table: HtmlTable, rng: random.Random) -> Pair:
    """The table, and one with tags left out and stray ones put in."""
    parts = re.split(r"(<[^>]*>)", str(table))
    for _ in range(rng.randint(1, 4)):
        k = rng.randrange(2, len(parts))
        parts[k : k + 1] = [] if rng.random() < 0.4 else [f"<{rng.choice(STRAY)}>", parts[k]]
    return str(table), "".join(parts)
