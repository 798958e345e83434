"""The loop: take a step from the algorithm, update, log, evaluate, save. The only place that does these."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ocr_rl.config import Tripwires
from ocr_rl.contract import UserError
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.step import Step
from ocr_rl.rollout.flow import Row, ScoredGroup
from ocr_rl.rollout.graders import as_json
from ocr_rl.rollout.tripwires import Decision, tripped
from ocr_rl.run import Run, damage, step_of, write_atomically

Evaluate = Callable[[int], dict[str, float]]  # (steps done) -> figures
Probe = Callable[[Sequence[Row]], dict[str, float]]  # (a step's rows) -> figures
StepsFrom = Callable[[Mapping[str, Any]], Iterator[Step]]  # (an algorithm's state) -> its steps from there


class RollBack(Exception):
    """A tripwire asks to go back to a step that was done before the figures which tripped it."""

    def __init__(self, why: str, *, done: int, latest: int, state: Mapping[str, Any]) -> None:
        """`state`: where the algorithm goes on afterwards, so that it does not do the same again."""
        super().__init__(why)
        self.done, self.latest, self.state = done, latest, dict(state)


def fit(
    steps_from: StepsFrom,
    learner: Learner,
    run: Run,
    *,
    total: int,
    until: int | None = None,
    save_every: int,
    keep: int,
    state: Mapping[str, Any] | None = None,
    tripwires: Tripwires | None = None,
    probe: Probe | None = None,
    evaluate_every: int = 0,
    evaluate: Evaluate | None = None,
) -> Path:
    """Run the algorithm from `state` to its end; returns the folder of the last checkpoint's model.

    With `until`, it ends at the first step from there on that can be saved, and saves it: schedules are those of
    `total` steps, so a resumed run goes on as if it had never stopped. Steps already done are `learner.policy`'s
    business: a resumed learner starts where its checkpoint was. Raises UserError where a tripwire stops the run.
    `probe` is asked before the first update and at every save, so that a resumed run has the figures of an
    uninterrupted one.
    """
    wires = tripwires or Tripwires()

    def once(state: Mapping[str, Any]) -> None:
        done, due, history = learner.policy, False, run.metrics()
        with tqdm(total=total, initial=done, desc="training", unit="step", smoothing=0.05) as bar:
            steps = steps_from(state)
            for step in steps:
                looks = probe(step.rows) if probe and done == 0 and step.rows else {}
                first = tripped([*history, {"step": done, **looks}], wires) if looks else []
                learnt, decisions = _learnt(learner, step, wires, first)
                figures: dict[str, Any] = {**step.metrics, **looks, **learnt}
                done += 1
                if learnt:
                    last = done == total
                    due = due or done % save_every == 0 or last
                    if probe and due and step.rows and not looks:
                        figures |= probe(step.rows)
                    if evaluate and evaluate_every and (done % evaluate_every == 0 or last):
                        figures |= evaluate(done)
                    decisions = tripped([*history, {"step": done, **figures}], wires)
                row = {"step": done, **figures}
                if decisions:
                    row["tripwires"] = [str(decision) for decision in decisions]
                run.log(row)
                history.append(row)
                run.log_groups(done, [best_and_worst(group) for group in step.groups])
                bar.update()
                bar.write("  ".join([describe(row, total), *(f"! {decision}" for decision in decisions)]))
                _act(decisions, done, step, steps, state)
                if step.state is not None:
                    state = step.state
                stop = until is not None and done >= until
                if (due or stop) and step.state is not None:
                    due = False
                    save(learner, run, done, step.state)
                    run.prune(keep, best(history, run))
                    if stop:
                        return

    state = dict(state or {})
    while True:
        try:
            once(state)
            return run.checkpoints()[-1] / "model"
        except RollBack as asked:
            state = roll_back(asked, learner, run, wires.roll_backs)


def _learnt(
    learner: Learner, step: Step, wires: Tripwires, first: list[Decision]
) -> tuple[dict[str, float], list[Decision]]:
    """The update's figures; none, and why, where a wire that tripped `first` or the gradient forbids it."""
    if any(decision.then != "warn" for decision in first):
        return {}, first
    try:
        return learner.update(step.rows, step.loss), []
    except FloatingPointError as error:
        return {}, [Decision(name="not_finite", then=wires.not_finite, why=str(error), steps=1)]


def _act(decisions: Sequence[Decision], done: int, step: Step, steps: Iterator[Step], state: Mapping[str, Any]) -> None:
    """Stop or go back where a wire says so; a stop comes first."""
    for decision in sorted(decisions, key=lambda decision: decision.then != "stop"):
        if decision.then == "stop":
            raise UserError(
                f"step {done}: {decision.why}. The run is stopped (tripwires.{decision.name.split('/')[0]}); its "
                "checkpoints are as they were. Go on with --resume and other [tripwires], or with another recipe."
            )
        if decision.then == "roll_back":
            raise RollBack(decision.why, done=done, latest=done - decision.steps, state=_position(step, steps, state))


