"""A head's numbers: read where a plain model has them, learnt beside a policy that they move or do not, and kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from torch import Tensor

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.learn.adapter_critic import AdapterCritic
from ocr_rl.learn.checkpoints import resume
from ocr_rl.learn.fit import Plan, fit
from ocr_rl.learn.learner import Learner, update_together
from ocr_rl.learn.network import Reads
from ocr_rl.learn.rows import Batch
from ocr_rl.learn.step import Step
from ocr_rl.models.load import load_model
from ocr_rl.models.settings import PromptSettings
from ocr_rl.objectives.losses import PolicyGradient, Scalars
from ocr_rl.objectives.scalar_losses import ValueLoss, WithCritic
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Origin, Prompter
from ocr_rl.run import Run
from ocr_rl.train import session
from tests.learn.conftest import NLL, MakeLearner, largest_gap, loud_head, same, weights

MakeCritic = Callable[..., Learner]
SHARED = WithCritic(policy=PolicyGradient(), critic=ValueLoss(), weight=0.5)


@pytest.fixture
def make_critic(policy_dir: Path, prompter: Prompter) -> MakeCritic:
    """`make_critic(reads=..., stop_gradient=True, micro_tokens=64, policy={...})`: its head is loud."""

    def make(
        *, reads: Reads = Reads.SCALARS, stop_gradient: bool = False, policy: dict | None = None, **optim
    ) -> Learner:
        opened = Learner(
            Origin(path=str(policy_dir), settings=PromptSettings(), prompter=prompter),
            config.Policy.model_validate({"path": str(policy_dir), **(policy or {})}),
            config.Optim.model_validate({"lr": 1e-3, "max_grad_norm": 1e9, **optim}),
            steps=100,
            reference=False,
            name="critic",
            reads=reads,
            stop_gradient=stop_gradient,
        )
        return loud_head(opened)

    return make


@pytest.fixture
def judged(rows: list[Row]) -> list[Row]:
    """The rows with what a critic should say of each token."""
    return [
        replace(row, returns=tuple(0.1 * (k + t) for t in range(len(row.completion_ids)))) for k, row in enumerate(rows)
    ]


def plain_numbers(critic: Learner, row: Row, folder: Path) -> tuple[list[float], float]:
    """(value before each token, score at the last one) of transformers' own model on one row, unpacked."""
    model = load_model(str(folder))
    pixel_values, grid = critic.prompter.pixels([critic.prompter.image(row.prompt)])
    ids = torch.tensor([[*row.prompt.expanded_ids, *row.completion_ids]])
    with torch.no_grad():
        hidden_XD = model.model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == model.config.image_token_id).int(),
            pixel_values=torch.from_numpy(pixel_values),
            image_grid_thw=torch.from_numpy(grid).long(),
        ).last_hidden_state[0]
        assert critic.head is not None
        number_X = (hidden_XD @ critic.head.linear.weight[0] + critic.head.linear.bias[0]).tolist()
    n = len(row.completion_ids)
    return number_X[-n - 1 : -1], number_X[-1]


@pytest.mark.parametrize("micro_tokens", [100_000, 150, 1])
def test_values_and_scores_are_a_plain_models(
    make_critic: MakeCritic, policy_dir: Path, rows: list[Row], micro_tokens: int
) -> None:
    rows[1] = replace(rows[1], completion_ids=rows[1].completion_ids[:-1])  # cut off: no EOS
    critic = make_critic(micro_tokens=micro_tokens)
    expected = [plain_numbers(critic, row, policy_dir) for row in rows]
    assert largest_gap(critic.values(rows), [values for values, _ in expected]) < 1e-5
    assert largest_gap([critic.scores(rows)], [[score for _, score in expected]]) < 1e-5
    # a value stands before its token, a score after the last one: one place off would be seen
    assert largest_gap([critic.scores(rows)], [[values[-1] for values, _ in expected]]) > 1e-2


def test_a_fresh_head_says_nothing(make_learner: MakeLearner, make_critic: MakeCritic, rows: list[Row]) -> None:
    critic = make_critic()
    assert critic.head is not None
    torch.nn.init.zeros_(critic.head.linear.weight)
    torch.nn.init.zeros_(critic.head.linear.bias)
    assert set(critic.scores(rows)) == {0.0}


def test_a_critic_learns_returns(make_critic: MakeCritic, judged: list[Row]) -> None:
    critic = make_critic()
    losses = [critic.update(judged, ValueLoss())["value_loss"] for _ in range(12)]
    assert losses[-1] < 0.25 * losses[0]
    assert critic.policy == 12


@pytest.mark.parametrize("stop_gradient", [True, False])
def test_a_head_moves_its_trunk_only_where_it_may(
    make_critic: MakeCritic, judged: list[Row], stop_gradient: bool
) -> None:
    learner = make_critic(reads=Reads.WORDS | Reads.SCALARS, stop_gradient=stop_gradient)
    before, head = weights(learner), learner.values(judged)
    figures = learner.update(judged, replace(SHARED, policy=None))
    assert same(weights(learner), before) is stop_gradient
    assert largest_gap(learner.values(judged), head) > 1e-4
    assert {"value_loss", "entropy"} <= set(figures) and "kl" not in figures


