"""PPO as a generator of steps: what a token is worth, which losses, when to stop and go on; GRPO as its limit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from ocr_rl import config
from ocr_rl.contract import Page, UserError
from ocr_rl.learn.algos.ppo import losses_of, ppo, with_critic
from ocr_rl.learn.algos.rollouts import loss_of, to_rows
from ocr_rl.learn.algos.setting import PpoSetting
from ocr_rl.learn.step import Step
from ocr_rl.objectives.advantages import centred
from ocr_rl.objectives.losses import PolicyGradient
from ocr_rl.objectives.scalar_losses import ValueLoss, WithCritic
from ocr_rl.rollout.flow import ComparedGroup, Group, Row, Sample
from tests.fakes import FakeSampler
from tests.learn.conftest import Asked, Counter, MakeLearner, Referee, apart, sampling_setting
from tests.learn.test_learner import gradient_of

CLIPPED = PolicyGradient(epsilon=0.2, epsilon_high=0.2)
WORDS = lambda page, k: "abc" * (k + 1)


def settings(**changes) -> config.Ppo:
    fields = {"pages": {"synth": "nano"}, "steps": 4, "pages_per_step": 2, "samples_per_page": 2}
    return config.Ppo.model_validate({**fields, **changes})


class Judge:
    """A critic that says the same number everywhere."""

    def __init__(self, value: float) -> None:
        self.value, self.asked = value, 0

    def values(self, rows: Sequence[Row]) -> list[tuple[float, ...]]:
        self.asked += 1
        return [(self.value,) * len(row.completion_ids) for row in rows]


class Drifted(Counter):
    """A counting learner whose reference is less sure of each token by 0.5 nats."""

    def annotate(self, rows: Sequence[Row], *, old: bool, reference: bool) -> list[Row]:
        ref = [tuple(v - 0.5 for v in row.sampler_logprobs or ()) if reference else None for row in rows]
        return [
            replace(row, old_logprobs=row.sampler_logprobs if old else None, ref_logprobs=r)
            for row, r in zip(rows, ref, strict=True)
        ]


def run_ppo(
    cfg: config.Ppo,
    pages: Sequence[Page],
    sampler: FakeSampler,
    learner: Counter,
    critic: Judge,
    state: dict | None = None,
) -> Iterator[Step]:
    """Steps, the learner's version going up after each as `fit` does it."""
    shared = sampling_setting(pages, sampler, learner)
    setting = PpoSetting(**{name: getattr(shared, name) for name in PLAIN}, critic=critic)  # type: ignore[arg-type]
    for step in ppo(cfg, setting, state or {}):
        learner.policy += 1
        yield step


PLAIN = ("seed", "learner", "open_pages", "folder", "pages", "sampler", "score", "sampling")


def test_tokens_get_what_is_still_to_come_less_what_the_critic_said(tiny_pages, prompter, counter) -> None:
    cfg = settings(gae_lambda=0.5, whiten=False)
    step = next(run_ppo(cfg, tiny_pages, Asked(prompter, WORDS), counter, Judge(0.25)))
    # "abc" and EOS: reward 0.3, so delta 0.05 at the last token; half of it at each token before
    assert step.rows[0].advantage == pytest.approx((0.00625, 0.0125, 0.025, 0.05), abs=1e-12)
    assert step.rows[0].returns == pytest.approx((0.25625, 0.2625, 0.275, 0.3), abs=1e-12)
    assert step.rows[0].values == (0.25,) * 4
    assert len(step.rows) == 4 and step.rows[0].ref_logprobs is None
    assert step.loss == CLIPPED and step.critic_loss == ValueLoss()
    assert step.metrics["explained_variance"] == pytest.approx(0.0)
    assert step.metrics["generated"] == sum(len(row.completion_ids) for row in step.rows)
    assert json.loads(json.dumps(step.state)) == {"drawn": 2}


def test_advantages_are_white_over_the_whole_rollout_not_over_a_minibatch(tiny_pages, prompter, counter) -> None:
    steps = run_ppo(settings(minibatches=2), tiny_pages, Asked(prompter, WORDS), counter, Judge(0.0))
    both = [value for _ in range(2) for row in next(steps).rows for value in row.advantage]  # type: ignore[union-attr]
    mean = sum(both) / len(both)
    assert mean == pytest.approx(0.0, abs=1e-9)
    assert sum((value - mean) ** 2 for value in both) / (len(both) - 1) == pytest.approx(1.0, abs=1e-6)


