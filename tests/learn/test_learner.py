"""The learner against plain transformers, and what must not change the answer: how rows are cut, mixed and packed."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from PIL import Image
from torch import Tensor, nn

from ocr_rl.learn.learner import Learner
from ocr_rl.learn.network import base
from ocr_rl.models.load import load_model
from ocr_rl.objectives.losses import Loss
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Prompter
from tests.learn.conftest import NLL, MakeLearner, apart, largest_gap


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


def gradient_of(learner: Learner, rows: Sequence[Row], loss: Loss = NLL) -> tuple[dict[str, Tensor], dict[str, float]]:
    recorder = Recorder(learner.module)
    learner.optimizers = [recorder]  # type: ignore[list-item]
    metrics = learner.update(rows, loss)
    return recorder.gradient, metrics


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


def test_packed_groups_are_what_transformers_computes_row_by_row(
    make_learner: MakeLearner, policy_dir: Path, prompter: Prompter, rows: list[Row]
) -> None:
    learner = make_learner()
    model = load_model(str(policy_dir)).train()
    expected = [plain_logprobs(model, prompter, row) for row in rows]
    assert largest_gap(learner.logprobs(rows), [piece.tolist() for piece in expected]) < 1e-5

    sum(-row.weight * piece.sum() for row, piece in zip(rows, expected, strict=True)).backward()
    gradient, metrics = gradient_of(learner, rows)
    assert apart(gradient, {name: p.grad for name, p in model.named_parameters()}) < 1e-5
    assert metrics["loss"] == pytest.approx(
        -sum(row.weight * float(piece.detach().sum()) for row, piece in zip(rows, expected, strict=True)), rel=1e-5
    )


def test_the_comparison_can_fail(make_learner: MakeLearner, rows: list[Row]) -> None:
    """What the tests above and below hold equal does differ by page, by place and by image."""
    learner = make_learner()
    values = learner.logprobs(rows)
    assert largest_gap(values[:4], values[4:]) > 1e-2  # the same completions on another page
    shifted = learner.positions
    learner.positions = lambda ids, grid: shifted(ids, grid) // 2
    assert largest_gap(learner.logprobs(rows), values) > 1e-2
    learner.positions = shifted
    blank = lambda prompt: Image.new("RGB", learner.prompter.image(prompt).size, "white")
    assert largest_gap(learner.logprobs(rows, image=blank), values) > 1e-2


def test_trap_15_how_rows_are_cut_does_not_change_the_gradient(make_learner: MakeLearner, rows: list[Row]) -> None:
    whole, expected = gradient_of(make_learner(micro_tokens=100_000), rows)
    for micro_tokens in (1, 70, 150):  # each row alone; groups in parts; one group at a time
        gradient, metrics = gradient_of(make_learner(micro_tokens=micro_tokens), rows)
        assert apart(gradient, whole) < 1e-5
        for name in ("loss", "nll", "entropy", "grad_norm", "tokens"):
            assert metrics[name] == pytest.approx(expected[name], rel=1e-5), name


def test_the_order_of_rows_does_not_matter(make_learner: MakeLearner, rows: list[Row]) -> None:
    learner = make_learner()
    mixed = [rows[i] for i in (5, 0, 7, 2, 1, 6, 3, 4)]
    expected = dict(zip(map(id, rows), learner.logprobs(rows), strict=True))
    assert largest_gap(learner.logprobs(mixed), [expected[id(row)] for row in mixed]) < 1e-5


def test_gradient_checkpointing_does_not_change_the_gradient(make_learner: MakeLearner, rows: list[Row]) -> None:
    expected, _ = gradient_of(make_learner(), rows)
    gradient, _ = gradient_of(make_learner(policy={"gradient_checkpointing": True}), rows)
    assert apart(gradient, expected) < 1e-6


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
    tower.register_forward_pre_hook(lambda *call: seen.append(len(call[2]["grid_thw"])), with_kwargs=True)
    learner.update(rows, NLL)
    assert len(rows) == 8 and sum(seen) == len(prepared) == 2  # pages
