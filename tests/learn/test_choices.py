"""Choices of a recipe are the keys of the tables of functions: what is added to a table can be named in a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from pydantic import ValidationError, create_model

from ocr_rl import config
from ocr_rl.config.base import KeyOf
from ocr_rl.contract import Page
from ocr_rl.learn.algos import STEPS
from ocr_rl.learn.algos.setting import Setting
from ocr_rl.learn.fit import Plan
from ocr_rl.learn.step import Step
from ocr_rl.objectives.advantages import ADVANTAGES
from ocr_rl.objectives.aggregation import AGGREGATIONS
from ocr_rl.objectives.losses import IMPORTANCE, KL, RATIOS, SURROGATES
from ocr_rl.pages.bound import BoundSources
from ocr_rl.rollout.flow import Row
from ocr_rl.train.session import Session
from tests.learn.conftest import NLL, MakeLearner

TABLES: Mapping[str, Mapping[str, Any]] = {
    "surrogate": SURROGATES,
    "ratio": RATIOS,
    "kl": KL,
    "aggregation": AGGREGATIONS,
    "advantage": ADVANTAGES,
    "importance_level": IMPORTANCE,
}


def recipe(**choices: str) -> config.Recipe:
    grpo = {"pages": {"synth": "nano"}, "steps": 1, **choices}
    return config.Recipe.model_validate({"policy": {"path": "nano"}, "grpo": grpo, "rewards": [{"name": "eos"}]})


@pytest.mark.parametrize("field", TABLES)
def test_every_key_of_a_table_can_be_named_and_no_other(field: str) -> None:
    assert config.Grpo.model_json_schema()["properties"][field]["enum"] == list(TABLES[field])
    for key in TABLES[field]:
        assert getattr(recipe(**{field: key}).algorithm, field) == key
    with pytest.raises(ValidationError, match=field):
        recipe(**{field: "mine"})


@pytest.mark.parametrize("field", TABLES)
def test_what_is_added_to_a_table_can_be_named(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = TABLES[field]
    monkeypatch.setitem(table, "mine", next(iter(table.values())))  # type: ignore[arg-type]
    section: Any = create_model("Own", __base__=config.Section, choice=(Annotated[str, KeyOf(table)], ...))
    assert section(choice="mine").choice == "mine"
    assert section.model_json_schema()["properties"]["choice"]["enum"] == [*table]


def test_every_algorithm_has_its_steps() -> None:
    assert set(STEPS) == set(config.ALGORITHMS.values())


class Twice(config.Algorithm):
    """An algorithm of one's own: the same rows, twice."""

    name = "twice"
    samples = False

    @property
    def total_steps(self) -> int:
        return 2


def test_an_algorithm_of_ones_own_is_a_section_and_a_function(
    make_learner: MakeLearner, rows: list[Row], tiny_pages: list[Page], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(cfg: Twice, setting: Setting, state: Mapping[str, Any]) -> Iterator[Step]:
        while setting.learner.policy < cfg.total_steps:
            yield Step(rows=rows, loss=NLL)

    monkeypatch.setitem(STEPS, Twice, twice)  # type: ignore[arg-type]
    learner = make_learner()
    session = Session(
        sources=BoundSources(tmp_path, tmp_path / "pages", begun=False),
        algorithm=Twice(),
        setting=Setting(seed=0, learner=learner, open_pages=lambda source: tiny_pages, folder=Path("no folder")),
        held_out={},
        plan=Plan(total=2, save_every=1, keep=1),
        state={},
        evaluates_start=False,
    )
    for step in session.steps({}):
        learner.update(step.rows, step.loss)
    assert learner.policy == 2
