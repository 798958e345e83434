"""A policy saved, a checkpoint gone on from, adapters merged: the same policy comes back."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch.utils._pytree import tree_leaves

from ocr_rl.contract import UserError
from ocr_rl.learn.network import base, named_weights
from ocr_rl.models.load import load_model
from ocr_rl.rollout.flow import Row
from tests.learn.conftest import NLL, MakeLearner, largest_gap, same, weights


def names_in(folder: Path) -> dict[str, tuple[int, ...]]:
    with safe_open(folder / "model.safetensors", "pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize("policy", [{}, {"lora_rank": 2}], ids=["full", "lora"])
def test_a_saved_policy_is_an_ordinary_folder_with_the_same_log_probabilities(
    make_learner: MakeLearner, policy_dir: Path, rows: list[Row], tmp_path: Path, policy: dict
) -> None:
    learner = make_learner(policy=policy, lr=1e-2)
    learner.update(rows, NLL)
    learner.save(tmp_path / "model")
    assert names_in(tmp_path / "model") == names_in(policy_dir)
    again = make_learner(path=tmp_path / "model")
    gap = largest_gap(again.logprobs(rows), learner.logprobs(rows))
    assert gap < 1e-5 if policy else gap == 0  # merging rounds
    assert largest_gap(again.logprobs(rows), make_learner().logprobs(rows)) > 1e-2
    kept = {path.name for path in policy_dir.iterdir()}
    assert kept <= {path.name for path in (tmp_path / "model").iterdir()}


def test_a_policy_saved_in_bfloat16_is_half_the_size(
    make_learner: MakeLearner, rows: list[Row], tmp_path: Path
) -> None:
    learner = make_learner()
    learner.save(tmp_path / "half", dtype="bfloat16")
    learner.save(tmp_path / "full")
    size = lambda name: (tmp_path / name / "model.safetensors").stat().st_size
    assert size("half") / size("full") == pytest.approx(0.5, abs=0.01)
    config = json.loads((tmp_path / "half" / "config.json").read_text())
    assert config["dtype"] == config["text_config"]["dtype"] == "bfloat16"  # what plain loaders go by
    assert load_model(str(tmp_path / "half")).dtype == torch.float32  # read as asked, whatever the file holds
    assert learner.module.config.dtype == torch.float32  # saving does not change the policy in training
    assert largest_gap(make_learner(path=tmp_path / "half").logprobs(rows), learner.logprobs(rows)) < 0.5


@pytest.mark.parametrize(
    ("policy", "optim"), [({}, {"name": "muon", "adam_lr": 1e-3}), ({"lora_rank": 2}, {})], ids=["muon", "lora"]
)
def test_resumed_is_uninterrupted(
    make_learner: MakeLearner, rows: list[Row], tmp_path: Path, policy: dict, optim: dict
) -> None:
    whole, first, second = (make_learner(policy=policy, warmup=5, **optim) for _ in range(3))
    # Adapters start from random numbers: the same ones for all three.
    for learner in (first, second):
        learner.module.load_state_dict(copy.deepcopy(whole.module.state_dict()))
    parts = [rows[i : i + 2] for i in (0, 2, 4, 6, 1, 3)]
    for part in parts:
        whole.update(part, NLL)
    for part in parts[:3]:
        first.update(part, NLL)
    first.save_state(tmp_path / "optim.pt")
    second.load_state(tmp_path / "optim.pt")
    assert second.policy == 3
    for part in parts[3:]:
        second.update(part, NLL)
    assert same(weights(second), weights(whole))
    assert not same(weights(first), weights(whole))


def test_a_checkpoint_holds_what_is_learnt_in_the_dtype_of_the_run(
    make_learner: MakeLearner, rows: list[Row], tmp_path: Path
) -> None:
    learner = make_learner(policy={"lora_rank": 2, "dtype": "bfloat16"})
    learner.save(tmp_path / "model")
    assert {w.dtype for w in load_file(tmp_path / "model" / "model.safetensors").values()} == {torch.bfloat16}
    learner.save_state(tmp_path / "optim.pt")
    assert all("lora_" in name for name in torch.load(tmp_path / "optim.pt", weights_only=True)["weights"])
    with pytest.raises(UserError, match=r"optim\.pt: lacks"):
        make_learner().load_state(tmp_path / "optim.pt")


# --- adapters ---------------------------------------------------------------------------------------------------------


def test_merged_weights_are_the_adapted_policy(make_learner: MakeLearner, policy_dir: Path, rows: list[Row]) -> None:
    learner = make_learner(policy={"lora_rank": 2}, lr=1e-2)
    learner.update(rows, NLL)
    plain = load_model(str(policy_dir))
    assert {name for name, _ in named_weights(learner.module)} == set(plain.state_dict())
    merged = make_learner()
    base(merged.module).load_state_dict(dict(named_weights(learner.module)))
    assert largest_gap(merged.logprobs(rows), learner.logprobs(rows)) < 1e-5
    assert largest_gap(merged.logprobs(rows), make_learner().logprobs(rows)) > 1e-2


def test_merging_leaves_the_policy_as_it_is(make_learner: MakeLearner, rows: list[Row]) -> None:
    """In bfloat16 W + d - d is not W: a merge in place would wear the weights away, load by load."""
    learner = make_learner(policy={"lora_rank": 2, "dtype": "bfloat16"}, lr=1e-2)
    learner.update(rows, NLL)
    before = {name: weight.clone() for name, weight in learner.module.state_dict().items()}
    for _ in range(2):
        merged = dict(named_weights(learner.module))
    assert same(learner.module.state_dict(), before)
    adapted = {weight.dtype for name, weight in merged.items() if "_proj.weight" in name}
    assert adapted == {torch.float32}  # whoever takes them rounds them
    iterator = named_weights(learner.module)  # one that is not read to its end
    next(iterator)
    assert same(learner.module.state_dict(), before)


@pytest.mark.parametrize("freeze_vision", [True, False])
def test_adapters_sit_in_the_towers_that_are_not_frozen(
    make_learner: MakeLearner, rows: list[Row], freeze_vision: bool
) -> None:
    learner = make_learner(policy={"lora_rank": 2, "freeze_vision": freeze_vision}, lr=1e-2)
    trained = {name for name, p in learner.module.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in trained)
    assert any(".language_model." in name for name in trained)
    assert any(".visual." in name for name in trained) != freeze_vision
    before = {name: weight.clone() for name, weight in named_weights(learner.module)}
    learner.update(rows, NLL)
    moved = {name for name, weight in named_weights(learner.module) if not torch.equal(weight, before[name])}
    assert any(".language_model." in name for name in moved)
    assert any(".visual." in name for name in moved) != freeze_vision
    assert not any("norm" in name or "embed" in name or "bias" in name for name in moved)


def test_weights_have_the_names_of_a_checkpoint(make_learner: MakeLearner) -> None:
    learner = make_learner()
    assert [name for name, _ in named_weights(learner.module)] == list(learner.module.state_dict())


@pytest.mark.parametrize("optim", [{}, {"name": "muon"}], ids=["adamw", "muon"])
def test_what_is_loaded_is_copied_out_of_the_file_leaf_by_leaf(
    make_learner: MakeLearner, rows: list[Row], tmp_path: Path, optim: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is mapped, and nothing of it is left in use: it may be deleted or written over."""
    learner, later = make_learner(**optim), make_learner(**optim)
    learner.update(rows, NLL)
    learner.save_state(tmp_path / "optim.pt")
    later.update(rows[:1], NLL)  # moments that must go
    mapped: list[torch.Tensor] = []  # kept, so that no other tensor can come to stand there
    load = torch.load

    def load_mapped(path: Path, *, map_location: str, mmap: bool, weights_only: bool) -> dict:
        assert mmap and weights_only and map_location == "cpu"
        state = load(path, map_location=map_location, mmap=mmap, weights_only=weights_only)
        mapped.extend(leaf for leaf in tree_leaves(state) if isinstance(leaf, torch.Tensor))
        return state

    monkeypatch.setattr(torch, "load", load_mapped)
    later.load_state(tmp_path / "optim.pt")
    places = {tensor.data_ptr() for tensor in mapped}
    for opt, other in zip(later.optimizers, learner.optimizers, strict=True):
        for values, expected in zip(opt.state.values(), other.state.values(), strict=True):
            assert values.keys() == expected.keys()
            for name, value in values.items():
                assert value.data_ptr() not in places and torch.equal(value, expected[name]), name
    assert not places & {weight.data_ptr() for weight in later.masters.by_name.values()}
    assert same(weights(later), weights(learner))
