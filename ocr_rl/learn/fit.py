"""The loop: take a step from the algorithm, update, log, evaluate, save. The only place that does these."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ocr_rl.config import Tripwires
from ocr_rl.contract import UserError
from ocr_rl.learn.checkpoints import RollBack, best, roll_back, save
from ocr_rl.learn.heard import Key, Listening, Tokens
from ocr_rl.learn.learner import Learner, update_together
from ocr_rl.learn.progress import group_row, line_of
from ocr_rl.learn.step import Step
from ocr_rl.learn.undrawn import Undrawn, lost_pages, rest_of, without_undrawn
from ocr_rl.rollout.asking import with_left_out
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.tripwires import Decision, tripped
from ocr_rl.run import Run

Evaluate = Callable[[int], dict[str, float]]  # (steps done) -> figures
Probe = Callable[[Sequence[Row]], dict[str, float]]  # (a step's rows) -> figures
_OF_BOTH = {"loss", "grad_norm", "lr"}  # figures that a policy and its critic each have
StepsFrom = Callable[[Mapping[str, Any]], Iterator[Step]]  # (an algorithm's state) -> its steps from there


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """When a run ends, saves, looks and evaluates, and what stops it.

    With `until`, it ends at the first step from there on that can be saved, and saves it: schedules are those of
    `total` steps, so a resumed run goes on as if it had never stopped. `probe` is asked before the first update and at
    every save, so that a resumed run has the figures of an uninterrupted one.
    """

    total: int
    save_every: int
    keep: int
    until: int | None = None
    evaluate_every: int = 0  # 0: never
    tripwires: Tripwires = field(default_factory=Tripwires)
    probe: Probe | None = None
    evaluate: Evaluate | None = None

    def saves(self, done: int) -> bool:
        return done % self.save_every == 0 or done == self.total

    def evaluates(self, done: int) -> bool:
        return bool(self.evaluate_every) and (done % self.evaluate_every == 0 or done == self.total)

    def looks(self, step: Step) -> dict[str, float]:
        """What the probe says of the step's rows, if there are any."""
        return without_undrawn(step.rows, self.probe)[1] if self.probe and step.rows else {}

    def pauses(self, done: int) -> bool:
        """Whether no rollout may be on its way then: what is saved has none, and an evaluation needs the engine."""
        return self.saves(done) or self.evaluates(done)


def fit(
    steps_from: StepsFrom,
    learner: Learner,
    run: Run,
    plan: Plan,
    state: Mapping[str, Any] | None = None,
    *,
    critic: Learner | None = None,
) -> Path:
    """Run the algorithm from `state` to its end; returns the folder of the last checkpoint's model.

    `critic` is a second learner, with weights of its own, that moves and is saved with the first.

    Steps already done are `learner.policy`'s business: a resumed learner starts where its checkpoint was. Raises
    UserError where a tripwire stops the run.
    """
    state, history, due = dict(state or {}), run.metrics(), False
    steps = steps_from(state)
    heard: dict[Key, Tokens] = {}  # of the rollout's rows
    with ExitStack() as at_the_end:
        at_the_end.callback(lambda: _end(steps))
        bar = at_the_end.enter_context(
            tqdm(total=plan.total, initial=learner.policy, desc="training", unit="step", smoothing=0.05)
        )
        while True:
            began_s = time.process_time()
            if (step := next(steps, None)) is None:
                break
            looks = plan.looks(step) if learner.policy == 0 else {}
            decisions = tripped([*history, {"step": 0, **looks}], plan.tripwires) if looks else []
            figures: dict[str, Any] = {**step.metrics, **looks}
            learnt: dict[str, float] = {}
            lost = 0
            if all(decision.then == "warn" for decision in decisions):
                try:
                    learnt, lost = _learn(step, learner, critic, heard)
                    # Seconds that other work on the machine does not lengthen: of this process, all its threads.
                    learnt["cpu_s"] = time.process_time() - began_s
                except FloatingPointError as error:
                    wire = plan.tripwires.not_finite
                    decisions = [Decision(name="not_finite", then=wire, why=str(error), steps=1)]
            done = learner.policy if learnt else learner.policy + 1
            if learnt:
                due = due or plan.saves(done)
                figures = _with_looks(with_left_out({**figures, **learnt}, lost), step, plan, done, due)
                decisions = tripped([*history, {"step": done, **figures}], plan.tripwires)
            row = _log(run, done, figures, decisions)
            history.append(row)
            _log_groups(run, done, step, heard, learner)
            bar.update()
            bar.write("  ".join([line_of(row, plan.total), *(f"! {decision}" for decision in decisions)]))
            if request := _act(decisions, done, step, steps, state):
                _end(steps)
                state = roll_back(request, learner, run, plan.tripwires.roll_backs, critic)
                history, due, steps = run.metrics(), False, steps_from(state)
                bar.n = learner.policy
                continue
            stop = plan.until is not None and done >= plan.until
            if step.state is not None:
                state = dict(step.state)
                if due or stop:
                    due = False
                    save(learner, run, done, state, critic)
                    run.prune(plan.keep, best(history, run))
                    if stop:
                        break
    return run.checkpoints()[-1] / "model"


