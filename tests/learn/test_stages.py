"""What the host does between the passes of an update: it waits for nothing, and the profiler names each stage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from ocr_rl.learn import learner as learner_module
from ocr_rl.learn.heard import Listening
from ocr_rl.learn.learner import Learner
from ocr_rl.objectives.losses import Loss, NegativeLogLikelihood, PolicyGradient
from ocr_rl.rollout.flow import Row
from tests.learn.conftest import NLL, MakeLearner

aten = torch.ops.aten
WAITS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default}


class Waits(TorchDispatchMode):
    """Counts what would have the host wait for a device: a number that is read, a shape that depends on numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        masks = func is aten.index.Tensor and any(i is not None and i.dtype == torch.bool for i in args[1])
        if func in WAITS or masks:
            self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def waits(learner: Learner, rows: list[Row], loss: Loss, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of the passes of an update. Batches are made before, on the host, where nothing is waited for."""
    batches = list(learner._batches(rows))
    assert len(batches) == len(rows)
    seen, found, whole = Waits(), list[str](), learner_module._read

    def read(parts: Any) -> Any:  # after the last pass, where all that was computed is waited for
        found.extend(seen.names)
        return whole(parts)

    monkeypatch.setattr(learner, "_batches", lambda rows: iter(batches))
    monkeypatch.setattr(learner_module, "_read", read)
    with seen:
        learner.prepare(rows, loss)
    assert len(seen.names) > len(found)  # it was waited for there
    return found


@pytest.mark.parametrize(
    "loss",
    [
        NegativeLogLikelihood(),
        PolicyGradient(beta=0.1, importance_mask=(0.2, 5.0), epsilon_high=0.3),
        Listening(PolicyGradient(surrogate="cispo")),
    ],
    ids=["nll", "clip", "cispo"],
)
def test_the_host_waits_for_nothing_amid_the_passes(
    make_learner: MakeLearner, rows: list[Row], loss: Loss, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled = [
        replace(row, sampler_logprobs=n, ref_logprobs=n) for row in rows for n in [(-1.0,) * len(row.completion_ids)]
    ]
    learner = make_learner(policy={"lora_rank": 2, "freeze_vision": True}, micro_tokens=1)  # each row alone
    assert waits(learner, sampled[:4], loss, monkeypatch) == []


def test_waiting_is_noticed() -> None:
    read = Waits()
    with read:
        x = torch.tensor([1.0, 2.0])
        float(x.sum())
        x[x > 1]
        x.nonzero()
    assert len(read.names) >= 3


def test_the_profiler_names_the_stages(make_learner: MakeLearner, rows: list[Row]) -> None:
    learner = make_learner(policy={"freeze_vision": True})
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        learner.update(learner.annotate(rows[:1], old=True, reference=False), NLL)
    names = {event.key for event in profiler.key_averages() if event.key.startswith("ocr_rl ")}
    assert names == {f"ocr_rl {stage}" for stage in ("pixels", "tower", "read", "forward", "loss", "backward", "step")}