def test_the_kl_is_in_the_reward_or_in_the_loss_never_in_both(tiny_pages, prompter) -> None:
    in_reward = settings(beta=0.1, gae_lambda=1.0, whiten=False)
    step = next(run_ppo(in_reward, tiny_pages, Asked(prompter, WORDS), Drifted(prompter), Judge(0.0)))
    # four tokens, each 0.5 nats from the reference: 0.3 - 4 * 0.05 to come at the first
    assert step.rows[0].returns == pytest.approx((0.1, 0.15, 0.2, 0.25), abs=1e-12)
    assert step.loss == CLIPPED
    in_loss = settings(beta=0.1, gae_lambda=1.0, whiten=False, kl_in="loss")
    step = next(run_ppo(in_loss, tiny_pages, Asked(prompter, WORDS), Drifted(prompter), Judge(0.0)))
    assert step.rows[0].returns == pytest.approx((0.3,) * 4, abs=1e-12)
    assert step.loss == replace(CLIPPED, beta=0.1)


def test_epochs_and_minibatches_of_a_rollout(tiny_pages, prompter, counter) -> None:
    sampler, critic = Asked(prompter, WORDS), Judge(0.0)
    cfg = settings(steps=7, epochs=2, minibatches=2)
    steps = list(run_ppo(cfg, tiny_pages, sampler, counter, critic))
    assert len(steps) == 7 and len(sampler.pages) == critic.asked == 2
    assert [step.state is not None for step in steps] == [False, False, False, True, False, False, True]
    assert [{row.group_id for row in step.rows} for step in steps[:4]] == [{0}, {1}, {0}, {1}]
    assert steps[0].rows == steps[2].rows  # old values and log-probabilities stay those of the rollout
    assert all(row.old_logprobs is not None for step in steps for row in step.rows)
    assert ["generated" in step.metrics for step in steps] == [True, False, False, False, True, False, False]
    for step in steps:
        assert sum(row.weight * len(row.completion_ids) for row in step.rows) == pytest.approx(1.0)


def test_a_resumed_run_draws_what_it_would_have_drawn(tiny_pages, prompter, counter) -> None:
    whole = list(run_ppo(settings(epochs=2), tiny_pages, Asked(prompter, WORDS), counter, Judge(0.1)))
    counter.policy = 2
    rest = list(run_ppo(settings(epochs=2), tiny_pages, Asked(prompter, WORDS), counter, Judge(0.1), whole[1].state))  # type: ignore[arg-type]
    assert [step.rows for step in rest] == [step.rows for step in whole[2:]]


def test_one_ahead_ppo_learns_from_samples_that_are_one_rollout_old(tiny_pages, prompter) -> None:
    cfg, referee = settings(epochs=2, ahead=1, steps=8), Referee(prompter)
    shared = replace(sampling_setting(tiny_pages, Asked(prompter, WORDS), referee), pauses=lambda done: done == 8)
    setting = PpoSetting(**{name: getattr(shared, name) for name in (*PLAIN, "pauses")}, critic=Judge(0.1))  # type: ignore[arg-type]
    behind = []
    for step in ppo(cfg, setting, {}):
        referee.policy += 1
        behind.append(step.metrics["behind"])
        assert all(row.old_logprobs is not None for row in step.rows) and step.loss.stale  # type: ignore[union-attr]
    assert behind == [0, 0, 2, 2, 2, 2, 2, 2]


def test_the_critic_warms_up_alone(tiny_pages, prompter, counter) -> None:
    cfg = settings(critic={"warmup": 2})
    steps = list(run_ppo(cfg, tiny_pages, Asked(prompter, WORDS), counter, Judge(0.1)))
    assert [step.loss is None for step in steps] == [True, True, False, False]
    assert all(step.critic_loss == ValueLoss() for step in steps)


def test_a_head_on_the_trunk_has_one_loss_for_both() -> None:
    cfg = settings(beta=0.1, kl_in="loss", critic={"kind": "head", "weight": 0.25, "clip": 0.2})
    both = WithCritic(policy=replace(CLIPPED, beta=0.1), critic=ValueLoss(clip=0.2), weight=0.25)
    assert losses_of(cfg, warm=False) == (both, None)
    assert losses_of(cfg, warm=True) == (replace(both, policy=None), None)


def test_one_sample_a_page_is_enough(tiny_pages, prompter, counter) -> None:
    cfg = settings(samples_per_page=1, pages_per_step=3, whiten=False, gae_lambda=1.0)
    by_page = lambda page, k: "abc" * page.number
    step = next(run_ppo(cfg, tiny_pages, Asked(prompter, by_page), counter, Judge(0.5)))
    assert [len(row.completion_ids) for row in step.rows] == [min(8, 3 * g.group.page.number + 1) for g in step.groups]
    assert {round(row.advantage[0], 6) for row in step.rows} == {  # type: ignore[index]
        round(g.rewards[0] - 0.5, 6) for g in step.groups
    }


