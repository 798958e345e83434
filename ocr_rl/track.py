"""The metrics of a run, sent to a tracker too where one is installed and asked for. metrics.jsonl stays the record.

A resumed run goes on under its own name; steps that it does again replace what was there or are ignored, as the
tracker does it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from ocr_rl.contract import UserError

Tracker = Literal["tensorboard", "wandb", "trackio"]
Track = Callable[[Mapping[str, Any]], None]
_MODULES: dict[Tracker, str] = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb", "trackio": "trackio"}
_PROJECT = "ocr-rl"


def open_trackers(names: Sequence[Tracker], folder: Path, config: Mapping[str, Any], step: int) -> list[Track]:
    """One function a tracker, which takes a row of metrics. `step`: the last one that is done already.

    UserError for a tracker that is not installed.
    """
    modules = [_module(name) for name in names]  # all of them before any begins
    return [_OPEN[name](module, folder, config, step) for name, module in zip(names, modules, strict=True)]


def _module(name: Tracker) -> ModuleType:
    try:
        return importlib.import_module(_MODULES[name])
    except ImportError as error:
        raise UserError(f"track: {name} cannot be imported ({error}); pip install {name}, or take it out.") from None


def _tensorboard(module: ModuleType, folder: Path, config: Mapping[str, Any], step: int) -> Track:
    writer = module.SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def track(row: Mapping[str, Any]) -> None:
        for name, value in _numbers(row).items():
            writer.add_scalar(name, value, int(row["step"]))
        writer.flush()

    return track


def _wandb(module: ModuleType, folder: Path, config: Mapping[str, Any], step: int) -> Track:
    """W&B, and trackio, which has the same interface."""
    module.init(project=_PROJECT, name=folder.name, resume="allow", config=dict(config))
    return lambda row: module.log(_numbers(row), step=int(row["step"]))


_OPEN: dict[Tracker, Callable[[ModuleType, Path, Mapping[str, Any], int], Track]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "trackio": _wandb,
}


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if isinstance(value, int | float) and name != "step"}
