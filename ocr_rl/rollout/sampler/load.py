"""The weights of a Qwen2.5-VL, from a folder or the hub: safetensors only, whole or not at all."""

from __future__ import annotations

from ocr_rl.rollout.sampler.torchvision_shim import declare

declare()

import torch  # noqa: E402  (the shim must come before transformers' image code)
from safetensors import SafetensorError  # noqa: E402
from transformers import AutoModelForImageTextToText, PreTrainedModel  # noqa: E402

from ocr_rl.contract import UserError  # noqa: E402

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_model(path: str, *, dtype: str = "float32", trust_remote_code: bool = False) -> PreTrainedModel:
    """A Qwen2.5-VL from a folder or the hub; safetensors only."""
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
    if getattr(model.config, "model_type", "") != "qwen2_5_vl":
        raise UserError(f"Model {path}: is a {model.config.model_type}, only Qwen2.5-VL (qwen2_5_vl) is supported.")
    if missing := sorted(found["missing_keys"]):  # transformers would fill them with random numbers
        raise UserError(f"Model {path}: its weights lack {missing[0]} ({len(missing)} in all); copy the folder again.")
    return model
