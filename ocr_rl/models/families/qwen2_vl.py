"""Qwen2-VL: as Qwen2.5-VL, with another tower (no windows) whose configuration names its sizes otherwise."""

from __future__ import annotations

from typing import Any

from transformers import Qwen2VLConfig, Qwen2VLProcessor

from ocr_rl.models.families.qwen2_5_vl import Qwen2_5Vl
from ocr_rl.models.family import Family, Sizes


class Qwen2Vl(Family):
    name = "Qwen2-VL"
    model_type = "qwen2_vl"
    architectures = ("Qwen2VLForConditionalGeneration",)
    vllm_class = "vllm.model_executor.models.qwen2_vl:Qwen2VLForConditionalGeneration"
    config_class = Qwen2VLConfig
    processor_class = Qwen2VLProcessor
    nano = Sizes(
        text=Qwen2_5Vl.nano.text,
        vision={
            "depth": 4,
            "embed_dim": 192,
            "hidden_size": 256,
            "mlp_ratio": 2,
            "num_heads": 3,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
    )

    def vision_sizes(self, vision: Any) -> tuple[int, int, int]:
        return vision.embed_dim, int(vision.embed_dim * vision.mlp_ratio), vision.depth
