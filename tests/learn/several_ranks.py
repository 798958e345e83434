"""What two or three processes do that share a learner, case by case; one process does the same alone."""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.multiprocessing.spawn import spawn

from benchmarks.speed.serving import free_port
from ocr_rl import config
from ocr_rl.contract import Page
from ocr_rl.learn import ranks
from ocr_rl.learn import reader as reader_module
from ocr_rl.learn.learner import Learner, update_together
from ocr_rl.learn.network import Reads
from ocr_rl.learn.probe import looks
from ocr_rl.learn.undrawn import without_undrawn
from ocr_rl.models.settings import PromptSettings
from ocr_rl.objectives.losses import Loss, PolicyGradient
from ocr_rl.objectives.scalar_losses import ValueLoss, WithCritic
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Origin, Prompter, load_prompter
from tests.conftest import LONGEST_PX
from tests.learn.conftest import NLL, blind

Steps = Sequence[Sequence[Row]]
TEXTS = ("Page 1", "a longer line of text, and more of it", "?", "<td>3</td>", "Page")
SIZES = (4, 1, 3)  # samples of each page
HYBRID = "hybrid"
LOST = 2  # a page


def steps_of(pages: Sequence[Page], prompter: Prompter, sizes: Sequence[int], n: int = 5) -> list[list[Row]]:
    """`n` steps on groups of those sizes: other lengths each time; weights sum to 1 over the tokens of a step."""
    steps = []
    for step in range(n):
        rows = [
            Row(
                prompt=prompter.prompt(pages[(group + step) % len(pages)]),
                completion_ids=(*prompter.encode(TEXTS[(k + group + step) % len(TEXTS)]), prompter.eos_id),
                group_id=group,
                weight=1.0,
                advantage=(1.0, -0.5, 0.25, -0.75)[k],
                temperature=0.7,
                banned_ids=prompter.banned_ids,
            )
            for group, size in enumerate(sizes)
            for k in range(size)
        ]
        tokens = sum(len(row.completion_ids) for row in rows)
        steps.append([replace(row, weight=1 / tokens) for row in rows])
    return steps


def open_learner(folder: Path, policy: dict[str, Any], optim: dict[str, Any], name: str = "policy") -> Learner:
    torch.manual_seed(ranks.rank())  # adapters begin with random numbers; the other ranks' own must not count
    folder = Path(policy.get("path", folder))
    prompter = load_prompter(folder, LONGEST_PX, instruction="")
    return Learner(
        Origin(path=str(folder), settings=PromptSettings(), prompter=prompter),
        config.Policy.model_validate({"path": str(folder), **policy}),
        config.Optim.model_validate({"lr": 1e-3, "max_grad_norm": 1.0, "micro_tokens": 128, **optim}),
        steps=100,
        reference=name == "policy",
        name=name,
        reads={"policy": Reads.WORDS, "critic": Reads.SCALARS}.get(name, Reads.WORDS | Reads.SCALARS),
        stop_gradient=name == "head",
    )


def whole_weights(learner: Learner) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in learner.all_weights()}


def whole_adapters(learner: Learner) -> dict[str, Tensor]:
    sent = learner.weights()
    return {name: tensor for name, tensor in sent.tensors.items() if "lora_B" in name}  # type: ignore[union-attr]


def trained(learner: Learner, steps: Steps, loss: Loss) -> dict[str, Any]:
    start = whole_weights(learner)
    metrics = [learner.update(learner.annotate(rows, old=True, reference=True), loss) for rows in steps]
    sent = {"sent": whole_adapters(learner)} if learner.adapters else {}
    return {"start": start, "end": whole_weights(learner), "metrics": metrics, **sent}


def with_critic(learner: Learner, steps: Steps, policy: Path) -> dict[str, Any]:
    """Two learners of one step; one in the middle is refused by the critic, and moves neither of them."""
    ranks.tell("", "open", policy, {}, {}, "critic")
    critic = open_learner(policy, {}, {}, "critic")
    start = whole_weights(learner) | {f"critic.{name}": weight for name, weight in whole_weights(critic).items()}
    metrics = []
    for i, rows in enumerate(steps):
        judged = [replace(row, returns=(0.5,) * len(row.completion_ids)) for row in rows]
        if i == 1:
            broken = [replace(row, returns=(float("inf"),) * len(row.completion_ids)) for row in rows]
            with pytest.raises(FloatingPointError):
                update_together([(learner, judged, NLL), (critic, broken, ValueLoss())])
        metrics += update_together([(learner, judged, NLL), (critic, judged, ValueLoss())])
    end = whole_weights(learner) | {f"critic.{name}": weight for name, weight in whole_weights(critic).items()}
    return {"start": start, "end": end, "metrics": metrics, "values": critic.values(steps[0])}


