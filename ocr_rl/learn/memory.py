"""What a run will need in memory, before its first step: from the model's configuration alone, no weights are read.

Weights, masters, gradients, optimiser state, the reference and the sampler's share are counted. What comes and goes is
an estimate: what a micro-batch keeps for the backward pass, and what an optimiser step writes beside it. Knows nothing
about pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.learn import ranks
from ocr_rl.learn.logprobs import CHUNK_LOGITS
from ocr_rl.learn.network import trainable
from ocr_rl.learn.optimizers import muon_matrices
from ocr_rl.models.families import family_of
from ocr_rl.models.family import Family, kept_by_attention
from ocr_rl.models.load import DTYPES, load_config, sampling_dtype, use_dtype
from ocr_rl.rollout.sampler.base import CPU_CACHE_GIB

GIB = 2**30
_TOWER_SEES = 2.5  # keys a patch, measured: a tower's own code lays them out more than once


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What a run computes on, in bytes; a run that is only planned has one that is not here."""

    gpu: bool
    ranks: int  # processes that share the policy, each with a GPU of its own where there are GPUs
    free: int
    total: int
    host: int  # free on the host's side


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Bytes by purpose, on the device; `activations` (one micro-batch) and what follows it come and go."""

    weights: int
    masters: int  # float32 copies of weights that are learnt in bfloat16
    gradients: int
    optimizer: int
    reference: int
    critic: int  # of PPO: its weights, or its adapter's, with all that learning them takes
    learned: int  # reward models that score
    sampler: int
    activations: int
    casts: int  # bfloat16 copies that autocast makes of learnt weights, for as long as a pass lasts
    gathered: int  # with several ranks: weights outside the layers, which each of them has whole
    step: int  # what the optimiser writes beside its state; not while activations are there
    available: int
    # On the host's side, where the device has memory of its own: a model that is read, or saved.
    host: int = 0
    host_available: int = 0
    ways: tuple[str, ...] = ()  # how to need less at the peak, the largest first
    ways_to_hold: tuple[str, ...] = ()  # and those that lessen what is held
    sleeps: bool = False  # the sampler, while the learner works

    @property
    def kept(self) -> int:
        """Bytes of the learner, there from the first step to the last."""
        own = self.weights + self.masters + self.gradients + self.optimizer
        return own + self.reference + self.critic + self.learned

    @property
    def held(self) -> int:
        """Bytes without which no step can be taken: the sampler's with them."""
        return self.kept + self.sampler

    @property
    def peak(self) -> int:
        """The most bytes there at a time, as far as can be told."""
        learning = max(self.activations + self.casts + self.gathered, self.step)
        return self.kept + (max(learning, self.sampler) if self.sleeps else learning + self.sampler)

    def to_text(self) -> str:
        names = ("weights", "masters", "gradients", "optimizer", "reference", "critic", "learned", "sampler")
        names += ("activations", "casts", "gathered", "step")
        parts = ", ".join(f"{name} {getattr(self, name) / GIB:.2f}" for name in names if getattr(self, name))
        host = f"; the host {self.host / GIB:.1f} GiB of {self.host_available / GIB:.1f} GiB" if self.host else ""
        return f"memory: about {self.peak / GIB:.1f} GiB of {self.available / GIB:.1f} GiB ({parts}){host}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A policy without its numbers."""

    settings: Any  # transformers' configuration
    family: Family
    module: nn.Module  # on meta, with its adapters
    weights: int  # bytes, without adapters
    numbers: int  # how many weights that are
    blocks: Sequence[int]  # how many of these each block has
    learnt_blocks: Sequence[int]  # how many numbers in each learn, adapters' too


def shape_of(policy: config.Policy, path: str) -> Shape:
    """The shape of a policy that starts from the folder or hub name `path`; no weights are read."""
    settings = load_config(path, trust_remote_code=policy.trust_remote_code)
    family = family_of(settings)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(
            settings, dtype=DTYPES[policy.dtype], trust_remote_code=policy.trust_remote_code
        )
        weights, numbers = _size(model), model.num_parameters()
        parts = family.blocks(model)
        blocks = [_numbers(block) for block in parts]
        module = trainable(model, family, policy)  # puts adapters into the same blocks
        learnt_blocks = [_learnt(block) for block in parts]
    return Shape(
        settings=settings,
        family=family,
        module=module,
        weights=weights,
        numbers=numbers,
        blocks=blocks,
        learnt_blocks=learnt_blocks,
    )


