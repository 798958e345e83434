"""GLM-OCR: GLM's chat, whose answers end where the user's next turn begins, and a tower with a merger of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import (
    Glm46VImageProcessor,
    Glm46VProcessor,
    Glm46VVideoProcessor,
    GlmOcrConfig,
    PreTrainedTokenizerFast,
)

from ocr_rl.contract import UserError
from ocr_rl.models.byte_tokenizer import byte_tokenizer
from ocr_rl.models.family import SMALL_TEXT, SMALL_TOWER, Family, Sizes

PLACEHOLDERS = {
    "image_token_id": "<|image|>",
    "video_token_id": "<|video|>",
    "image_start_token_id": "<|begin_of_image|>",
    "image_end_token_id": "<|end_of_image|>",
    "video_start_token_id": "<|begin_of_video|>",
    "video_end_token_id": "<|end_of_video|>",
}
# What the published template writes for turns of a user's; it knows tools, earlier answers and thinking too.
TEMPLATE = (
    "[gMASK]<sop>{% for m in messages %}<|{{ m['role'] }}|>\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|begin_of_image|><|image|><|end_of_image|>"
    "{% elif 'text' in c %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


class GlmOcr(Family):
    name = "GLM-OCR"
    model_type = "glm_ocr"
    architectures = ("GlmOcrForConditionalGeneration",)
    vllm_class = "vllm.model_executor.models.glm_ocr:GlmOcrForConditionalGeneration"
    config_class = GlmOcrConfig
    processor_class = Glm46VProcessor
    engine_adapters = "text"  # in the tower, vLLM knows gate_proj and up_proj as one layer of the files only
    # The tokenizer's EOS is <|endoftext|>; generation_config.json names both, and answers end with this one.
    end_token = "<|user|>"
    never = tuple(PLACEHOLDERS.values())  # not special in its tokenizer.json
    nano = Sizes(
        text={
            **SMALL_TEXT,
            "intermediate_size": 768,
            "head_dim": 64,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [8, 12, 12],
                "partial_rotary_factor": 1.0,
            },
        },
        vision={
            "depth": 4,
            **SMALL_TOWER,
            "num_heads": 3,
            "in_channels": 3,
            "image_size": 336,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": 256,
        },
        tied=False,
    )

    def require_engine(self, settings: Any) -> None:
        """vLLM sizes the merger by the text model and cuts larger weights off, without a word.

        Adapters on the tower's gate_proj and up_proj it refuses itself when they come: it knows them as one layer.
        """
        here, there = settings.vision_config, settings.text_config.intermediate_size
        width = here.out_hidden_size * here.in_channels
        if width != there:
            raise UserError(
                f"GLM-OCR: the merger of this model is {width} wide (vision_config: out_hidden_size x in_channels), "
                f"vLLM makes one as wide as text_config.intermediate_size, which is {there}, and cuts the weights to "
                'it: choose equal sizes, or sampling.engine = "transformers".'
            )

    def tokenizer(self) -> PreTrainedTokenizerFast:
        named = {"image_token": PLACEHOLDERS["image_token_id"], "video_token": PLACEHOLDERS["video_token_id"]}
        fast = byte_tokenizer(*PLACEHOLDERS.values(), "[gMASK]", "<sop>", "<|user|>", "<|assistant|>", **named)
        fast.eos_token, fast.chat_template = "<|endoftext|>", TEMPLATE
        return fast

    def config_ids(self, ids: Mapping[str, int]) -> dict[str, int]:
        return {name: ids[token] for name, token in PLACEHOLDERS.items()}

    def processor(self, sizes: Sizes, tokenizer: Any) -> Any:
        patch = sizes.vision["patch_size"]
        pixels = 2 * patch**2  # of a patch: the bounds are those of two frames
        bounds = {"shortest_edge": 4 * pixels, "longest_edge": sizes.max_patches * pixels}
        images: dict[str, Any] = {"size": bounds, "patch_size": patch}
        return Glm46VProcessor(
            image_processor=Glm46VImageProcessor(**images),
            tokenizer=tokenizer,
            video_processor=Glm46VVideoProcessor(),
            chat_template=TEMPLATE,
        )