def _learn(
    step: Step, learner: Learner, critic: Learner | None, heard: dict[Key, Tokens]
) -> tuple[dict[str, float], int]:
    """Move the policy and its critic by one step; the critic's own figures are called `critic_…`.

    `heard` gets what the policy's pass says of rows that it sampled. And how many pages could not be drawn.
    """
    sampled = any(row.sampler_logprobs is not None for row in step.rows)
    listening = Listening(step.loss) if step.loss is not None and sampled else None
    moves = [] if step.loss is None else [(learner, listening or step.loss)]
    if critic is not None and step.critic_loss is not None:
        moves.append((critic, step.critic_loss))
    rows, of_each = step.rows, list[dict[str, float]]()
    # `without_undrawn`, written out: from the verb to the loss it would be two frames more.
    while not of_each and moves:
        try:
            of_each = update_together([(moved, rows, loss) for moved, loss in moves])
        except Undrawn as undrawn:
            rows = rest_of(rows, undrawn)
    figures: dict[str, float] = {}
    for (moved, _), metrics in zip(moves, of_each, strict=True):
        of_critic = {f"critic_{name}" if name in _OF_BOTH else name: value for name, value in metrics.items()}
        figures |= metrics if moved is learner else of_critic
    if step.loss is None:
        learner.stand_still()
    if listening is not None:
        heard |= listening.kept
    return figures, lost_pages(step.rows, rows)


def _with_looks(figures: Mapping[str, Any], step: Step, plan: Plan, done: int, due: bool) -> dict[str, Any]:
    """A step's figures with those of the probe, where it is to be saved, and of the evaluation, where it is time."""
    figures = dict(figures)
    if due and done > 1:  # the first step was probed before its update
        figures |= plan.looks(step)
    if plan.evaluate and plan.evaluates(done):
        figures |= plan.evaluate(done)
    return figures


def _log(run: Run, done: int, figures: Mapping[str, Any], decisions: Sequence[Decision]) -> dict[str, Any]:
    row = {"step": done, **figures}
    if decisions:
        row["tripwires"] = [str(decision) for decision in decisions]
    run.log(row)
    return row


def _log_groups(run: Run, done: int, step: Step, heard: dict[Key, Tokens], learner: Learner) -> None:
    """At the end of a rollout: its groups, with what was heard of their tokens in all its updates."""
    tokenizer = learner.prompter.processor.tokenizer
    run.log_groups(done, [group_row(group, j, heard, tokenizer) for j, group in enumerate(step.groups)])
    if step.state is not None:
        heard.clear()


def _act(
    decisions: Sequence[Decision], done: int, step: Step, steps: Iterator[Step], state: Mapping[str, Any]
) -> RollBack | None:
    """UserError where a wire says stop, which comes first; where one says to go back, how."""
    for decision in sorted(decisions, key=lambda decision: decision.then != "stop"):
        if decision.then == "stop":
            raise UserError(
                f"step {done}: {decision.why}. The run is stopped (tripwires.{decision.name.split('/')[0]}); its "
                "checkpoints are as they were. Go on with --resume and other [tripwires], or with another recipe."
            )
        if decision.then == "roll_back":
            latest = done - decision.steps
            return RollBack(why=decision.why, done=done, latest=latest, state=_position(step, steps, state))
    return None


def _end(steps: Iterator[Step]) -> None:
    """Have an algorithm let go of what it works with, a rollout on its way included."""
    if isinstance(steps, Generator):
        steps.close()


def _position(step: Step, steps: Iterator[Step], before: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where the algorithm is after the whole rollout of `step`: the minibatches that are left are not learnt from."""
    while step.state is None:
        following = next(steps, None)
        if following is None:
            return before
        step = following
    return step.state