def learns_to_see(shape: Shape) -> bool:
    """Whether the vision tower, or an adapter in it, learns."""
    return any(p.requires_grad and shape.family.of_vision(name) for name, p in shape.module.named_parameters())


def this_device() -> Device:
    """The first rank's GPU, or the memory that all ranks share."""
    memory = psutil.virtual_memory().available
    free, total = torch.cuda.mem_get_info() if torch.cuda.is_available() else (memory, memory)
    return Device(gpu=torch.cuda.is_available(), ranks=ranks.world(), free=free, total=total, host=memory)


def memory_plan(recipe: config.Recipe, path: str) -> MemoryPlan:
    """The plan for a recipe whose policy starts from the folder or hub name `path`, on the device it would use."""
    return memory_on(this_device(), recipe, shape_of(recipe.policy, path))


def memory_on(device: Device, recipe: config.Recipe, shape: Shape) -> MemoryPlan:
    """The plan for a recipe's policy on any device, one that is not here too."""
    policy, dtype, on_gpu = recipe.policy, DTYPES[recipe.policy.dtype], device.gpu
    module = shape.module
    weights, numbers = shape.weights, shape.numbers
    learnt = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    frozen_copy = policy.reference is not None or (recipe.algorithm.needs_reference and policy.lora_rank == 0)
    several = device.ranks > 1
    # What is cut up lies whole in a memory that all ranks share; what each has for itself lies there for every rank.
    parts, copies = (device.ranks, 1) if on_gpu else (1, device.ranks)
    itemsize = 2 if policy.autocast else dtype.itemsize
    sleeps = on_gpu and recipe.needs_sampler and recipe.sampling.sleep
    aside = numbers * DTYPES[sampling_dtype(recipe.sampling, policy, on_gpu=True)].itemsize if sleeps else 0
    # Each rank's part of what is learnt, in float32, and of its momenta: copied to the host before it is written.
    saved = 4 * _learnt(module) + _momenta(recipe.optim, learnt)
    plan = MemoryPlan(
        weights=_size(module) // parts,
        masters=_masters(learnt) // parts,
        gradients=_gradients(learnt) // parts,
        optimizer=_momenta(recipe.optim, learnt) // parts,
        reference=weights // parts if frozen_copy else 0,
        critic=_critic(recipe, module, learnt) // parts,
        learned=sum(map(_learned, recipe.learned)),
        sampler=_sampler(recipe, numbers, device) if recipe.needs_sampler else 0,
        activations=copies * _activations(recipe, shape, _passing(shape, itemsize) if several else 0, on_gpu=on_gpu),
        casts=0 if several or not policy.autocast else sum(2 * p.numel() for _, p in learnt if p.ndim > 1),
        gathered=copies * _root(shape, itemsize) if several else 0,
        step=_step(recipe.optim, learnt, on_gpu) // parts,
        available=device.free,
        host=max((2 if frozen_copy and several else 1) * weights, saved if several else 0) + aside if on_gpu else 0,
        host_available=device.host if on_gpu else 0,
        sleeps=sleeps,
    )
    plan = replace(plan, available=plan.available + plan.learned)  # those are open already
    held = _ways_to_hold(plan, recipe)
    return replace(plan, ways=_by_size({**held, **_ways_to_learn(plan, recipe)}), ways_to_hold=_by_size(held))


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSize:
    """Bytes of an engine that has a card of its own."""

    weights: int
    sent: int  # what it is given after each update: all weights, or the adapters
    token: int  # keys and values of a token


def engine_size(recipe: config.Recipe, shape: Shape) -> EngineSize:
    """Of the recipe's policy on a GPU. Layers that keep a state of one size (DeltaNet) count as no keys and values."""
    policy, text = recipe.policy, shape.settings.text_config
    itemsize = DTYPES[sampling_dtype(recipe.sampling, policy, on_gpu=True)].itemsize
    kinds = getattr(text, "layer_types", None) or ["attention"] * text.num_hidden_layers
    layers = sum(kind != "linear_attention" for kind in kinds)
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    adapters = 4 * _learnt(shape.module)
    return EngineSize(
        weights=shape.numbers * itemsize,
        sent=adapters if policy.lora_rank else shape.numbers * itemsize,
        token=2 * layers * text.num_key_value_heads * head * itemsize,
    )


def require_memory(plan: MemoryPlan) -> None:
    """Refuse a run that cannot hold what it keeps from step to step; estimates alone refuse nothing."""
    if plan.held > plan.available or plan.host > plan.host_available:
        of_host = ("leave out sampling.sleep",) if plan.sleeps else ()
        ways = plan.ways_to_hold if plan.held > plan.available else of_host
        smaller = "or take a smaller model" if ways else "take a smaller model"
        raise UserError(f"The recipe needs {plan.to_text().removeprefix('memory: ')}: {', '.join([*ways, smaller])}.")


