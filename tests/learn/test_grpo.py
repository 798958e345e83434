"""GRPO as a generator of steps: which pages, which rows, when to stop, going on after a kill, and what it teaches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from ocr_rl import config
from ocr_rl.contract import Page, Score, Transcript, UserError
from ocr_rl.learn.algos.grpo import grpo
from ocr_rl.learn.progress import best_and_worst
from ocr_rl.learn.step import Step
from ocr_rl.pages.epochs import draw
from ocr_rl.rollout.crediting import SiblingCredit
from ocr_rl.rollout.scoring import FaultBudget, WeightedReward, score
from tests.fakes import FakeSampler
from tests.learn.conftest import Asked, Counter, MakeLearner, longer, sampling_setting


def settings(**changes) -> config.Grpo:
    fields = {"pages": {"synth": "nano"}, "steps": 4, "pages_per_step": 2, "samples_per_page": 2}
    return config.Grpo.model_validate({**fields, **changes})


DIFFERENT = lambda page, k: "abc" * k


def flat_on(*numbers: int) -> Callable[[Page, int], str]:
    return lambda page, k: "same" if page.number in numbers else DIFFERENT(page, k)


def run_grpo(
    cfg: config.Grpo, pages: Sequence[Page], sampler: FakeSampler, learner: Counter, state: dict | None = None
) -> Iterator[Step]:
    """Steps, the learner's version going up after each as `fit` does it."""
    for step in grpo(cfg, sampling_setting(pages, sampler, learner), state or {}):
        learner.policy += 1
        yield step


def test_every_rollout_is_sampled_with_the_weights_of_the_last_update(tiny_pages, prompter, counter) -> None:
    sampler = Asked(prompter, DIFFERENT)
    steps = list(run_grpo(settings(), tiny_pages, sampler, counter))
    assert len(steps) == counter.policy == 4
    assert sampler.policies == [0, 1, 2, 3]
    assert len(set(sampler.seeds)) == 4
    assert sampler.pages == [[page.number for page in draw(tiny_pages, 2, at, "0")] for at in (0, 2, 4, 6)]


def test_rows_and_figures_of_a_step(tiny_pages, prompter, counter, capsys: pytest.CaptureFixture[str]) -> None:
    step = next(run_grpo(settings(samples_per_page=4), tiny_pages, Asked(prompter, DIFFERENT), counter))
    # "", "abc", "abcabc" and, cut off at 8 tokens, "abcabcab": 1, 4, 7 and 8 tokens, rewards 0, 0.3, 0.6 and 0.8
    assert [len(row.completion_ids) for row in step.rows] == 2 * [1, 4, 7, 8]
    assert [row.group_id for row in step.rows] == [0] * 4 + [1] * 4
    assert [group.group.page.number for group in step.groups] == [p.number for p in draw(tiny_pages, 2, 0, "0")]
    assert step.metrics["reward"] == pytest.approx(0.425)
    assert step.metrics["longer"] == pytest.approx(0.425)
    assert step.metrics["longer/characters"] == pytest.approx(17 / 4)
    assert step.metrics["length"] == 5
    prompts = [len(group.group.prompt.expanded_ids) for group in step.groups]
    assert step.metrics["prompt_tokens"] == sum(prompts) / 2
    assert step.metrics["finished"] == 0.75
    assert step.metrics["flat_groups"] == 0
    assert {(row.temperature, row.banned_ids) for row in step.rows} == {(0.7, prompter.banned_ids)}
    assert json.loads(json.dumps(step.state)) == {"drawn": 2}
    assert "share of the advantage on the first 2 groups: longer 100%" in capsys.readouterr().out


def test_samples_that_their_page_s_limit_cut_are_counted_and_unfinished(tiny_pages, prompter, counter) -> None:
    pages = [replace(page, id=f"d:p{page.number}") for page in tiny_pages[:2]]

    def step(limits: dict[str, int]) -> Step:
        setting = sampling_setting(pages, Asked(prompter, DIFFERENT), counter)
        return next(grpo(settings(samples_per_page=4), replace(setting, page_limits=limits), {}))

    # 1, 4, 7 and 8 tokens, the last one cut off by max_tokens: of one page 1, 4, 5 and 5.
    limited = step({"d:p1": 5})
    assert sorted(len(row.completion_ids) for row in limited.rows) == [1, 1, 4, 4, 5, 5, 7, 8]
    assert limited.metrics["cut_by_page"] == 2 and limited.metrics["finished"] == 5 / 8
    assert "cut_by_page" not in step({}).metrics
    assert limited.state == step({}).state