def with_head(learner: Learner, steps: Steps, policy: Path) -> dict[str, Any]:
    """A critic's head on the policy's trunk."""
    ranks.tell("", "open", policy, {}, {}, "head")
    both = open_learner(policy, {}, {}, "head")
    start, metrics, loss = whole_weights(both), [], WithCritic(policy=PolicyGradient(), critic=ValueLoss(), weight=0.5)
    for rows in steps:
        judged = [replace(row, returns=(0.5,) * len(row.completion_ids)) for row in rows]
        metrics.append(both.update(judged, loss))
    return {"start": start, "end": whole_weights(both), "metrics": metrics, "values": both.values(steps[0])}


def kept(learner: Learner, steps: Steps, folder: Path) -> dict[str, Any]:
    """Two steps, saved; then what the policy says, and three steps more."""
    folder.mkdir(exist_ok=True)
    for rows in steps[:2]:
        learner.update(rows, NLL)
    next(learner.all_weights())  # a reader who stops early must not leave the others waiting
    learner.save_state(folder / "optim.pt")
    learner.save(folder / "model")
    logprobs = learner.logprobs(steps[0])
    return {"logprobs": logprobs, "looks": looks(learner, steps[0][3:6]), **trained(learner, steps[2:], NLL)}


def resumed(learner: Learner, steps: Steps, folder: Path) -> dict[str, Any]:
    learner.logprobs(steps[0])  # nothing of the weights before may stay
    learner.load_state(folder / "optim.pt")
    return {"logprobs": learner.logprobs(steps[0]), **trained(learner, steps[2:], NLL)}


def without_a_page(learner: Learner, steps: Steps) -> dict[str, Any]:
    """Updates on the rows whose page each rank can draw, and which pages these are, row by row."""
    start, metrics, left = whole_weights(learner), [], []
    for i, rows in enumerate(steps):
        asked = learner.annotate(rows, old=True, reference=True) if i % 2 else rows  # who misses the page first
        rows, figures = without_undrawn(asked, lambda rows: learner.update(rows, NLL))
        metrics.append(figures)
        left.append([row.prompt.image.number for row in rows])
    return {"start": start, "end": whole_weights(learner), "metrics": metrics, "left": left}


Case = tuple[dict[str, Any], dict[str, Any], Callable[[Learner], dict[str, Any]]]  # policy, optim, what to do


# Their states are loaded by another number of ranks: the policy's settings by name.
KEPT: dict[str, dict[str, Any]] = {
    "bf16": {"dtype": "bfloat16"},
    "bf16 adapters": {"dtype": "bfloat16", "lora_rank": 3},
}


def cases(all_steps: dict[str, Steps], folder: Path, policy_dir: Path, states: Path | None = None) -> dict[str, Case]:
    """`folder` is for what is kept; `states` are those that others kept."""
    uneven, single = (all_steps[name] for name in ("uneven", "single"))
    loss = PolicyGradient(beta=0.1, ratio="geometric")
    short = uneven[:2]
    return {
        "sft": ({}, {}, partial(trained, steps=uneven, loss=NLL)),
        "grpo": ({}, {}, partial(trained, steps=uneven, loss=loss)),
        "one rank has none": ({}, {}, partial(trained, steps=single[:2], loss=loss)),
        "adapters": (
            {"lora_rank": 3, "gradient_checkpointing": True, "freeze_vision": True},
            {},
            partial(trained, steps=short, loss=loss),
        ),
        "muon": ({}, {"name": "muon", "lr": 1e-2, "adam_lr": 1e-3}, partial(trained, steps=short, loss=NLL)),
        "head": ({}, {}, partial(with_head, steps=single[:3], policy=policy_dir)),
        "critic": ({}, {}, partial(with_critic, steps=uneven, policy=policy_dir)),
        "autocast": ({"autocast": True}, {}, partial(trained, steps=short, loss=NLL)),
        # bfloat16 with float32 masters, and under adapters
        **{name: (policy, {}, partial(trained, steps=short, loss=NLL)) for name, policy in KEPT.items()},
        **{
            f"{name} kept": (policy, {}, partial(kept, steps=uneven, folder=folder / name))
            for name, policy in KEPT.items()
        },
        **{
            f"{name} resumed": (policy, {}, partial(resumed, steps=uneven, folder=(states or folder) / name))
            for name, policy in KEPT.items()
        },
        "f32": ({}, {}, partial(trained, steps=short, loss=NLL)),
        "f32 adapters": ({"lora_rank": 3}, {}, partial(trained, steps=short, loss=NLL)),
        "sft, short": ({}, {}, partial(trained, steps=short, loss=NLL)),
        "delta net": (
            {"path": str(policy_dir.with_name(HYBRID)), "gradient_checkpointing": True},
            {},
            partial(trained, steps=all_steps["hybrid"], loss=loss),
        ),
        "undrawn": ({}, {}, partial(without_a_page, steps=uneven)),
        "kept": ({}, {}, partial(kept, steps=uneven, folder=folder)),
        "resumed": ({}, {}, partial(resumed, steps=uneven, folder=folder)),
    }