def _ways_to_hold(plan: MemoryPlan, recipe: config.Recipe) -> dict[str, int]:
    """What can be set to hold less from step to step, with the bytes that it is about."""
    policy = recipe.policy
    adapted = policy.lora_rank > 0
    return {
        "set policy.lora_rank": 0 if adapted else plan.masters + plan.gradients + plan.optimizer,
        # A tower is a small part. Beside adapters all weights stand still.
        "set policy.freeze_vision": 0 if adapted or policy.freeze_vision else plan.held // 8,
        "lower sampling.gpu_share": _vllms_share(plan, recipe),
        "learn without a reference (beta = 0)": plan.reference if isinstance(recipe.algorithm, config.OnPolicy) else 0,
        'set ppo.critic.kind = "adapter" (with LoRA) or "head"': plan.critic,
    }


def _ways_to_learn(plan: MemoryPlan, recipe: config.Recipe) -> dict[str, int]:
    """What can be set to need less while the learner works."""
    return {
        "set sampling.sleep": 0 if plan.sleeps else min(_vllms_share(plan, recipe), plan.peak - plan.held),
        "lower optim.micro_tokens": plan.activations // 2,
        "set policy.gradient_checkpointing": 0 if recipe.policy.gradient_checkpointing else plan.activations,
    }


def _vllms_share(plan: MemoryPlan, recipe: config.Recipe) -> int:
    """What vLLM in this process takes of a GPU."""
    return plan.sampler if recipe.sampling.engine == "vllm" and plan.host > 0 else 0


def _by_size(ways: dict[str, int]) -> tuple[str, ...]:
    return tuple(sorted((way for way, size in ways.items() if size), key=lambda way: -ways[way]))


def _learned(path: str) -> int:
    """Bytes of a reward model's weights, as such a folder is opened."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(load_config(path))
    return _numbers(model) * DTYPES[use_dtype(path)].itemsize


def _critic(recipe: config.Recipe, module: nn.Module, learnt: Sequence[tuple[str, Tensor]]) -> int:
    """The critic's share, by its kind."""
    algorithm = recipe.algorithm
    if not isinstance(algorithm, config.Ppo) or algorithm.critic.kind == "head":
        return 0
    own = _size(module) if algorithm.critic.kind == "model" else sum(p.nbytes for _, p in learnt)
    return own + _masters(learnt) + _gradients(learnt) + _momenta(recipe.optim, learnt)


def _root(shape: Shape, itemsize: int) -> int:
    """Weights outside the blocks: each rank has them whole for all of a pass."""
    return itemsize * (shape.numbers - sum(shape.blocks))


def _passing(shape: Shape, itemsize: int) -> int:
    """What is whole on each rank while it goes back through a block; `itemsize`: bytes of a number in products.

    The block's weights and the next one's, its gradients and the root's (from the head on), and in float32 what is
    sent of its gradients and of the ones before.
    """
    block = max(shape.learnt_blocks)
    root = _learnt(shape.module) - sum(shape.learnt_blocks)
    return itemsize * (2 * max(shape.blocks) + root + block) + 4 * 2 * block


def _masters(learnt: Sequence[tuple[str, Tensor]]) -> int:
    """Of weights that are learnt in bfloat16 (`masters.Masters`)."""
    return sum(4 * p.numel() for _, p in learnt if p.dtype != torch.float32)


def _gradients(learnt: Sequence[tuple[str, Tensor]]) -> int:
    """In float32, and of bfloat16 weights those of a backward pass too."""
    return sum(4 * p.numel() for _, p in learnt) + sum(p.nbytes for _, p in learnt if p.dtype != torch.float32)


def _momenta(optim: config.Optim, learnt: Sequence[tuple[str, Tensor]]) -> int:
    momenta = 8 * sum(p.numel() for _, p in learnt)
    return momenta - 4 * sum(p.numel() for p in muon_matrices(learnt)) if optim.name == "muon" else momenta


def _step(optim: config.Optim, learnt: Sequence[tuple[str, Tensor]], on_gpu: bool) -> int:
    """AdamW writes two float32 temporaries of a weight at a time, on a GPU none; Muon turns each matrix in bfloat16."""
    matrices = muon_matrices(learnt) if optim.name == "muon" else []
    others = 0 if on_gpu else max((8 * p.numel() for _, p in learnt), default=0)
    return max([others, *(12 * p.numel() for p in matrices)])


