"""GRPO one rollout ahead: whose samples it learns from, what makes up for it, and that a kill changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from ocr_rl import config
from ocr_rl.contract import Page, Score, Transcript, UserError
from ocr_rl.learn.algos.grpo import grpo
from ocr_rl.learn.algos.rollouts import loss_of
from ocr_rl.learn.algos.setting import SamplingSetting
from ocr_rl.learn.checkpoints import resume
from ocr_rl.learn.fit import Plan, fit
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.step import Step
from ocr_rl.pages.epochs import draw
from ocr_rl.rollout.flow import Group
from ocr_rl.rollout.sampler.hf import HfSampler
from ocr_rl.rollout.scoring import ScoredGroup, WeightedReward, score
from ocr_rl.run import Run
from ocr_rl.train.session import scorer
from tests.fakes import FakeSampler
from tests.learn.conftest import Asked, MakeLearner, Referee, same, sampling_setting, weights
from tests.learn.test_grpo import DIFFERENT, flat_on, settings

NEVER = lambda done: False
CLOCKS = ("update_s", "sync_s", "rollout_s", "score_s", "annotate_s", "wait_s", "cpu_s")


def elsewhere(setting: SamplingSetting, pauses: Callable[[int], bool] = NEVER) -> SamplingSetting:
    """As with a server: rollouts are sampled in a thread of their own."""
    sampling = config.Sampling(engine="vllm_server", url="http://nowhere", temperature=0.7, max_tokens=8)
    return replace(setting, sampling=sampling, pauses=pauses)


def run_grpo(
    cfg: config.Grpo, setting: SamplingSetting, learner: Referee, state: Mapping[str, Any] | None = None
) -> Iterator[Step]:
    for step in grpo(cfg, setting, state or {}):
        learner.policy += 1
        yield step


@pytest.fixture
def referee(prompter) -> Referee:
    return Referee(prompter)


def test_samples_are_one_update_old_and_say_so(tiny_pages, prompter, referee) -> None:
    sampler = Asked(prompter, DIFFERENT)
    saved = lambda done: done in (3, 5)
    setting = elsewhere(sampling_setting(tiny_pages, sampler, referee), saved)
    steps = list(run_grpo(settings(ahead=1, steps=5), setting, referee))
    behind = [[(sample.policy, step.metrics["behind"]) for sample in step.groups[0].group.samples] for step in steps]
    assert behind == [[(0, 0)] * 2, [(0, 1)] * 2, [(1, 1)] * 2, [(3, 0)] * 2, [(3, 1)] * 2]
    rollouts = [pages for pages in sampler.pages if len(pages) > 1]
    assert rollouts == [[page.number for page in draw(tiny_pages, 2, at, "0")] for at in range(0, 10, 2)]
    assert [step.state for step in steps] == [{"drawn": 2 * n} for n in range(1, 6)]
    assert len({seed for seed, pages in zip(sampler.seeds, sampler.pages, strict=True) if len(pages) > 1}) == 5


def test_a_canary_is_written_after_each_load_and_before_the_rollout(tiny_pages, prompter, referee) -> None:
    sampler = Asked(prompter, DIFFERENT)
    setting = elsewhere(sampling_setting(tiny_pages, sampler, referee))
    steps = run_grpo(settings(ahead=1, steps=9), setting, referee)
    first, second = next(steps), next(steps)
    steps.close()  # type: ignore[attr-defined]
    asked = list(zip(map(len, sampler.pages), sampler.policies, strict=True))
    assert asked == [(1, 0), (2, 0), (2, 0), (1, 1), (2, 1)]
    assert {pages[0] for pages in sampler.pages if len(pages) == 1} == {1}  # always the same page
    # The fake says -0.5 of every token; the referee -0 of policy 0 and -1 of policy 1.
    assert (first.metrics["gap"], second.metrics["gap_max"]) == (0.5, 0.5)
    assert first.loss.stale and second.loss.stale  # type: ignore[union-attr]
    assert first.loss.weigh_kl  # type: ignore[union-attr]


def test_of_several_engines_the_worst_canary_counts(tiny_pages, prompter, referee) -> None:
    class Two(FakeSampler):
        """Of two engines, the second of which says something else."""

        def sample(self, prompts, how) -> Iterator[Group]:
            for group in super().sample(prompts, how):
                off = "#" in group.page.id
                lower = [replace(s, logprobs=tuple(value - off for value in s.logprobs)) for s in group.samples]
                yield replace(group, samples=tuple(lower))

    sampler = Two(prompter, DIFFERENT)
    sampler.engines = 2
    setting = elsewhere(sampling_setting(tiny_pages, sampler, referee))
    step = next(run_grpo(settings(ahead=1, steps=9), setting, referee))
    assert (step.metrics["gap"], step.metrics["gap_max"]) == (1.5, 1.5)


def test_without_ahead_nothing_is_asked_or_said_in_addition(tiny_pages, prompter, referee) -> None:
    sampler = Asked(prompter, DIFFERENT)
    setting = elsewhere(sampling_setting(tiny_pages, sampler, referee))
    (step,) = run_grpo(settings(steps=1), setting, referee)
    assert sampler.policies == [0] and not step.loss.stale  # type: ignore[union-attr]
    assert not step.loss.weigh_kl  # type: ignore[union-attr]
    assert loss_of(settings(minibatches=2)).weigh_kl  # the second update's samples are of before the first
    assert not {"gap", "behind", "wait_s"} & set(step.metrics)


def test_rests_are_known_when_the_next_rollout_is_drawn(tiny_pages, prompter) -> None:
    """Rollouts are drawn one after the other, in the thread too: the pages are those of a run that is not ahead."""
    flat = draw(tiny_pages, 1, 0, "0")[0]
    asked = []
    for ahead in (0, 1):
        cfg = settings(ahead=ahead, refills=0, pages_per_step=1, steps=9, rest=4)
        sampler, learner = WithoutCanary(prompter, flat_on(flat.number), ahead), Referee(prompter)
        steps = list(
            run_grpo(cfg, elsewhere(sampling_setting(tiny_pages, sampler, learner), lambda done: done == 9), learner)
        )
        assert steps[0].state == {"drawn": 2, "rests": {flat.id: [1, 1]}}
        asked.append((sampler.pages, sampler.seeds))
    assert asked[0] == asked[1]


class WithoutCanary(Asked):
    """Remembers all but the first question after a load, which with `ahead` is the canary's."""

    def __init__(self, prompter, script, ahead: int) -> None:
        super().__init__(prompter, script)
        self.ahead, self.fresh = ahead, False

    def load(self, weights, policy: int) -> None:
        super().load(weights, policy)
        self.fresh = self.ahead > 0

    def sample(self, prompts, how) -> Iterator[Group]:
        plain, self.fresh = self.fresh, False
        return FakeSampler.sample(self, prompts, how) if plain else super().sample(prompts, how)


