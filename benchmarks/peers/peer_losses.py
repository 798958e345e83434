"""TRL's half of `benchmarks.peers.losses`: its trainers' own code on given log-probabilities, run by TRL's Python.

Reads {"dtype", "cases" by name} as JSON from stdin, writes one answer a case. The trainers are TRL's classes without
their `__init__`, so without a model, a dataset and a tokenizer. What a model would say is looked up: the ids of a
completion are the numbers of its tokens in the case, from 1, and a table holds the log-probability of each. Everything
between (padding, masks, advantages, importance correction, shuffling, windows, loss) is TRL's.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import warnings
from collections import defaultdict, deque
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.simplefilter("ignore")
# CPU torch beside PyPI's torchvision: the file is on its own, the package around it is not imported.
runpy.run_path(str(Path(__file__).parents[2] / "ocr_rl" / "torchvision_shim.py"))["declare"]()

import accelerate  # noqa: E402
from trl import (  # noqa: E402  # pyright: ignore
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    RewardConfig,
    RewardTrainer,
)
from trl.trainer.reward_trainer import DataCollatorForPreference  # noqa: E402  # pyright: ignore

Case = dict[str, Any]
PAD = 0


def short(values: torch.Tensor) -> list[float]:
    """Short enough to be kept."""
    return [float(f"{value:.9g}") for value in values.tolist()]


class Model(torch.nn.Module):
    """Looks log-probabilities up, token number by token number."""

    is_gradient_checkpointing = False

    def __init__(self, values: list[list[float]], dtype: torch.dtype) -> None:
        super().__init__()
        flat = [0.0, *(value for row in values for value in row)]
        self.table = torch.nn.Parameter(torch.tensor(flat, dtype=dtype))

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor, **_: Any) -> SimpleNamespace:
        """As TRL's fused head answers: at each position the log-probability of its label, 0 where there is none."""
        values = self.table[labels.clamp(min=0)] * (labels >= 0)
        nothing = torch.zeros_like(values)
        return SimpleNamespace(log_probs=values, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool())

    def gradient(self, values: list[list[float]]) -> list[list[float]]:
        assert self.table.grad is not None
        pieces = self.table.grad[1:].split([len(row) for row in values])
        return [short(piece) for piece in pieces]