def test_a_sample_that_was_cut_off_ends_there(tiny_pages, prompter, counter) -> None:
    long = lambda page, k: "abcdefghijkl"[: 12 - 9 * k]
    step = next(run_ppo(settings(whiten=False), tiny_pages, Asked(prompter, long), counter, Judge(0.0)))
    assert [len(row.completion_ids) for row in step.rows] == [8, 4, 8, 4]
    assert [row.returns and row.returns[-1] for row in step.rows] == pytest.approx([0.8, 0.3] * 2)  # no value after it


def test_rewards_without_a_difference_stop_the_run(tiny_pages, prompter, counter) -> None:
    sampler = Asked(prompter, lambda page, k: "")
    with pytest.raises(UserError, match="^ppo: 3 rollouts in a row"):
        list(run_ppo(settings(), tiny_pages, sampler, counter, Judge(0.0)))
    assert len(sampler.pages) == 3


@pytest.mark.parametrize(
    ("critic", "wrong"),
    [
        ({"kind": "head", "lr": 1e-3}, "a head moves by"),
        ({"kind": "head", "warmup": 3, "stop_gradient": False}, "leaves the policy where it is"),
        ({"kind": "adapter", "path": "x"}, "path is for kind"),
        ({"weight": 2.0}, "weight is for kind"),
        ({"kind": "adapter", "stop_gradient": False}, "stop_gradient is for kind"),
        ({"warmup": 4}, "must be less than steps"),
    ],
)
def test_settings_that_say_nothing_are_refused(critic: dict, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        settings(critic=critic)


# --- GRPO = PPO - critic + group normalisation ------------------------------------------------------------------------


@pytest.fixture
def groups(tiny_pages, prompter) -> list[ComparedGroup]:
    """Two pages with three samples each, and rewards."""
    texts, rewards = ("Page 1", "a longer line", "?"), ((0.75, 0.25, 0.5), (0.125, 1.0, 0.5))
    compared = []
    for page, column in zip((tiny_pages[0], tiny_pages[3]), rewards, strict=True):
        ids = [(*prompter.encode(text), prompter.eos_id) for text in texts]
        samples = tuple(
            Sample(token_ids=i, logprobs=(-1.0,) * len(i), text=text, finish="stop", policy=0)
            for i, text in zip(ids, texts, strict=True)
        )
        group = Group(page=page, prompt=prompter.prompt(page), samples=samples, temperature=0.7, banned_ids=())
        compared.append(ComparedGroup(group=group, scores={}, rewards=column, advantages=centred([column])[0]))
    return compared


def test_with_a_constant_critic_and_group_means_taken_off_it_is_grpo_without_the_deviation(
    make_learner: MakeLearner, groups: list[ComparedGroup]
) -> None:
    same = {"pages": {"synth": "nano"}, "steps": 1, "beta": 0.01}
    grpo = config.Grpo.model_validate({**same, "advantage": "centred"})
    cfg = config.Ppo.model_validate({**same, "kl_in": "loss", "gae_lambda": 1.0, "whiten": False})
    expected, figures = gradient_of(make_learner(), annotated(to_rows(groups, grpo, 64)), loss_of(grpo))
    # PPO's sample is worth its reward; with the group's mean taken off, it is worth what GRPO says
    rows = annotated(to_rows(groups, cfg, 64))
    judged, _ = with_critic(rows, [(0.0,) * len(row.completion_ids) for row in rows], cfg)
    loss, _ = losses_of(cfg, warm=False)
    assert loss is not None
    gradient, of_ppo = gradient_of(make_learner(), judged, loss)
    assert of_ppo["loss"] == pytest.approx(figures["loss"], abs=1e-6)
    assert apart(gradient, expected) < 1e-6
    # and the comparison can fail: with whole rewards, or with lambda below 1, it is another gradient
    for rewards, other in (
        ([replace(g, advantages=g.rewards) for g in groups], cfg),
        (groups, cfg.model_copy(update={"gae_lambda": 0.9})),
    ):
        rows = annotated(to_rows(rewards, other, 64))
        judged, _ = with_critic(rows, [(0.0,) * len(row.completion_ids) for row in rows], other)
        gradient, _ = gradient_of(make_learner(), judged, loss)
        assert apart(gradient, expected) > 1e-3


def annotated(rows: Sequence[Row]) -> list[Row]:
    return [replace(row, ref_logprobs=(-5.5,) * len(row.completion_ids), sampler_logprobs=None) for row in rows]
