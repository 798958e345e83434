"""Each family, packed with a shared page, against transformers row by row."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from PIL import Image

from ocr_rl.models.families import family_of
from ocr_rl.models.family import Family
from ocr_rl.models.load import load_config, load_model
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Prompter
from tests.families.conftest import MakeLearner, plain_logprobs
from tests.learn.conftest import apart, largest_gap
from tests.learn.test_learner import gradient_of


def test_a_folder_names_its_family(family: Family, folder: Path) -> None:
    assert family_of(load_config(str(folder))) is family


def test_packed_groups_are_what_transformers_computes_row_by_row(
    family: Family, make_learner: MakeLearner, folder: Path, prompter: Prompter, rows: list[Row]
) -> None:
    learner = make_learner()
    model = load_model(str(folder)).train()
    expected = [plain_logprobs(model, prompter, row) for row in rows]
    assert largest_gap(learner.logprobs(rows), [piece.tolist() for piece in expected]) < family.rounding
    torch.stack([-row.weight * piece.sum() for row, piece in zip(rows, expected, strict=True)]).sum().backward()
    gradient, _ = gradient_of(learner, rows)
    assert apart(gradient, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}) < 1e-5
    assert all(grad.abs().max() > 0 for grad in gradient.values())


def test_the_comparison_can_fail(make_learner: MakeLearner, rows: list[Row]) -> None:
    """What is held equal above does differ by page, by place and by image."""
    learner = make_learner()
    values = learner.logprobs(rows)
    assert largest_gap(values[:4], values[4:]) > 1e-2
    shifted = learner.positions
    learner.positions = lambda ids, size: shifted(ids, size) // 2  # type: ignore[assignment]
    assert largest_gap(learner.logprobs(rows), values) > 1e-2
    learner.positions = shifted
    blank = lambda prompt: Image.new("RGB", learner.prompter.image(prompt).size, "white")
    assert largest_gap(learner.logprobs(rows, image=blank), values) > 1e-2


def test_a_saved_folder_is_the_same_policy(make_learner: MakeLearner, rows: list[Row], tmp_path: Path) -> None:
    learner = make_learner()
    learner.save(tmp_path / "saved")
    assert make_learner(path=tmp_path / "saved").logprobs(rows) == learner.logprobs(rows)