def test_credit_gives_each_token_its_own_and_off_is_as_before(tiny_pages, prompter, counter) -> None:
    def first_step(credit: SiblingCredit | None) -> Step:
        setting = sampling_setting(tiny_pages, Asked(prompter, lambda page, k: ("abcd", "abxdy")[k]), counter)
        return next(grpo(settings(), replace(setting, credit=credit), {}))

    plain, credited = first_step(None), first_step(SiblingCredit(share=1.0))
    for row, even in zip(credited.rows, plain.rows, strict=True):
        assert isinstance(row.advantage, tuple) and isinstance(even.advantage, float)
        assert len(row.advantage) == len(row.completion_ids)
        assert sum(row.advantage) == pytest.approx(even.advantage * len(row.completion_ids))
        assert row.advantage[:2] == (0.0, 0.0) and row.advantage[2] != 0.0  # "c" or "x" was the first decision
        assert replace(row, advantage=0.0) == replace(even, advantage=0.0)
    assert credited.metrics["uncredited"] == 0
    assert {"uncredited", "credit_s"} == credited.metrics.keys() - plain.metrics.keys()
    assert all(group.token_advantages is None for group in plain.groups)
    kept, old = (best_and_worst(step.groups[0]) for step in (credited, plain))
    assert kept["samples"][0].pop("token_advantages") == [round(a, 4) for a in credited.rows[0].advantage]  # type: ignore[union-attr]
    assert kept["samples"][0] == old["samples"][0]


def test_trap_14_groups_without_signal_are_replaced_by_further_pages(tiny_pages, prompter, counter) -> None:
    order = [page.number for page in draw(tiny_pages, 4, 0, "0")]
    sampler = Asked(prompter, flat_on(order[1]))
    step = next(run_grpo(settings(refills=2), tiny_pages, sampler, counter))
    assert sampler.pages == [order[:2], order[2:3]]  # one was missing, one was drawn
    assert [group.group.page.number for group in step.groups] == [order[0], order[2]]
    assert step.metrics["flat_groups"] == pytest.approx(1 / 3)
    assert step.state == {"drawn": 3}


def test_a_page_that_teaches_nothing_rests_also_after_a_resume(tiny_pages, prompter, counter) -> None:
    flat = draw(tiny_pages, 1, 0, "0")[0]
    cfg = settings(refills=0, pages_per_step=1, steps=9, rest=4)
    alone = Asked(prompter, flat_on(flat.number))
    steps = list(run_grpo(cfg, tiny_pages, alone, counter))
    assert steps[0].state == {"drawn": 2, "rests": {flat.id: [1, 1]}}
    # Of epochs 0 to 3 the page is asked in the first and, after one without it, in the third; then it rests for two.
    assert [page for pages in alone.pages for page in pages].count(flat.number) == 2
    resumed = Asked(prompter, flat_on(flat.number))
    counter.policy = 3
    list(run_grpo(cfg, tiny_pages, resumed, counter, json.loads(json.dumps(steps[2].state))))
    assert alone.pages[-len(resumed.pages) :] == resumed.pages


def test_the_share_of_groups_that_teach_is_shown_by_part(tiny_pages, prompter, counter) -> None:
    flat = draw(tiny_pages, 1, 0, "0")[0].number
    step = next(run_grpo(settings(refills=0), tiny_pages, Asked(prompter, flat_on(flat)), counter))
    assert step.metrics["live/longer/characters"] == 0.5


