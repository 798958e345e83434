"""The network that is trained: what is frozen and wrapped, the one way through it, its weights on the way out.

`PolicyNetwork.forward(batch)` is the one way through: FSDP, autocast, the family of models and heads have one place.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from enum import Flag, auto
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.learn.logprobs import token_logprobs
from ocr_rl.learn.ranks import whole
from ocr_rl.learn.rows import Batch
from ocr_rl.models.families import family_of
from ocr_rl.models.family import Family
from ocr_rl.models.load import DTYPES
from ocr_rl.models.weights import Adapter, Marks
from ocr_rl.objectives.losses import Read, Scalars

_PROCESSOR_FILES = ("*token*.json", "*processor*.json", "chat_template*", "merges.txt", "vocab.json", "*.model")


class Reads(Flag):
    """What a pass is to read off the hidden states."""

    WORDS = auto()  # log-probabilities and entropies, by the language model's own head
    SCALARS = auto()  # values and scores, by a head of one number


class ScalarHead(nn.Module):
    """One number off a hidden state, in float32 whatever the model computes in; 0 everywhere at first.

    It is no part of the model: engines are not sent it, and the model's folder does not have it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1, dtype=torch.float32)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden_ND: Tensor) -> Tensor:
        with torch.autocast(hidden_ND.device.type, enabled=False):
            return self.linear(hidden_ND.float())[:, 0]


class PolicyNetwork(nn.Module):
    """A model, and what is read off its hidden states for the completion tokens of a batch."""

    def __init__(
        self,
        model: nn.Module,
        family: Family,
        *,
        autocast: bool,
        head: ScalarHead | None = None,
        stop_gradient: bool = False,
    ) -> None:
        """`model`: a transformers model or its peft wrapper; `autocast`: compute in bfloat16 over float32 weights.

        `stop_gradient`: what is learnt from the head's numbers does not move the model.
        """
        super().__init__()
        self.model = model
        self.family = family
        self.autocast = autocast
        self.head = head
        self.stop_gradient = stop_gradient

    def forward(self, batch: Batch, reads: Reads = Reads.WORDS) -> Read | Scalars:
        """A Read where words are asked for (with the scalars, where both are), else Scalars."""
        with self._precision(batch.input_ids_1X.device):
            seen = batch.seen or self.see(batch.pixel_values, batch.image_sizes)
            hidden_XD = self.family.hidden_states(
                base(self.model), batch.input_ids_1X, batch.position_ids_31X, batch.packing, seen
            )[0]
            scalars = self._scalars(hidden_XD, batch) if Reads.SCALARS in reads else None
            if Reads.WORDS in reads:
                return self._words(hidden_XD, batch)._replace(scalars=scalars)
        assert scalars is not None
        return scalars

    def see(self, pixel_values: Tensor, image_sizes: Tensor) -> tuple[Tensor, ...]:
        """What the vision tower says of images (`Family.see`)."""
        model = base(self.model)
        with self._precision(pixel_values.device):
            return self.family.see(model, pixel_values.to(self.family.vision_parts(model)[0].dtype), image_sizes)

    def _precision(self, device: torch.device) -> AbstractContextManager[Any]:
        return torch.autocast(device.type, torch.bfloat16) if self.autocast else nullcontext()

    def _words(self, hidden_XD: Tensor, batch: Batch) -> Read:
        first = batch.rows[0]
        assert all((r.temperature, r.banned_ids) == (first.temperature, first.banned_ids) for r in batch.rows)
        logprob_N, entropy_N = token_logprobs(
            hidden_XD.index_select(0, batch.source_N),
            base(self.model).lm_head.weight,
            batch.target_N,
            temperature=first.temperature,
            banned_ids=first.banned_ids,
        )
        return Read(logprob_N=logprob_N, entropy_N=entropy_N)

    def _scalars(self, hidden_XD: Tensor, batch: Batch) -> Scalars:
        assert self.head is not None
        hidden_XD = hidden_XD.detach() if self.stop_gradient else hidden_XD
        return Scalars(
            value_N=self.head(hidden_XD.index_select(0, batch.source_N)),
            score_B=self.head(hidden_XD.index_select(0, batch.last_B)),
        )


POLICY, CRITIC = "default", "critic"  # peft's names of the adapters