def test_no_rollout_is_on_its_way_where_any_update_of_the_one_before_pauses(tiny_pages, prompter, referee) -> None:
    setting = elsewhere(sampling_setting(tiny_pages, Asked(prompter, DIFFERENT), referee), lambda done: done in (3, 8))
    steps = list(run_grpo(settings(ahead=1, steps=8, minibatches=2), setting, referee))
    # 0 updates behind, then 2 at the first of two updates; step 3 is the first of the second rollout.
    assert [step.metrics["behind"] for step in steps] == [0, 0, 2, 2, 0, 0, 2, 2]
    assert [step.state is not None for step in steps] == [False, True] * 4


# --- with a policy that moves -----------------------------------------------------------------------------------------


def test_rewards_are_asked_by_one_thread_at_a_time() -> None:
    """With a rollout on its way, whoever looks why those before it taught nothing asks the same pool."""
    log, second = list[str](), Event()

    class Pool:
        def score_all(self, pages: Sequence[Any]) -> list[Any]:
            first = not log
            log.append("begin")
            if first:
                others.start()
                second.wait(0.2)
            else:
                second.set()
            log.append("end")
            return []

    score_all = scorer(Pool())  # type: ignore[arg-type]
    others = Thread(target=score_all, args=([],))
    score_all([])
    others.join(30)
    assert log == ["begin", "end", "begin", "end"]


