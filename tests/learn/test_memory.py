"""The memory plan against what a learner really holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from torch import Tensor, nn

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.learn import memory
from ocr_rl.learn.adapter_critic import AdapterCritic
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.memory import (
    GIB,
    Device,
    MemoryPlan,
    engine_size,
    memory_on,
    memory_plan,
    require_memory,
    shape_of,
    this_device,
)
from ocr_rl.learn.network import Reads
from ocr_rl.models.settings import PromptSettings
from ocr_rl.objectives.scalar_losses import ValueLoss
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Origin
from tests.learn.conftest import NLL, MakeLearner

GRPO = {"pages": {"synth": "nano"}, "steps": 1}
REWARDS = [{"name": "eos"}]


def recipe(path: Path, **sections: dict) -> config.Recipe:
    policy = {"path": str(path), **sections.pop("policy", {})}
    return config.Recipe.model_validate({"policy": policy, "grpo": GRPO, "rewards": REWARDS, **sections})


def held(learner: Learner) -> tuple[int, int]:
    """Bytes of the weights and of the optimisers' momenta (not their step counters)."""
    weights = sum(p.nbytes for p in learner.module.parameters())
    states = [state for optimizer in learner.optimizers for state in optimizer.state.values()]
    return weights, sum(v.nbytes for state in states for v in state.values() if isinstance(v, Tensor) and v.ndim)


@pytest.mark.parametrize(
    ("policy", "optim"),
    [({}, {}), ({}, {"name": "muon"}), ({"freeze_vision": True}, {}), ({"lora_rank": 2}, {})],
)
def test_weights_and_momenta_are_counted_exactly(
    make_learner: MakeLearner, policy_dir: Path, rows: list[Row], policy: dict, optim: dict
) -> None:
    learner = make_learner(policy=policy, **optim)
    learner.update(rows, NLL)
    plan = memory_plan(recipe(policy_dir, policy=policy, optim=optim), str(policy_dir))
    assert (plan.weights, plan.optimizer) == held(learner)
    assert plan.gradients == sum(p.nbytes for p in learner.module.parameters() if p.requires_grad)
    assert plan.masters == 0


@pytest.mark.parametrize("policy", [{}, {"freeze_vision": True}, {"lora_rank": 2}])
def test_in_bfloat16_masters_and_float32_gradients_are_counted(
    make_learner: MakeLearner, policy_dir: Path, rows: list[Row], policy: dict
) -> None:
    policy = policy | {"dtype": "bfloat16"}
    learner = make_learner(policy=policy)
    learner.update(rows, NLL)
    plan = memory_plan(recipe(policy_dir, policy=policy), str(policy_dir))
    assert (plan.weights, plan.optimizer) == held(learner)
    weights = {id(p) for p in learner.module.parameters()}
    copies = [master for master in learner.masters.by_name.values() if id(master) not in weights]
    assert plan.masters == sum(master.nbytes for master in copies)
    assert (plan.masters > 0) == ("lora_rank" not in policy)  # adapters are float32 by themselves
    learnt = learner.masters.by_name.values()
    assert plan.gradients == sum(m.nbytes for m in learnt) + sum(2 * m.numel() for m in copies)


@pytest.mark.parametrize(("dtype", "size"), [(None, 4), ("float32", 4), ("bfloat16", 2)])
def test_the_engines_weights_have_a_dtype_of_their_own(policy_dir: Path, dtype: str | None, size: int) -> None:
    sampling = {"engine": "transformers", **({"dtype": dtype} if dtype else {})}
    plan = memory_plan(recipe(policy_dir, sampling=sampling), str(policy_dir))
    assert plan.sampler == plan.weights * size // 4


