"""A reward model: which pairs it learns, what its folder holds, and the reward that it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch

from ocr_rl import config
from ocr_rl.contract import Page, Score, Transcript, UserError
from ocr_rl.learn.algos.pairs import Pair, flipped, ranked_pairs
from ocr_rl.learn.algos.reward_model import held_out_pairs, reward_model, split_by_page, with_margins
from ocr_rl.learn.algos.setting import Setting
from ocr_rl.learn.learned_reward import FACTS, HEAD, LearnedReward, RewardLearner, require_reward_model
from ocr_rl.learn.network import Reads
from ocr_rl.models.load import load_model
from ocr_rl.models.settings import PromptSettings
from ocr_rl.objectives.scalar_losses import BradleyTerry
from ocr_rl.rollout.flow import ComparedGroup, Group, Row, Sample
from ocr_rl.rollout.prompt import Origin, Prompter
from ocr_rl.rollout.reward_pool import RewardPool, weighted, without_learned
from ocr_rl.run import Run
from ocr_rl.train.evaluation import by_pairs
from tests.learn.conftest import Asked, Referee, sampling_setting

MakeReward = Callable[[], RewardLearner]


@pytest.fixture
def make_reward(policy_dir: Path, prompter: Prompter) -> MakeReward:
    def make() -> RewardLearner:
        return RewardLearner(
            Origin(path=str(policy_dir), settings=PromptSettings(), prompter=prompter),
            config.Policy(path=str(policy_dir)),
            config.Optim.model_validate({"lr": 1e-3, "micro_tokens": 4096}),
            steps=100,
            reference=False,
            reads=Reads.SCALARS,
        )

    return make


def settings(**changes) -> config.RewardModel:
    fields = {"pages": {"synth": "nano"}, "steps": 2, "pages_per_step": 2, "held_out": 0.3}
    own = {} if "preferences" in changes else {"samples_per_page": 4}
    return config.RewardModel.model_validate({**fields, **own, **changes})


def longer(page: Page, k: int) -> str:
    return "abc" * (k + 1)


# --- which pairs ------------------------------------------------------------------------------------------------------


def group_of(tiny_pages, prompter, rewards: tuple[float, ...], cut: tuple[int, ...] = ()) -> ComparedGroup:
    samples = tuple(
        Sample(token_ids=(k + 1,), logprobs=(-1.0,), text="", finish="length" if k in cut else "stop", policy=0)
        for k in range(len(rewards))
    )
    group = Group(
        page=tiny_pages[0], prompt=prompter.prompt(tiny_pages[0]), samples=samples, temperature=1.0, banned_ids=()
    )
    return ComparedGroup(group=group, scores={}, rewards=rewards, advantages=rewards)


def test_pairs_of_a_page_are_the_best_and_the_worst_then_the_second_of_both(tiny_pages, prompter) -> None:
    group = group_of(tiny_pages, prompter, (0.5, 0.9, 0.1, 0.7, 0.3, 0.5))
    found = [(pair.chosen_ids[0], pair.rejected_ids[0]) for pair in ranked_pairs(group, 0.0, 3)]
    assert found == [(2, 3), (4, 5)]  # the third of both are equal: a tie
    assert [pair.chosen_reward for pair in ranked_pairs(group, 0.5, 3)] == [0.9]
    cut = group_of(tiny_pages, prompter, (0.5, 0.9, 0.1, 0.7), cut=(1, 2))
    assert [(p.chosen_ids[0], p.rejected_ids[0]) for p in ranked_pairs(cut, 0.0, 2)] == [(4, 3)]


def test_all_pairs_of_a_page_are_on_one_side() -> None:
    pairs = [Pair(page_id=f"p{i // 3}", chosen_ids=(i,), rejected_ids=(0,)) for i in range(30)]
    learnt, held_out = split_by_page(pairs, 0.2, 7)
    pages = {pair.page_id for pair in held_out}
    assert len(pages) == 2 and len(held_out) == 6 and len(learnt) == 24
    assert not pages & {pair.page_id for pair in learnt}
    assert split_by_page(pairs[::-1], 0.2, 7)[1] == held_out[::-1]  # by page, whatever the order
    assert {pair.page_id for pair in split_by_page(pairs, 0.2, 8)[1]} != pages
    with pytest.raises(UserError, match="1 page gave pairs"):
        split_by_page(pairs[:3], 0.2, 7)


def test_a_graded_margin_is_the_share_of_the_difference(tiny_pages, prompter) -> None:
    pair = Pair(page_id="p", chosen_ids=(1,), rejected_ids=(2,), chosen_reward=0.75, rejected_reward=0.25)
    given = replace(pair, chosen_reward=None, rejected_reward=None)
    prompt = prompter.prompt(tiny_pages[0])
    rows = with_margins([(pair, prompt), (given, prompt)], 2.0)
    assert [row.margin for row in rows] == [1.0, 0.0, 0.0, 0.0]
    assert [row.advantage for row in rows] == [1.0, -1.0, 1.0, -1.0]
    (wrong,) = flipped([pair], 1.0, 0)
    assert with_margins([(wrong, prompt)], 2.0)[0].margin == 1.0  # a wrong label asks for as much as a right one


def test_steps_learn_from_pairs_that_are_not_held_out(tiny_pages, prompter, tmp_path: Path) -> None:
    learner = Referee(prompter)
    setting = sampling_setting(tiny_pages, Asked(prompter, longer), learner, tmp_path)
    steps = []
    for step in reward_model(settings(pairs_per_page=2), setting, {}):
        learner.policy += 1
        steps.append(step)
    held_out = {pair.page_id for pair in held_out_pairs(tmp_path)}
    assert len(steps) == 2 and len(held_out) == 1
    assert {row.prompt.page_id for step in steps for row in step.rows} <= {p.id for p in tiny_pages} - held_out
    assert steps[0].loss == BradleyTerry() and steps[0].metrics["pairs_held_out"] == len(held_out_pairs(tmp_path))
    assert steps[0].critic_loss is None


def test_labels_are_flipped_where_they_are_learnt_from_alone(tiny_pages, prompter, tmp_path: Path) -> None:
    setting = sampling_setting(tiny_pages, Asked(prompter, longer), Referee(prompter), tmp_path)
    next(reward_model(settings(flip=1.0), setting, {}))
    learnt = json.loads((tmp_path / "pairs" / "round_000.json").read_text())["pairs"]
    assert all(pair["chosen_reward"] < pair["rejected_reward"] for pair in learnt)
    assert all((pair.chosen_reward or 0) > (pair.rejected_reward or 0) for pair in held_out_pairs(tmp_path))


def test_somebodys_preferences_need_no_sampler(tiny_pages, prompter, tmp_path: Path) -> None:
    name, file = tiny_pages[0].pdf.name, tmp_path / "pairs.jsonl"
    rows = [{"pdf": name, "page": n, "chosen": "a", "rejected": "b"} for n in (1, 2, 3)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    setting = Setting(
        seed=0,
        learner=Referee(prompter),  # type: ignore[arg-type]
        open_pages=lambda source: tiny_pages,
        folder=tmp_path,
        pages=tiny_pages,
    )
    step = next(reward_model(settings(preferences=file), setting, {}))
    assert len(step.rows) == 4 and len(held_out_pairs(tmp_path)) == 1


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"pairs_per_page": 3}, "at most half"),
        ({"held_out": 0}, "greater than 0"),
        ({"preferences": "a.jsonl", "graded_margin": 1.0}, "graded_margin is for"),
    ],
)
def test_wrong_settings(changes: dict, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        settings(**changes)


# --- the folder and the reward ----------------------------------------------------------------------------------------


@pytest.fixture
def taught(make_reward: MakeReward, rows: list[Row]) -> tuple[RewardLearner, list[Row]]:
    """A reward model that prefers the second text of a page to the first, and the rows that it learnt from."""
    pairs = [
        replace(row, advantage=sign, weight=0.5, temperature=1.0, banned_ids=())
        for group in (rows[:4], rows[4:])
        for row, sign in ((group[1], 1.0), (group[0], -1.0))
    ]
    learner = make_reward()
    for _ in range(12):
        figures = learner.update(pairs, BradleyTerry())
    assert figures["accuracy_mean"] == 1.0
    return learner, pairs


def test_a_folder_loads_again_as_the_same_reward(taught, tiny_pages, prompter, tmp_path: Path) -> None:
    learner, pairs = taught
    scores = learner.scores(pairs)
    learner.centred_on(scores)
    centre = learner.centre()
    assert centre == pytest.approx(sum(scores) / len(scores))
    learner.save(tmp_path / "model")
    load_model(str(tmp_path / "model"))  # an ordinary folder beside
    origin = Origin(path=str(tmp_path / "model"), settings=PromptSettings(), prompter=prompter)
    reward = LearnedReward(origin, config.Policy(path=origin.path), micro_tokens=4096)
    texts = ("a longer line of text", "Page 1")
    group = [Transcript(raw=text, body=text, finish="stop", num_tokens=9) for text in texts]
    answers = reward(tiny_pages[0], group)
    assert [answer.parts["score"] for answer in answers] == pytest.approx(
        [score - centre for score in scores[:2]], abs=1e-5
    )
    better, worse = (answer.value or 0.0 for answer in answers)
    assert 0 < worse < 0.5 < better < 1  # centred on what it was measured with
    unfinished = replace(group[0], finish="length")
    assert reward(tiny_pages[0], [unfinished])[0].parts != answers[0].parts  # it sees whether there is an end
    assert len(reward(tiny_pages[0], [Transcript(raw="", body="", finish="stop", num_tokens=1)])) == 1


def test_what_is_no_reward_model_is_a_sentence(taught, policy_dir, prompter, tmp_path: Path) -> None:
    learner, _ = taught
    with pytest.raises(UserError, match="there is no reward_model.json; give the `model` folder"):
        require_reward_model(str(policy_dir))
    folder = tmp_path / "model"
    learner.save(folder)
    origin = Origin(path=str(folder), settings=PromptSettings(), prompter=prompter)
    with pytest.raises(UserError, match="centre is None, not a number"):
        LearnedReward(origin, config.Policy(path=origin.path), micro_tokens=64)
    (folder / FACTS).write_text('{"centre": 0.5}')
    (folder / HEAD).write_bytes(b"no tensors")
    with pytest.raises(UserError, match=f"{HEAD} cannot be read"):
        LearnedReward(origin, config.Policy(path=origin.path), micro_tokens=64)
    (folder / FACTS).write_text("[]")
    with pytest.raises(UserError, match="is no reward model's"):
        LearnedReward(origin, config.Policy(path=origin.path), micro_tokens=64)


def test_an_evaluation_centres_the_scores_and_draws_them(taught, tiny_pages, prompter, tmp_path: Path) -> None:
    learner, _ = taught
    setting = sampling_setting(tiny_pages, Asked(prompter, longer), Referee(prompter), tmp_path)
    next(reward_model(settings(), setting, {}))
    figures = by_pairs(learner, tiny_pages, Run(tmp_path))(3)
    assert 0 <= figures["eval_accuracy"] <= 1
    measured = learner.centre()
    assert learner.anchors is not None and measured == pytest.approx(fmean(learner.scores(learner.anchors())))
    learner.policy += 1  # as an update would: what is saved then is measured again
    with torch.no_grad():
        learner.head.linear.bias.add_(1.0)  # type: ignore[union-attr]
    assert learner.centre() == pytest.approx((measured or 0) + 1, abs=1e-4)
    report = json.loads((tmp_path / "report" / "reward_model" / "report.json").read_text())
    assert report["step"] == 3 and report["accuracy"]["clusters"] == 1
    assert (tmp_path / "report" / "reward_model" / "reliability.png").stat().st_size > 1000


def test_the_pool_asks_a_learned_reward_in_this_process(tiny_pages) -> None:
    class Half:
        def __call__(self, page, group):
            return [Score(value=0.5) for _ in group]

    name = "reward_model:somewhere"
    choices = [config.RewardChoice(name=name, weight=3), config.RewardChoice(name="eos")]
    learned = {name: Half()}
    pool = RewardPool(
        choices=choices, rewards=weighted(choices, learned=learned), workers=1, timeout_s=30, learned=learned
    )
    group = [Transcript(raw="a", body="a", finish="stop", num_tokens=2)] * 2
    try:
        (scores,) = pool.score_all([(tiny_pages[0], group)])
        assert scores.rewards == (0.625, 0.625)  # type: ignore[union-attr]
        alone = without_learned(pool)
        assert [reward.name for reward in alone.rewards] == ["eos"]
    finally:
        pool.close()
    with pytest.raises(UserError, match="is a learned one, which only a training run asks"):
        weighted(choices)
    with pytest.raises(UserError, match="has no options"):
        weighted([config.RewardChoice(name=name, options={"nonsense": 3})], learned=learned)


def test_a_gate_may_hold_a_learned_reward(tiny_pages) -> None:
    name, half = "reward_model:somewhere", lambda page, group: [Score(value=0.5) for _ in group]
    gates = [config.Gate(name="repetition", at_least=0.5, holds=(name,))]
    both = [config.Gate(name="distinct", at_least=0.5, holds=(name, "eos"))]
    choices = [config.RewardChoice(name=name), config.RewardChoice(name="eos"), *gates, *both]
    learned = {name: half}
    rewards = weighted(choices, learned=learned)  # type: ignore[arg-type]
    pool = RewardPool(choices=choices, rewards=rewards, workers=1, timeout_s=30, learned=learned)  # type: ignore[arg-type]
    plain = without_learned(pool)
    assert [(reward.name, reward.holds) for reward in plain.rewards] == [("eos", ()), ("distinct", ("eos",))]
