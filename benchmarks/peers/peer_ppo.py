"""TRL's PPO on given numbers, run by a Python that has TRL 1.12: the last version with `trl.experimental.ppo`.

Reads {"dtype", "cases" by name} as JSON from stdin, writes one answer a case. The trainer is TRL's class without its
`__init__`; its own `train` samples, judges and learns once. What the models would say is looked up by row and place: a
row's prompt is one token that names it. So placing the score, masks, KL, advantages, whitening, minibatches and both
losses are TRL's; what `train` holds is read where it hands a loss to the accelerator.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from contextlib import redirect_stdout, suppress
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import accelerate
import numpy
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
warnings.simplefilter("ignore")

from trl.experimental.ppo import PPOConfig, PPOTrainer  # noqa: E402  # pyright: ignore

Case = dict[str, Any]
Tensor = torch.Tensor
PAD, EOS, TOKEN, OTHER, FIRST = range(5)  # row k's prompt is token FIRST + k; OTHER is never sampled


class Enough(Exception):
    """The last loss was handed over; what `train` does afterwards is logged, not learnt."""


def padded(values: list[list[float]], width: int, dtype: torch.dtype, fill: float) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor([[*row, *[fill] * (width - len(row))] for row in values], dtype=dtype))


class Policy(torch.nn.Module):
    """Says the log-probabilities of a table; what is left of each distribution is OTHER's."""

    def __init__(self, table: Tensor, responses: Tensor) -> None:
        super().__init__()
        self.table, self.responses = table, responses
        self.generation_config = SimpleNamespace()

    def logits(self, row_B: Tensor) -> Tensor:
        lp_BT = self.table[row_B]
        ids_BT1 = self.responses[row_B][..., None]
        nothing = torch.full((*lp_BT.shape, FIRST), -torch.inf, dtype=lp_BT.dtype)
        rest = torch.full_like(ids_BT1, OTHER)
        return nothing.scatter(2, ids_BT1, lp_BT[..., None]).scatter(2, rest, (-lp_BT.expm1()).log()[..., None])

    def forward(self, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        logits = self.logits(input_ids[:, 0] - FIRST)
        return SimpleNamespace(logits=torch.cat([logits, torch.zeros_like(logits[:, :1])], dim=1))

    def generate(self, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        row_B = input_ids[:, 0] - FIRST
        sequences = torch.cat([input_ids, self.responses[row_B]], dim=1)
        return SimpleNamespace(sequences=sequences, scores=self.logits(row_B).unbind(1))


class Scalar(torch.nn.Module):
    """A model with a scalar head, as TRL reads one: hidden states of a backbone, then `score`."""

    base_model_prefix = "backbone"

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = table

    def backbone(self, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(hidden_states=[input_ids])

    def score(self, ids: Tensor) -> Tensor:
        return self.table[ids[:, 0] - FIRST][..., None]


class Both(torch.nn.Module):
    """Policy and critic: as they were in the rollout (`policy`, `value_model`) and, when called, as they are now."""

    is_gradient_checkpointing = False

    def __init__(self, then: tuple[Policy, Scalar], now: tuple[Policy, Scalar]) -> None:
        super().__init__()
        self.policy, self.value_model = then
        self.now = torch.nn.ModuleList(now)

    def forward(self, input_ids: Tensor, **_: Any) -> tuple[SimpleNamespace, Tensor]:
        policy, critic = self.now
        return policy(input_ids), critic.score(input_ids)  # pyright: ignore


class Accelerator(accelerate.Accelerator):
    """Keeps what `train` holds when it hands a loss over, and ends it after the last one."""

    def __init__(self, losses: int, accumulate: int) -> None:
        super().__init__(cpu=True, gradient_accumulation_steps=accumulate)
        self.losses, self.held = losses, []

    def backward(self, loss: Tensor, **_: Any) -> None:
        super().backward(loss)
        held = dict(sys._getframe(1).f_locals)
        self.held.append({name: held[name] for name in KEPT})
        if len(self.held) == self.losses:
            raise Enough


LOSS = {"ppo": "pg_loss", "critic": "vf_loss"}
KEPT = ("rewards", "advantages", "returns", "micro_batch_inds", "pg_loss", "vf_loss")


class Ppo(PPOTrainer):
    def __init__(self, case: Case, dtype: torch.dtype) -> None:  # instead of TRL's
        lengths = [len(row) for row in case["logprobs"]]
        rows, width = len(lengths), max(lengths)
        accumulate, minibatches = case["accumulate"], case["minibatches"]
        self.args = args = PPOConfig(
            output_dir="unused",
            use_cpu=True,
            bf16=False,
            report_to=[],
            per_device_train_batch_size=rows // accumulate,
            gradient_accumulation_steps=accumulate,
            num_mini_batches=minibatches,
            num_ppo_epochs=1,
            total_episodes=rows,
            temperature=1 - 1e-7,  # TRL adds 1e-7
            stop_token="eos",
            **case["config"],
        )
        # As TRL's own __init__ computes them from the configuration.
        args.num_total_batches, args.batch_size, args.local_batch_size = 1, rows, rows
        args.local_mini_batch_size = rows // minibatches
        self.stop_token_id = EOS
        self.train_dataset_len = rows
        self.processing_class = SimpleNamespace(pad_token_id=PAD, eos_token_id=EOS)
        self.state, self.control = SimpleNamespace(), None
        self.callback_handler = SimpleNamespace(on_train_begin=lambda *_: None)
        self.optimizer = SimpleNamespace(step=lambda: None, zero_grad=lambda: None)
        self.is_deepspeed_enabled = self.is_fsdp_enabled = False
        self.accelerator = Accelerator(accumulate * minibatches, accumulate)
        # The case
        responses = torch.tensor(
            [
                [*[TOKEN] * (n - 1), EOS if ended else TOKEN, *[PAD] * (width - n)]
                for n, ended in zip(lengths, case["ended"], strict=True)
            ]
        )
        now, old, ref = (padded(case[name], width, dtype, -1.0) for name in ("logprobs", "old", "ref"))
        expected, before = (padded(case[name], width + 1, dtype, torch.nan) for name in ("values", "old_values"))
        # A score is read at the last token alone.
        scores = [[*[torch.nan] * n, reward] for n, reward in zip(lengths, case["rewards"], strict=True)]
        self.now, self.expected = now, expected
        self.model = Both((Policy(old, responses), Scalar(before)), (Policy(now, responses), Scalar(expected)))
        self.ref_model = Policy(ref, responses)
        self.reward_model = Scalar(padded(scores, width + 1, dtype, torch.nan))
        self.dataloader = [{"input_ids": torch.arange(rows)[:, None] + FIRST}]


def ppo(case: Case, dtype: torch.dtype) -> dict[str, Any]:
    """Of each update its rows and the policy's loss, or the critic's ("kind"); by row and token the rest.

    Where a row is shorter than the longest one, rewards, returns and slopes of values have one more place: after its
    end, as TRL has it.
    """
    numpy.random.seed(0)  # TRL draws its minibatches
    trainer = Ppo(case, dtype)
    with suppress(Enough):
        trainer.train()
    held, step = trainer.accelerator.held, case["accumulate"]
    lengths = [len(row) for row in case["logprobs"]]
    after = [min(n + 1, max(lengths)) for n in lengths]
    windows = [
        {
            "rows": [int(row) for part in parts for row in part["micro_batch_inds"]],
            "loss": sum(part[LOSS[case["kind"]]].item() for part in parts) / step,
        }
        for parts in (held[i : i + step] for i in range(0, len(held), step))
    ]
    if case["kind"] == "critic":
        return {"windows": windows, "gradient": by_row(trainer.expected.grad, after)}
    return {
        "rewards": by_row(held[0]["rewards"], after),
        "returns": by_row(held[0]["returns"], after),
        "advantages": by_row(held[0]["advantages"], lengths),
        "windows": windows,
        "gradient": by_row(trainer.now.grad, lengths),
    }


def by_row(values: Tensor | None, lengths: list[int]) -> list[list[float]]:
    assert values is not None
    return [[float(f"{each:.9g}") for each in row[:n].tolist()] for row, n in zip(values, lengths, strict=True)]


def main() -> None:
    asked = json.load(sys.stdin)
    dtype = getattr(torch, asked["dtype"])
    with redirect_stdout(sys.stderr):
        found = {name: ppo(case, dtype) for name, case in asked["cases"].items()}
    versions = {"trl with ppo": version("trl"), "torch": version("torch")}
    json.dump({"versions": versions, "answers": found}, sys.stdout)


if __name__ == "__main__":
    main()