def test_the_reference_is_a_copy_only_where_no_adapter_can_be_switched_off(policy_dir: Path) -> None:
    plain = memory_plan(recipe(policy_dir, grpo={**GRPO, "beta": 0.1}), str(policy_dir))
    assert plain.reference == plain.weights
    assert memory_plan(recipe(policy_dir), str(policy_dir)).reference == 0
    adapted = recipe(policy_dir, grpo={**GRPO, "beta": 0.1}, policy={"lora_rank": 2})
    assert memory_plan(adapted, str(policy_dir)).reference == 0


def with_critic(path: Path, kind: str, **sections: dict) -> config.Recipe:
    policy = {"path": str(path), **sections.pop("policy", {})}
    ppo = {**GRPO, "critic": {"kind": kind}}
    return config.Recipe.model_validate({"policy": policy, "ppo": ppo, "rewards": REWARDS, **sections})


def test_a_critic_costs_a_policy_an_adapter_or_next_to_nothing(policy_dir: Path, prompter, rows: list[Row]) -> None:
    judged = [replace(row, returns=(0.5,) * len(row.completion_ids)) for row in rows]
    for policy in ({}, {"lora_rank": 2}):
        shared = (
            Origin(path=str(policy_dir), settings=PromptSettings(), prompter=prompter),
            config.Policy.model_validate({"path": str(policy_dir), **policy}),
            config.Optim(lr=1e-3),
        )
        own = Learner(*shared, steps=9, reference=False, reads=Reads.SCALARS)
        own.update(judged, ValueLoss())
        head = 3 * sum(p.nbytes for p in own.head.parameters())  # type: ignore[union-attr]
        learnt = sum(m.nbytes for m in own.masters.by_name.values())
        plan = memory_plan(with_critic(policy_dir, "model", policy=policy), str(policy_dir))
        assert plan.critic == pytest.approx(sum(held(own)) + learnt, abs=head)
        assert plan.held == memory_plan(recipe(policy_dir, policy=policy), str(policy_dir)).held + plan.critic
        assert memory_plan(with_critic(policy_dir, "head", policy=policy), str(policy_dir)).critic == 0
    adapted = memory_plan(with_critic(policy_dir, "adapter", policy={"lora_rank": 2}), str(policy_dir))
    both = Learner(*shared, steps=9, reference=False, critic_adapter=True)
    second = AdapterCritic(both, config.Optim(lr=1e-3))
    second.update(judged, ValueLoss())
    adapters = sum(m.nbytes for m in second.masters.by_name.values())
    assert adapted.critic == pytest.approx(2 * adapters + held(second)[1], abs=2 * head)
    assert adapted.critic < plan.critic / 4


def test_a_reward_model_that_scores_is_counted(policy_dir: Path) -> None:
    plain = memory_plan(recipe(policy_dir), str(policy_dir))
    scored = recipe(policy_dir, rewards=[{"name": f"reward_model:{policy_dir}"}])
    assert memory_plan(scored, str(policy_dir)).learned == plain.weights and plain.learned == 0


def test_vllm_on_a_gpu_takes_the_share_that_the_recipe_gives_it(
    policy_dir: Path,
) -> None:
    given = recipe(policy_dir, sampling={"gpu_share": 0.25})
    assert memory._sampler(given, 10, gpus(1)) == 250
    assert memory._sampler(recipe(policy_dir), 10, gpus(1)) == 400


def test_an_engine_that_sleeps_is_not_there_while_the_learner_works(policy_dir: Path) -> None:
    awake, asleep = recipe(policy_dir), recipe(policy_dir, sampling={"sleep": True})
    shape = shape_of(awake.policy, str(policy_dir))
    both, alone = memory_on(gpus(1), awake, shape), memory_on(gpus(1), asleep, shape)
    assert both.peak == alone.kept + alone.activations + alone.sampler  # activations are what is large here
    assert alone.peak == alone.kept + alone.activations
    assert alone.held == both.held  # all of this must fit before a rollout
    assert alone.host == both.host + shape.numbers * 2  # where its weights lie meanwhile, in bfloat16
    assert "set sampling.sleep" in both.ways and "set sampling.sleep" not in alone.ways


