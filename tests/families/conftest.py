"""A policy of each family with random weights that really depends on what it reads, and rows of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch

from benchmarks.families.policies import LONGEST_PX, loud_policy, plain_logprobs, rows_of
from ocr_rl import config
from ocr_rl.contract import Page
from ocr_rl.learn.learner import Learner
from ocr_rl.models.families import FAMILIES
from ocr_rl.models.family import Family
from ocr_rl.models.fresh import BY_NAME
from ocr_rl.models.settings import PromptSettings
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Origin, Prompter, load_prompter

__all__ = ["MakeLearner", "only", "plain_logprobs", "rows_of"]
MakeLearner = Callable[..., Learner]


def only(model_type: str) -> pytest.MarkDecorator:
    """For tests of one family. A module's own fixture of that name would be given another family's policies."""
    return pytest.mark.parametrize("family", [BY_NAME[model_type]], indirect=True, ids=[model_type])


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", params=FAMILIES, ids=lambda family: family.model_type)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param


@pytest.fixture(scope="session")
def folder(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return loud_policy(tmp_path_factory.mktemp(family.model_type), family)


@pytest.fixture(scope="session")
def prompter(folder: Path) -> Prompter:
    return load_prompter(folder, LONGEST_PX, instruction="Read.")


@pytest.fixture
def make_learner(folder: Path, prompter: Prompter) -> MakeLearner:
    def make(*, path: Path = folder, reference: bool = False, policy: dict | None = None, **optim) -> Learner:
        return Learner(
            Origin(path=str(path), settings=PromptSettings(), prompter=prompter),
            config.Policy.model_validate({"path": str(path), **(policy or {})}),
            config.Optim.model_validate({"lr": 1e-3, "max_grad_norm": 1e9, **optim}),
            steps=100,
            reference=reference,
        )

    return make


@pytest.fixture(scope="session")
def rows(tiny_pages: list[Page], prompter: Prompter) -> list[Row]:
    """Two pages of different shapes with four completions each; weights sum to 1 over the tokens."""
    return rows_of([tiny_pages[0], tiny_pages[3]], prompter)