def by_letters(page: Page, group: Sequence[Transcript]) -> list[Score]:
    return [Score(value=sum(map(ord, transcript.body)) % 11 / 10) for transcript in group]


def scored(groups: Sequence[Group]) -> list[ScoredGroup]:
    return list(score(groups, [WeightedReward(name="letters", reward=by_letters)]))


def train(learner: Learner, sampler: Any, pages: Sequence[Page], folder: Path, *, killed: int | None = None) -> Run:
    """Five steps of GRPO that save after the third one, gone on with where they were; killed after a step, or not."""
    run = Run(folder)
    plan = Plan(total=5, save_every=3, keep=9, tripwires=watched())
    cfg = settings(ahead=1, steps=5)
    setting = elsewhere(sampling_setting(pages, sampler, learner, folder, score=scored), plan.pauses)

    def steps(state: Mapping[str, Any]) -> Iterator[Step]:
        for step in grpo(cfg, setting, state):
            yield step
            if learner.policy == killed:
                raise KeyboardInterrupt

    _, state = resume(learner, run)
    fit(steps, learner, run, plan, state)
    return run


def watched() -> config.Tripwires:
    algorithm = config.Grpo(pages=config.Typeset(synth="nano"), steps=3)
    rewards = (config.RewardChoice(name="eos"),)
    return config.Recipe(policy=config.Policy(path="nano"), algorithm=algorithm, rewards=rewards).watched


@pytest.fixture
def sampler(policy_dir: Path, prompter) -> HfSampler:
    return HfSampler(policy_dir, prompter)


def figures(run: Run) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in CLOCKS} for row in run.metrics()]


def test_trap_17_a_run_killed_one_ahead_ends_as_one_left_alone_to_the_bit(
    make_learner: MakeLearner, sampler: HfSampler, tiny_pages, tmp_path: Path
) -> None:
    whole = make_learner()
    alone = train(whole, sampler, tiny_pages, tmp_path / "alone")
    for moment in (2, 4):  # with a rollout on its way
        with pytest.raises(KeyboardInterrupt):
            train(make_learner(), sampler, tiny_pages, tmp_path / "killed", killed=moment)
    killed = make_learner()
    again = train(killed, sampler, tiny_pages, tmp_path / "killed")
    assert same(weights(killed), weights(whole))
    assert figures(again) == figures(alone)
    assert [row["behind"] for row in figures(alone)] == [0, 1, 1, 0, 1]


def test_age_alone_trips_no_wire_but_its_own(
    make_learner: MakeLearner, sampler: HfSampler, tiny_pages, tmp_path: Path
) -> None:
    rows = train(make_learner(lr=3e-3), sampler, tiny_pages, tmp_path).metrics()
    said = [wire for row in rows for wire in row.get("tripwires", ())]
    assert len(rows) == 5 and all(wire.startswith("warn: drift") for wire in said)
    assert max(row["drift_max"] for row in rows if row["behind"]) > 0.01  # as a gap it would have stopped the run
    assert max(row["gap_max"] for row in rows if "gap_max" in row) < 1e-4
    assert ["gap_max" in row for row in rows] == [True, True, False, True, False]  # nothing is loaded before a pause
    assert all(row["drift_max"] < 1e-4 for row in rows if not row["behind"])