def test_a_server_has_memory_of_its_own(policy_dir: Path) -> None:
    served = {"engine": "vllm_server", "url": "http://127.0.0.1:8000"}
    assert memory_plan(recipe(policy_dir, sampling=served), str(policy_dir)).sampler == 0


@pytest.mark.parametrize("config_json", [None, "{", '{"model_type": "bert"}', '{"model_type": "no such"}'])
def test_what_is_no_policy_is_one_sentence(policy_dir: Path, tmp_path: Path, config_json: str | None) -> None:
    if config_json is not None:
        (tmp_path / "config.json").write_text(config_json)
    with pytest.raises(UserError, match=f"Model {tmp_path}: "):
        memory_plan(recipe(policy_dir), str(tmp_path))


def test_checkpointing_and_smaller_micro_batches_need_less(policy_dir: Path) -> None:
    def activations(policy: dict, optim: dict) -> int:
        return memory_plan(recipe(policy_dir, policy=policy, optim=optim), str(policy_dir)).activations

    whole = activations({}, {})
    assert activations({"gradient_checkpointing": True}, {}) < whole
    assert activations({}, {"micro_tokens": 2048}) < whole / 2
    assert activations({"freeze_vision": True}, {}) < whole
    adapted = activations({"lora_rank": 2, "lora_vision": False}, {})
    assert adapted == activations({"lora_rank": 2, "freeze_vision": True}, {})
    text_only = {"lora_rank": 2, "lora_targets": ["q_proj", "v_proj"]}  # names that the tower has none of
    assert activations(text_only, {}) == adapted < activations({**text_only, "lora_targets": ["q_proj", "qkv"]}, {})


def test_a_page_is_laid_out_once_more_for_each_sample_but_not_for_the_kernel_of_16_bits(policy_dir: Path) -> None:
    def activations(n: int, device: Device | None = None, **policy: Any) -> int:
        given = recipe(policy_dir, grpo={**GRPO, "samples_per_page": n}, policy=policy)
        return memory_on(device or this_device(), given, shape_of(given.policy, str(policy_dir))).activations

    assert activations(8) < activations(16) < activations(40)
    assert activations(40, gpus(1)) == activations(40)
    assert activations(8, gpus(1), dtype="bfloat16") == activations(40, gpus(1), dtype="bfloat16")


def test_trap_13_a_run_that_cannot_fit_is_refused_with_a_way_out(policy_dir: Path) -> None:
    plan = memory_plan(recipe(policy_dir), str(policy_dir))
    require_memory(plan)
    require_memory(replace(plan, activations=10**15))  # an estimate refuses nothing
    with pytest.raises(UserError, match="lora_rank"):
        require_memory(replace(plan, available=plan.held - 1))
    full = lambda **sections: replace(memory_plan(recipe(policy_dir, **sections), str(policy_dir)), available=0)
    for sections in ({}, {"policy": {"lora_rank": 2}}):  # what does not lessen what is held is no way out
        with pytest.raises(UserError) as said:
            require_memory(full(**sections))
        assert not any(name in str(said.value) for name in ("micro_tokens", "gradient_checkpointing", "sleep"))
    assert "freeze_vision" not in str(said.value) and "take a smaller model" in str(said.value)
    asleep = memory_on(
        gpus(1), recipe(policy_dir, sampling={"sleep": True}), shape_of(recipe(policy_dir).policy, str(policy_dir))
    )
    with pytest.raises(UserError, match=r"GiB: leave out sampling.sleep, or take a smaller model"):
        require_memory(replace(asleep, available=10**12, host_available=0))
    assert "sampler 1." in plan.to_text() and f"{plan.available / GIB:.1f} GiB" in plan.to_text()


def gpus(ranks: int) -> Device:
    return Device(gpu=True, ranks=ranks, free=900, total=1000, host=2**60)


