"""The loop: what it saves and shows, and what it does when a tripwire stops a run or sends it back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from torch import Tensor

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.learn.algos.grpo import grpo
from ocr_rl.learn.checkpoints import resume
from ocr_rl.learn.fit import Plan, fit
from ocr_rl.learn.rows import Batch
from ocr_rl.learn.step import Step
from ocr_rl.objectives.losses import Read, Sums
from ocr_rl.pages.epochs import draw
from ocr_rl.rollout.flow import Row
from ocr_rl.run import Run
from tests.fakes import FakeSampler
from tests.learn.conftest import NLL, MakeLearner, same, sampling_setting, weights
from tests.learn.test_grpo import settings


def nan(read: Read, batch: Batch) -> tuple[Tensor, Sums]:
    return (read.logprob_N * batch.weight_N * float("nan")).sum(), {}


class Pages:
    """An algorithm: a page after the other, what is tried is remembered; a page's loss and figures may be bad."""

    def __init__(self, rows: list[Row], learner, steps: int, bad: Mapping[int, Any] | None = None, parts: int = 1):
        self.tried: list[tuple[int, int]] = []  # (update, page)
        self.rows, self.learner, self.steps, self.bad, self.parts = rows, learner, steps, bad or {}, parts

    def __call__(self, state: Mapping[str, Any]) -> Iterator[Step]:
        drawn = int(state.get("drawn", 0))
        while self.learner.policy < self.steps:
            drawn += 1
            for part in range(self.parts):
                self.tried.append((self.learner.policy, drawn))
                bad = self.bad.get(drawn)
                yield Step(
                    rows=[self.rows[drawn % 2]],
                    loss=NLL if bad is None or isinstance(bad, dict) else bad,
                    metrics=bad if isinstance(bad, dict) else {"kl": 0.0},
                    state={"drawn": drawn} if part == self.parts - 1 else None,
                )


def run_fit(pages: Pages, run: Run, state: Mapping[str, Any] | None = None, **more: Any) -> Path:
    plan = {"total": pages.steps, "save_every": 2, "keep": 5, **more}
    return fit(pages, pages.learner, run, Plan(**plan), state)


def steps_of(run: Run) -> list[str]:
    return [path.name for path in run.checkpoints()]


def test_a_step_in_the_middle_of_a_rollout_is_saved_after_it(
    tiny_pages, prompter, rows: list[Row], make_learner: MakeLearner, tmp_path: Path
) -> None:
    states = [{"drawn": 1}, None, {"drawn": 2}, {"drawn": 3}]
    steps = (Step(rows=rows[:1], loss=NLL, state=state) for state in states)
    run = Run(tmp_path)
    fit(lambda state: steps, make_learner(), run, Plan(total=4, save_every=2, keep=5))
    assert [path.name for path in run.checkpoints()] == ["000003", "000004"]
    assert json.loads((run.checkpoints()[0] / "state.json").read_text()) == {"step": 3, "state": {"drawn": 2}}


def test_what_the_best_and_the_worst_sample_said_is_kept(
    tiny_pages, prompter, make_learner: MakeLearner, tmp_path: Path
) -> None:
    learner, run = make_learner(), Run(tmp_path)
    sampler = FakeSampler(prompter, lambda page, k: ("b", "good")[k])
    steps = grpo(settings(steps=1, pages_per_step=1), sampling_setting(tiny_pages, sampler, learner), {})
    unwatched = config.Tripwires(gap=config.Tripwire(above=1e9))  # the fake sampler's log-probabilities are made up
    fit(lambda state: steps, learner, run, Plan(total=1, save_every=1, keep=1, tripwires=unwatched))
    (line,) = (tmp_path / "groups" / "000001.jsonl").read_text().splitlines()
    shown = json.loads(line)
    assert (shown["best"]["text"], shown["worst"]["text"]) == ("good", "b")
    assert shown["best"]["advantage"] > 0 > shown["worst"]["advantage"]
    assert shown["page"] == draw(tiny_pages, 1, 0, "0")[0].id


# --- tripwires --------------------------------------------------------------------------------------------------------

BAD = {"kl": 9.0}


def wires(then: str, **more: Any) -> config.Tripwires:
    return config.Tripwires.model_validate({"kl": {"above": 1.0, "steps": 1, "then": then}, **more})


def test_a_warning_is_written_down_and_the_run_goes_on(
    make_learner: MakeLearner, rows: list[Row], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path)
    run_fit(Pages(rows, make_learner(), 4, {3: BAD}), run, tripwires=wires("warn"))
    assert [row.get("tripwires") for row in run.metrics()] == [None, None, ["warn: kl 9 has reached 1"], None]
    assert "! warn: kl 9 has reached 1" in capsys.readouterr().out