class NoSum:
    """In place of the sum of gradients over ranks: each keeps what it computed itself."""

    def allocate(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.empty(*size, dtype=dtype, device=device)

    def __call__(self, output_tensor: Tensor, input_tensor: Tensor, **_: Any) -> None:
        output_tensor.copy_(input_tensor.chunk(ranks.world())[ranks.rank()])


def open_broken(*settings: Any) -> Learner:
    learner = open_learner(*settings)
    for part in learner.network.modules():
        if isinstance(part, FSDPModule):
            part.set_custom_reduce_scatter(NoSum())  # type: ignore[arg-type]
    return learner


def open_partly_blind(*settings: Any) -> Learner:
    """All ranks but the first lack a page."""
    learner = open_learner(*settings)
    if ranks.rank() > 0:
        learner.prompter = blind(learner.prompter, LOST)
    return learner


def open_averaging(*settings: Any) -> Learner:
    learner = open_learner(*settings)
    for part in learner.network.modules():
        if isinstance(part, FSDPModule):
            part.set_gradient_divide_factor(2.0)
    return learner


# What three processes do, who cost time, and two who go on from what these kept.
OF_THREE = [f"{name}{more}" for name in KEPT for more in ("", " kept", " resumed")]
GONE_ON = [f"{name} resumed" for name in KEPT]
BROKEN = {
    "no sum": (open_broken, "sft, short"),
    "mean": (open_averaging, "sft, short"),
    "no sum in bf16": (open_broken, "bf16"),
    "no sum in bf16 adapters": (open_broken, "bf16 adapters"),
    "one cannot draw": (open_partly_blind, "undrawn"),
}


def process(
    rank: int,
    port: int,
    folder: Path,
    policy: Path,
    all_steps: dict[str, Steps],
    world: int,
    wanted: Sequence[str] | None,
    states: Path | None,
) -> None:
    faulthandler.enable()
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    if rank > 0:
        reader_module.load_model = None  # type: ignore[assignment]  # whoever reads weights dies
    all_cases = cases(all_steps, folder, policy, states)
    jobs = [(name, open_learner, case) for name, case in all_cases.items() if name in (wanted or all_cases)]
    jobs += [(name, opened, all_cases[of]) for name, (opened, of) in BROKEN.items() if of in (wanted or all_cases)]
    results = {}
    with ranks.group() as first:
        results["limits"] = [
            group._get_backend(torch.device("cpu")).options._timeout.total_seconds() / 60  # type: ignore[union-attr]
            for group in (dist.group.WORLD, ranks._calls)
        ]
        for name, opened, (policy_cfg, optim, work) in jobs:
            if first:
                ranks.tell("", "open", policy, policy_cfg, optim)
                results[name] = work(opened(policy, policy_cfg, optim))
                ranks._send(None)
            else:
                ranks.follow(opened)
        if first:
            torch.save(results, folder / "results.pt")
        else:
            ranks.follow(open_learner)


def start(
    world: int,
    folder: Path,
    policy_dir: Path,
    all_steps: dict[str, Steps],
    wanted: Sequence[str] | None = None,
    states: Path | None = None,
) -> dict[str, Any]:
    """What so many processes found, by case: of all cases, or those wanted."""
    spawn(process, (free_port(), folder, policy_dir, all_steps, world, wanted, states), nprocs=world)
    return torch.load(folder / "results.pt")