@pytest.mark.parametrize("fault", ["keeps the old weights", "says something else", "keeps what it saw"])
def test_trap_7_one_ahead_a_broken_engine_is_caught_as_ever(
    make_learner: MakeLearner, sampler: HfSampler, tiny_pages, tmp_path: Path, monkeypatch, fault: str
) -> None:
    load, sample, image = sampler.load, sampler.sample, sampler._inputs
    first: list[Any] = []

    def keep(weights: Any, policy: int) -> None:
        if policy == 0:
            load(weights, policy)
        sampler.policy = policy

    def other(prompts: Any, how: Any) -> Iterator[Group]:
        for group in sample(prompts, how):
            lower = [replace(s, logprobs=tuple(value - 0.3 for value in s.logprobs)) for s in group.samples]
            yield replace(group, samples=tuple(lower))

    def blind(*given: Any) -> dict:
        inputs = image(*given)
        first.append(inputs)  # twice for each answer: of each page, and of each sample
        return {**inputs, "pixel_values": inputs["pixel_values"] * 0} if len(first) > 6 else inputs

    broken = {"keeps the old weights": ("load", keep), "says something else": ("sample", other)}
    monkeypatch.setattr(sampler, *broken.get(fault, ("_inputs", blind)))
    with pytest.raises(UserError, match=r"gap(_max)? .*sampler and learner do not compute the same policy"):
        train(make_learner(lr=3e-3), sampler, tiny_pages, tmp_path)


def test_a_run_that_goes_back_leaves_no_rollout_behind(make_learner: MakeLearner, prompter, tiny_pages, tmp_path):
    """The rollout on its way is waited for and thrown away; the run goes on with fresh samples of other pages."""
    learner, sampler = make_learner(), Asked(prompter, DIFFERENT)
    plan = Plan(total=5, save_every=2, keep=9, tripwires=wires())
    setting = elsewhere(sampling_setting(tiny_pages, sampler, learner, tmp_path), plan.pauses)
    seen: list[tuple[int, int]] = []

    def steps(state: Mapping[str, Any]) -> Iterator[Step]:
        for step in grpo(settings(ahead=1, steps=5), setting, state):
            seen.append((learner.policy, int(step.metrics["pages_drawn"])))
            yield replace(step, metrics={**step.metrics, "length": 99.0 if seen == UNTIL_BAD else 1.0})

    fit(steps, learner, Run(tmp_path), plan)
    assert seen == [*UNTIL_BAD, (2, 8), (3, 10), (4, 12)]


UNTIL_BAD = [(0, 2), (1, 4), (2, 6)]


def wires() -> config.Tripwires:
    off = config.Tripwire(above=1e9)
    length = config.Tripwire(above=50.0, steps=1, then="roll_back")
    return config.Tripwires(length=length, gap=off, gap_max=off, grad_norm=off, entropy=off)


# --- what makes up for it ---------------------------------------------------------------------------------------------


def test_stale_samples_are_weighed_by_the_policy_that_is_updated_over_the_one_that_wrote(
    make_learner: MakeLearner, prompter, tiny_pages
) -> None:
    """Tokens of log-probability -0.5 under the writer: the mean weight is that of the learner's own at its turn."""
    learner = make_learner(lr=1e-3)
    setting = elsewhere(sampling_setting(tiny_pages, FakeSampler(prompter, lambda page, k: ("a", "bc")[k]), learner))
    for number, step in enumerate(grpo(settings(ahead=1, steps=3, importance_cap=1e9), setting, {})):
        own = learner.logprobs(step.rows)
        by_hand = [math.exp(value + 0.5) for row in own for value in row]
        got = learner.update(step.rows, step.loss)  # type: ignore[arg-type]
        assert got["importance"] == pytest.approx(sum(by_hand) / len(by_hand), rel=1e-5)
        assert got["drift_max"] == pytest.approx(max(abs(math.log(weight)) for weight in by_hand), rel=1e-4)
        assert step.metrics["behind"] == (number > 0)
