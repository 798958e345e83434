"""What a run will need in memory, before its first step: from the model's configuration alone, no weights are read.

Weights, gradients, optimiser state, the reference and the sampler's share are counted; what a micro-batch keeps for the
backward pass is an estimate of its order of magnitude. Knows nothing about pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.learn import ranks
from ocr_rl.learn.logprobs import CHUNK_LOGITS
from ocr_rl.learn.network import trainable
from ocr_rl.learn.optimizers import muon_matrices
from ocr_rl.models import qwen2_5_vl as family
from ocr_rl.models.load import DTYPES, load_config, sampling_dtype
from ocr_rl.rollout.sampler.base import CPU_CACHE_GIB

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Bytes by purpose; `activations` (one micro-batch) is the only estimate."""

    weights: int
    masters: int  # float32 copies of weights that are learnt in bfloat16
    gradients: int
    optimizer: int
    reference: int
    sampler: int
    activations: int
    available: int

    @property
    def held(self) -> int:
        """Bytes there from the first step to the last."""
        return self.weights + self.masters + self.gradients + self.optimizer + self.reference + self.sampler

    def to_text(self) -> str:
        names = ("weights", "masters", "gradients", "optimizer", "reference", "sampler", "activations")
        parts = ", ".join(f"{name} {getattr(self, name) / GIB:.2f}" for name in names if getattr(self, name))
        total = (self.held + self.activations) / GIB
        return f"memory: about {total:.1f} GiB of {self.available / GIB:.1f} GiB ({parts})"


def memory_plan(recipe: config.Recipe, path: str) -> MemoryPlan:
    """The plan for a recipe whose policy starts from the folder or hub name `path`, on the device it would use.

    With several ranks: on the first one's GPU, or in the memory that they all share.
    """
    dtype = DTYPES[recipe.policy.dtype]
    settings = load_config(path, trust_remote_code=recipe.policy.trust_remote_code)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(
            settings, dtype=dtype, trust_remote_code=recipe.policy.trust_remote_code
        )
        weights = _size(model)
        module = trainable(model, recipe.policy)
    learnt = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    short = [p for _, p in learnt if p.dtype != torch.float32]  # those with a float32 master (`masters.Masters`)
    masters = sum(4 * p.numel() for p in short)
    gradients = sum(4 * p.numel() for _, p in learnt) + sum(p.nbytes for p in short)
    momenta = 8 * sum(p.numel() for _, p in learnt)
    if recipe.optim.name == "muon":
        momenta -= 4 * sum(p.numel() for p in muon_matrices(learnt))
    frozen_copy = recipe.algorithm.needs_reference and recipe.policy.lora_rank == 0
    on_gpu = torch.cuda.is_available()
    parts = ranks.world() if on_gpu else 1
    return MemoryPlan(
        weights=_size(module) // parts,
        masters=masters // parts,
        gradients=gradients // parts,
        optimizer=momenta // parts,
        reference=weights // parts if frozen_copy else 0,
        sampler=_sampler(recipe, model.num_parameters(), on_gpu) if recipe.needs_sampler else 0,
        activations=_activations(recipe, settings, 2 if recipe.policy.autocast else dtype.itemsize),
        available=torch.cuda.mem_get_info()[0] if on_gpu else psutil.virtual_memory().available,
    )


def require_memory(plan: MemoryPlan) -> None:
    """Refuse a run that cannot hold what it keeps from step to step; the estimate alone refuses nothing."""
    if plan.held > plan.available:
        raise UserError(
            f"The recipe needs {plan.to_text().removeprefix('memory: ')}: set policy.lora_rank or "
            "policy.freeze_vision, or take a smaller model."
        )


def _size(module: nn.Module) -> int:
    return sum(p.nbytes for p in module.parameters())


def _sampler(recipe: config.Recipe, numbers: int, on_gpu: bool) -> int:
    """`numbers`: how many weights the model has."""
    weights = numbers * DTYPES[sampling_dtype(recipe.sampling, recipe.policy)].itemsize
    if recipe.sampling.engine == "transformers":
        return weights
    if recipe.sampling.engine == "vllm_server":
        return 0  # the server's memory is its own
    if on_gpu:
        return int(recipe.sampling.gpu_share * torch.cuda.mem_get_info()[1])
    return weights + int(CPU_CACHE_GIB * GIB)


def _activations(recipe: config.Recipe, settings: Any, itemsize: int) -> int:
    """Order of magnitude: per token and layer about 8 hidden and 4 MLP vectors are kept, one with checkpointing.

    Half of the micro-batch's tokens are taken to be image tokens, four patches each. Attention scores are not kept.
    """
    text = settings.text_config
    vision_size, vision_mlp, vision_layers = family.vision_sizes(settings.vision_config)
    tokens, patches = recipe.optim.micro_tokens, 2 * recipe.optim.micro_tokens
    whole = tokens * (8 * text.hidden_size + 4 * text.intermediate_size)
    seen = patches * (8 * vision_size + 4 * vision_mlp)
    if recipe.policy.gradient_checkpointing:
        kept = tokens * text.hidden_size * text.num_hidden_layers + whole
        looked = patches * vision_size * vision_layers + seen
    else:
        kept, looked = whole * text.num_hidden_layers, seen * vision_layers
    logits = 3 * 4 * min(tokens * text.vocab_size, CHUNK_LOGITS)
    return itemsize * (kept + (0 if recipe.policy.freeze_vision else looked)) + logits