def test_a_stopped_head_leaves_the_policy_as_without_it(
    make_learner: MakeLearner, make_critic: MakeCritic, judged: list[Row]
) -> None:
    """Bit for bit: the head's loss has no part in the trunk's gradient."""
    alone = make_learner()
    alone.update(judged, PolicyGradient())
    with_head = make_critic(reads=Reads.WORDS | Reads.SCALARS, stop_gradient=True)
    with_head.update(judged, SHARED)
    assert same(weights(with_head), weights(alone))


def test_the_engine_and_the_models_folder_do_not_get_the_head(
    make_critic: MakeCritic, make_learner: MakeLearner, tmp_path: Path
) -> None:
    critic = make_critic(reads=Reads.WORDS | Reads.SCALARS)
    assert [name for name, _ in critic.weights()] == [name for name, _ in make_learner().weights()]
    critic.save(tmp_path / "model")
    load_model(str(tmp_path / "model"))


def test_a_state_brings_the_head_back(make_critic: MakeCritic, judged: list[Row], tmp_path: Path) -> None:
    critic = make_critic()
    critic.update(judged, ValueLoss())
    critic.save_state(tmp_path / "critic.pt")
    expected = [critic.update(judged, ValueLoss())["loss"] for _ in range(2)]
    other = make_critic()
    other.load_state(tmp_path / "critic.pt")
    assert [other.update(judged, ValueLoss())["loss"] for _ in range(2)] == expected
    with pytest.raises(UserError, match="lacks head"):
        make_critic().load_state(_without_head(tmp_path / "critic.pt"))


def _without_head(path: Path) -> Path:
    state = torch.load(path, weights_only=True)
    state["weights"] = {name: w for name, w in state["weights"].items() if not name.startswith("head")}
    torch.save(state, path)
    return path


def test_masters_and_adapters_have_a_head_too(make_critic: MakeCritic, judged: list[Row]) -> None:
    for policy in ({"dtype": "bfloat16"}, {"lora_rank": 2}, {"autocast": True}):
        critic = make_critic(policy=policy)
        assert critic.head is not None and critic.head.linear.weight.dtype == torch.float32
        before = critic.head.linear.weight.detach().clone()
        critic.update(judged, ValueLoss())
        assert not torch.equal(critic.head.linear.weight, before), policy


# --- two learners a step ----------------------------------------------------------------------------------------------


