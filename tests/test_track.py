"""Trackers that are asked for hear every row; those that are not installed are named before anything begins."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ocr_rl.contract import UserError
from ocr_rl.run import Run
from ocr_rl.track import open_trackers

ROW = {"step": 3, "loss": 0.5, "rolled_back": [{"step": 2}], "stage": 1}


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What three stand-ins are told."""
    said: list[Any] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            said.append(("open", Path(folder).name, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            said.append((name, value, step))

        def flush(self) -> None: ...

    for name in ("torch.utils.tensorboard", "wandb", "trackio"):
        module = ModuleType(name)
        module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
        module.init = lambda **how: said.append(how)  # type: ignore[attr-defined]
        module.log = lambda row, step: said.append((row, step))  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
    return said


def test_tensorboard_hears_the_numbers_and_forgets_what_a_resumed_run_does_again(heard: list, tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.trackers = open_trackers(["tensorboard"], tmp_path, {}, 2)
    run.log(ROW)
    assert heard == [("open", "tensorboard", 3), ("loss", 0.5, 3), ("stage", 1.0, 3)]
    assert run.metrics() == [ROW]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_run_goes_on_under_its_name(heard: list, tmp_path: Path, name: Any) -> None:
    (track,) = open_trackers([name], tmp_path / "mine", {"seed": 4}, 0)
    track(ROW)
    assert heard[0] == {"project": "ocr-rl", "name": "mine", "resume": "allow", "config": {"seed": 4}}
    assert heard[1] == ({"loss": 0.5, "stage": 1.0}, 3)


def test_one_that_is_not_installed_is_named_before_another_begins(
    heard: list, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="track: wandb cannot be imported .*pip install wandb"):
        open_trackers(["tensorboard", "wandb"], tmp_path, {}, 0)
    assert heard == []
