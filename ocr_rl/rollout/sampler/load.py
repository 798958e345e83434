"""The weights of a Qwen2.5-VL, from a folder or the hub: safetensors only, whole or not at all."""

from __future__ import annotations

from typing import Any

from ocr_rl.rollout.sampler.torchvision_shim import declare

declare()

import torch  # noqa: E402  (the shim must come before transformers' image code)
from safetensors import SafetensorError  # noqa: E402
from torch import Tensor  # noqa: E402
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel  # noqa: E402
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionPatchEmbed  # noqa: E402

from ocr_rl.contract import UserError  # noqa: E402

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_config(path: str, *, trust_remote_code: bool = False) -> Any:
    """The configuration of a Qwen2.5-VL, from a folder or the hub. Raises UserError for anything else."""
    try:
        found = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"Model {path}: cannot be loaded: {str(error).strip().splitlines()[0]}") from None
    if getattr(found, "model_type", "") != "qwen2_5_vl":
        raise UserError(f"Model {path}: is a {found.model_type}, only Qwen2.5-VL (qwen2_5_vl) is supported.")
    return found


def use_dtype(path: str) -> str:
    """The dtype to use a policy in: bfloat16 where it is stored so and there is a GPU, float32 otherwise."""
    return "bfloat16" if torch.cuda.is_available() and load_config(path).dtype == torch.bfloat16 else "float32"


def load_model(path: str, *, dtype: str = "float32", trust_remote_code: bool = False) -> PreTrainedModel:
    """A Qwen2.5-VL from a folder or the hub; safetensors only."""
    load_config(path, trust_remote_code=trust_remote_code)
    try:
        model, found = AutoModelForImageTextToText.from_pretrained(  # type: ignore[misc]
            path,
            dtype=DTYPES[dtype],
            attn_implementation="sdpa",
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:  # RuntimeError: shapes that do not fit
        raise UserError(f"Model {path}: cannot be loaded: {str(error).strip().splitlines()[0]}") from None
    if missing := sorted(found["missing_keys"]):  # transformers would fill them with random numbers
        raise UserError(f"Model {path}: its weights lack {missing[0]} ({len(missing)} in all); copy the folder again.")
    model.model.visual.patch_embed.__class__ = _MatmulPatchEmbed
    return model


class _MatmulPatchEmbed(Qwen2_5_VisionPatchEmbed):
    """The patch embedding as the matrix product that it is: its Conv3d has a stride as large as its kernel.

    On a CPU that convolution was 44 % of the embedded policy's whole update, most of it in the backward pass.
    """

    def forward(self, hidden_states: Tensor) -> Tensor:
        weight_DK = self.proj.weight.flatten(1)
        return torch.nn.functional.linear(hidden_states.view(-1, weight_DK.shape[1]).to(weight_DK.dtype), weight_DK)