def test_a_reward_fault_costs_its_group_alone_is_counted_and_refilled(tiny_pages, prompter, counter) -> None:
    order = [page.number for page in draw(tiny_pages, 4, 0, "0")]

    def breaks(page: Page, group: Sequence[Transcript]) -> list[Score]:
        return longer(page, group if page.number != order[1] else group[1:])

    budget = FaultBudget()
    scored = lambda groups: list(score(groups, [WeightedReward(name="breaks", reward=breaks)], budget))
    sampler = Asked(prompter, DIFFERENT)
    step = next(grpo(settings(refills=1), sampling_setting(tiny_pages, sampler, counter, score=scored), {}))
    assert [group.group.page.number for group in step.groups] == [order[0], order[2]]
    assert step.metrics["faults"] == budget.total == 1
    assert step.metrics["reward"] == pytest.approx(0.15)  # of 0 and 0.3, twice: the fault is no 0


def test_refills_are_bounded_and_a_small_step_is_a_step(tiny_pages, prompter, counter) -> None:
    order = [page.number for page in draw(tiny_pages, 4, 0, "0")]
    sampler = Asked(prompter, flat_on(order[1], order[2]))
    step = next(run_grpo(settings(refills=1), tiny_pages, sampler, counter))
    assert sampler.pages == [order[:2], order[2:3]]
    assert len(step.groups) == 1
    assert sum(row.weight * len(row.completion_ids) for row in step.rows) == pytest.approx(1.0)


def test_a_refill_shares_the_batch_of_its_step(tiny_pages, prompter, counter) -> None:
    order = [page.number for page in draw(tiny_pages, 4, 0, "0")]
    sampler = Asked(prompter, flat_on(order[1]))
    step = next(run_grpo(settings(advantage="batch_std", refills=1), tiny_pages, sampler, counter))
    # Rewards 0 and 0.3 twice, and the flat page's 0.4 twice: one standard deviation, 0.18619, for all of them.
    assert [row.advantage for row in step.rows] == pytest.approx([-0.8052, 0.8052] * 2, abs=1e-3)


def test_pages_that_teach_nothing_stop_the_run(tiny_pages, prompter, counter) -> None:
    sampler = Asked(prompter, flat_on(1, 2, 3, 4))
    with pytest.raises(UserError, match="20 rollouts in a row gave no group"):
        list(run_grpo(settings(refills=0), tiny_pages, sampler, counter))
    assert len(sampler.pages) == 20
    assert len(set(sampler.seeds)) == 20  # the same weights and pages came again, other samples were asked for


def test_a_policy_that_reads_nothing_stops_the_run_after_three_rollouts(tiny_pages, prompter, counter) -> None:
    sampler = Asked(prompter, lambda page, k: "")
    with pytest.raises(UserError, match="grpo: 3 rollouts in a row .* the policy reads none of the pages") as stopped:
        list(run_grpo(settings(refills=0), tiny_pages, sampler, counter))
    assert len(sampler.pages) == 3 and "SFT" in str(stopped.value)


def test_a_gate_that_holds_everything_back_stops_the_run_after_three_rollouts(tiny_pages, prompter, counter) -> None:
    sampler = Asked(prompter, DIFFERENT)
    never = lambda page, group: [Score(value=0.1) for _ in group]
    held = WeightedReward(name="never", reward=never, weight=0, gate=0.5)
    scored = lambda groups: list(score(groups, [WeightedReward(name="longer", reward=longer), held]))
    steps = grpo(settings(refills=0), sampling_setting(tiny_pages, sampler, counter, score=scored), {})
    with pytest.raises(UserError, match="3 rollouts in a row .* gates hold everything back, .*: never 100%"):
        next(steps)
    assert len(sampler.pages) == 3


def test_what_a_rollout_that_taught_nothing_cost_is_charged_to_the_next_step(tiny_pages, prompter, counter) -> None:
    flat = draw(tiny_pages, 1, 0, "0")[0].number
    cfg = settings(refills=0, pages_per_step=1)
    first, second, *_ = run_grpo(cfg, tiny_pages, Asked(prompter, flat_on(flat)), counter)
    assert first.metrics["generated"] == 2 * 5 + 1 + 4  # "same" twice, then "" and "abc"; each with its EOS
    assert second.metrics["generated"] == 1 + 4


