"""Micro-batches that wait in pinned memory, made while a GPU works on the one before; here the GPU is played."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from torch import Tensor

from ocr_rl.learn.learner import Learner
from ocr_rl.learn.rows import Batch
from ocr_rl.rollout.aside import one_ahead
from ocr_rl.rollout.flow import Row
from tests.learn.conftest import NLL, MakeLearner

GPU = 3  # the one of this rank


class Pinned:
    """Plays `Tensor.pin_memory`, a device, and remembers in which thread pixels were cut."""

    def __init__(self, learner: Learner, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pinned: list[Tensor] = []
        self.threads: list[str] = []
        self.on: list[Any] = []
        device: Any = SimpleNamespace(type="cuda")
        monkeypatch.setattr(learner, "device", device)
        monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: self.pin(tensor))
        monkeypatch.setattr(torch.cuda, "current_device", lambda: GPU)
        monkeypatch.setattr(torch.cuda, "set_device", self.on.append)
        monkeypatch.setattr(Batch, "to", lambda batch, device: self.to(batch))
        move = Tensor.to
        monkeypatch.setattr(Tensor, "to", lambda x, *to, **how: x if to[:1] == (device,) else move(x, *to, **how))
        cut = learner._pixels

        def noted(*args: Any) -> tuple[Tensor, Tensor]:
            self.threads.append(threading.current_thread().name)
            return cut(*args)

        monkeypatch.setattr(learner, "_pixels", noted)

    def pin(self, tensor: Tensor) -> Tensor:
        self.pinned.append(tensor.clone())
        return self.pinned[-1]

    def to(self, batch: Batch) -> Batch:
        held = {id(x) for x in self.pinned}
        seen = []
        batch._each(lambda x: seen.append(id(x)) or x)  # type: ignore[func-returns-value]
        assert len(seen) > 15 and set(seen) <= held, "all that goes to the device is pinned"
        return batch


def test_a_played_gpu_gives_the_same_bits_from_batches_that_were_made_aside(
    make_learner: MakeLearner, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = make_learner(micro_tokens=64)
    theirs, expected = plain.logprobs(rows), plain.update(rows, NLL)
    learner = make_learner(micro_tokens=64)
    with monkeypatch.context() as patched:
        played = Pinned(learner, patched)
        assert learner.logprobs(rows) == theirs
        ours = learner.update(rows, NLL)
    assert {name: ours[name] for name in ("loss", "grad_norm")} == {n: expected[n] for n in ("loss", "grad_norm")}
    assert set(played.on) == {GPU}, "a device without a number, as a learner's is, torch refuses"
    assert len(played.threads) > 2 and threading.main_thread().name not in played.threads


def test_on_a_cpu_nothing_is_pinned_and_nobody_is_asked_aside(
    make_learner: MakeLearner, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make_learner()
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: pytest.fail("pinned"))
    threads = []
    cut = learner._pixels
    monkeypatch.setattr(learner, "_pixels", lambda *a: threads.append(threading.current_thread()) or cut(*a))
    learner.logprobs(rows)
    assert set(threads) == {threading.main_thread()}


def test_features_of_a_frozen_tower_are_asked_for_in_their_turn_and_pinned(
    make_learner: MakeLearner, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = make_learner(policy={"freeze_vision": True})
    theirs = plain.logprobs(rows)
    learner = make_learner(policy={"freeze_vision": True})
    with monkeypatch.context() as patched:
        played = Pinned(learner, patched)
        assert learner.logprobs(rows) == theirs
    assert set(played.threads) == {threading.main_thread().name}


def test_one_is_made_ahead_and_no_more() -> None:
    made: list[int] = []
    second = threading.Event()

    def items() -> Any:
        for i in range(4):
            made.append(i)
            if i == 1:
                second.set()
            yield i

    ahead = one_ahead(items())
    assert next(ahead) == 0
    assert second.wait(60) and made == [0, 1]
    assert list(ahead) == [1, 2, 3] and list(one_ahead(iter(()))) == []


def test_an_error_comes_in_its_turn() -> None:
    def items() -> Any:
        yield 1
        raise ValueError("the second page")

    ahead = one_ahead(items())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="the second page"):
        next(ahead)