def test_gpus_that_are_not_here_share_what_is_held(policy_dir: Path) -> None:
    given = recipe(policy_dir, sampling={"engine": "vllm_server", "url": "http://127.0.0.1:8000"})
    shape = shape_of(given.policy, str(policy_dir))
    alone, shared = memory_on(gpus(1), given, shape), memory_on(gpus(4), given, shape)
    for name in ("weights", "gradients", "optimizer"):
        assert getattr(shared, name) == getattr(alone, name) // 4
    assert alone.weights == memory_plan(given, str(policy_dir)).weights
    assert shared.gathered > alone.gathered == 0 and alone.available == 900


def test_ranks_gather_weights_and_hold_gradients_before_they_are_cut_up(policy_dir: Path) -> None:
    given, million = recipe(policy_dir, optim={"micro_tokens": 64}), 1_000_000

    def plan(ranks: int, *, root: int, block: int, learns: int) -> MemoryPlan:
        """Of millions of numbers, so that logits do not count; of the root's and the block's, `learns` learn."""
        module = nn.ParameterList([torch.empty(learns * million, device="meta")])
        sizes = {"numbers": (root + block) * million, "blocks": [block * million], "module": module}
        shape = replace(
            shape_of(given.policy, str(policy_dir)), learnt_blocks=[max(0, learns - root) * million], **sizes
        )
        return memory_on(gpus(ranks), given, shape)

    least = plan(2, root=10, block=10, learns=0)
    assert least.gathered == 4 * 10 * million
    for more, bytes_of in (
        (plan(2, root=10, block=11, learns=0), 2 * 4),  # a block, and the next one
        (plan(2, root=10, block=10, learns=1), 4),  # a gradient of the root
        (plan(2, root=10, block=10, learns=11), 10 * 4 + 4 + 2 * 4),  # all of these, one of a block, and what is sent
    ):
        assert more.activations - least.activations == bytes_of * million
    assert plan(1, root=10, block=10, learns=20).activations < least.activations


def test_what_several_ranks_save_lies_on_the_host_first(policy_dir: Path) -> None:
    """Masters and two moments of every weight that learns, of all ranks together; adapters are little."""
    given, adapted = recipe(policy_dir), recipe(policy_dir, policy={"lora_rank": 2})
    shape, small = (shape_of(one.policy, str(policy_dir)) for one in (given, adapted))
    assert memory_on(gpus(1), given, shape).host == shape.weights
    assert memory_on(gpus(8), given, shape).host == 3 * shape.weights
    assert memory_on(gpus(8), adapted, small).host == small.weights


def test_processes_that_share_a_memory_have_each_what_they_alone_need(policy_dir: Path) -> None:
    given = recipe(policy_dir)
    shape = shape_of(given.policy, str(policy_dir))
    one, three = (memory_on(replace(gpus(n), gpu=False), given, shape) for n in (1, 3))
    assert (three.weights, three.gradients, three.optimizer) == (one.weights, one.gradients, one.optimizer)
    each = memory_on(gpus(3), given, shape)
    assert (three.activations, three.gathered) == (3 * each.activations, 3 * each.gathered)


def test_an_engine_of_its_own_holds_weights_and_is_sent_what_learns(policy_dir: Path) -> None:
    given = recipe(policy_dir, sampling={"dtype": "bfloat16"})
    whole = engine_size(given, shape_of(given.policy, str(policy_dir)))
    assert whole.weights == whole.sent == memory_plan(given, str(policy_dir)).weights // 2
    text = shape_of(given.policy, str(policy_dir)).settings.text_config
    heads = text.num_key_value_heads * text.hidden_size // text.num_attention_heads
    assert whole.token == 2 * 2 * text.num_hidden_layers * heads
    adapted = recipe(policy_dir, policy={"lora_rank": 2})
    size = engine_size(adapted, shape_of(adapted.policy, str(policy_dir)))
    plan = memory_plan(adapted, str(policy_dir))
    assert (size.weights, size.sent) == (whole.weights, plan.gradients)  # bfloat16 by default, float32 adapters
