"""Checkpoints of a run: save one, go back to the last whole one, keep the best. What is damaged is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocr_rl.contract import UserError
from ocr_rl.learn.learner import Learner
from ocr_rl.run import Run, damage, step_of, write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBack:
    """A tripwire asks to go back to a step that was done before the figures which tripped it."""

    why: str
    done: int  # the step that is left
    latest: int  # the last step to go back to
    state: Mapping[str, Any]  # where the algorithm goes on afterwards, so that it does not do the same again


def save(learner: Learner, run: Run, done: int, state: Mapping[str, Any], critic: Learner | None = None) -> None:
    with run.checkpoint(done) as folder:
        learner.save(folder / "model")
        if learner.adapters:
            learner.save_adapter(folder / "adapter")
        learner.save_state(folder / "optim.pt")
        if critic is not None:
            critic.save_state(folder / "critic.pt")
        write_atomically(folder / "state.json", json.dumps({"step": done, "state": dict(state)}))


def best(history: Sequence[Mapping[str, Any]], run: Run) -> int | None:
    """The step of the checkpoint with the best pass rate on the first evaluation set, the earliest of equals."""
    saved = {step_of(path) for path in run.checkpoints()}
    rates = {row["step"]: row["eval_pass_rate"] for row in history if "eval_pass_rate" in row and row["step"] in saved}
    return max(rates, key=lambda step: (rates[step], -step), default=None)


def resume(learner: Learner, run: Run, critic: Learner | None = None) -> tuple[int, dict[str, Any]]:
    """Go back to the last whole checkpoint: (steps done, the algorithm's state); (0, {}) where there is none.

    Raises UserError where there are checkpoints and all are damaged.
    """
    step, state = _restore(learner, run, critic) or (0, {})
    run.forget_after(step)
    for row in run.metrics():
        if row["step"] == step and "rolled_back" in row:  # killed after it went back and before it saved again
            state = row["rolled_back"][-1]["state"]
    return step, state


def roll_back(
    request: RollBack, learner: Learner, run: Run, allowed: int, critic: Learner | None = None
) -> dict[str, Any]:
    """Load the last good checkpoint and forget what came after it; returns the state to go on from."""
    rows = run.metrics()
    used = sum(len(row.get("rolled_back", ())) for row in rows)
    if used >= allowed:
        raise UserError(f"step {request.done}: {request.why}. The run went back {used} times already and is stopped.")
    restored = _restore(learner, run, critic, latest=request.latest)
    if restored is None:
        raise UserError(
            f"step {request.done}: {request.why}. There is no checkpoint of step {request.latest} or before to go back "
            "to; the run is stopped (save more often, or keep more)."
        )
    step = restored[0]
    for path in run.checkpoints():
        if step_of(path) > step:
            shutil.rmtree(path)
    earlier = [note for row in rows if row["step"] >= step for note in row.get("rolled_back", ())]
    state = dict(request.state)
    run.forget_after(step, rolled_back=[*earlier, {"from": request.done, "why": request.why, "state": state}])
    print(f"back to step {step} from {request.done} ({used + 1} of {allowed}), on with other pages: {request.why}")
    return state


def _restore(
    learner: Learner, run: Run, critic: Learner | None, latest: int | None = None
) -> tuple[int, dict[str, Any]] | None:
    """Load the newest whole checkpoint of step `latest` or before; those that are damaged are named and set aside."""
    candidates = [path for path in run.checkpoints() if latest is None or step_of(path) <= latest]
    damaged: dict[Path, str] = {}
    for path in reversed(candidates):
        if wrong := damage(path):
            damaged[path] = wrong
            continue
        for other, why in damaged.items():
            print(f"{other} is damaged ({why}) and is skipped: going on from step {step_of(path)}.")
            run.set_aside(other)
        learner.load_state(path / "optim.pt")
        if critic is not None:
            critic.load_state(path / "critic.pt")
        saved = json.loads((path / "state.json").read_text(encoding="utf-8"))
        return saved["step"], saved["state"]
    if damaged:
        path, why = next(iter(damaged.items()))
        raise UserError(
            f"{path} is damaged ({why}), and no older checkpoint is whole; put back a copy of one, or start again "
            "with another --out."
        )
    return None
