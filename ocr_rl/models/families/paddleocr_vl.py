"""PaddleOCR-VL: a SigLIP tower with learned positions, resampled to each page, and a projector beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import (
    PaddleOCRVLConfig,
    PaddleOCRVLImageProcessor,
    PaddleOCRVLProcessor,
    PreTrainedTokenizerFast,
)

from ocr_rl.models.byte_tokenizer import byte_tokenizer
from ocr_rl.models.family import SMALL_TEXT, SMALL_TOWER, Family, Sizes

IMAGE = ("<|IMAGE_START|>", "<|IMAGE_PLACEHOLDER|>", "<|IMAGE_END|>")
# What the published template writes for one turn of a user's: the image first, wherever it stands.
TEMPLATE = (
    "<|begin_of_sentence|>{% for m in messages %}User: "
    "{% for c in m['content'] if c['type'] == 'image' %}" + "".join(IMAGE) + "{% endfor %}"
    "{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] }}{% endfor %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:\n{% endif %}"
)
FILES = (("model.visual.", "visual."), ("model.projector.", "mlp_AR."), ("model.language_model.", "model."))


class PaddleOcrVl(Family):
    name = "PaddleOCR-VL"
    model_type = "paddleocr_vl"
    architectures = ("PaddleOCRVLForConditionalGeneration",)
    vllm_class = "vllm.model_executor.models.paddleocr_vl:PaddleOCRVLForConditionalGeneration"
    config_class = PaddleOCRVLConfig
    processor_class = PaddleOCRVLProcessor
    engine_adapters = "nowhere"
    vision = ("visual", "projector")
    tower_layers = "visual.vision_model.encoder.layers"
    tower_depth = "num_hidden_layers"
    never = (*IMAGE, "<|image_pad|>", "<|video_pad|>")
    nano = Sizes(
        text={
            **SMALL_TEXT,
            "head_dim": 64,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 12, 12]},
        },
        vision={
            **SMALL_TOWER,
            "num_hidden_layers": 4,
            "num_attention_heads": 3,
            "image_size": 112,
            "spatial_merge_size": 2,
        },
    )

    def prepare(self, model: Any) -> None:
        """Positions are resampled as vLLM and the model's authors do it; transformers keeps the corners in place."""
        model.model.visual.vision_model.embeddings.interpolation_align_corners = False

    def engine_name(self, name: str) -> str:
        """As in the files."""
        for module, file in FILES:
            if name.startswith(module):
                return file + name.removeprefix(module)
        return name

    def tokenizer(self) -> PreTrainedTokenizerFast:
        fast = byte_tokenizer(*IMAGE, "<|begin_of_sentence|>", "</s>", image_token=IMAGE[1])
        fast.eos_token, fast.chat_template = "</s>", TEMPLATE
        return fast

    def config_ids(self, ids: Mapping[str, int]) -> dict[str, int]:
        start, placeholder, end = (ids[token] for token in IMAGE)
        return {
            "image_token_id": placeholder,
            "video_token_id": ids["<|video_pad|>"],
            "vision_start_token_id": start,
            "vision_end_token_id": end,
        }

    def processor(self, sizes: Sizes, tokenizer: Any) -> Any:
        patch = sizes.vision["patch_size"]
        pixels = {"min_pixels": (2 * patch) ** 2, "max_pixels": patch**2 * sizes.max_patches}
        return PaddleOCRVLProcessor(
            image_processor=PaddleOCRVLImageProcessor(**pixels, patch_size=patch),
            tokenizer=tokenizer,
            chat_template=TEMPLATE,
        )
