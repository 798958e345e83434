"""A policy that really depends on what it reads, rows to learn from, and learners with any settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from ocr_rl.learn.model import save_model

from ocr_rl import config
from ocr_rl.contract import Page
from ocr_rl.learn.learner import Learner
from ocr_rl.models.load import load_model
from ocr_rl.models.settings import PromptSettings
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Prompter

MakeLearner = Callable[..., Learner]
COMPLETIONS = ("Page 1", "a longer line of text", "?", "<td>3</td>")


@pytest.fixture(autouse=True)
def one_thread():
    """With several threads the order of a sum, and so its last bit, may change from one call to the next."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def policy_dir(nano_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random policy with weights three times as large: the fresh one says nearly the same whatever it sees."""
    folder = tmp_path_factory.mktemp("models") / "loud"
    model = load_model(str(nano_dir))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(3)
    save_model(model, folder, source=str(nano_dir))
    return folder


@pytest.fixture
def make_learner(policy_dir: Path, prompter: Prompter) -> MakeLearner:
    """`make_learner(lr=1e-3, policy={"lora_rank": 2}, path=other, reference=True, micro_tokens=64, ...)`."""

    def make(*, policy: dict | None = None, path: Path = policy_dir, reference: bool = False, **optim) -> Learner:
        return Learner(
            str(path),
            prompter,
            PromptSettings(),
            config.Policy.model_validate({"path": str(path), **(policy or {})}),
            config.Optim.model_validate({"lr": 1e-3, "max_grad_norm": 1e9, **optim}),
            steps=100,
            reference=reference,
        )

    return make


@pytest.fixture
def rows(tiny_pages: list[Page], prompter: Prompter) -> list[Row]:
    """Two pages of different shapes with four completions each; weights sum to 1 over the tokens."""
    made = []
    for group_id, page in enumerate((tiny_pages[0], tiny_pages[3])):
        for k, text in enumerate(COMPLETIONS):
            ids = (*prompter.encode(text), prompter.eos_id)
            made.append(
                Row(
                    prompt=prompter.prompt(page),
                    completion_ids=ids,
                    group_id=group_id,
                    weight=1 / (2 * len(COMPLETIONS) * len(ids)),
                    advantage=(1.0, -0.5, 0.25, -0.75)[k] * (1 + group_id),
                    temperature=0.7,
                    banned_ids=prompter.banned_ids,
                )
            )
    return made