def test_only_unfinished_samples_that_are_masked_stop_the_run_too(tiny_pages, prompter, counter) -> None:
    sampler = Asked(prompter, lambda page, k: "ab"[k] * (20 + k))
    first = lambda page, group: [Score(value=float(transcript.body[0] == "a")) for transcript in group]
    scored = lambda groups: list(score(groups, [WeightedReward(name="first", reward=first)]))
    steps = grpo(settings(mask_unfinished=True), sampling_setting(tiny_pages, sampler, counter, score=scored), {})
    with pytest.raises(UserError, match="20 rollouts in a row"):
        next(steps)


@pytest.mark.parametrize("done", [1, 2, 3])
def test_grpo_goes_on_where_it_was(tiny_pages, prompter, done: int) -> None:
    whole = Asked(prompter, flat_on(2))
    steps = list(run_grpo(settings(), tiny_pages, whole, Counter(prompter)))
    rest = Asked(prompter, flat_on(2))
    state = json.loads(json.dumps(steps[done - 1].state))
    again = list(run_grpo(settings(), tiny_pages, rest, Counter(prompter, done), state))
    assert [step.rows for step in again] == [step.rows for step in steps[done:]]
    assert rest.pages == whole.pages[-len(rest.pages) :]
    assert rest.seeds == whole.seeds[-len(rest.seeds) :]


# --- minibatches ------------------------------------------------------------------------------------------------------


def test_minibatches_share_a_rollout_and_only_the_last_can_be_saved(tiny_pages, prompter, counter) -> None:
    sampler = Asked(prompter, DIFFERENT)
    steps = list(run_grpo(settings(minibatches=2), tiny_pages, sampler, counter))
    assert sampler.policies == [0, 2]
    assert [step.state for step in steps] == [None, {"drawn": 2}, None, {"drawn": 4}]
    assert [len(step.groups) for step in steps] == [0, 2, 0, 2]
    assert all(sum(row.weight * len(row.completion_ids) for row in step.rows) == pytest.approx(1) for step in steps)


def test_the_last_step_can_be_saved_even_in_the_middle_of_a_rollout(tiny_pages, prompter, counter) -> None:
    steps = list(run_grpo(settings(minibatches=2, steps=3), tiny_pages, Asked(prompter, DIFFERENT), counter))
    assert [step.state for step in steps] == [None, {"drawn": 2}, {"drawn": 4}]
    assert counter.policy == 3


# --- with a real policy -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", ["token", "sequence", "geometric"])
def test_one_update_makes_the_better_sample_likelier(
    tiny_pages, prompter, make_learner: MakeLearner, ratio: str
) -> None:
    learner = make_learner(lr=2e-4)
    sampler = FakeSampler(prompter, lambda page, k: ("good", "b")[k])  # the longer one is the better one
    cfg = settings(ratio=ratio, steps=1)
    step = next(grpo(cfg, sampling_setting(tiny_pages, sampler, learner), {}))
    assert sampler.loaded == list(learner.module.state_dict())
    before = [sum(values) for values in learner.logprobs(step.rows)]
    metrics = learner.update(step.rows, step.loss)
    after = [sum(values) for values in learner.logprobs(step.rows)]
    gains = [now - was for was, now in zip(before, after, strict=True)]
    assert [row.advantage > 0 for row in step.rows] == [True, False, True, False]
    for better, worse in (gains[:2], gains[2:]):  # the worse one may rise too: both end with EOS
        assert better > 0
        assert better > worse
    assert metrics["clip_share"] == 0  # on policy: the ratio is 1


def test_the_kl_term_holds_the_policy_back(tiny_pages, prompter, make_learner: MakeLearner) -> None:
    learner = make_learner(lr=1e-3, reference=True)
    sampler = FakeSampler(prompter, lambda page, k: ("good", "b")[k])
    kls = []
    for step in grpo(settings(beta=0.1, steps=3), sampling_setting(tiny_pages, sampler, learner), {}):
        assert all(row.ref_logprobs is not None for row in step.rows)
        kls.append(learner.update(step.rows, step.loss)["kl"])
    assert kls[0] == pytest.approx(0, abs=1e-5)
    assert kls[2] > 1e-4
