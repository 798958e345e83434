"""A policy of each family with random weights that really depends on what it reads, and rows of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from torch import Tensor

from ocr_rl import config
from ocr_rl.contract import Page
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.network import save_model
from ocr_rl.models.families import FAMILIES
from ocr_rl.models.family import Family
from ocr_rl.models.fresh import SETTINGS, new_policy
from ocr_rl.models.load import load_model
from ocr_rl.models.settings import PromptSettings, write_settings
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Origin, Prompter, load_prompter

LONGEST_PX = 160
COMPLETIONS = ("Page 1", "a longer line of text, which ends late", "?", "<td>3</td>")
MakeLearner = Callable[..., Learner]


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
    """Weights three times as large as fresh ones, which say nearly the same whatever they see."""
    fresh = tmp_path_factory.mktemp("fresh") / family.model_type
    new_policy(fresh, 0, family.model_type)
    model = load_model(str(fresh))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(3)
    loud = tmp_path_factory.mktemp("loud") / family.model_type
    save_model(model, loud, source=str(fresh))
    write_settings(loud, SETTINGS)
    return loud


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


def rows_of(pages: Sequence[Page], prompter: Prompter) -> list[Row]:
    written = [(*prompter.encode(text), prompter.eos_id) for text in COMPLETIONS]
    return [
        Row(
            prompt=prompter.prompt(page),
            completion_ids=ids,
            group_id=group,
            weight=1 / (len(pages) * len(written) * len(ids)),
            temperature=0.7,
            banned_ids=prompter.banned_ids,
        )
        for group, page in enumerate(pages)
        for ids in written
    ]


def plain_logprobs(model: torch.nn.Module, prompter: Prompter, row: Row) -> Tensor:
    """One row as transformers itself computes it: no packing, no mask and no positions of ours."""
    ids = torch.tensor([[*row.prompt.expanded_ids, *row.completion_ids]])
    pixels, sizes = map(torch.from_numpy, prompter.pixels([prompter.image(row.prompt)]))
    logits_TV = model(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        **prompter.family.generate_inputs(pixels, sizes, ids == prompter.image_id, 1),
    ).logits[0, len(row.prompt.expanded_ids) - 1 : -1]
    logits_TV = logits_TV / row.temperature
    logits_TV[:, list(row.banned_ids)] = -torch.inf
    return logits_TV.log_softmax(-1).gather(1, torch.tensor(row.completion_ids)[:, None])[:, 0]
