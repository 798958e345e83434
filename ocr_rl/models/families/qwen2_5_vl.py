"""Qwen2.5-VL: the family that the contract's own answers are about, and the embedded policy's."""

from __future__ import annotations

from transformers import Qwen2_5_VLConfig, Qwen2_5_VLProcessor

from ocr_rl.models.family import SMALL_TEXT, SMALL_TOWER, Family, Sizes


class Qwen2_5Vl(Family):
    name = "Qwen2.5-VL"
    model_type = "qwen2_5_vl"
    architectures = ("Qwen2_5_VLForConditionalGeneration",)
    vllm_class = "vllm.model_executor.models.qwen2_5_vl:Qwen2_5_VLForConditionalGeneration"
    config_class = Qwen2_5_VLConfig
    processor_class = Qwen2_5_VLProcessor
    nano = Sizes(
        text={
            **SMALL_TEXT,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 12, 12]},
        },
        vision={
            "depth": 4,
            **SMALL_TOWER,
            "num_heads": 3,
            "in_channels": 3,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "out_hidden_size": 256,
            "fullatt_block_indexes": [0, 1, 2, 3],
            "tokens_per_second": 2,
        },
    )
