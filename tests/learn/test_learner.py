"""The learner against plain transformers, and the things that must not change the answer: how rows are cut, saving,
resuming, merging adapters."""

from __future__ import annotations

import copy
import json
import math
import pickle
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from ocr_rl.learn.model import base, named_weights, token_logprobs
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.learn import model
from ocr_rl.learn.learner import Learner, _optimizers, rate_factor
from ocr_rl.learn.probe import looks
from ocr_rl.models.load import Qwen2_5_VisionPatchEmbed, load_model
from ocr_rl.objectives.losses import Loss, nll
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Prompter
from tests.learn.conftest import MakeLearner


class Recorder:
    """In place of an optimiser: keeps the gradient that it is given and changes nothing."""

    param_groups: list = []  # noqa: RUF012

    def __init__(self, module: nn.Module) -> None:
        self.module, self.gradient = module, {}

    def step(self) -> None:
        self.gradient = {n: p.grad.clone() for n, p in self.module.named_parameters() if p.grad is not None}

    def zero_grad(self, set_to_none: bool) -> None:
        for p in self.module.parameters():
            p.grad = None


def gradient_of(learner: Learner, rows: Sequence[Row], loss: Loss = nll) -> tuple[dict[str, Tensor], dict[str, float]]:
    recorder = Recorder(learner.module)
    learner.optimizers = [recorder]  # type: ignore[list-item]
    metrics = learner.update(rows, loss)
    return recorder.gradient, metrics


