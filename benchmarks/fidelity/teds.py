"""Are TEDS and TEDS-S the public definition's, and how much faster?

    python -m benchmarks.fidelity.teds --peer-python PATH --peer-code PATH/metric.py [--texts FOLDER] [--pairs 300]

The peer is a Python with lxml, apted and distance in an environment of its own, and PubTabNet's `src/metric.py` (arXiv
1911.10683) with `parallel.py` beside it. Compared are tables made on the spot, with sections, headings, spans, inline
tags and entities, and damaged by edits of cells, rows, columns, spans and tags (some are cut off); the tables of
transcripts (.md) in a folder, each with each and with damaged ones; the samples of PubTabNet if they lie beside the
peer's code. Prints a Markdown table: pairs, largest difference, seconds of both sides for the same pairs in the same
run, one process each. Exits 1 if a difference is above 1e-6. A value below 0 of the peer counts as 0.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from benchmarks.speed.judging import ask
from ocr_rl.contract import UserError
from ocr_rl.text.table_tree import Node, tree
from ocr_rl.text.tables import Table, html_tables, markdown_tables
from ocr_rl.text.teds import teds

LIMIT = 1e-6
VARIANTS = {"TEDS": ("whole", False), "TEDS-S": ("structure", True)}
ROWS = 12  # of a table that is damaged
Pair = tuple[str, str]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fidelity.teds", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--peer-python", required=True, help="a Python that has lxml, apted and distance")
    parser.add_argument("--peer-code", type=Path, required=True, help="PubTabNet's metric.py")
    parser.add_argument("--texts", type=Path, help="a folder of transcripts (.md) with tables")
    parser.add_argument("--pairs", type=int, default=300, help="pairs made on the spot")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    try:
        if not args.peer_code.is_file():
            raise UserError(f"--peer-code: there is no file {args.peer_code}; name PubTabNet's src/metric.py")
        sets = collect(args.pairs, args.texts, args.peer_code.parent, random.Random(args.seed))
        print("| tables | pairs | nodes, most | figure | largest difference | ours, s | peer, s | ratio |")
        print("|---|--:|--:|---|--:|--:|--:|--:|")
        worst = 0.0
        for name, pairs in sets.items():
            peer = ask(
                [args.peer_python, str(Path(__file__).with_name("peer_teds.py")), str(args.peer_code)], {"pairs": pairs}
            )
            worst = max(worst, *(line(name, figure, pairs, peer) for figure in VARIANTS))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return int(worst > LIMIT)


def line(name: str, figure: str, pairs: Sequence[Pair], peer: Mapping[str, Any]) -> float:
    """Print one line of the table, and what differs; the largest difference."""
    part, structure_only = VARIANTS[figure]
    start = time.perf_counter()
    ours = [teds(*pair, structure_only=structure_only) for pair in pairs]
    seconds = time.perf_counter() - start
    theirs = peer[part]["values"]
    gaps = [abs(a - max(0.0, b)) for a, b in zip(ours, theirs, strict=True)]
    spent = sum(peer[part]["seconds"])
    most = max(num_nodes(text) for pair in pairs for text in pair)
    times = f"{seconds:.3f} | {spent:.2f} | {spent / seconds:.0f}"
    print(f"| {name} | {len(pairs)} | {most} | {figure} | {max(gaps):.1e} | {times} |", flush=True)
    for k in [k for k, gap in enumerate(gaps) if gap > LIMIT][:3]:
        print(json.dumps({"pair": pairs[k], "ours": ours[k], "peer": theirs[k]}), file=sys.stderr)
    return max(gaps)


def num_nodes(text: str) -> int:
    def count(node: Node) -> int:
        return 1 + sum(map(count, node.children))

    made = tree(text)
    return count(made.root) if made else 0


# --- Pairs --------------------------------------------------------------------------------------------------------


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


def first_rows(table: HtmlTable) -> HtmlTable:
    """The first rows: the peer takes minutes for a large table and one nearly like it."""
    return HtmlTable(tuple((name, rows[:ROWS]) for name, rows in table.sections))


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


if __name__ == "__main__":
    sys.exit(main())