class Grpo(GRPOTrainer):
    def __init__(self, case: Case, dtype: torch.dtype) -> None:  # instead of TRL's
        rows = case["logprobs"]
        windows, accumulate = case["windows"], case["accumulate"]
        assert len(rows) % (windows * accumulate) == 0, "TRL cuts a step into parts of equally many samples"
        self.args = args = GRPOConfig(
            output_dir="unused",
            use_cpu=True,
            bf16=False,
            report_to=[],
            per_device_train_batch_size=len(rows) // (windows * accumulate),
            gradient_accumulation_steps=accumulate,
            steps_per_generation=windows * accumulate,
            num_iterations=2,  # so that the old log-probabilities are not taken to be the current ones
            num_generations=case["samples"],
            **case["config"],
        )
        # As TRL's own __init__ takes them from the configuration.
        for name in (
            "beta",
            "importance_sampling_level",
            "loss_type",
            "mask_truncated_completions",
            "max_completion_length",
            "multi_objective_aggregation",
            "num_generations",
            "num_iterations",
            "off_policy_mask_threshold",
            "pad_to_multiple_of",
            "scale_rewards",
            "top_entropy_quantile",
            "vllm_importance_sampling_clip_max",
            "vllm_importance_sampling_clip_min",
            "vllm_importance_sampling_correction",
            "vllm_importance_sampling_mode",
        ):
            setattr(self, name, getattr(args, name))
        self.epsilon_low = args.epsilon
        self.epsilon_high = args.epsilon if args.epsilon_high is None else args.epsilon_high
        self.use_vllm = case["sampler"] is not None  # the only way to TRL's importance correction
        self.aux_loss_enabled = self.use_adaptive_entropy = self._entropy_bonus_enabled = self.log_multimodal = False
        self.environment_factories = self.environments = self.tools = None
        self.accelerator = accelerate.Accelerator(cpu=True)
        self.state = SimpleNamespace(global_step=0)
        self.current_gradient_accumulation_steps = accumulate
        self._step, self._buffered_inputs = 0, None
        self._metrics = {"train": defaultdict(list)}
        self._logs = defaultdict(deque) | {"rewards": defaultdict(deque), "extra": defaultdict(deque)}
        self._pending_extra_logs, self._pending_metrics = defaultdict(list), defaultdict(list)
        self._tokenizer = SimpleNamespace(pad_token_id=PAD)
        # The case
        self.model, self.old = Model(rows, dtype), Model(case["old"], dtype)
        self.ref_model = None if case["ref"] is None else Model(case["ref"], dtype)
        self.sampler_rows = case["sampler"]
        self.rewards = torch.tensor(case["rewards"], dtype=dtype)
        self.reward_weights = torch.tensor(case["reward_weights"], dtype=dtype)
        self.reward_funcs = self.reward_func_names = [str(k) for k in range(len(case["reward_weights"]))]
        flat = iter(range(1, 1 + sum(map(len, rows))))
        self.completions = [[next(flat) for _ in row] for row in rows]
        self.eos_token_ids = [ids[-1] for ids, ended in zip(self.completions, case["ended"], strict=True) if ended]
        self.batch_advantages: torch.Tensor | None = None

    def _generate(self, prompts: list[str]) -> tuple[Any, ...]:
        asked = [[1]] * len(prompts)
        return asked, self.completions, None, prompts, self.sampler_rows, {}, None, None

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, ids: Any) -> torch.Tensor:
        return self.rewards

    def _get_per_token_logps_and_entropies(
        self, model: Model, ids: torch.Tensor, mask: torch.Tensor, keep: int, compute_entropy: bool = False, **_: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        source = self.old if model is self.model and not compute_entropy else model  # only the loss wants the entropy
        values = source.table[ids[:, -keep:]]
        return values, torch.zeros_like(values) if compute_entropy else None, None

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        self.batch_advantages = output["advantages"]  # before TRL shuffles them
        return output


def grpo(case: Case, dtype: torch.dtype) -> dict[str, Any]:
    """Loss of each window (what one optimiser step differentiates), its rows, and the sum of their gradients."""
    torch.manual_seed(0)
    trainer = Grpo(case, dtype)
    row_of = {ids[0]: k for k, ids in enumerate(trainer.completions)}
    windows = []
    for _ in range(case["windows"]):
        rows, value = [], 0.0
        for _ in range(case["accumulate"]):
            inputs = trainer._prepare_inputs([{"prompt": ""}] * len(trainer.completions))
            loss = trainer.compute_loss(trainer.model, inputs)
            loss.backward()
            trainer._step += 1
            rows += [row_of[first] for first in inputs["completion_ids"][:, 0].tolist()]
            value += loss.item()
        windows.append({"rows": rows, "loss": value})
    assert trainer.batch_advantages is not None
    return {
        "advantages": trainer.batch_advantages.tolist(),
        "windows": windows,
        "gradient": trainer.model.gradient(case["logprobs"]),
    }


class Dpo(DPOTrainer):
    def __init__(self, case: Case, dtype: torch.dtype) -> None:  # instead of TRL's
        self.args = args = DPOConfig(output_dir="unused", use_cpu=True, bf16=False, report_to=[], **case["config"])
        for name in ("beta", "label_smoothing", "ld_alpha", "use_weighting", "f_divergence_type"):
            setattr(self, name, getattr(args, name))
        self.f_alpha_divergence_coef = args.f_alpha_divergence_coef
        self.loss_types = args.loss_type
        self.loss_weights = args.loss_weights or [1.0] * len(args.loss_type)
        self.precompute_ref_logps = self.aux_loss_enabled = False
        self.accelerator = accelerate.Accelerator(cpu=True)
        self._metrics = {"train": defaultdict(list)}
        self._total_train_tokens, self._tp_size = 0, 1
        self.model, self.ref_model = Model(case["logprobs"], dtype), Model(case["ref"], dtype)


def dpo(case: Case, dtype: torch.dtype) -> dict[str, Any]:
    """Mean over batches of `case["batch"]` pairs; rows are chosen, rejected, chosen, ..."""
    trainer = Dpo(case, dtype)
    lengths = [len(row) for row in case["logprobs"]]
    longest, first, ids = max(lengths), 1, []
    for length in lengths:
        ids.append([1, *range(first, first + length), *[PAD] * (longest - length)])
        first += length
    pairs, size = len(lengths) // 2, case["batch"]
    value = 0.0
    for start in range(0, pairs, size):
        order = [2 * k for k in range(start, start + size)] + [2 * k + 1 for k in range(start, start + size)]
        mask = [[0, *[1] * lengths[k], *[0] * (longest - lengths[k])] for k in order]
        inputs = {
            "input_ids": torch.tensor([ids[k] for k in order]),
            "attention_mask": torch.tensor(mask),
            "completion_mask": torch.tensor(mask),
        }
        loss = trainer.compute_loss(trainer.model, inputs) * size / pairs
        loss.backward()
        value += loss.item()
    return {"loss": value, "gradient": trainer.model.gradient(case["logprobs"])}


class Scorer(torch.nn.Module):
    """Looks scores up: the first token of a sequence is the number of its score, from 1."""

    def __init__(self, scores: list[float], dtype: torch.dtype) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.tensor([0.0, *scores], dtype=dtype))

    def forward(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=self.table[input_ids[:, :1]])