def test_trap_16_a_collapse_stops_the_run_before_it_is_saved(
    make_learner: MakeLearner, rows: list[Row], tmp_path: Path
) -> None:
    run = Run(tmp_path)
    with pytest.raises(UserError, match=r"step 4: kl 9 has reached 1\. The run is stopped \(tripwires\.kl\)"):
        run_fit(Pages(rows, make_learner(), 6, {4: BAD}), run, tripwires=wires("stop"))
    assert steps_of(run) == ["000002"]
    assert run.metrics()[-1]["tripwires"] == ["stop: kl 9 has reached 1"]


def test_trap_16_a_collapse_sends_the_run_back_and_on_with_other_pages(
    make_learner: MakeLearner, rows: list[Row], tmp_path: Path
) -> None:
    run, learner = Run(tmp_path), make_learner()
    pages = Pages(rows, learner, 4, {4: BAD})
    run_fit(pages, run, tripwires=wires("roll_back"))
    # Update 3 (from 0) with page 4 was undone, and updates 2 and 3 done again with the pages after it.
    assert pages.tried == [(0, 1), (1, 2), (2, 3), (3, 4), (2, 5), (3, 6)]
    assert [row["step"] for row in run.metrics()] == [1, 2, 3, 4]
    (note,) = run.metrics()[1]["rolled_back"]
    assert note == {"from": 4, "why": "kl 9 has reached 1", "state": {"drawn": 4}}
    # The weights are those of a run that never saw pages 3 and 4.
    calm = make_learner()
    for page in (1, 2, 5, 6):
        calm.update([rows[page % 2]], NLL)
    assert same(weights(learner), weights(calm))


def test_a_run_killed_after_it_went_back_does_not_do_the_same_again(
    make_learner: MakeLearner, rows: list[Row], tmp_path: Path
) -> None:
    run = Run(tmp_path)

    def killed(read: Read, batch: Batch) -> tuple[Tensor, Sums]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_fit(Pages(rows, make_learner(), 4, {4: BAD, 6: killed}), run, tripwires=wires("roll_back"))
    assert resume(make_learner(), run) == (2, {"drawn": 4})


def test_a_run_goes_back_a_few_times_and_then_stops(make_learner: MakeLearner, rows: list[Row], tmp_path: Path) -> None:
    run = Run(tmp_path)
    pages = Pages(rows, make_learner(), 4, {number: BAD for number in range(4, 99)})
    with pytest.raises(UserError, match=r"step 3: kl 9 .* went back 2 times already"):
        run_fit(pages, run, tripwires=wires("roll_back", roll_backs=2))
    assert len(run.metrics()[1]["rolled_back"]) == 2


def test_a_run_goes_back_to_before_the_figures_that_tripped(
    make_learner: MakeLearner, rows: list[Row], tmp_path: Path
) -> None:
    """Pages 3 to 5 make the mean of three steps bad: the checkpoint of step 4 is no good one."""
    run = Run(tmp_path)
    settings = config.Tripwires.model_validate({"kl": {"above": 1.0, "steps": 3, "then": "roll_back"}})
    pages = Pages(rows, make_learner(), 6, {3: {"kl": 1.0}, 4: {"kl": 1.0}, 5: {"kl": 2.0}})
    run_fit(pages, run, tripwires=settings)
    assert [page for update, page in pages.tried if update == 2] == [3, 6]
    assert run.metrics()[1]["rolled_back"][0]["from"] == 5
    assert steps_of(run) == ["000002", "000004", "000006"]


def test_without_a_checkpoint_to_go_back_to_the_run_stops(
    make_learner: MakeLearner, rows: list[Row], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"step 1: kl 9 .* no checkpoint of step 0 or before"):
        run_fit(Pages(rows, make_learner(), 4, {1: BAD}), Run(tmp_path), tripwires=wires("roll_back"))


@pytest.mark.parametrize("then", ["stop", "roll_back"])
def test_a_gradient_that_is_no_number_never_reaches_the_weights(
    make_learner: MakeLearner, rows: list[Row], tmp_path: Path, then: str
) -> None:
    run, learner = Run(tmp_path), make_learner()
    pages = Pages(rows, learner, 4, {3: nan})
    settings = config.Tripwires.model_validate({"not_finite": then})
    if then == "stop":
        with pytest.raises(UserError, match=r"step 3: the loss or its gradient is not finite .*not_finite"):
            run_fit(pages, run, tripwires=settings)
        assert learner.policy == 2
        return
    run_fit(pages, run, tripwires=settings)
    assert pages.tried == [(0, 1), (1, 2), (2, 3), (2, 4), (3, 5)]
    assert all(value.isfinite().all() for value in weights(learner).values())


def test_going_back_in_the_middle_of_a_rollout_leaves_its_other_minibatches_out(
    make_learner: MakeLearner, rows: list[Row], tmp_path: Path
) -> None:
    pages = Pages(rows, make_learner(), 4, {2: nan}, parts=2)
    run_fit(pages, Run(tmp_path), tripwires=config.Tripwires(not_finite="roll_back"))
    assert pages.tried == [(0, 1), (1, 1), (2, 2), (2, 2), (2, 3), (3, 3)]
