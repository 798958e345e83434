"""Adapters arrive at the sampler as they are, and merged into rounded weights they do not; what is sent is checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from safetensors.torch import load_file

from ocr_rl import config
from ocr_rl.contract import Page, UserError
from ocr_rl.learn.algos.rollouts import to_rows
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.network import PolicyNetwork, named_weights
from ocr_rl.learn.probe import require_eyes
from ocr_rl.models.load import load_model
from ocr_rl.models.weights import Adapter, Weights, mark
from ocr_rl.rollout.flow import ComparedGroup, Row
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import Sampler, Sampling
from ocr_rl.rollout.sampler.hf import HfSampler
from tests.learn.conftest import NLL, MakeLearner, largest_gap, same, weights

LORA = {"lora_rank": 4, "freeze_vision": True}
NOISE = 1.15  # times the gap of the untrained policy, where both sides hold the same weights: bfloat16's own


def written(sampler: Sampler, pages: Sequence[Page], prompter: Prompter, n: int = 2) -> list[Row]:
    """What the sampler writes about the pages, with its log-probabilities."""
    prompts = [(page, prompter.prompt(page)) for page in pages]
    nothing = (0.0,) * n
    groups = [
        ComparedGroup(group=group, scores={}, rewards=nothing, advantages=nothing)
        for group in sampler.sample(prompts, Sampling(n=n, max_tokens=12, seed=3))
    ]
    return to_rows(groups, config.Grpo(pages=config.Typeset(synth="nano"), steps=1), 12)


def gaps(sampler: Sampler, learner: Learner, pages: Sequence[Page], n: int = 2) -> list[float]:
    """Between the sampler's log-probabilities and the learner's, token by token."""
    rows = written(sampler, pages, learner.prompter, n)
    theirs = [value for row in rows for value in row.sampler_logprobs or ()]
    ours = [value for values in learner.logprobs(rows) for value in values]
    return [abs(a - b) for a, b in zip(theirs, ours, strict=True)]


def rounded(learner: Learner) -> Weights:
    """What was sent before adapters were: the deltas added on, in the dtype of the policy."""
    return ((name, weight.bfloat16()) for name, weight in named_weights(learner.module))


def trained(make_learner: MakeLearner, rows: list[Row], *, lr: float = 1e-2, **policy: Any) -> Learner:
    learner = make_learner(policy={**LORA, **policy}, lr=lr)
    learner.update(rows[:2], NLL)
    return learner


def test_trap_23_in_bfloat16_adapters_arrive_and_merged_ones_are_rounded_away(
    make_learner: MakeLearner, rows: list[Row], policy_dir: Path, prompter: Prompter, tiny_pages: list[Page]
) -> None:
    """After 1, 10 and 50 small steps the gap is that of the dtype; with merged and rounded weights it is more."""
    policy = {"lora_rank": 8, "dtype": "bfloat16", "freeze_vision": True}
    learner = make_learner(policy=policy, lr=1e-4, max_grad_norm=1.0)
    sampler = HfSampler(policy_dir, prompter, dtype="bfloat16")
    bound = NOISE * fmean(gaps(sampler, learner, tiny_pages[:1], n=32))
    for step in range(1, 51):
        learner.update(rows[:1] if step % 2 else rows[4:5], NLL)
        if step in (1, 10, 50):
            sampler.load(learner.weights(), step)
            assert fmean(gaps(sampler, learner, tiny_pages[:1], n=32)) < bound, step
            sampler.load(rounded(learner), step)
            assert fmean(gaps(sampler, learner, tiny_pages[:1], n=32)) > bound, step


@pytest.mark.parametrize("freeze_vision", [True, False])
def test_in_float32_the_sampler_is_the_learner_before_and_after_whole_weights(
    make_learner: MakeLearner,
    rows: list[Row],
    policy_dir: Path,
    prompter: Prompter,
    tiny_pages: list[Page],
    freeze_vision: bool,
) -> None:
    learner, pages = trained(make_learner, rows, freeze_vision=freeze_vision), tiny_pages[2:]
    sampler = HfSampler(policy_dir, prompter)
    assert max(gaps(sampler, learner, pages)) > 1e-2  # adapters that never arrived
    sampler.load(learner.weights(), 1)
    assert max(gaps(sampler, learner, pages)) < 1e-5
    other = make_learner()
    other.update(rows[:2], NLL)
    sampler.load(other.weights(), 2)
    assert max(gaps(sampler, other, pages)) < 1e-5
    sampler.load(learner.weights(), 3)  # over other weights than its own: these are read again
    assert max(gaps(sampler, learner, pages)) < 1e-5


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_saved_adapter_loads_with_peft_and_is_the_same_policy(
    make_learner: MakeLearner, rows: list[Row], policy_dir: Path, tmp_path: Path
) -> None:
    from peft import PeftModel

    learner = trained(make_learner, rows, lora_alpha=3, lora_targets=["q_proj", "down_proj"])
    learner.save_adapter(tmp_path / "adapter")
    again = make_learner()
    model = load_model(str(policy_dir))
    again.family.pack(model)
    again.module = PeftModel.from_pretrained(model, str(tmp_path / "adapter"))
    again.network = PolicyNetwork(again.module, again.family, autocast=False)
    assert largest_gap(again.logprobs(rows), learner.logprobs(rows)) < 1e-6
    assert largest_gap(again.logprobs(rows), make_learner().logprobs(rows)) > 1e-3


def test_a_merged_policy_is_added_up_in_float32_and_rounded_once(
    make_learner: MakeLearner, rows: list[Row], tmp_path: Path
) -> None:
    learner = trained(make_learner, rows, dtype="bfloat16")
    name = "model.language_model.layers.0.self_attn.q_proj"
    layer = learner.module.get_base_model().get_submodule(name)  # type: ignore[operator]
    exact = (layer.base_layer.weight.float() + layer.get_delta_weight("default")).detach()
    for dtype in ("float32", "bfloat16"):
        learner.save(tmp_path / dtype, dtype=dtype)
        kept = load_file(tmp_path / dtype / "model.safetensors")
        (saved,) = (weight for key, weight in kept.items() if key.endswith(".0.self_attn.q_proj.weight"))
        assert torch.equal(saved, exact.to(saved.dtype)) and str(saved.dtype) == f"torch.{dtype}"
    assert not torch.equal(exact, exact.bfloat16().float())


# --- what an engine holds ---------------------------------------------------------------------------------------------


def test_a_mark_knows_no_order_and_no_padding_but_every_bit() -> None:
    tensor = torch.randn(6, 4)
    value = mark(tensor, torch.float32)
    stacked = torch.cat([torch.zeros(3, 4), tensor.flip(0).flip(1)])
    assert mark(stacked, torch.float32) == value == mark(tensor[:2], torch.float32) + mark(tensor[2:], torch.float32)
    other = tensor.clone()
    other[3, 2] = torch.nextafter(other[3, 2], torch.tensor(torch.inf))
    assert mark(other, torch.float32) != value
    assert mark(tensor.bfloat16().float(), torch.bfloat16) == mark(tensor, torch.bfloat16)


@pytest.mark.parametrize("lost", ["adapters", "weights"])
def test_trap_8_an_engine_that_keeps_what_it_had_is_named(
    make_learner: MakeLearner,
    rows: list[Row],
    policy_dir: Path,
    prompter: Prompter,
    monkeypatch: pytest.MonkeyPatch,
    lost: str,
) -> None:
    learner = trained(make_learner, rows) if lost == "adapters" else make_learner(lr=1e-2)
    sampler = HfSampler(policy_dir, prompter)
    sampler.load(learner.weights(), 0)
    learner.update(rows[:2], NLL)
    copy = torch.Tensor.copy_
    kept = lambda own, new, *more: own if own.ndim == 2 else copy(own, new, *more)
    if lost == "adapters":
        monkeypatch.setattr("peft.set_peft_model_state_dict", lambda *given: None)
    else:
        monkeypatch.setattr(torch.Tensor, "copy_", kept)
    with pytest.raises(UserError, match=rf"does not hold the {lost} that it was given: .* differs"):
        sampler.load(learner.weights(), 1)


def test_trap_22_adapters_over_other_weights_than_they_learnt_on_are_refused(
    make_learner: MakeLearner, rows: list[Row], policy_dir: Path, prompter: Prompter, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = trained(make_learner, rows).weights()
    assert isinstance(sent, Adapter)
    sampler: Any = HfSampler(policy_dir, prompter)
    with torch.no_grad():
        next(iter(sampler._model.parameters())).mul_(1.01)
    with pytest.raises(UserError, match="does not hold the base weights that it was given"):
        sampler.load(sent, 1)


@pytest.mark.parametrize("policy", [LORA, LORA | {"freeze_vision": False}], ids=["language", "tower"])
def test_an_engine_with_adapters_switched_on_passes(
    make_learner: MakeLearner, policy_dir: Path, prompter: Prompter, tiny_pages: list[Page], policy: dict
) -> None:
    learner, sampler = make_learner(policy=policy), HfSampler(policy_dir, prompter)
    require_eyes(learner, sampler, tiny_pages)
    assert max(gaps(sampler, learner, tiny_pages[:1])) < 1e-5  # it is left with the policy's own


@pytest.mark.parametrize("trap", ["never switched on", "base weights alone", "not in the tower"])
def test_trap_21_an_engine_that_samples_without_the_adapters_is_refused(
    make_learner: MakeLearner, policy_dir: Path, prompter: Prompter, tiny_pages: list[Page], trap: str
) -> None:
    learner = make_learner(policy=LORA | {"freeze_vision": False})
    sampler: Any = HfSampler(policy_dir, prompter)
    load: Callable[[Weights, int], None] = sampler.load

    def broken(sent: Weights, policy: int) -> None:
        assert isinstance(sent, Adapter)
        match trap:
            case "never switched on":
                load(sent, policy)
                sampler._adapted.disable_adapter_layers()
            case "base weights alone":
                load(load_model(sent.base).state_dict().items(), policy)
            case _:
                silent = {name: 0 * t if "visual" in name else t for name, t in sent.tensors.items()}
                load(replace(sent, tensors=silent), policy)

    sampler.load = broken
    with pytest.raises(UserError, match="the engine says the same whatever the adapters are"):
        require_eyes(learner, sampler, tiny_pages)


# --- settings ---------------------------------------------------------------------------------------------------------


def adapted(learner: Learner) -> set[str]:
    """Last parts of the names of layers with adapters."""
    return {
        name.split(".lora_A")[0].rpartition(".")[2] for name, _ in learner.module.named_parameters() if "lora_A" in name
    }


def test_targets_alpha_and_tower_are_as_the_recipe_says(make_learner: MakeLearner) -> None:
    learner = make_learner(policy={"lora_rank": 2, "lora_targets": ["q_proj", "qkv"], "lora_alpha": 5})
    assert adapted(learner) == {"q_proj", "qkv"}
    assert learner.adapter().config.lora_alpha == 5
    learner = make_learner(policy={"lora_rank": 2, "lora_vision": False})
    assert adapted(learner) == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert learner.adapter().config.lora_alpha == 4
    assert all("lora_" in name for name, p in learner.module.named_parameters() if p.requires_grad)


def test_targets_that_the_model_does_not_have_are_one_sentence(make_learner: MakeLearner) -> None:
    for targets, freeze in ((["q_proj", "wq"], False), (["qkv"], True), (["lm_head"], False)):
        with pytest.raises(
            UserError, match=rf"lora_targets: no linear layer .* called '{targets[-1]}'; there are .*q_proj"
        ):
            make_learner(policy={"lora_rank": 2, "lora_targets": targets, "freeze_vision": freeze})


def test_a_tower_that_is_to_have_adapters_has_some(make_learner: MakeLearner) -> None:
    with pytest.raises(UserError, match="lora_vision gives .* none of these layers is there; it has .*qkv"):
        make_learner(policy={"lora_rank": 2, "lora_targets": ["q_proj"], "lora_vision": True})
    learner = make_learner(policy={"lora_rank": 2, "lora_targets": ["q_proj"]})  # where there are any
    assert adapted(learner) == {"q_proj"}


def test_a_folder_of_adapters_names_a_model_of_the_hub_by_its_name(
    make_learner: MakeLearner, policy_dir: Path, tmp_path: Path
) -> None:
    """As others can load it: the snapshot's path is of this machine alone."""
    snapshot = tmp_path / "hub" / "models--some--reader" / "snapshots" / "0123abc"
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(policy_dir)
    for path, name, commit in ((snapshot, "some/reader", "0123abc"), (policy_dir, str(policy_dir), None)):
        learner = make_learner(path=path, policy={"lora_rank": 2})
        assert learner.adapter().base == str(path)  # what an engine here reads
        learner.save_adapter(tmp_path / "adapter")
        said = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
        assert (said["base_model_name_or_path"], said["revision"]) == (name, commit)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"lora_dropout": 0.1}, "lora_dropout is for adapters: set lora_rank too"),
        ({"lora_rank": 2, "lora_vision": True, "freeze_vision": True}, "choose one"),
        ({"lora_rank": 2, "lora_targets": []}, 'give "all-linear", or names of layers'),
        ({"lora_rank": 2, "lora_targets": "q_proj"}, 'give "all-linear", or names of layers'),
        ({"lora_rank": 2, "lora_targets": ["q_proj", "q_proj"]}, "lora_targets names a layer twice"),
        ({"dtype": "bfloat16", "autocast": True}, "leave it out where dtype is bfloat16"),
    ],
)
def test_settings_that_do_not_go_together_are_named(policy: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        config.Policy.model_validate({"path": "nano", **policy})


def test_dropout_is_off_wherever_log_probabilities_are_compared(
    make_learner: MakeLearner, rows: list[Row], tmp_path: Path
) -> None:
    """And on in updates, where a run that goes on drops out the same."""
    plain, learner, again = (make_learner(policy={**LORA, "lora_dropout": p}, lr=1e-2) for p in (0.0, 0.5, 0.5))
    some = [replace(row, sampler_logprobs=(0.0,) * len(row.completion_ids)) for row in rows[:2]]
    learner.update(some, NLL)
    learner.save_state(tmp_path / "optim.pt")
    again.load_state(tmp_path / "optim.pt")
    plain.load_state(tmp_path / "optim.pt")
    (first, _), expected = learner.annotate(some, old=False, reference=False), plain.logprobs(some)
    assert first.old_logprobs == expected[0] and again.logprobs(some) == expected
    assert plain.annotate(some, old=False, reference=False)[0].old_logprobs is None
    for one in (learner, again, plain):
        one.update(some, NLL)
    assert same(weights(learner), weights(again))
    assert not same(weights(learner), weights(plain))
