"""One update of each family moves what it should: all, not the frozen tower, or adapters alone; in bfloat16 too."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

pytest.importorskip("torch", reason="torch is not installed")


from benchmarks.families.engine import written
from ocr_rl.learn.learner import Learner
from ocr_rl.models.family import Family
from ocr_rl.models.load import load_model
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.hf import HfSampler
from tests.families.conftest import MakeLearner
from tests.learn.conftest import NLL, weights


def moved(learner: Learner, rows: list[Row]) -> tuple[set[str], set[str]]:
    """Names of the weights that one update moved, and of the others."""
    before = weights(learner)
    learner.update(rows, NLL)
    after = weights(learner)
    changed = {name for name in before if not before[name].equal(after[name])}
    return changed, set(before) - changed


def test_an_update_moves_every_weight_and_makes_its_rows_likelier(make_learner: MakeLearner, rows: list[Row]) -> None:
    learner = make_learner(max_grad_norm=1.0)
    before = learner.logprobs(rows)
    _, stayed = moved(learner, rows)
    assert not stayed
    assert _mean(learner.logprobs(rows)) > _mean(before)


def test_a_frozen_tower_stays_its_mergers_too(make_learner: MakeLearner, family: Family, rows: list[Row]) -> None:
    learner = make_learner(policy={"freeze_vision": True})
    changed, stayed = moved(learner, rows)
    assert stayed == {name for name in changed | stayed if family.of_vision(name)}
    tower = f"model.{family.tower_layers}."
    assert any(name.startswith(tower) for name in stayed)
    assert any(not name.startswith(tower) for name in stayed)  # what lies between tower and text model


@pytest.mark.parametrize("tower", [False, True], ids=["text", "tower"])
def test_adapters_alone_learn_one_on_each_linear_layer(
    make_learner: MakeLearner, family: Family, folder: Path, rows: list[Row], tower: bool
) -> None:
    learner = make_learner(policy={"lora_rank": 2, "lora_vision": tower}, lr=1e-2)
    changed, _ = moved(learner, rows)
    learner.update(rows, NLL)  # A moves once B is not 0
    assert changed and all("lora_B" in name for name in changed)
    adapted = {name.split(".lora_")[0].removeprefix("base_model.model.") for name in changed}
    layers = {
        name.removesuffix(".weight")
        for name, weight in load_model(str(folder)).named_parameters()
        if ".layers." in name or f"{family.tower_layers}." in name
        if weight.ndim == 2 and name.endswith(".weight")
    }
    assert adapted == {name for name in layers if tower or not family.of_vision(name)}
    assert any(family.of_vision(name) for name in adapted) == tower


@pytest.mark.parametrize("policy", [{"dtype": "bfloat16"}, {"autocast": True}], ids=["weights", "autocast"])
def test_in_bfloat16_it_says_and_learns_nearly_the_same(
    make_learner: MakeLearner, rows: list[Row], policy: dict
) -> None:
    exact, rounded = make_learner(max_grad_norm=1.0), make_learner(policy=policy, max_grad_norm=1.0)
    apart = _apart(exact.logprobs(rows), rounded.logprobs(rows))
    assert 0 < fmean(apart) < 0.05 and max(apart) < 0.5
    figures = [learner.update(rows, NLL) for learner in (exact, rounded)]
    assert figures[1]["loss"] == pytest.approx(figures[0]["loss"], rel=0.02)
    assert figures[1]["grad_norm"] == pytest.approx(figures[0]["grad_norm"], rel=0.2)
    assert _mean(rounded.logprobs(rows)) > figures[0]["loss"] * -1


def test_the_transformers_sampler_in_bfloat16_is_as_far_as_rounding(
    make_learner: MakeLearner, folder: Path, prompter: Prompter, tiny_pages: list
) -> None:
    sampler = HfSampler(folder, prompter, dtype="bfloat16")
    learner = make_learner(policy={"dtype": "bfloat16"})
    rows = written(sampler, prompter, [tiny_pages[0], tiny_pages[3]])
    theirs = [row.sampler_logprobs or () for row in rows]
    rounding = _apart(learner.logprobs(rows), make_learner().logprobs(rows))
    assert fmean(_apart(theirs, learner.logprobs(rows))) < max(2 * fmean(rounding), 1e-4)
    assert fmean(rounding) < 0.05


def _apart(values: list, others: list) -> list[float]:
    return [abs(a - b) for row, other in zip(values, others, strict=True) for a, b in zip(row, other, strict=True)]


def _mean(logprobs: list) -> float:
    return fmean(value for row in logprobs for value in row)
