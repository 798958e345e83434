"""Each family in an engine: vLLM and transformers sample from the policy that was sent, adapters and tower included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from benchmarks.families.engine import adapted, changed, gap, in_process, merged, written
from benchmarks.families.policies import loud_policy, two_pages
from ocr_rl import config
from ocr_rl.contract import Page
from ocr_rl.learn.memory import memory_plan, require_memory
from ocr_rl.learn.probe import require_eyes
from ocr_rl.models.family import Family
from ocr_rl.models.load import load_model
from ocr_rl.models.settings import PromptSettings
from ocr_rl.rollout.prompt import Origin, Prompter
from ocr_rl.rollout.sampler.hf import HfSampler

GRPO = {"pages": {"synth": "nano"}, "steps": 1}
SAME, OTHER = 1e-4, 1e-2  # nats: the same policy in vLLM, another one


@pytest.fixture(scope="module")
def pages(tiny_pages: list[Page]) -> list[Page]:
    return [tiny_pages[0], tiny_pages[3]]


@pytest.fixture(scope="session")
def all_shown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What engines show of the families that are asked about, by their names; vLLM is imported once for all."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    here = [item for item in request.session.items if item.path == Path(__file__)]
    asked = [item for item in here if "shown" in getattr(item, "fixturenames", ())]
    families = list(dict.fromkeys(item.callspec.params["family"] for item in asked))  # type: ignore[attr-defined]
    base = tmp_path_factory.mktemp("engines")
    folders = [loud_policy(base / family.model_type, family) for family in families]
    return dict(zip((f.model_type for f in families), in_process(folders, two_pages(base)[0].pdf), strict=True))


@pytest.fixture(scope="module")
def shown(family: Family, all_shown: dict[str, dict[str, Any]]) -> dict[str, Any]:
    found = all_shown[family.model_type]
    assert "error" not in found, found["error"]
    return found


@pytest.mark.slow  # vLLM starts
def test_vllm_samples_from_the_policy_that_was_sent(shown: dict[str, Any]) -> None:
    assert shown["start"] < SAME  # and prompt ids are equal, or it would have died
    for part in ("all", "tower"):
        assert shown[part]["new"] < SAME and shown[part]["old"] > OTHER, part
    assert shown["head_is_handed"] and shown["without_head"] > OTHER
    assert shown["doctor"]["holds"] and shown["doctor"]["tokens"] > 20


@pytest.mark.slow
def test_vllm_sees_the_page_and_one_that_does_not_hear_of_its_tower_is_refused(shown: dict[str, Any]) -> None:
    assert shown["eyes"] == ""
    assert "says the same whatever the vision tower" in shown["deaf"]


@pytest.mark.slow
@pytest.mark.parametrize("part", ["text", "vision"])
def test_vllm_takes_adapters_or_says_that_it_does_not(shown: dict[str, Any], part: str) -> None:
    adapters = shown[f"lora_{part}"]
    if not adapters["takes"]:
        assert adapters["refused"]
        return
    assert adapters["refused"] == adapters["eyes"] == ""
    assert adapters["new"] < SAME and adapters["old"] > OTHER


def test_transformers_samples_from_the_policy_that_was_sent(
    family: Family, folder: Path, prompter: Prompter, pages: list[Page]
) -> None:
    model = load_model(str(folder))
    sampler = HfSampler(folder, prompter)
    start = {name: weight.clone() for name, weight in model.state_dict().items()}
    assert gap(written(sampler, prompter, pages), model, prompter, start) < family.rounding
    model.load_state_dict(start)
    everything = changed(model.state_dict(), lambda name: True, seed=1)
    tower = changed(everything, family.of_vision, seed=2)
    for old, new in ((start, everything), (everything, tower)):
        sampler.load(iter(new.items()), 1)
        rows = written(sampler, prompter, pages)
        assert gap(rows, model, prompter, new) < family.rounding
        assert gap(rows, model, prompter, old) > OTHER


@pytest.mark.parametrize("tower", [False, True], ids=["text", "tower"])
def test_transformers_takes_adapters(
    family: Family, folder: Path, prompter: Prompter, pages: list[Page], tower: bool
) -> None:
    learner = adapted(Origin(path=str(folder), settings=PromptSettings(), prompter=prompter), tower=tower)
    sampler, model = HfSampler(folder, prompter), load_model(str(folder))
    require_eyes(learner, sampler, pages)
    rows = written(sampler, prompter, pages)
    assert gap(rows, model, prompter, merged(learner)) < family.rounding
    assert gap(rows, model, prompter, load_model(str(folder)).state_dict()) > OTHER  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", [{}, {"lora_rank": 4}, {"freeze_vision": True, "gradient_checkpointing": True}])
def test_the_memory_plan_is_made(folder: Path, policy: dict[str, Any]) -> None:
    recipe = {"policy": {"path": str(folder), **policy}, "grpo": GRPO, "rewards": [{"name": "eos"}]}
    plan = memory_plan(config.Recipe.model_validate(recipe), str(folder))
    require_memory(plan)
    model = load_model(str(folder))
    assert plan.weights >= sum(p.nbytes for p in model.parameters())
    assert plan.activations > 0 and plan.peak > plan.held > plan.weights
