"""InternVL, in transformers' layout (`OpenGVLab/InternVL3-*-hf`): a page cut into square tiles, a Qwen2 or a Qwen3.

An image becomes the grid of tiles that is nearest to its shape, and a small picture of the whole after them; each tile
is as many tokens. Processor and engine put the tokens around an image themselves: the template writes a placeholder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLProcessor,
    InternVLVideoProcessor,
    PreTrainedTokenizerFast,
)

from ocr_rl.contract import UserError
from ocr_rl.models.byte_tokenizer import CHAT_TEMPLATE, byte_tokenizer
from ocr_rl.models.family import SMALL_TEXT, SMALL_TOWER, PlainPositions, Sizes

TOKENS = {
    "start_image_token": "<img>",
    "context_image_token": "<IMG_CONTEXT>",
    "end_image_token": "</img>",
    "video_token": "<video>",
}
TEMPLATE = CHAT_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "<IMG_CONTEXT>\n")
# InternVLProcessor's own default, which stands over what a folder says of its image processor.
CUT = {"crop_to_patches": True}


class InternVl(PlainPositions):
    name = "InternVL"
    model_type = "internvl"
    architectures = ("InternVLForConditionalGeneration",)
    vllm_class = "vllm.model_executor.models.interns1:InternS1ForConditionalGeneration"
    config_class = InternVLConfig
    processor_class = InternVLProcessor
    engine_adapters = "text"
    vision = ("vision_tower", "multi_modal_projector")
    tower_layers = "vision_tower.encoder.layer"
    tower_depth = "num_hidden_layers"
    tower_has_bounds = False  # tiles stand side by side, all of one size
    never = tuple(TOKENS.values())
    nano = Sizes(
        text={
            "model_type": "qwen2",
            **SMALL_TEXT,
        },
        vision={
            **SMALL_TOWER,
            "num_hidden_layers": 4,
            "num_attention_heads": 3,
            "attention_bias": True,
            "image_size": 112,
        },
        max_patches=512,
    )

    # --- the page becomes a prompt ------------------------------------------------------------------------------------

    def unlike(self, processor: Any, settings: Any) -> str:
        tower = settings.vision_config
        side, patch = (
            size[0] if isinstance(size, list | tuple) else size for size in (tower.image_size, tower.patch_size)
        )
        tokens = int((side // patch * settings.downsample_ratio) ** 2)
        cut = processor.image_seq_length
        return "" if cut == tokens else f"{cut} tokens a tile, {tokens} by vision_config"

    def num_image_tokens(self, processor: Any, image: Image.Image) -> int:
        tiles = processor.image_processor.get_number_of_image_patches(image.height, image.width, CUT)
        return tiles * processor.image_seq_length

    def image_ids(self, processor: Any, num_image_tokens: int) -> list[int]:
        inner = super().image_ids(processor, num_image_tokens)
        return [processor.start_image_token_id, *inner, processor.end_image_token_id]

    def pixels(self, processor: Any, images: Sequence[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
        """(T, 3, side, side) of the tiles of all images, and (P, 1): how many each has."""
        made = processor.image_processor(images=list(images), return_tensors="np", **CUT)
        return np.asarray(made["pixel_values"], np.float32), np.asarray(made["num_patches"], np.int64)[:, None]

    # --- the module ---------------------------------------------------------------------------------------------------

    def prepare(self, model: Any) -> None:
        """Nothing: in two dimensions the convolution is no slower than the product."""

    def see(self, model: Any, pixels: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        return (model.model.get_image_features(pixels).pooler_output.flatten(0, 1),)

    def generate_inputs(self, pixels: Tensor, sizes: Tensor, is_image_BL: Tensor, n: int) -> dict[str, Tensor]:
        return {"pixel_values": torch.cat([tiles.repeat(n, 1, 1, 1) for tiles in pixels.split(sizes[:, 0].tolist())])}

    # --- vLLM ---------------------------------------------------------------------------------------------------------

    def require_engine(self, settings: Any) -> None:
        """vLLM reads the tower's last layer without the class token, whatever the configuration says."""
        layer, strategy = settings.vision_feature_layer, settings.vision_feature_select_strategy
        if (layer, strategy) != (-1, "default"):
            raise UserError(
                f"InternVL: vLLM reads the last layer of the tower (vision_feature_layer -1, strategy 'default'), and "
                f"config.json says {layer}, {strategy!r}: write these there if the model was trained so, or choose "
                'sampling.engine = "transformers".'
            )

    # --- from nothing -------------------------------------------------------------------------------------------------

    def tokenizer(self) -> PreTrainedTokenizerFast:
        fast = byte_tokenizer(*TOKENS.values(), **TOKENS)
        fast.chat_template = TEMPLATE
        return fast

    def config(self, sizes: Sizes, tokenizer: Any) -> Any:
        config = super().config(sizes, tokenizer)
        config.image_seq_length = tile_patches(sizes) // 4
        return config

    def config_ids(self, ids: Mapping[str, int]) -> dict[str, int]:
        return {"image_token_id": ids[TOKENS["context_image_token"]]}

    def processor(self, sizes: Sizes, tokenizer: Any) -> Any:
        side = sizes.vision["image_size"]
        size, most = {"height": side, "width": side}, sizes.max_patches // tile_patches(sizes)
        images: dict[str, Any] = {"size": size, "max_patches": most - 1, **CUT}  # and the small picture
        return InternVLProcessor(
            image_processor=GotOcr2ImageProcessor(**images),
            tokenizer=tokenizer,
            video_processor=InternVLVideoProcessor(),
            image_seq_length=tile_patches(sizes) // 4,
            chat_template=TEMPLATE,
        )


def tile_patches(sizes: Sizes) -> int:
    """Number of patches of a tile; four of them make a token."""
    return (sizes.vision["image_size"] // sizes.vision["patch_size"]) ** 2
