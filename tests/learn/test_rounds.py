"""DPO and best-of-N SFT: which pairs come of a round, what is learnt from them, and going on after a kill."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from ocr_rl import config
from ocr_rl.contract import Page, Score, UserError
from ocr_rl.learn.algos.best_of_n import best_of_n
from ocr_rl.learn.algos.dpo import dpo
from ocr_rl.learn.algos.pairs import Pair, best_and_worst, flipped, pair_rows
from ocr_rl.rollout.compare import with_advantages
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import Sampling
from ocr_rl.rollout.scoring import WeightedReward, score
from tests.fakes import FakeSampler
from tests.learn.conftest import Asked, MakeLearner, Referee, longer, sampling_setting, score_length

LN2 = math.log(2)


def settings(kind: type[config.Rounds] = config.Dpo, **changes):
    fields = {"pages": {"synth": "nano"}, "steps": 4, "pages_per_round": 4, "pages_per_step": 2, "samples_per_page": 3}
    return kind.model_validate({**fields, **changes})


LENGTHS = lambda page, k: "abc"[:k] if page.number != 3 else "same"


def run_rounds(algorithm, cfg, pages, sampler, learner, folder: Path):
    """Steps of a run in `folder`, the learner's version going up after each as `fit` does it."""
    for step in algorithm(cfg, sampling_setting(pages, sampler, learner, folder), {}):
        learner.policy += 1
        yield step


def test_offline_dpo_samples_once_and_drops_ties(tiny_pages, prompter: Prompter, tmp_path: Path) -> None:
    sampler, learner = Asked(prompter, LENGTHS), Referee(prompter)
    steps = list(run_rounds(dpo, settings(), tiny_pages, sampler, learner, tmp_path))
    assert sampler.policies == [0]
    assert (steps[0].metrics["pairs"], steps[0].metrics["ties"]) == (3, 1)
    assert all("pairs" not in step.metrics for step in steps[1:])
    for step in steps:
        chosen, rejected = step.rows[0::2], step.rows[1::2]
        assert [prompter.decode(row.completion_ids) for row in (*chosen, *rejected)] == ["ab", "ab", "", ""]
        assert [row.advantage for row in step.rows] == [1, -1, 1, -1]
        assert [row.weight for row in step.rows] == [0.5] * 4
        assert all(set(row.ref_logprobs or (1,)) == {0.0} for row in step.rows)  # of version 0, to the end


def test_each_round_samples_anew_and_moves_the_reference(tiny_pages, prompter: Prompter, tmp_path: Path) -> None:
    sampler, learner = Asked(prompter, LENGTHS), Referee(prompter)
    steps = list(run_rounds(dpo, settings(rounds=2), tiny_pages, sampler, learner, tmp_path))
    assert sampler.policies == [0, 2]
    assert len(set(sampler.seeds)) == 2
    assert [step.metrics["round"] for step in steps] == [0, 0, 1, 1]
    assert [(step.rows[0].ref_logprobs or (9,))[0] for step in steps] == [0, 0, -2, -2]