def trainable(model: PreTrainedModel, family: Family, policy: config.Policy, *, critic: bool = False) -> nn.Module:
    """Freeze, wrap and switch as the recipe says; returns the module to train (a peft model with LoRA).

    `critic`: with a second adapter, which is switched off.
    """
    if policy.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if policy.freeze_vision:
        for part in family.vision_parts(model):
            part.requires_grad_(False)
    if policy.lora_rank == 0:
        return model
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=policy.lora_rank,
        lora_alpha=policy.lora_scale,
        lora_dropout=policy.lora_dropout,
        target_modules=lora_layers(model, family, policy),
    )
    module = get_peft_model(model, lora)
    if critic:
        module.add_adapter(CRITIC, copy.deepcopy(lora))
        module.set_adapter(POLICY)
    return module


def lora_layers(model: nn.Module, family: Family, policy: config.Policy) -> str:
    """A regular expression for the layers that get adapters. UserError for names that there are none of."""
    there = family.lora_names(model, text=True, tower=policy.lora_in_tower)
    if policy.lora_targets == "all-linear":
        return family.lora_targets(there, tower=policy.lora_in_tower)
    if lost := sorted(set(policy.lora_targets) - set(there)):
        raise UserError(
            f"policy.lora_targets: no linear layer that may have adapters is called {lost[0]!r}; there are "
            f"{', '.join(there)}."
        )
    in_tower = family.lora_names(model, text=False, tower=True)
    if policy.lora_vision and not set(policy.lora_targets) & set(in_tower):
        raise UserError(
            f"policy.lora_targets: policy.lora_vision gives the vision tower adapters, and none of these layers is "
            f"there; it has {', '.join(in_tower)}."
        )
    return family.lora_targets(policy.lora_targets, tower=policy.lora_in_tower)


def adapter_of(module: Any, base_path: str, marks: Marks) -> Adapter:
    """The adapters of a peft model; they come whole from all ranks, every one of which must ask."""
    from peft import get_peft_model_state_dict

    lora = copy.copy(module.peft_config[POLICY])
    lora.inference_mode = True
    own = get_peft_model_state_dict(module, save_embedding_layers=False)
    tensors = {name: whole(weight.detach()).float().cpu().contiguous().clone() for name, weight in own.items()}
    return Adapter(base=base_path, marks=marks, config=lora, tensors=tensors)


def base(module: nn.Module) -> Any:
    """The transformers model inside a peft wrapper, or the module itself."""
    return module.get_base_model() if hasattr(module, "get_base_model") else module  # type: ignore[operator]


def named_weights(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights under the names of an ordinary checkpoint, adapters added on the way out: these in float32.

    Whoever rounds them afterwards rounds once. To a bfloat16 model a small adapter is lost then (`models.weights`).
    Those that are cut up over the ranks come whole, one at a time; every rank must read all of them, in this order.

    The module's own weights are left alone: merging in place and subtracting again would wear them away by rounding,
    a little at every load of the sampler.
    """
    model = base(module)
    layers = dict(model.named_modules())
    for name, weight in model.state_dict().items():
        if "lora_" in name:
            continue
        if name.endswith(".base_layer.weight"):
            with torch.no_grad():
                delta = layers[name.removesuffix(".base_layer.weight")].get_delta_weight(POLICY)  # type: ignore[operator]
                weight = weight.float() + delta.float()
        yield name.replace(".base_layer", ""), whole(weight)


def save_model(module: nn.Module, folder: Path, *, source: str, dtype: str = "float32") -> None:
    """An ordinary Hugging Face folder: merged weights in `dtype`, tokenizer and processor files of `source`."""
    weights = {name: w.detach().to(DTYPES[dtype]).contiguous().cpu() for name, w in named_weights(module)}
    model = base(module)
    if model.config.tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    was = model.config.dtype
    model.save_pretrained(folder, state_dict=weights)
    model.config.dtype = was  # save_pretrained leaves a string there, and on disk what the module has in memory
    config = copy.deepcopy(model.config)
    for part in (config, *(getattr(config, name) for name in config.sub_configs)):
        part.dtype = DTYPES[dtype]
    config.save_pretrained(folder)
    copy_processor(source, folder)
    family_of(config).finish_folder(folder, source)


def copy_processor(source: str, folder: Path) -> None:
    if not Path(source).is_dir():
        from transformers import AutoProcessor

        AutoProcessor.from_pretrained(source).save_pretrained(folder)
        return
    for pattern in _PROCESSOR_FILES:
        for path in Path(source).glob(pattern):
            shutil.copy(path, folder / path.name)
