"""Load, wrap and save the policy: any Qwen2.5-VL, all weights or LoRA, vision tower frozen or not.

`forward_hidden` is the one way through the model; logits are made elsewhere, in chunks. Knows nothing about rows.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from ocr_rl.rollout.sampler.torchvision_shim import declare

declare()

import torch  # noqa: E402  (the shim must come before transformers' image code)
from torch import Tensor, nn  # noqa: E402
from transformers import AttentionInterface, PreTrainedModel  # noqa: E402

from ocr_rl import config  # noqa: E402
from ocr_rl.contract import UserError  # noqa: E402
from ocr_rl.learn.attention import PACKED, Packing, attend  # noqa: E402
from ocr_rl.learn.ranks import whole  # noqa: E402
from ocr_rl.rollout.sampler.load import DTYPES  # noqa: E402

CHUNK_LOGITS = 2**25  # that exist at a time, 128 MiB: 220 tokens of the largest vocabularies
_PROCESSOR_FILES = ("*token*.json", "*processor*.json", "chat_template*", "merges.txt", "vocab.json", "*.model")


def model_folder(name: str) -> str:
    """The folder or hub name as it is; "nano" is the embedded policy (in the wheel, or in a checkout's data/)."""
    if name != "nano":
        return name
    package = Path(str(files("ocr_rl")))
    for folder in (package / "nano", package.parent / "data" / "nano"):
        if (folder / "config.json").exists():
            return str(folder)
    raise UserError(
        "The embedded policy's weights are not there: train it with `make nano` and name its folder instead."
    )


def read_packed(model: PreTrainedModel) -> None:
    """Let the language part attend over packed sequences. The vision tower stays as it is."""
    AttentionInterface.register(PACKED, attend)
    model.set_attn_implementation({"text_config": PACKED})


def trainable(model: PreTrainedModel, policy: config.Policy) -> nn.Module:
    """Freeze, wrap and switch as the recipe says; returns the module to train (a peft model with LoRA)."""
    if policy.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if policy.freeze_vision:
        model.model.visual.requires_grad_(False)
    if policy.lora_rank == 0:
        return model
    from peft import LoraConfig, get_peft_model

    towers = r"language_model" if policy.freeze_vision else r"(language_model|visual\.blocks)"
    targets = rf".*{towers}.*\.(q_proj|k_proj|v_proj|o_proj|qkv|proj|gate_proj|up_proj|down_proj)"
    return get_peft_model(
        model, LoraConfig(r=policy.lora_rank, lora_alpha=2 * policy.lora_rank, target_modules=targets)
    )


def base(module: nn.Module) -> PreTrainedModel:
    """The transformers model inside a peft wrapper, or the module itself."""
    return module.get_base_model() if hasattr(module, "get_base_model") else module  # type: ignore[return-value,operator]


def forward_hidden(
    model: PreTrainedModel,
    *,
    input_ids_1X: Tensor,
    position_ids_31X: Tensor,
    packing: Packing,
    pixel_values: Tensor,
    image_grid_thw: Tensor,
) -> Tensor:
    """Last hidden states (1, X, D) of packed tokens. The vision tower runs once per image, however many samples."""
    inner = model.model
    embeds_1XD = inner.get_input_embeddings()(input_ids_1X)
    pixel_values = pixel_values.to(inner.visual.dtype)
    features = inner.get_image_features(pixel_values, image_grid_thw)
    features = getattr(features, "pooler_output", features)
    if isinstance(features, list | tuple):
        features = torch.cat(list(features))
    is_image = (input_ids_1X == model.config.image_token_id)[..., None].expand_as(embeds_1XD)
    embeds_1XD = embeds_1XD.masked_scatter(is_image, features.to(embeds_1XD.dtype))
    return inner.language_model(
        inputs_embeds=embeds_1XD,
        position_ids=position_ids_31X,
        attention_mask={"full_attention": packing, "sliding_attention": packing},
        use_cache=False,
    ).last_hidden_state


def token_logprobs(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    target_N: Tensor,
    *,
    temperature: float = 1.0,
    banned_ids: tuple[int, ...] = (),
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities (N,) of the targets under what was really sampled from, and the entropies (N,), float32.

    `weight_VD` is the head's. Logits exist for `chunk` tokens at a time, never as (B, T, V). Only the
    log-probabilities have a gradient.
    """
    device = hidden_ND.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight_VD.dtype
    chunk = chunk or max(1, CHUNK_LOGITS // len(weight_VD))
    with torch.autocast(device, enabled=False):
        found = _Logprobs.apply(hidden_ND.to(dtype), weight_VD.to(dtype), target_N, temperature, banned_ids, chunk)
    return found  # type: ignore[return-value]


class _Logprobs(torch.autograd.Function):
    """Of token n: d logprob / d hidden = (weight[target] - softmax @ weight) / temperature, known once the logits are.

    Kept from the forward pass, it leaves the backward pass one product a token; logits are made again only for a head
    that is trained.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        target_N: Tensor,
        temperature: float,
        banned_ids: tuple[int, ...],
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        to_hidden, to_weight = ctx.needs_input_grad[:2]
        picked, entropy, slopes = [], [], []
        for hidden_CD, target_C in zip(hidden_ND.split(chunk), target_N.split(chunk), strict=True):
            logprobs_CV = _log_softmax(hidden_CD, weight_VD, temperature, banned_ids)
            picked.append(logprobs_CV.gather(1, target_C[:, None])[:, 0])
            share_CV = logprobs_CV.exp()
            entropy.append(-(logprobs_CV.clamp_(min=-1e4).mul_(share_CV)).sum(-1))
            if to_hidden:
                slopes.append((weight_VD[target_C] - share_CV.to(weight_VD.dtype) @ weight_VD) / temperature)
        ctx.save_for_backward(
            torch.cat(slopes) if to_hidden else None, *((hidden_ND, weight_VD, target_N) if to_weight else ())
        )
        ctx.how = temperature, banned_ids, chunk
        found = torch.cat(picked), torch.cat(entropy)
        ctx.mark_non_differentiable(found[1])
        return found

    @staticmethod
    def backward(ctx: Any, grad_N: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        slope_ND, *kept = ctx.saved_tensors
        grad_ND = None if slope_ND is None else (grad_N[:, None] * slope_ND).to(slope_ND.dtype)
        grad_VD = _weight_gradient(grad_N, *kept, *ctx.how) if kept else None
        return grad_ND, grad_VD, None, None, None, None


def _weight_gradient(
    grad_N: Tensor,
    hidden_ND: Tensor,
    weight_VD: Tensor,
    target_N: Tensor,
    temperature: float,
    banned_ids: tuple[int, ...],
    chunk: int,
) -> Tensor:
    grad_VD = torch.zeros_like(weight_VD)
    pieces = (each.split(chunk) for each in (grad_N / temperature, hidden_ND, target_N))
    for grad_C, hidden_CD, target_C in zip(*pieces, strict=True):
        pull_CV = _log_softmax(hidden_CD, weight_VD, temperature, banned_ids).exp_().mul_(-grad_C[:, None])
        pull_CV.scatter_add_(1, target_C[:, None], grad_C[:, None])
        grad_VD.addmm_(pull_CV.to(weight_VD.dtype).T, hidden_CD)
    return grad_VD


def _log_softmax(hidden_CD: Tensor, weight_VD: Tensor, temperature: float, banned_ids: tuple[int, ...]) -> Tensor:
    logits_CV = (hidden_CD @ weight_VD.T).float()
    if temperature != 1:
        logits_CV = logits_CV / temperature
    if banned_ids:
        logits_CV.index_fill_(1, torch.tensor(banned_ids, device=logits_CV.device), float("-inf"))
    return logits_CV.log_softmax(-1)


def named_weights(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights under the names of an ordinary checkpoint, adapters added on the way out.

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
                delta = layers[name.removesuffix(".base_layer.weight")].get_delta_weight("default")  # type: ignore[operator]
                weight = (weight.float() + delta.float()).to(weight.dtype)
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


def copy_processor(source: str, folder: Path) -> None:
    if not Path(source).is_dir():
        from transformers import AutoProcessor

        AutoProcessor.from_pretrained(source).save_pretrained(folder)
        return
    for pattern in _PROCESSOR_FILES:
        for path in Path(source).glob(pattern):
            shutil.copy(path, folder / path.name)