@pytest.mark.parametrize(("algorithm", "kind"), [(dpo, config.Dpo), (best_of_n, config.BestOfN)])
def test_the_first_round_says_what_share_each_reward_has(
    algorithm, kind, tiny_pages, prompter: Prompter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shouts = lambda page, group: [Score(value=float(transcript.body == "ab")) for transcript in group]
    rewards = [
        WeightedReward(name="longer", reward=longer, weight=0.75),
        WeightedReward(name="shouts", reward=shouts, weight=0.25),
    ]
    scored = lambda groups: list(score(groups, rewards))
    cfg, learner = settings(kind, rounds=2), Referee(prompter)
    setting = sampling_setting(tiny_pages, Asked(prompter, LENGTHS), learner, tmp_path, score=scored)
    for _ in algorithm(cfg, setting, {}):
        learner.policy += 1
    # "", "a", "ab": 0.75 * (0.1 + 0 + 0.1) against 0.25 * (1/3 + 1/3 + 2/3)
    shares = [line for line in capsys.readouterr().out.splitlines() if line.startswith("share of")]
    assert shares == ["share of what tells samples apart on the first 4 groups: shouts 69%, longer 31%"]


@pytest.mark.parametrize("done", [1, 2, 3])
def test_rounds_go_on_where_they_were(tiny_pages, prompter: Prompter, tmp_path: Path, done: int) -> None:
    learner = Referee(prompter)
    cfg = settings(rounds=2)
    whole = list(run_rounds(dpo, cfg, tiny_pages, Asked(prompter, LENGTHS), learner, tmp_path))
    for path in list((tmp_path / "pairs").iterdir()):
        if done < 2 and path.name == "round_001.json":
            path.unlink()  # a run killed in its first round
    again = Referee(prompter, policy=done)
    rest = list(run_rounds(dpo, cfg, tiny_pages, Asked(prompter, LENGTHS), again, tmp_path))
    assert [step.rows for step in rest] == [step.rows for step in whole[done:]]


def test_best_of_n_learns_from_the_best_alone(tiny_pages, prompter: Prompter, tmp_path: Path) -> None:
    sampler, learner = Asked(prompter, LENGTHS), Referee(prompter)
    steps = list(run_rounds(best_of_n, settings(config.BestOfN), tiny_pages, sampler, learner, tmp_path))
    assert {prompter.decode(row.completion_ids) for step in steps for row in step.rows} == {"ab"}
    assert [row.weight for row in steps[0].rows] == [1 / 6, 1 / 6]  # two letters and EOS, twice


def test_only_ties_stop_the_run(tiny_pages, prompter: Prompter, tmp_path: Path) -> None:
    sampler = Asked(prompter, lambda page, k: "same")
    with pytest.raises(UserError, match="no page gave a pair"):
        next(run_rounds(dpo, settings(), tiny_pages, sampler, Referee(prompter), tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_reward_fault_costs_its_group_and_is_counted(tiny_pages, prompter: Prompter, tmp_path: Path) -> None:
    scored = lambda groups: score_length(groups)[1:]
    setting = sampling_setting(tiny_pages, Asked(prompter, LENGTHS), Referee(prompter), tmp_path, score=scored)
    step = next(dpo(settings(), setting, {}))
    assert step.metrics["faults"] == 1


def test_a_margin_makes_more_ties(tiny_pages, prompter: Prompter) -> None:
    prompts = [(page, prompter.prompt(page)) for page in tiny_pages[:1]]
    sampler = FakeSampler(prompter, lambda page, k: "abcdef"[: 2 * k])
    (group,) = with_advantages(score_length(list(sampler.sample(prompts, sampling(3)))), "centred")
    pair = best_and_worst(group, 0.3)
    assert pair is not None
    assert (pair.chosen_reward, pair.rejected_reward) == (pytest.approx(0.4), 0)
    assert best_and_worst(group, 0.4) is None


def sampling(n: int) -> Sampling:
    return Sampling(n=n, temperature=1.0, max_tokens=9)


def test_flipping_exchanges_a_share_of_the_labels() -> None:
    pairs = [Pair(page_id=str(i), chosen_ids=(1,), rejected_ids=(2, i)) for i in range(10)]
    noisy = flipped(pairs, 0.3, seed=1)
    assert sum(pair.rejected_ids == (1,) for pair in noisy) == 3
    assert flipped(pairs, 0.3, seed=1) == noisy != flipped(pairs, 0.3, seed=2)
    assert flipped(pairs, 0.0, seed=1) == pairs


def test_a_pair_too_long_for_a_micro_batch_is_refused(tiny_pages, prompter: Prompter, tmp_path: Path) -> None:
    learner = Referee(prompter)
    learner.settings = config.Optim(micro_tokens=10)
    with pytest.raises(UserError, match="the longest pair has"):
        next(run_rounds(dpo, settings(), tiny_pages, Asked(prompter, LENGTHS), learner, tmp_path))


def test_what_was_cut_off_is_never_chosen(tiny_pages: list[Page], prompter: Prompter) -> None:
    prompts = [(page, prompter.prompt(page)) for page in tiny_pages[:1]]

    def pair(*texts: str) -> Pair | None:
        sampler = FakeSampler(prompter, lambda page, k: texts[k])
        (group,) = with_advantages(score_length(list(sampler.sample(prompts, sampling(len(texts))))), "centred")
        return best_and_worst(group, 0.0)

    best = pair("a" * 20, "aaa", "a")  # rewards 0.9 (cut off at 9 tokens), 0.3, 0.1
    assert best is not None and best.chosen_reward == pytest.approx(0.3)
    assert pair("a" * 20, "a") is None  # the only one that ended is the worst
    assert pair("a" * 20, "b" * 30) is None


def test_pairs_of_a_policy_that_is_no_more_are_dropped(tiny_pages, prompter: Prompter, tmp_path: Path) -> None:
    cfg = settings(rounds=2)
    list(run_rounds(dpo, cfg, tiny_pages, Asked(prompter, LENGTHS), Referee(prompter), tmp_path))
    kept = (tmp_path / "pairs" / "round_000.json").stat().st_mtime_ns
    next(run_rounds(dpo, cfg, tiny_pages, Asked(prompter, LENGTHS), Referee(prompter, policy=1), tmp_path))
    assert [path.name for path in (tmp_path / "pairs").iterdir()] == ["round_000.json"]
    assert (tmp_path / "pairs" / "round_000.json").stat().st_mtime_ns == kept


# --- with a real policy -----------------------------------------------------------------------------------------------


def test_dpo_widens_the_margin_from_0(tiny_pages, prompter: Prompter, make_learner: MakeLearner, tmp_path) -> None:
    learner = make_learner(lr=2e-4)
    sampler = FakeSampler(prompter, lambda page, k: ("good", "b", "ok")[k])
    rows = []
    for step in dpo(settings(), sampling_setting(tiny_pages, sampler, learner, tmp_path), {}):
        rows.append(learner.update(step.rows, step.loss))
    assert rows[0]["loss"] == pytest.approx(LN2, abs=1e-5)
    assert rows[0]["margin_mean"] == pytest.approx(0, abs=1e-4)
    assert rows[-1]["margin_mean"] > 0.01
    assert rows[-1]["loss"] < LN2
    pair = Pair(page_id=tiny_pages[0].id, chosen_ids=(9,), rejected_ids=(8,))
    assert [row.ref_logprobs for row in pair_rows([(pair, prompter.prompt(tiny_pages[0]))])] == [None, None]