def apart(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Length of the difference over length of the expected."""
    assert set(found) == set(expected)
    far = sum(float((found[name] - expected[name]).double().square().sum()) for name in expected)
    return math.sqrt(far / sum(float(g.double().square().sum()) for g in expected.values()))


def largest_gap(found: Sequence[Sequence[float]], expected: Sequence[Sequence[float]]) -> float:
    return max(abs(a - b) for x, y in zip(found, expected, strict=True) for a, b in zip(x, y, strict=True))


def weights(learner: Learner) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in learner.module.named_parameters()}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return set(found) == set(expected) and all(torch.equal(found[name], expected[name]) for name in expected)


def plain_logprobs(model: nn.Module, prompter: Prompter, row: Row) -> Tensor:
    """One row as transformers itself computes it: no packing, no mask and no positions of ours."""
    ids = torch.tensor([[*row.prompt.expanded_ids, *row.completion_ids]])
    pixel_values, grid = map(torch.from_numpy, prompter.pixels([prompter.image(row.prompt)]))
    logits_TV = model(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == prompter.image_id).int(),
        pixel_values=pixel_values,
        image_grid_thw=grid,
    ).logits[0, len(row.prompt.expanded_ids) - 1 : -1]
    logits_TV = logits_TV / row.temperature
    logits_TV[:, list(row.banned_ids)] = -torch.inf
    return logits_TV.log_softmax(-1).gather(1, torch.tensor(row.completion_ids)[:, None])[:, 0]


# --- the packed forward -----------------------------------------------------------------------------------------------


def test_packed_groups_are_what_transformers_computes_row_by_row(
    make_learner: MakeLearner, policy_dir: Path, prompter: Prompter, rows: list[Row]
) -> None:
    learner = make_learner()
    model = load_model(str(policy_dir)).train()
    expected = [plain_logprobs(model, prompter, row) for row in rows]
    assert largest_gap(learner.logprobs(rows), [piece.tolist() for piece in expected]) < 1e-5

    sum(-row.weight * piece.sum() for row, piece in zip(rows, expected, strict=True)).backward()
    found, metrics = gradient_of(learner, rows)
    assert apart(found, {name: p.grad for name, p in model.named_parameters()}) < 1e-5
    assert metrics["loss"] == pytest.approx(
        -sum(row.weight * float(piece.detach().sum()) for row, piece in zip(rows, expected, strict=True)), rel=1e-5
    )


def test_the_comparison_can_fail(make_learner: MakeLearner, rows: list[Row]) -> None:
    """What the tests above and below hold equal does differ by page, by place and by image."""
    learner = make_learner()
    found = learner.logprobs(rows)
    assert largest_gap(found[:4], found[4:]) > 1e-2  # the same completions on another page
    shifted = learner.positions
    learner.positions = lambda ids, grid: shifted(ids, grid) // 2
    assert largest_gap(learner.logprobs(rows), found) > 1e-2
    learner.positions = shifted
    blank = lambda prompt: Image.new("RGB", learner.prompter.image(prompt).size, "white")
    assert largest_gap(learner.logprobs(rows, image=blank), found) > 1e-2


def test_trap_15_how_rows_are_cut_does_not_change_the_gradient(make_learner: MakeLearner, rows: list[Row]) -> None:
    whole, told = gradient_of(make_learner(micro_tokens=100_000), rows)
    for micro_tokens in (1, 70, 150):  # each row alone; groups in parts; one group at a time
        found, metrics = gradient_of(make_learner(micro_tokens=micro_tokens), rows)
        assert apart(found, whole) < 1e-5
        for name in ("loss", "nll", "entropy", "grad_norm", "tokens"):
            assert metrics[name] == pytest.approx(told[name], rel=1e-5), name


def test_the_order_of_rows_does_not_matter(make_learner: MakeLearner, rows: list[Row]) -> None:
    learner = make_learner()
    mixed = [rows[i] for i in (5, 0, 7, 2, 1, 6, 3, 4)]
    expected = dict(zip(map(id, rows), learner.logprobs(rows), strict=True))
    assert largest_gap(learner.logprobs(mixed), [expected[id(row)] for row in mixed]) < 1e-5


def test_gradient_checkpointing_does_not_change_the_gradient(make_learner: MakeLearner, rows: list[Row]) -> None:
    expected, _ = gradient_of(make_learner(), rows)
    found, _ = gradient_of(make_learner(policy={"gradient_checkpointing": True}), rows)
    assert apart(found, expected) < 1e-6


def test_autocast_is_close_to_float32(make_learner: MakeLearner, rows: list[Row]) -> None:
    learner = make_learner(policy={"autocast": True})
    gap = largest_gap(learner.logprobs(rows), make_learner().logprobs(rows))
    assert 1e-4 < gap < 0.5  # bfloat16 keeps 8 bits: other numbers, the same policy


def test_trap_4_banned_ids_and_temperature_are_the_rows_own(make_learner: MakeLearner, rows: list[Row]) -> None:
    learner = make_learner()
    row = rows[0]
    hot = replace(row, temperature=1.4)
    open_ = replace(row, banned_ids=())
    assert largest_gap(learner.logprobs([hot]), learner.logprobs([row])) > 1e-2
    assert largest_gap(learner.logprobs([open_]), learner.logprobs([row])) > 1e-4
    with pytest.raises(AssertionError):
        learner.logprobs([row, hot])  # one step is sampled at one temperature


# --- log-probabilities in chunks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("banned_ids", [(), (0, 7)])
def test_chunked_logprobs_are_the_full_log_softmax(temperature: float, banned_ids: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    N, D, V = 23, 8, 40
    head = nn.Linear(D, V, bias=False)
    target = torch.randint(8, V, (N,))
    weight = torch.randn(N)
    results = []
    for chunk in (N, 5):
        hidden = torch.linspace(-2, 2, N * D).view(N, D).requires_grad_()
        logprob, entropy = token_logprobs(
            hidden, head.weight, target, temperature=temperature, banned_ids=banned_ids, chunk=chunk
        )
        head.weight.grad = None
        (logprob * weight).sum().backward()
        results.append((logprob.detach(), entropy, hidden.grad, head.weight.grad))
    hidden = torch.linspace(-2, 2, N * D).view(N, D).requires_grad_()
    logits = head(hidden) / temperature
    logits[:, list(banned_ids)] = -torch.inf
    full = logits.log_softmax(-1)
    head.weight.grad = None
    (full[torch.arange(N), target] * weight).sum().backward()
    probability = full.detach().exp()
    entropy = -(probability * full.detach()).nan_to_num().sum(-1)  # 0 * -inf of a banned token is 0
    for found in results:
        for got, expected in zip(
            found, (full.detach()[torch.arange(N), target], entropy, hidden.grad, head.weight.grad), strict=True
        ):
            assert torch.allclose(got, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("part", ["head", "hidden"])
def test_what_is_frozen_gets_no_gradient_and_the_rest_the_same(part: str) -> None:
    torch.manual_seed(0)
    hidden, weight, target = torch.randn(6, 4), torch.randn(9, 4), torch.randint(9, (6,))
    both = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
    token_logprobs(*both, target, chunk=2)[0].sum().backward()
    one = [hidden.clone().requires_grad_(part != "hidden"), weight.clone().requires_grad_(part != "head")]
    token_logprobs(*one, target, chunk=2)[0].sum().backward()
    for alone, together in zip(one, both, strict=True):
        assert (alone.grad is None) == (not alone.requires_grad)
        assert alone.grad is None or torch.equal(alone.grad, together.grad)


def test_entropy_by_hand() -> None:
    # A uniform choice among 4 of 5 tokens: ln 4
    head = nn.Linear(2, 5, bias=False)
    nn.init.zeros_(head.weight)
    logprob, entropy = token_logprobs(torch.ones(1, 2), head.weight, torch.tensor([1]), banned_ids=(3,))
    assert float(logprob.detach()) == pytest.approx(-math.log(4))
    assert float(entropy) == pytest.approx(math.log(4))


def test_trap_13_logits_exist_for_one_chunk_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    whole = model._log_softmax
    monkeypatch.setattr(model, "_log_softmax", lambda h, w, *how: made.append(len(h) * len(w)) or whole(h, w, *how))
    monkeypatch.setattr(model, "CHUNK_LOGITS", 100)
    hidden, weight = torch.randn(23, 4, requires_grad=True), torch.randn(40, 4, requires_grad=True)
    token_logprobs(hidden, weight, torch.arange(23))[0].sum().backward()
    assert len(made) == 2 * 12 and max(made) <= 100  # twice: for the loss, and for the head's gradient


def test_trap_12_a_row_names_its_page_and_holds_no_pixels(rows: list[Row], prompter: Prompter) -> None:
    """What a run keeps and sends must not grow with its images; `benchmarks.robustness.flat` watches a whole run."""
    assert len(pickle.dumps(rows[0])) < 0.2 * len(prompter.image(rows[0].prompt).tobytes())


def test_trap_20_a_page_is_prepared_and_seen_once_for_all_its_samples(
    rows: list[Row], make_learner: MakeLearner, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, seen, prepared = make_learner(), [], []
    pixels = Prompter.pixels
    monkeypatch.setattr(Prompter, "pixels", lambda self, images: prepared.extend(images) or pixels(self, images))
    tower = base(learner.module).model.visual
    tower.register_forward_pre_hook(lambda *given: seen.append(len(given[2]["grid_thw"])), with_kwargs=True)
    learner.update(rows, nll)
    assert len(rows) == 8 and sum(seen) == len(prepared) == 2  # pages


# --- updates ----------------------------------------------------------------------------------------------------------


def test_an_update_counts_and_lowers_the_loss(make_learner: MakeLearner, rows: list[Row]) -> None:
    learner = make_learner(lr=3e-4)
    losses = [learner.update(rows, nll)["loss"] for _ in range(4)]
    assert learner.policy == 4
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.9 * losses[0]


def test_metrics_are_means_per_token(make_learner: MakeLearner, rows: list[Row]) -> None:
    learner = make_learner()
    values = [value for row in learner.logprobs(rows) for value in row]
    metrics = learner.update(rows, nll)
    assert metrics["tokens"] == len(values)
    assert metrics["nll"] == pytest.approx(-sum(values) / len(values), rel=1e-5)
    assert 0 < metrics["entropy"] < math.log(learner.module.config.text_config.vocab_size)


def test_a_gradient_that_is_not_finite_stops_the_run_before_the_weights_change(
    make_learner: MakeLearner, rows: list[Row]
) -> None:
    learner = make_learner()
    before = weights(learner)

    def broken(logprob_N: Tensor, batch) -> tuple[Tensor, dict[str, float]]:
        return (logprob_N * batch.weight_N * float("nan")).sum(), {}

    with pytest.raises(FloatingPointError, match="not finite at update 0"):
        learner.update(rows, broken)
    assert same(weights(learner), before)
    assert learner.policy == 0


def test_the_gradient_is_clipped_at_its_norm(make_learner: MakeLearner, rows: list[Row]) -> None:
    clipped, metrics = gradient_of(make_learner(max_grad_norm=0.25), rows)
    whole, _ = gradient_of(make_learner(max_grad_norm=1e9), rows)
    norm = lambda gradient: math.sqrt(sum(float(g.double().square().sum()) for g in gradient.values()))
    assert metrics["grad_norm"] == pytest.approx(norm(whole), rel=1e-4)
    assert norm(clipped) == pytest.approx(0.25, rel=1e-4)


def test_a_frozen_vision_tower_stays(make_learner: MakeLearner, rows: list[Row]) -> None:
    learner = make_learner(policy={"freeze_vision": True})
    before = weights(learner)
    learner.update(rows, nll)
    moved = {name for name, weight in weights(learner).items() if not torch.equal(weight, before[name])}
    assert moved == {name for name in before if ".visual." not in name}


def test_without_freezing_every_weight_moves(make_learner: MakeLearner, rows: list[Row]) -> None:
    learner = make_learner(name="muon")
    before = weights(learner)
    learner.update(rows, nll)
    assert [name for name, weight in weights(learner).items() if torch.equal(weight, before[name])] == []


def test_muon_has_the_matrices_and_adamw_the_rest(make_learner: MakeLearner) -> None:
    learner = make_learner(name="muon", lr=0.01, adam_lr=0.002)
    muon, adam = learner.optimizers
    names = {id(p): name for name, p in learner.module.named_parameters()}
    of = lambda optimizer: {names[id(p)] for group in optimizer.param_groups for p in group["params"]}
    assert of(muon) | of(adam) == set(names.values())
    assert not of(muon) & of(adam)
    assert all(p.ndim == 2 for group in muon.param_groups for p in group["params"])
    assert {name for name in of(adam) if "embed" in name} == {
        "model.language_model.embed_tokens.weight",
        "model.visual.patch_embed.proj.weight",
    }
    assert (muon.param_groups[0]["peak"], adam.param_groups[0]["peak"]) == (0.01, 0.002)


def test_frozen_weights_are_in_no_optimiser() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    for name in ("adamw", "muon"):
        optimizers = _optimizers(module, config.Optim.model_validate({"name": name}))
        held = [p for one in optimizers for group in one.param_groups for p in group["params"]]
        assert {id(p) for p in held} == {id(p) for p in module[0].parameters()}


def test_the_rate_by_hand() -> None:
    optim = config.Optim(lr=1.0, warmup=4, cooldown=0.5, final=0.1)
    rate = lambda step: rate_factor(step, 20, optim)
    # Up by quarters; flat until half the run is left; then 0.1 + 0.9 * (20 - step) / 10.
    assert [rate(step) for step in (0, 1, 3, 4, 10)] == pytest.approx([0.25, 0.5, 1, 1, 1])
    assert [rate(step) for step in (11, 15, 19)] == pytest.approx([0.91, 0.55, 0.19])
    assert rate_factor(7, 20, config.Optim()) == 1.0


def test_a_schedule_by_hand() -> None:
    optim = config.Optim(lr=1.0, schedule=((2, 1.0), (6, 0.2), (8, 0.6)))
    # Flat at 1; down by 0.2 a step; up by 0.2 a step; flat at 0.6.
    assert [rate_factor(step, 20, optim) for step in (0, 2, 3, 6, 7, 8, 19)] == pytest.approx(
        [1, 1, 0.8, 0.2, 0.4, 0.6, 0.6]
    )


def test_the_rate_is_set_before_the_step(make_learner: MakeLearner, rows: list[Row]) -> None:
    learner = make_learner(name="muon", lr=0.01, adam_lr=0.002, warmup=2)
    assert learner.update(rows[:1], nll)["lr"] == pytest.approx(0.005)
    assert [o.param_groups[0]["lr"] for o in learner.optimizers] == pytest.approx([0.005, 0.001])
    assert learner.update(rows[:1], nll)["lr"] == pytest.approx(0.01)


# --- the reference ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [{}, {"lora_rank": 2}], ids=["full", "lora"])
def test_the_reference_stays_where_the_run_began(make_learner: MakeLearner, rows: list[Row], policy: dict) -> None:
    learner = make_learner(policy=policy, reference=True, lr=1e-2)
    start = learner.logprobs(rows)
    learner.update(rows, nll)
    annotated = learner.annotate(rows, old=True, reference=True)
    assert largest_gap([row.ref_logprobs for row in annotated], start) < 1e-5
    assert largest_gap([row.old_logprobs for row in annotated], start) > 1e-2
    assert all(row.old_logprobs is None for row in rows)  # new rows, nothing filled in
    left_out = learner.annotate(rows[:1], old=False, reference=False)[0]
    assert (left_out.old_logprobs, left_out.ref_logprobs) == (None, None)


# --- saving and going on ----------------------------------------------------------------------------------------------


def names_in(folder: Path) -> dict[str, tuple[int, ...]]:
    with safe_open(folder / "model.safetensors", "pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize("policy", [{}, {"lora_rank": 2}], ids=["full", "lora"])
def test_a_saved_policy_is_an_ordinary_folder_with_the_same_log_probabilities(
    make_learner: MakeLearner, policy_dir: Path, rows: list[Row], tmp_path: Path, policy: dict
) -> None:
    learner = make_learner(policy=policy, lr=1e-2)
    learner.update(rows, nll)
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
        whole.update(part, nll)
    for part in parts[:3]:
        first.update(part, nll)
    first.save_state(tmp_path / "optim.pt")
    second.load_state(tmp_path / "optim.pt")
    assert second.policy == 3
    for part in parts[3:]:
        second.update(part, nll)
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
    learner.update(rows, nll)
    plain = load_model(str(policy_dir))
    assert {name for name, _ in learner.weights()} == set(plain.state_dict())
    merged = make_learner()
    base(merged.module).load_state_dict(dict(learner.weights()))
    assert largest_gap(merged.logprobs(rows), learner.logprobs(rows)) < 1e-5
    assert largest_gap(merged.logprobs(rows), make_learner().logprobs(rows)) > 1e-2


def test_merging_leaves_the_policy_as_it_is(make_learner: MakeLearner, rows: list[Row]) -> None:
    """In bfloat16 W + d - d is not W: a merge in place would wear the weights away, load by load."""
    learner = make_learner(policy={"lora_rank": 2, "dtype": "bfloat16"}, lr=1e-2)
    learner.update(rows, nll)
    before = {name: weight.clone() for name, weight in learner.module.state_dict().items()}
    for _ in range(2):
        merged = dict(learner.weights())
    assert same(learner.module.state_dict(), before)
    assert {weight.dtype for weight in merged.values()} == {torch.bfloat16}
    iterator = learner.weights()  # one that is not read to its end
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
    before = {name: weight.clone() for name, weight in learner.weights()}
    learner.update(rows, nll)
    moved = {name for name, weight in learner.weights() if not torch.equal(weight, before[name])}
    assert any(".language_model." in name for name in moved)
    assert any(".visual." in name for name in moved) != freeze_vision
    assert not any("norm" in name or "embed" in name or "bias" in name for name in moved)


def test_weights_have_the_names_of_a_checkpoint(make_learner: MakeLearner) -> None:
    learner = make_learner()
    assert [name for name, _ in named_weights(learner.module)] == list(learner.module.state_dict())


# --- does it look at the page -----------------------------------------------------------------------------------------


def test_the_probe_shows_the_page_a_blank_and_another(make_learner: MakeLearner, rows: list[Row]) -> None:
    learner = make_learner()
    one_each = [rows[0], rows[5]]
    shown = looks(learner, one_each)
    values = [value for row in learner.logprobs(one_each) for value in row]
    assert shown["nll_page"] == pytest.approx(-sum(values) / len(values))
    assert len({round(value, 3) for value in shown.values()}) == 3
    assert set(shown) == {"nll_page", "nll_blank", "nll_other"}


# --- what is no policy ------------------------------------------------------------------------------------------------


def test_what_cannot_be_loaded_is_named(tmp_path: Path, policy_dir: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: cannot be loaded"):
        load_model(str(tmp_path / "nowhere"))
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    with pytest.raises(UserError, match="other: "):
        load_model(str(other))
    cut = tmp_path / "cut"
    cut.mkdir()
    for path in policy_dir.iterdir():
        (cut / path.name).write_bytes(path.read_bytes()[: 5000 if path.suffix == ".safetensors" else None])
    with pytest.raises(UserError, match="cut: cannot be loaded"):
        load_model(str(cut))


def test_weights_that_lack_something_are_not_filled_with_random_numbers(tmp_path: Path, policy_dir: Path) -> None:
    shutil.copytree(policy_dir, tmp_path / "less")
    stored = load_file(policy_dir / "model.safetensors")
    name = "model.language_model.norm.weight"
    short = {
        key: weight for key, weight in stored.items() if "language_model.norm" not in key and "model.norm" not in key
    }
    assert len(short) == len(stored) - 1
    save_file(short, tmp_path / "less" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"its weights lack {name} \\(1 in all\\)"):
        load_model(str(tmp_path / "less"))
    (other,) = set(stored) - set(short)
    save_file(short | {other: torch.ones(3)}, tmp_path / "less" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="less: cannot be loaded"):
        load_model(str(tmp_path / "less"))


# --- the patch embedding ----------------------------------------------------------------------------------------------


def patches(model: Any, n: int) -> Tensor:
    shape = model.model.visual.patch_embed.proj.weight[0].numel()
    return torch.randn(n, shape, generator=torch.Generator().manual_seed(0))


def test_the_patch_embedding_is_the_convolution_of_transformers(policy_dir: Path) -> None:
    model: Any = load_model(str(policy_dir))
    ours = model.model.visual.patch_embed
    theirs = copy.deepcopy(ours)
    theirs.__class__ = Qwen2_5_VisionPatchEmbed
    assert type(ours) is not type(theirs)
    found, gradients = {}, {}
    for name, embed in (("ours", ours), ("theirs", theirs)):
        out = embed(patches(model, 12))
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        found[name], gradients[name] = {"out": out.detach()}, {"weight": embed.proj.weight.grad}
    assert found["ours"]["out"].shape == found["theirs"]["out"].shape
    assert apart(found["ours"], found["theirs"]) < 1e-5
    assert apart(gradients["ours"], gradients["theirs"]) < 1e-5


def test_a_copy_of_the_patch_embedding_has_weights_of_its_own(policy_dir: Path) -> None:
    model: Any = load_model(str(policy_dir))
    twin = copy.deepcopy(model)
    embed, other = model.model.visual.patch_embed, twin.model.visual.patch_embed
    assert type(other) is type(embed)
    seen = patches(model, 3)
    before = embed(seen)
    with torch.no_grad():
        other.proj.weight.mul_(2)
    assert torch.equal(embed(seen), before)
    assert torch.allclose(other(seen), 2 * before)
    other(seen).sum().backward()
    assert other.proj.weight.grad is not None and embed.proj.weight.grad is None
