"""Two processes are one, and a learner gone on with is the same to the bit, for every family."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from benchmarks.families.policies import loud_policy, two_pages
from benchmarks.families.ranks import gone_on_with, opened, rows_at, trained, two_ranks, whole
from ocr_rl.contract import Page
from ocr_rl.models.families import FAMILIES


@pytest.mark.slow  # two processes start, each with torch
def test_two_ranks_are_one(tmp_path: Path) -> None:
    folders = [loud_policy(tmp_path / family.model_type, family) for family in FAMILIES]
    gaps = two_ranks(folders, two_pages(tmp_path), tmp_path)
    assert {family.name: gap for family, gap in zip(FAMILIES, gaps, strict=True) if not 0 < gap <= 1e-3} == {}


def test_a_learner_goes_on_to_the_bit(folder: Path, tiny_pages: list[Page], tmp_path: Path) -> None:
    pages = [tiny_pages[0], tiny_pages[3]]
    assert gone_on_with(folder, pages, tmp_path)
    learner = opened(folder)
    before = whole(learner)
    after = trained(learner, rows_at(learner, pages), 1)
    assert all(not before[name].equal(weight) for name, weight in after.items())  # so the bits could have differed
