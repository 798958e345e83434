"""The bench of places finds them, and notices places that are a little off."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import pytest

from benchmarks.fidelity import spans
from ocr_rl.text.spans import Located, locate


def shares(kind: str) -> dict[str, float]:
    cases = list(spans.examined(kind, 1, 0, "strict", with_reference=True))
    return {
        "all": fmean(case.covered for case in cases),
        **{read: fmean(case.covered for case in cases if case.read == read) for read in {case.read for case in cases}},
    }


def test_places_hold_the_facts_of_a_page() -> None:
    found = shares("office")
    assert {"fact true", "fact false", "line lost", "characters wrong"} <= found.keys()
    assert found["all"] >= spans.LEAST
    assert found["fact true"] == 1.0


def test_places_that_are_off_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def off(*asked) -> Located:
        located = locate(*asked)
        return replace(located, spans=tuple((start + 12, end + 12) for start, end in located.spans))

    monkeypatch.setattr(spans, "locate", off)
    assert shares("form")["all"] < 0.5
