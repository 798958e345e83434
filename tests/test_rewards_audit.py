"""The command behind docs/rewards_audit.md, on two pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.fidelity.rewards_audit import RECIPES, main, mined_pages

SHOWN = Path(__file__).parents[1] / "docs" / "rewards_audit.md"


@pytest.mark.slow
def test_every_kind_and_mix_has_its_row_and_none_has_a_hole(tmp_path: Path) -> None:
    out = tmp_path / "audit.md"
    assert main(["--pages", "2", "--search", "20", "--kinds", "notice", "mined", "--out", str(out)]) == 0
    lines = out.read_text(encoding="utf-8").splitlines()
    for kind in ("notice", "mined"):
        for recipe in RECIPES:
            rows = [line for line in lines if line.startswith(f"| {kind} | `{recipe}` |")]
            assert len(rows) == 2  # gains, and what readings earn
            assert rows[1].split("|")[3].strip() == "1.000"  # the truth
            assert len(rows[0].split("|")) == 12
    shown = SHOWN.read_text(encoding="utf-8")
    assert lines[0] in shown and "largest gain of any attack" in shown


@pytest.mark.slow
def test_mined_pages_have_their_tests_from_the_pdf_and_their_truth_from_the_generator() -> None:
    pages = mined_pages(3, 0)
    assert len(pages) == 3 and all(page.reference and page.checks for page in pages)
