"""The loop when something goes wrong: damaged checkpoints, a full disk, tripwires that stop a run or send it back."""

from __future__ import annotations

import errno
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
from ocr_rl.learn.algos.grpo import rollout, to_rows
from ocr_rl.learn.fit import best, fit, resume
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.probe import page_gain, require_eyes
from ocr_rl.learn.step import Step
from ocr_rl.objectives.losses import grpo as grpo_loss
from ocr_rl.objectives.losses import nll
from ocr_rl.rollout.flow import ComparedGroup, Row
from ocr_rl.rollout.sampler.base import Sampling
from ocr_rl.rollout.sampler.hf import HfSampler
from ocr_rl.run import HASHES, Run
from tests.learn.conftest import MakeLearner
from tests.learn.test_learner import same, weights


def nan(logprob_N: Tensor, batch) -> tuple[Tensor, dict[str, float]]:
    return (logprob_N * batch.weight_N * float("nan")).sum(), {}


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
                    loss=nll if bad is None or isinstance(bad, dict) else bad,
                    metrics=bad if isinstance(bad, dict) else {"kl": 0.0},
                    state={"drawn": drawn} if part == self.parts - 1 else None,
                )


def run_fit(pages: Pages, run: Run, **more: Any) -> Path:
    settings = {"total": pages.steps, "save_every": 2, "keep": 5, **more}
    return fit(pages, pages.learner, run, **settings)


def steps_of(run: Run) -> list[str]:
    return [path.name for path in run.checkpoints()]


@pytest.fixture
def trained(make_learner: MakeLearner, rows: list[Row], tmp_path: Path) -> Run:
    """Six steps with a checkpoint after each second one."""
    run = Run(tmp_path / "run")
    run_fit(Pages(rows, make_learner(), 6), run)
    return run


# --- checkpoints that are read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["optim.pt", "state.json", "model/model.safetensors", HASHES])
def test_trap_17_a_damaged_checkpoint_is_named_and_the_one_before_it_read(
    trained: Run, make_learner: MakeLearner, rows: list[Row], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = trained.checkpoints()[-1] / name
    path.write_bytes(path.read_bytes()[:-40])
    learner = make_learner()
    assert resume(learner, trained) == (4, {"drawn": 4})
    assert learner.policy == 4
    assert [row["step"] for row in trained.metrics()] == [1, 2, 3, 4]
    (said,) = capsys.readouterr().out.splitlines()
    assert "000006 is damaged" in said and name in said and said.endswith("is skipped: going on from step 4.")
    assert steps_of(trained) == ["000002", "000004"]  # the damaged one is not counted among those to keep
    run_fit(Pages(rows, learner, 6), trained, state={"drawn": 4}, keep=1)
    assert steps_of(trained) == ["000006"]


def test_a_run_without_a_whole_checkpoint_says_so_and_leaves_all_as_it_is(
    trained: Run, make_learner: MakeLearner
) -> None:
    for path in trained.checkpoints():
        (path / "optim.pt").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"000006 is damaged \(optim\.pt is not what was saved\), and no older"):
        resume(make_learner(), trained)
    assert steps_of(trained) == ["000002", "000004", "000006"]
    assert len(trained.metrics()) == 6


def test_a_full_disk_stops_the_run_with_the_last_checkpoint_whole(
    make_learner: MakeLearner, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, run = make_learner(), Run(tmp_path)
    save_state = learner.save_state

    def full(path: Path) -> None:
        if learner.policy == 4:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save_state(path)

    monkeypatch.setattr(learner, "save_state", full)
    with pytest.raises(UserError, match="the disk is full; make room and go on with --resume, from step 2"):
        run_fit(Pages(rows, learner, 6), run)
    assert resume(make_learner(), run)[0] == 2


def test_the_best_checkpoint_is_kept_beside_the_last(
    make_learner: MakeLearner, rows: list[Row], tmp_path: Path
) -> None:
    run, pages = Run(tmp_path), Pages(rows, make_learner(), 8)
    rates = {2: 0.3, 3: 0.9, 4: 0.6, 6: 0.6, 8: 0.1}  # that of step 3 was not saved
    evaluate = lambda step: {"eval_pass_rate": rates[step]} if step in rates else {}
    run_fit(pages, run, keep=1, evaluate_every=1, evaluate=evaluate)
    assert steps_of(run) == ["000004", "000008"]
    assert best(run.metrics(), run) == 4


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
        calm.update([rows[page % 2]], nll)
    assert same(weights(learner), weights(calm))


def test_a_run_killed_after_it_went_back_does_not_do_the_same_again(
    make_learner: MakeLearner, rows: list[Row], tmp_path: Path
) -> None:
    run = Run(tmp_path)

    def killed(logprob_N: Tensor, batch) -> tuple[Tensor, dict[str, float]]:
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


# --- canaries ---------------------------------------------------------------------------------------------------------


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
    assert page_gain(learner, rows)["page_gain"] != 0
    blank = lambda prompter, prompt: Image.new("RGB", (112, 112 if "p4" in prompt.page_id else 56), "white")
    monkeypatch.setattr(type(learner.prompter), "image", blank)
    assert page_gain(learner, rows)["page_gain"] == 0
    monkeypatch.undo()
    one_each = [rows[0], rows[4]]
    assert page_gain(learner, rows) == page_gain(learner, one_each)


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
    sampler.load(
        ((name, torch.randn(w.shape, generator=noise) if "norm" not in name else w) for name, w in learner.weights()),
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


@pytest.fixture
def canary(make_learner: MakeLearner, sampler: HfSampler, tiny_pages, tmp_path: Path) -> Callable[[Load], Run]:
    """The canary after every load: log-probabilities of what was sampled, the sampler's against the learner's."""
    learner, run = make_learner(lr=1e-3), Run(tmp_path)
    cfg = config.Grpo(pages=config.PageSource(synth="nano"), steps=3, rewards=(config.RewardChoice(name="eos"),))
    asked = [(page, learner.prompter.prompt(page)) for page in tiny_pages[:2]]

    recipe = config.Recipe(policy=config.Policy(path="nano"), grpo=cfg)

    def train(load: Load) -> Run:
        def steps(state: Mapping[str, Any]) -> Iterator[Step]:
            while learner.policy < 3:
                load(sampler, learner)
                groups = rollout(sampler, asked, Sampling(n=2, max_tokens=8, seed=learner.policy))
                scored = [ComparedGroup(group=g, scores={}, rewards=(0.0, 1.0), advantages=(-1.0, 1.0)) for g in groups]
                rows = learner.annotate(to_rows(scored, cfg, 8), old=False, reference=False)
                yield Step(rows=rows, loss=grpo_loss(), state={})

        fit(steps, learner, run, total=3, save_every=9, keep=1, tripwires=recipe.watched)
        return run

    return train


def _loaded(sampler: HfSampler) -> list[tuple[str, Tensor]]:
    return list(sampler._model.state_dict().items())
