"""Small synthetic pages that several tests look at: one written by hand, and a document of each kind."""

from __future__ import annotations

from functools import cache

from ocr_rl.pages.synth.compose import KINDS
from ocr_rl.pages.synth.document import Heading, Paragraph, Run, Source, Style, Table
from ocr_rl.pages.synth.make import Document, make_document
from ocr_rl.text.checks import judge, load_check

# Pages of each kind, enough that every kind of block comes up; a scanned page takes ten times as long as others.
PAGES = {kind: {"nano": 60, "notice": 8, "report": 8}.get(kind, 40) for kind in KINDS}
STYLE = Style(width=224, height=168, margin=8, font="DejaVu Sans", size=12, leading=0.5)
PAGE = Source(
    blocks=(
        Heading(text="Annual account"),
        Paragraph(runs=(Run(text="Nina Berg", bold=True), Run(text="paid $12.50 for the garden."))),
        Table(rows=(("Item", "Cost"), ("spade", "7 & 8"), ("rake", "41"))),
    ),
    style=STYLE,
    header="Town of Hill",
    footer="17",
)


@cache
def document_of(kind: str) -> Document:
    return make_document(kind, 11, 0, PAGES[kind])


def of_page(document: Document, number: int) -> list[dict]:
    return [test for test in document.tests if test["page"] == number]


def passed(tests: list[dict], text: str, reading) -> list[bool]:
    return [verdict.passed for verdict in judge([load_check(test) for test in tests], text, reading)]