def _position(step: Step, steps: Iterator[Step], before: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where the algorithm is after the whole rollout of `step`: the minibatches that are left are not learnt from."""
    while step.state is None:
        following = next(steps, None)
        if following is None:
            return before
        step = following
    return step.state


def roll_back(asked: RollBack, learner: Learner, run: Run, allowed: int) -> dict[str, Any]:
    """Load the last good checkpoint and forget what came after it; returns the state to go on from."""
    rows = run.metrics()
    used = sum(len(row.get("rolled_back", ())) for row in rows)
    if used >= allowed:
        raise UserError(f"step {asked.done}: {asked}. The run went back {used} times already and is stopped.")
    found = _restore(learner, run, latest=asked.latest)
    if found is None:
        raise UserError(
            f"step {asked.done}: {asked}. There is no checkpoint of step {asked.latest} or before to go back to; "
            "the run is stopped (save more often, or keep more)."
        )
    step = found[0]
    for path in run.checkpoints():
        if step_of(path) > step:
            shutil.rmtree(path)
    earlier = [note for row in rows if row["step"] >= step for note in row.get("rolled_back", ())]
    note = {"from": asked.done, "why": str(asked), "state": asked.state}
    run.forget_after(step, rolled_back=[*earlier, note])
    print(f"back to step {step} from {asked.done} ({used + 1} of {allowed}), on with other pages: {asked}")
    return asked.state


def save(learner: Learner, run: Run, done: int, state: Any) -> None:
    with run.checkpoint(done) as folder:
        learner.save(folder / "model")
        learner.save_state(folder / "optim.pt")
        write_atomically(folder / "state.json", json.dumps({"step": done, "state": dict(state)}))


def best(history: Sequence[Mapping[str, Any]], run: Run) -> int | None:
    """The step of the checkpoint with the best pass rate on the first evaluation set, the earliest of equals."""
    saved = {step_of(path) for path in run.checkpoints()}
    known = {row["step"]: row["eval_pass_rate"] for row in history if "eval_pass_rate" in row and row["step"] in saved}
    return max(known, key=lambda step: (known[step], -step), default=None)


def resume(learner: Learner, run: Run) -> tuple[int, dict[str, Any]]:
    """Go back to the last whole checkpoint: (steps done, the algorithm's state); (0, {}) where there is none.

    Raises UserError where there are checkpoints and all are damaged.
    """
    found = _restore(learner, run)
    step, state = found or (0, {})
    run.forget_after(step)
    for row in run.metrics():
        if row["step"] == step and "rolled_back" in row:  # killed after it went back and before it saved again
            state = row["rolled_back"][-1]["state"]
    return step, state


def _restore(learner: Learner, run: Run, latest: int | None = None) -> tuple[int, dict[str, Any]] | None:
    """Load the newest whole checkpoint of step `latest` or before; those that are damaged are named and set aside."""
    known = [path for path in run.checkpoints() if latest is None or step_of(path) <= latest]
    damaged: dict[Path, str] = {}
    for path in reversed(known):
        if wrong := damage(path):
            damaged[path] = wrong
            continue
        for other, why in damaged.items():
            print(f"{other} is damaged ({why}) and is skipped: going on from step {step_of(path)}.")
            run.set_aside(other)
        learner.load_state(path / "optim.pt")
        saved = json.loads((path / "state.json").read_text(encoding="utf-8"))
        return saved["step"], saved["state"]
    if damaged:
        path, why = next(iter(damaged.items()))
        raise UserError(
            f"{path} is damaged ({why}), and no older checkpoint is whole; put back a copy of one, or start again "
            "with another --out."
        )
    return None


def best_and_worst(scored: ScoredGroup) -> dict[str, Any]:
    """The best and the worst sample of a page with the rewards' reasons, and all samples, to be scored again."""
    order = sorted(range(len(scored.rewards)), key=lambda k: scored.rewards[k])
    shown = {
        name: {
            "reward": scored.rewards[k],
            "advantage": scored.advantages[k],
            "why": {reward: scores[k].why for reward, scores in scored.scores.items()},
            "text": scored.group.samples[k].text,
        }
        for name, k in (("best", order[-1]), ("worst", order[0]))
    }
    samples = [as_json(sample.transcript()) for sample in scored.group.samples]
    return {"page": scored.group.page.id, **shown, "samples": samples}


# What a step's line shows, in order, with its format; figures that a step does not have are left out.
_LINE = {
    "loss": "loss {:.3f}",
    "reward": "reward {:.3f}",
    "pass_rate": "pass {:.1%}",
    "length": "length {:.0f}",
    "finished": "ended {:.0%}",
    "kl": "kl {:.4f}",
    "clip_share": "clip {:.1%}",
    "flat_groups": "flat {:.0%}",
    "faults": "faults {:.0f}",
    "undrawable": "undrawable {:.0f}",
    "gap_max": "gap {:.1e}",
    "entropy": "entropy {:.3f}",
    "grad_norm": "grad {:.2f}",
    "page_gain": "page {:.2f}",
    "nll_page": "val {:.3f}",
    "nll_blank": "blank {:.2f}",
    "sync_s": "sync {:.1f}s",
    "rollout_s": "sample {:.1f}s",
    "score_s": "score {:.1f}s",
    "annotate_s": "ref {:.1f}s",
    "update_s": "update {:.1f}s",
}


def describe(row: dict[str, Any], total: int) -> str:
    shown = [form.format(row[name]) for name, form in _LINE.items() if name in row]
    return f"{row['step']}/{total}  " + "  ".join(shown)
