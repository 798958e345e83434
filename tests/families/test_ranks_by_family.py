"""Two processes are one, and a learner gone on with is the same to the bit, for every family."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from benchmarks.families.policies import loud_policy, two_pages
from benchmarks.families.ranks import gone_on_with, opened, rows_at, trained, two_ranks, whole
from ocr_rl.contract import Page
from ocr_rl.models.families import FAMILIES
from ocr_rl.models.family import Family
from ocr_rl.models.fresh import BY_NAME, write_fresh


@pytest.mark.slow  # two processes start, each with torch
def test_two_ranks_are_one(tmp_path: Path) -> None:
    folders = [loud_policy(tmp_path / family.model_type, family) for family in FAMILIES]
    folders += [untied_policy(tmp_path / f"untied {name}", BY_NAME[name]) for name in ("paddleocr_vl", "lighton_ocr")]
    gaps = two_ranks(folders, two_pages(tmp_path), tmp_path)
    assert {folder.parent.name: gap for folder, gap in zip(folders, gaps, strict=True) if not 0 < gap <= 1e-3} == {}


def untied_policy(folder: Path, family: Family) -> Path:
    """Its file has a head of its own, and its configuration says that it has none."""
    write_fresh(own := folder / "own", 0, family, replace(family.nano, tied=False))
    written = json.loads((own / "config.json").read_text())
    written["tie_word_embeddings"] = written["text_config"]["tie_word_embeddings"] = True
    (own / "config.json").write_text(json.dumps(written))
    return own


def test_a_learner_goes_on_to_the_bit(folder: Path, tiny_pages: list[Page], tmp_path: Path) -> None:
    pages = [tiny_pages[0], tiny_pages[3]]
    assert gone_on_with(folder, pages, tmp_path)
    learner = opened(folder)
    before = whole(learner)
    after = trained(learner, rows_at(learner, pages), 1)
    assert all(not before[name].equal(weight) for name, weight in after.items())  # so the bits could have differed