def _numbers(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _learnt(module: nn.Module) -> int:
    """How many of its numbers learn."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _size(module: nn.Module) -> int:
    return sum(p.nbytes for p in module.parameters())


def _sampler(recipe: config.Recipe, numbers: int, device: Device) -> int:
    """`numbers`: how many weights the model has."""
    weights = numbers * DTYPES[sampling_dtype(recipe.sampling, recipe.policy, on_gpu=device.gpu)].itemsize
    if recipe.sampling.engine == "transformers":
        return weights
    if recipe.sampling.engine == "vllm_server":
        return 0  # the server's memory is its own
    if device.gpu:
        return int(recipe.sampling.gpu_share * device.total)
    return weights + int(CPU_CACHE_GIB * GIB)


def _seen(algorithm: config.Algorithm) -> float:
    """Keys for each token of a micro-batch, half of which is the page and half the transcripts learnt from with it.

    Of n transcripts, each as long as an nth of the page, each sees the page and itself: n (n + 1) keys for 2 n tokens.
    """
    if isinstance(algorithm, config.OnPolicy):
        together = algorithm.group_size
    else:
        together = 2 if isinstance(algorithm, config.Dpo | config.RewardModel) else 1
    return (together + 1) / 2


def _activations(recipe: config.Recipe, shape: Shape, passing: int, *, on_gpu: bool) -> int:
    """What one micro-batch keeps for the backward pass; with checkpointing each layer's input, and one layer's all.

    Half of the micro-batch's tokens are taken to be image tokens, four patches each. Attention scores are not kept.
    `passing`: bytes that are whole on each of several ranks while a layer is gone back through.
    """
    policy, text, settings, family = recipe.policy, shape.settings.text_config, shape.settings, shape.family
    width, mlp, layers = family.vision_sizes(settings.vision_config)
    tokens, patches = recipe.optim.micro_tokens, 2 * recipe.optim.micro_tokens
    bytes_of = (4 if policy.dtype == "float32" else 2, 2 if policy.autocast or policy.dtype == "bfloat16" else 4)
    adapted = policy.lora_rank > 0
    once = on_gpu and bytes_of[1] == 2  # the kernel of 16 bits (`models.varlen`) reads a page where it stands
    mixers = family.kept_by_mixers(text, bytes_of[1], 1.0 if once else _seen(recipe.algorithm))
    each = [tokens * _layer(text.hidden_size, text.intermediate_size, mixer, bytes_of, adapted) for mixer in mixers]
    seen = patches * _layer(width, mlp, bytes_of[1] * kept_by_attention(width, 1.0, _TOWER_SEES), bytes_of, adapted)
    seen = seen if learns_to_see(shape) else 0.0
    if policy.gradient_checkpointing:
        kept = bytes_of[0] * tokens * text.hidden_size * text.num_hidden_layers
        kept_seen, again = bytes_of[0] * patches * width * layers if seen else 0, 2
    else:
        kept, kept_seen, again = sum(each), seen * layers, 1
    head = 3 * 4 * min(tokens * text.vocab_size, CHUNK_LOGITS)  # logits, gone before a layer is gone back through
    if not adapted:  # the head's gradient in float32, before it is added, and each product in half precision once more
        head += 4 * text.vocab_size * text.hidden_size * (2 if bytes_of[1] == 2 else 1)
    # A layer's gradients are as large as what it keeps. The text's layers are gone when the tower is gone back through.
    text_at_most = kept + kept_seen + max(again * max(each) + passing, head)
    return int(max(text_at_most, kept_seen + again * seen + passing))


def _layer(width: int, mlp: int, mixer: float, bytes_of: tuple[int, int], adapted: bool) -> float:
    """Bytes that one token keeps in one layer; `mixer`: those in its attention, or what stands in its place.

    `bytes_of`: of a number on the residual stream (float32 weights keep it in float32, under autocast too), and of one
    in a product. Norms keep what they read in float32, and for their own weights what these are multiplied with; the
    MLP four wide vectors. Beside adapters norms do not learn, and in bfloat16 peft's read float32 copies of all inputs.
    """
    stream, product = bytes_of
    norms = 2 * (4 + (0 if adapted else stream)) * width
    casts = (5 if stream != product else 2) * product * width  # what q, k, v, gate and up read
    inputs = 4 * (6 * width + mlp) if adapted and bytes_of == (2, 2) else 0
    return norms + casts + mixer + 4 * product * mlp + inputs
