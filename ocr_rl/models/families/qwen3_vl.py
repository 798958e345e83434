"""Qwen3-VL: learned positions in the tower, DeepStack, and M-RoPE whose three parts are interleaved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import Qwen3VLConfig, Qwen3VLProcessor

from ocr_rl.models.family import SMALL_TEXT, SMALL_TOWER, Family, Sizes, joined


class Qwen3Vl(Family):
    name = "Qwen3-VL"
    model_type = "qwen3_vl"
    architectures = ("Qwen3VLForConditionalGeneration",)
    vllm_class = "vllm.model_executor.models.qwen3_vl:Qwen3VLForConditionalGeneration"
    config_class = Qwen3VLConfig
    processor_class = Qwen3VLProcessor
    nano = Sizes(
        text={
            **SMALL_TEXT,
            "head_dim": 64,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [12, 10, 10],
                "mrope_interleaved": True,
            },
        },
        vision={
            "depth": 4,
            **SMALL_TOWER,
            "num_heads": 3,
            "in_channels": 3,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": 256,
            "num_position_embeddings": 256,
            "deepstack_visual_indexes": [1, 2],
        },
    )

    def see(self, model: Any, pixels: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        """DeepStack: features of earlier layers of the tower too, which the first layers of the text model add."""
        seen = model.model.get_image_features(pixels, sizes)
        return tuple(map(joined, (seen.pooler_output, *seen.deepstack_features)))

    def deep_inputs(self, deep: Sequence[Tensor], is_image_1X: Tensor) -> dict[str, Any]:
        return {"visual_pos_masks": is_image_1X, "deepstack_visual_embeds": list(deep)}
