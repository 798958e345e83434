"""How often weights travel: once for each state of the policy, however often it is to be sampled from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("httpx", reason="httpx is not installed")

import torch

from ocr_rl.contract import Page
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.probe import require_eyes
from ocr_rl.models.weights import state_of
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.hf import HfSampler
from ocr_rl.rollout.sampler.vllm_server import ServerSettings, VllmServerSampler
from tests.fake_vllm import FakeVllm
from tests.learn.conftest import NLL, MakeLearner


@pytest.fixture
def counted(make_learner: MakeLearner, monkeypatch: pytest.MonkeyPatch) -> tuple[Learner, list[int]]:
    """A learner, and the versions of its weights as they were read."""
    learner, read = make_learner(), list[int]()
    gather = learner.all_weights
    monkeypatch.setattr(learner, "all_weights", lambda: read.append(learner.policy) or gather())
    return learner, read


@pytest.fixture
def server(prompter: Prompter) -> Iterator[FakeVllm]:
    fake = FakeVllm(prompter)
    yield fake
    fake.stop()


def test_before_the_first_step_a_server_reads_what_the_probe_needs_and_nothing_twice(
    counted: tuple[Learner, list[int]],
    server: FakeVllm,
    policy_dir: Path,
    prompter: Prompter,
    tiny_pages: list[Page],
    rows: list[Row],
    tmp_path: Path,
) -> None:
    """The probe's own three (its other tower among them); the evaluation's and the first step's are the third."""
    learner, read = counted
    settings = ServerSettings(url=server.url, max_model_len=256, weights_dir=tmp_path)
    sampler = VllmServerSampler(policy_dir, prompter, settings)
    server.calls.clear()
    reads = lambda: server.calls.count("/collective_rpc")
    require_eyes(learner, sampler, tiny_pages)
    assert reads() == len(read) == 3
    for _ in ("evaluation", "first step"):
        sampler.load(learner.weights(), learner.policy)
    assert reads() == len(read) == 3
    assert server.calls.count("/reset_encoder_cache") == server.calls.count("/reset_prefix_cache") == 5
    learner.update(rows, NLL)
    for _ in ("second step", "evaluation"):
        sampler.load(learner.weights(), learner.policy)
    assert reads() == len(read) == 4 and read[-1] == 1
    assert len(list(tmp_path.glob("*/*/model.safetensors"))) == 1
    sampler.close()


Move = Callable[[Learner, list[Row], Path], None]


def stepped(learner: Learner, rows: list[Row], folder: Path) -> None:
    learner.update(rows, NLL)


def rolled_back(learner: Learner, rows: list[Row], folder: Path) -> None:
    learner.load_state(folder / "state.pt")


def written_to(learner: Learner, rows: list[Row], folder: Path) -> None:
    with torch.no_grad():
        next(learner.module.parameters()).add_(1.0)


@pytest.mark.parametrize("policy", [{}, {"dtype": "bfloat16"}, {"freeze_vision": True}], ids=str)
@pytest.mark.parametrize("move", [stepped, rolled_back, written_to])
def test_whatever_moves_the_policy_makes_another_state(
    make_learner: MakeLearner, rows: list[Row], tmp_path: Path, policy: dict, move: Move
) -> None:
    learner = make_learner(policy=policy)
    learner.save_state(tmp_path / "state.pt")
    before = state_of(learner.weights())
    learner.logprobs(rows)
    learner.stand_still()
    assert before is not None and state_of(learner.weights()) == before
    move(learner, rows, tmp_path)
    assert state_of(learner.weights()) != before


def test_two_learners_have_no_state_in_common(make_learner: MakeLearner) -> None:
    one, other = make_learner(), make_learner()
    assert state_of(one.weights()) == state_of(one.weights()) != state_of(other.weights())


def test_transformers_keeps_what_it_has_and_takes_what_is_new(
    counted: tuple[Learner, list[int]], policy_dir: Path, prompter: Prompter, rows: list[Row]
) -> None:
    learner, read = counted
    sampler = HfSampler(policy_dir, prompter)
    held = lambda: [weight.clone() for weight in sampler._model.state_dict().values()]
    for _ in range(2):
        sampler.load(learner.weights(), learner.policy)
    first = held()
    learner.update(rows, NLL)
    sampler.load(learner.weights(), learner.policy)
    assert read == [0, 1] and not all(map(torch.equal, first, held()))
    sampler.load([(name, weight * 2) for name, weight in sampler._model.state_dict().items()], 7)
    sampler.load(learner.weights(), learner.policy)
    assert read == [0, 1, 1] and sampler.policy == learner.policy
    sampler.close()
