"""Canaries: does the policy look at the page, does the engine hear of its tower, do both compute the same?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from PIL import Image
from torch import Tensor

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.learn.algos.rollouts import to_rows
from ocr_rl.learn.checkpoints import resume
from ocr_rl.learn.fit import Plan, fit
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.probe import gains, looks, require_eyes
from ocr_rl.learn.step import Step
from ocr_rl.models.weights import Adapter
from ocr_rl.objectives.losses import PolicyGradient
from ocr_rl.rollout.collect import sample_pages
from ocr_rl.rollout.flow import ComparedGroup, Group, Row
from ocr_rl.rollout.sampler.base import Sampling
from ocr_rl.rollout.sampler.hf import HfSampler
from ocr_rl.run import Run
from tests.learn.conftest import MakeLearner, same, weights
from tests.learn.test_fit import Pages, run_fit


def test_the_probe_shows_the_page_a_blank_and_another(make_learner: MakeLearner, rows: list[Row]) -> None:
    learner = make_learner()
    one_each = [rows[0], rows[5]]
    shown = looks(learner, one_each)
    values = [value for row in learner.logprobs(one_each) for value in row]
    assert shown["nll_page"] == pytest.approx(-sum(values) / len(values))
    assert len({round(value, 3) for value in shown.values()}) == 4
    assert set(shown) == {"nll_page", "nll_blank", "nll_other", "place_gain"}


def test_trap_3_a_policy_that_does_not_see_the_page_is_stopped_before_it_learns(
    make_learner: MakeLearner, rows: list[Row], tmp_path: Path
) -> None:
    learner = make_learner()
    before = weights(learner)
    pages = Pages(rows, learner, 2)
    with pytest.raises(UserError, match=r"step 1: page_gain 0 has come down to 0: the policy does not look"):
        run_fit(pages, Run(tmp_path), probe=lambda rows: {"page_gain": 0.0})
    assert same(weights(learner), before)


def test_the_page_is_probed_first_and_at_every_save(make_learner: MakeLearner, rows: list[Row], tmp_path: Path) -> None:
    run = Run(tmp_path)
    run_fit(Pages(rows, make_learner(), 2), run, probe=lambda rows: {"page_gain": 1.0})
    learner = make_learner()
    _, state = resume(learner, run)
    run_fit(Pages(rows, learner, 5), run, state=state, probe=lambda rows: {"page_gain": 1.0})
    assert [row["step"] for row in run.metrics() if "page_gain" in row] == [1, 2, 4, 5]


def test_trap_3_the_page_gains_nothing_where_the_image_is_not_shown(
    make_learner: MakeLearner, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make_learner()
    assert gains(learner, rows)["page_gain"] != 0
    blank = lambda prompter, prompt: Image.new("RGB", (112, 112 if "p4" in prompt.page_id else 56), "white")
    monkeypatch.setattr(type(learner.prompter), "image", blank)
    assert gains(learner, rows)["page_gain"] == 0
    monkeypatch.undo()
    one_each = [rows[0], rows[4]]
    assert gains(learner, rows) == gains(learner, one_each)


@pytest.fixture
def sampler(policy_dir: Path, prompter) -> HfSampler:
    return HfSampler(policy_dir, prompter)


def test_trap_2_an_engine_that_hears_its_tower_passes(make_learner: MakeLearner, sampler, tiny_pages) -> None:
    learner = make_learner()
    require_eyes(learner, sampler, tiny_pages)
    assert all((a == b).all() for (_, a), (_, b) in zip(learner.weights(), _loaded(sampler), strict=True))


@pytest.mark.parametrize("trap", ["nothing is loaded", "the tower stays", "another answer each time"])
def test_trap_2_an_engine_that_keeps_what_the_old_tower_saw_is_refused(
    make_learner: MakeLearner, sampler: HfSampler, tiny_pages, monkeypatch: pytest.MonkeyPatch, trap: str
) -> None:
    load, count = sampler.load, iter(range(9))

    def broken(weights, policy: int) -> None:
        match trap:
            case "nothing is loaded":
                return
            case "the tower stays":
                old = {name: weight.clone() for name, weight in sampler._model.state_dict().items()}
                load([(name, old[name] if "visual" in name else weight) for name, weight in weights], policy)
            case _:
                scale = 1 + next(count)
                load([(name, weight * scale if "norm" in name else weight) for name, weight in weights], policy)

    monkeypatch.setattr(sampler, "load", broken)
    with pytest.raises(UserError, match="the engine says the same whatever the vision tower"):
        require_eyes(make_learner(), sampler, tiny_pages)


Load = Callable[[HfSampler, Learner], None]


def scrambled(sampler: HfSampler, learner: Learner) -> None:
    """What an engine has that lost its weights in its sleep and did not notice."""
    noise = torch.Generator().manual_seed(learner.policy)
    weights = learner.weights()
    assert not isinstance(weights, Adapter)
    sampler.load(
        ((name, torch.randn(w.shape, generator=noise) if "_proj" in name else w) for name, w in weights),
        learner.policy,
    )


def test_trap_7_an_engine_that_woke_up_with_garbage_stops_the_run(canary: Callable[[Load], Run]) -> None:
    with pytest.raises(UserError, match=r"step 1: gap .* sampler and learner do not compute the same policy"):
        canary(scrambled)


def test_trap_8_a_sampler_with_old_weights_stops_the_run(canary: Callable[[Load], Run]) -> None:
    with pytest.raises(UserError, match=r"step 2: gap .* sampler and learner do not compute the same policy"):
        canary(lambda sampler, learner: None)


def test_a_sampler_with_the_learners_weights_passes(canary: Callable[[Load], Run]) -> None:
    run = canary(lambda sampler, learner: sampler.load(learner.weights(), learner.policy))
    assert max(row["gap_max"] for row in run.metrics()) < 1e-3


def compared(group: Group) -> ComparedGroup:
    return ComparedGroup(group=group, scores={}, rewards=(0.0, 1.0), advantages=(-1.0, 1.0))


@pytest.fixture
def canary(make_learner: MakeLearner, sampler: HfSampler, tiny_pages, tmp_path: Path) -> Callable[[Load], Run]:
    """The canary after every load: log-probabilities of what was sampled, the sampler's against the learner's."""
    learner, run = make_learner(lr=1e-3), Run(tmp_path)
    cfg = config.Grpo(pages=config.Typeset(synth="nano"), steps=3)
    prompts = [(page, learner.prompter.prompt(page)) for page in tiny_pages[:2]]
    rewards = (config.RewardChoice(name="eos"),)
    watched = config.Recipe(policy=config.Policy(path="nano"), algorithm=cfg, rewards=rewards).watched

    def train(load: Load) -> Run:
        def steps(state: Mapping[str, Any]) -> Iterator[Step]:
            while learner.policy < 3:
                load(sampler, learner)
                groups = sample_pages(sampler, prompts, Sampling(n=2, max_tokens=8, seed=learner.policy))
                compared = [
                    ComparedGroup(group=group, scores={}, rewards=(0.0, 1.0), advantages=(-1.0, 1.0))
                    for group in groups
                ]
                rows = learner.annotate(to_rows(compared, cfg, 8), old=False, reference=False)
                yield Step(rows=rows, loss=PolicyGradient(), state={})

        fit(steps, learner, run, Plan(total=3, save_every=9, keep=1, tripwires=watched))
        return run

    return train


def _loaded(sampler: HfSampler) -> list[tuple[str, Tensor]]:
    return list(sampler._model.state_dict().items())
