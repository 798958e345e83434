"""The worked example of the docs: found as a file, scored from the command line's own path, and not easily fooled."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocr_rl.contract import Page, Transcript
from ocr_rl.plugins import load_reward

FILE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "invoice_total.py"
PAGE = Page(id="0a1b2c3d:p1", pdf=Path("a.pdf"), number=1, tags=frozenset({"invoices"}))


def invoice(*rows: tuple[str, str]) -> str:
    return "<table>" + "".join(f"<tr><td>{label}</td><td>{amount}</td></tr>" for label, amount in rows) + "</table>"


TRUE = (("Item", "Price"), ("Ink", "$1,200.50"), ("Paper", "4.00"), ("Subtotal", "1204.50"), ("VAT", "95.50"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (invoice(*TRUE, ("Total due", "$1,300.00")), 1.0),
        ("| Item | Price |\n|---|---|\n| Ink | 2.50 |\n| Pen | 1.50 |\n| Total | 4.00 |", 1.0),
        (invoice(*TRUE, ("Total due", "$1,040.00")), 0.8),
        (invoice(*TRUE), 0.0),
        (invoice(("Ink", "4.00"), ("Total", "4.00")), 0.0),
        (invoice(("Ink", "1"), ("Pen", "-1"), ("Total", "0")), 1.0),
        ("Total 4.00", 0.0),
        ("", 0.0),
        ("<table>" * 500 + "1,,2|3\n" * 500, 0.0),
    ],
)
def test_items_make_the_total(text: str, value: float) -> None:
    reward = load_reward(f"{FILE}:InvoiceTotal")
    (score,) = reward(PAGE, [Transcript(raw=text, body=text, finish="stop", num_tokens=1)])
    assert score.value == pytest.approx(value)


def test_other_pages_are_left_alone() -> None:
    reward = load_reward(f"{FILE}:InvoiceTotal", {"tag": "bills"})
    assert reward(PAGE, [Transcript(raw="", body="", finish="stop", num_tokens=1)])[0].value is None