class Reward(RewardTrainer):
    def __init__(self, case: Case, dtype: torch.dtype) -> None:  # instead of TRL's
        self.args = RewardConfig(output_dir="unused", use_cpu=True, bf16=False, report_to=[], **case["config"])
        self.accelerator = accelerate.Accelerator(cpu=True)
        self._metrics = {"train": defaultdict(list)}
        self._total_train_tokens, self._tp_size = 0, 1
        self.model = Scorer(case["scores"], dtype)


def reward_model(case: Case, dtype: torch.dtype) -> dict[str, Any]:
    """Mean over batches of `case["batch"]` pairs; scores are of chosen, rejected, chosen, ...

    `case["turned"]` is the share of the loss that takes each pair, and its margin, the other way round.
    """
    trainer, collate = Reward(case, dtype), DataCollatorForPreference(pad_token_id=PAD)
    pairs, size, value = len(case["scores"]) // 2, case["batch"], 0.0
    for share, sign in ((1 - case["turned"], 1), (case["turned"], -1)):
        for start in range(0, pairs if share else 0, size):
            examples: list[Case] = []
            for k in range(start, start + size):
                chosen, rejected = ([2 * k + 1], [2 * k + 2, 1])[::sign]
                margin = {} if case["margins"] is None else {"margin": sign * case["margins"][k]}
                examples.append({"chosen_ids": chosen, "rejected_ids": rejected, **margin})
            loss = trainer.compute_loss(trainer.model, collate(examples)) * share * size / pairs
            loss.backward()
            value += loss.item()
    slopes = trainer.model.table.grad
    assert slopes is not None
    right = trainer._metrics["train"]["accuracy"][: pairs // size]  # of the pairs as they are
    return {"loss": value, "accuracy": sum(right) / len(right), "gradient": short(slopes[1:])}


ANSWERS = {"grpo": grpo, "dpo": dpo, "reward_model": reward_model}


def main() -> None:
    asked = json.load(sys.stdin)
    dtype = getattr(torch, asked["dtype"])
    with redirect_stdout(sys.stderr):
        found = {name: ANSWERS[case["kind"]](case, dtype) for name, case in asked["cases"].items()}
    versions = {name: version(name) for name in ("trl", "torch")}
    json.dump({"versions": versions, "answers": found}, sys.stdout)


if __name__ == "__main__":
    main()
