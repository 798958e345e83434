"""Reward: every row of a table is as wide as the table."""

from __future__ import annotations

from dataclasses import dataclass

from ocr_rl.contract import Page, Score, Transcript, per_transcript
from ocr_rl.text.tables import html_tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Rectangular:
    """Share of the transcript's HTML tables that have a cell on every place of their grid; 1 without a table.

    It is olmOCR's rectangular-tables reward with one difference: a table whose spans contradict each other is not
    rectangular, where olmOCR's raises for the whole batch. It needs no reference. Since it does not see that tables are
    missing, weigh it beside a reward that does.
    """

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        tables = html_tables(transcript.body)
        if not tables:
            return Score(value=1.0, why="no table")
        good = sum(table.is_rectangular and not table.fault for table in tables)
        return Score(value=good / len(tables), why=f"{good} of {len(tables)} tables are rectangular")