def not_finite(read: Scalars, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    return read.value_N.sum() * float("nan"), {}


def test_a_critic_that_is_not_finite_stops_before_the_policy_moves(
    make_learner: MakeLearner, make_critic: MakeCritic, judged: list[Row]
) -> None:
    learner, critic, undisturbed = make_learner(), make_critic(), make_learner()
    before = weights(learner), weights(critic)
    with pytest.raises(FloatingPointError):
        update_together([(learner, judged, PolicyGradient()), (critic, judged, not_finite)])
    assert same(weights(learner), before[0]) and same(weights(critic), before[1])
    assert learner.policy == critic.policy == 0
    # nothing of the refused gradient is left for the next step
    update_together([(learner, judged, NLL), (critic, judged, ValueLoss())])
    undisturbed.update(judged, NLL)
    assert same(weights(learner), weights(undisturbed))


class Moves:
    """An algorithm: a policy and a critic learn the same rows, the critic alone in the first step."""

    def __init__(self, rows: list[Row], learner: Learner, steps: int) -> None:
        self.rows, self.learner, self.steps = rows, learner, steps

    def __call__(self, state):
        while self.learner.policy < self.steps:
            at = self.learner.policy
            yield Step(
                rows=self.rows[at % 4 : at % 4 + 4],
                loss=None if at == 0 else PolicyGradient(),
                critic_loss=ValueLoss(),
                metrics={"kl": 0.0},
                state={"at": at},
            )


def test_both_learners_are_logged_saved_and_resumed_to_the_same_bits(
    make_learner: MakeLearner, make_critic: MakeCritic, judged: list[Row], tmp_path: Path
) -> None:
    plan = Plan(total=4, save_every=1, keep=9)
    learner, critic, run = make_learner(), make_critic(), Run(tmp_path / "whole")
    start = weights(learner)
    fit(Moves(judged, learner, 4), learner, run, plan, critic=critic)
    first, second, *_ = run.metrics()
    assert "loss" not in first and first["critic_loss"] > 0
    assert second["loss"] != second["critic_loss"] and {"critic_grad_norm", "value_loss"} <= set(second)
    warm = make_learner()
    warm.load_state(run.checkpoints()[0] / "optim.pt")
    assert same(weights(warm), start)  # the policy stood still in the critic's warm-up

    for path in run.checkpoints()[2:]:
        for file in sorted(path.rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
        path.rmdir()
    again, again_critic = make_learner(), make_critic()
    assert resume(again, run, again_critic)[0] == 2
    fit(Moves(judged, again, 4), again, run, plan, critic=again_critic)
    assert same(weights(again), weights(learner))
    assert same(weights(again_critic), weights(critic))
    assert again_critic.head is not None and critic.head is not None
    assert torch.equal(again_critic.head.linear.weight, critic.head.linear.weight)


# --- a second adapter -------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(policy_dir: Path, prompter: Prompter) -> tuple[Learner, AdapterCritic]:
    """A policy of adapters and its critic on the same base, with a loud head."""
    learner = Learner(
        Origin(path=str(policy_dir), settings=PromptSettings(), prompter=prompter),
        config.Policy.model_validate({"path": str(policy_dir), "lora_rank": 2}),
        config.Optim.model_validate({"lr": 1e-2, "max_grad_norm": 1e9}),
        steps=100,
        reference=True,
        critic_adapter=True,
    )
    critic = AdapterCritic(learner, config.Optim.model_validate({"lr": 1e-2, "max_grad_norm": 1e9}))
    assert learner.head is not None
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(7)
        learner.head.linear.weight.normal_(std=1 / 16)
    return learner, critic


def adapters(learner: Learner, name: str) -> dict[str, Tensor]:
    return {key: weight for key, weight in weights(learner).items() if f".{name}." in key}


def test_a_critics_adapter_and_the_policys_do_not_touch(pair: tuple[Learner, AdapterCritic], judged: list[Row]) -> None:
    learner, critic = pair
    said, start = learner.logprobs(judged), critic.values(judged)
    before = adapters(learner, "default"), adapters(learner, "critic")
    critic.update(judged, ValueLoss())
    assert same(adapters(learner, "default"), before[0]) and not same(adapters(learner, "critic"), before[1])
    assert learner.logprobs(judged) == said and largest_gap(critic.values(judged), start) > 1e-3
    values, learnt = critic.values(judged), adapters(learner, "critic")
    learner.update(judged, PolicyGradient())
    assert same(adapters(learner, "critic"), learnt) and not same(adapters(learner, "default"), before[0])
    assert critic.values(judged) == values
    assert learner.logprobs(judged, reference=True) == said  # of the base alone


def test_both_adapters_move_in_one_step_as_each_would_alone(
    pair: tuple[Learner, AdapterCritic], judged: list[Row], make_learner: MakeLearner
) -> None:
    learner, critic = pair
    alone = make_learner(policy={"lora_rank": 2}, lr=1e-2)
    for _ in range(2):
        update_together([(learner, judged, PolicyGradient()), (critic, judged, ValueLoss())])
        alone.update(judged, PolicyGradient())
    assert same(adapters(learner, "default"), adapters(alone, "default"))
    assert learner.policy == critic.policy == 2


def test_the_engine_gets_the_policys_adapter_alone_and_a_state_has_the_critics(
    pair: tuple[Learner, AdapterCritic], judged: list[Row], tmp_path: Path
) -> None:
    learner, critic = pair
    critic.update(judged, ValueLoss())
    assert not any("critic" in name for name in learner.adapter().tensors)
    assert not any("critic" in name or "lora" in name for name, _ in learner.all_weights())
    critic.save_state(tmp_path / "critic.pt")
    expected = critic.values(judged)
    critic.update(judged, ValueLoss())
    assert critic.values(judged) != expected
    critic.load_state(tmp_path / "critic.pt")
    assert critic.values(judged) == expected and critic.policy == 1


PPO = {"pages": {"synth": "nano"}, "steps": 9}


@pytest.mark.parametrize("kind", ["model", "adapter", "head"])
def test_what_a_recipe_asks_for_is_what_learns(
    policy_dir: Path, prompter: Prompter, judged: list[Row], kind: str
) -> None:
    """Opened as a run opens them: which weights does the critic's loss move?"""
    recipe = config.Recipe.model_validate(
        {
            "policy": {"path": str(policy_dir), "lora_rank": 2},
            "ppo": {**PPO, "critic": {"kind": kind}},
            "rewards": [{"name": "eos"}],
            "optim": {"lr": 1e-2},
        }
    )
    origin = Origin(path=str(policy_dir), settings=PromptSettings(), prompter=prompter)
    policy = session._policy(recipe, origin)
    critic = session._critic(recipe, origin, policy)
    learner, loss = (policy, replace(SHARED, policy=None)) if critic is None else (critic, ValueLoss())
    before = weights(learner)
    for _ in range(3):  # the head begins at 0: what lies under it has a gradient from the second update on
        learner.update(judged, loss)
    moved = {name for name, weight in weights(learner).items() if not torch.equal(weight, before[name])}
    assert learner.head is not None and float(learner.head.linear.weight.detach().abs().max()) > 0
    assert bool(moved) == (kind != "head")
    assert all(f".{'critic' if kind == 'adapter' else 'default'}." in name for name in moved)
