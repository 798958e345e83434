"""A worked example of a reward: the amounts of an invoice add up to its total.

ocr-rl score invoice_1.md --data invoices --reward docs/examples/invoice_total.py:InvoiceTotal
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from ocr_rl.contract import Page, Score, Transcript, per_transcript
from ocr_rl.text.checks import LONGEST, prepare

_AMOUNT = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_SUBTOTAL = re.compile(r"sub-?\s?total|net", re.IGNORECASE)
_TOTAL = re.compile(r"\btotal\b|amount due", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceTotal:
    """1 if the items of some table add up to its total, else 1 - the gap / the larger of sum and total.

    Read from rows that end in an amount: those before one whose first cell says "total" are items, those that say
    "subtotal" do not count. At least two items, or 0: one number that agrees with itself proves nothing. Needs no
    reference. No score for a page without the tag `tag` (the name of the JSONL file of its tests). Amounts that were
    made up add up too: weigh it low beside a reward that reads the page.
    """

    tag: str = "invoices"

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        if self.tag not in page.tags:
            return Score(value=None, why=f"the page is not tagged {self.tag!r}")
        found = [_judge(rows) for rows in _tables(transcript.body)]
        best = max(found, key=lambda one: one[0], default=(0.0, "no table with a total and two items"))
        return Score(value=best[0], why=best[1])


def _tables(text: str) -> Iterator[list[tuple[str, Decimal]]]:
    """Of each table the rows that end in an amount: (first cell, amount)."""
    prepared = prepare(text if len(text) <= LONGEST else "")
    for table in prepared.tables("strict", markdown=True):
        rows: dict[int, list[str]] = {}
        for (row, _), cell in sorted(table.by_place.items()):
            rows.setdefault(row, []).append(cell)
        yield [(cells[0], amount) for cells in rows.values() if (amount := _amount(cells[-1])) is not None]


def _amount(cell: str) -> Decimal | None:
    found = _AMOUNT.findall(cell)
    try:
        return Decimal(found[0].replace(",", "")) if len(found) == 1 else None
    except InvalidOperation:
        return None


def _judge(rows: list[tuple[str, Decimal]]) -> tuple[float, str]:
    items: list[Decimal] = []
    for label, amount in rows:
        if _SUBTOTAL.search(label):
            continue
        if not _TOTAL.search(label):
            items.append(amount)
        elif len(items) >= 2:
            gap, whole = abs(sum(items) - amount), max(abs(sum(items)), abs(amount), Decimal("0.01"))
            return max(0.0, 1 - float(gap / whole)), f"{len(items)} items make {sum(items)}, the total says {amount}"
    return 0.0, "no table with a total and two items"
