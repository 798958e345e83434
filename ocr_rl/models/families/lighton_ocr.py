"""LightOnOCR: Pixtral's tower over whole images, a projector, and a Qwen3 with ordinary positions.

Its folders come in two layouts. transformers writes `model_type: lighton_ocr`; the published ones
(`lightonai/LightOnOCR-1B-1025`, `lightonai/LightOnOCR-2-1B`) say `mistral3` and name the class in `architectures`.
vLLM 0.32 reads the second one only. A policy that was trained here keeps the layout that it came in.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention
from transformers import (
    AttentionInterface,
    AutoConfig,
    LightOnOcrConfig,
    LightOnOcrProcessor,
    PixtralImageProcessor,
    PixtralProcessor,
)

from ocr_rl.models.byte_tokenizer import CHAT_TEMPLATE, byte_tokenizer
from ocr_rl.models.family import SMALL_TEXT, SMALL_TOWER, PlainPositions, Sizes
from ocr_rl.models.tower import by_kernel

PUBLISHED = {"model_type": "mistral3", "architectures": ["LightOnOCRForConditionalGeneration"]}
# The three that the published processor names; images are made of the first one alone, without breaks between rows.
TOKENS = {
    "image_token": "<|image_pad|>",
    "image_break_token": "<|vision_pad|>",
    "image_end_token": "<|vision_end|>",
}
BY_IMAGE = "by_image"  # its name among transformers' attention functions


class LightOnOcr(PlainPositions):
    name = "LightOnOCR"
    model_type = "lighton_ocr"
    architectures = ("LightOnOcrForConditionalGeneration", *PUBLISHED["architectures"])
    vllm_class = "vllm.model_executor.models.lightonocr:LightOnOCRForConditionalGeneration"
    engine_adapters = "text"
    config_class = LightOnOcrConfig
    processor_class = LightOnOcrProcessor
    vision = ("vision_encoder", "vision_projection")
    tower_layers = "vision_encoder.transformer.layers"
    tower_depth = "num_hidden_layers"
    tower_has_bounds = False  # `attend_by_image` is told lengths
    nano = Sizes(
        text={
            "model_type": "qwen3",
            **SMALL_TEXT,
            "head_dim": 64,
        },
        vision={
            "model_type": "pixtral",
            **SMALL_TOWER,
            "num_hidden_layers": 4,
            "num_attention_heads": 3,
            "hidden_act": "silu",
            "image_size": 448,
        },
    )

    # --- the page becomes a prompt ------------------------------------------------------------------------------------

    def load_processor(self, model: str, *, trust_remote_code: bool) -> Any:
        """A Pixtral one for both layouts: the folder of LightOnOCR-1B names a class that transformers does not have."""
        return PixtralProcessor.from_pretrained(model, **TOKENS)  # type: ignore[arg-type]

    def unlike(self, processor: Any, settings: Any) -> str:
        own, towers = _step(processor), settings.vision_config.patch_size * settings.spatial_merge_size
        return "" if own == towers else f"{own} px to a side of a token, in config.json {towers}"

    def num_image_tokens(self, processor: Any, image: Image.Image) -> int:
        step, side = _step(processor), processor.image_processor.size["longest_edge"]
        ratio = max(image.height / side, image.width / side, 1.0)
        return math.prod(math.ceil(math.floor(pixels / ratio) / step) for pixels in image.size)

    def pixels(self, processor: Any, images: Sequence[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
        """(P, 3, H, W), each image in the upper left corner, and (P, 2): height and width of each.

        Published processors say patches of 14 px and no padding: with the first, transformers drops a last odd row of
        patches, where vLLM resizes to whole tokens; with the second, images of several sizes make no array.
        """
        made = processor.image_processor(
            images=list(images), return_tensors="np", patch_size=_step(processor), do_pad=True
        )
        return np.asarray(made["pixel_values"], np.float32), np.asarray(made["image_sizes"], np.int64)

    # --- the module ---------------------------------------------------------------------------------------------------

    def settings(self, read: Any) -> Any:
        if isinstance(read, LightOnOcrConfig):
            return read
        names = ("text_config", "vision_config", "image_token_id", "spatial_merge_size", "tie_word_embeddings")
        written = {name: getattr(read, name) for name in (*names, "architectures", "dtype")}
        return LightOnOcrConfig(**written)

    def prepare(self, model: Any) -> None:
        """vLLM's projector has this epsilon; transformers takes the text model's, 1e-6 as published."""
        model.model.vision_projection.norm.variance_epsilon = 1e-5

    def pack(self, model: Any) -> None:
        AttentionInterface.register(BY_IMAGE, attend_by_image)
        super().pack(model)
        model.set_attn_implementation({"vision_config": BY_IMAGE})

    def see(self, model: Any, pixels: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        """The tower as transformers has it, but for the mask over all patches of all images, whose size is the square:
        5.6 GB in float32 for four pages of 1540 px."""
        tower, shapes = model.model.vision_encoder, sizes.tolist()
        side = tower.patch_size
        grids = [(height // side, width // side) for height, width in shapes]
        images = [image[:, :height, :width] for image, (height, width) in zip(pixels, shapes, strict=True)]
        patches_1SK = torch.cat([patches(image, side) for image in images])[None]
        embeds_1SD = tower.ln_pre(linear(patches_1SK, tower.patch_conv.weight.flatten(1)))
        places_S2 = torch.cat([torch.cartesian_prod(*map(torch.arange, grid)) for grid in grids]).to(sizes.device)
        lengths = [rows * columns for rows, columns in grids]
        hidden_1SD = tower.transformer(
            embeds_1SD,
            attention_mask=None,
            position_embeddings=tower.patch_positional_embedding(embeds_1SD, places_S2),
            lengths=lengths,
            bounds_N=torch.tensor([0, *accumulate(lengths)], dtype=torch.int32).to(sizes.device),
        ).last_hidden_state
        return (model.model.vision_projection(hidden_1SD[0], shapes),)

    def generate_inputs(self, pixels: Tensor, sizes: Tensor, is_image_BL: Tensor, n: int) -> dict[str, Tensor]:
        return {
            "pixel_values": pixels.repeat_interleave(n, dim=0),
            "image_sizes": sizes.repeat_interleave(n, dim=0),
        }

    # --- its two layouts ----------------------------------------------------------------------------------------------

    def finish_folder(self, folder: Path, source: str) -> None:
        if AutoConfig.from_pretrained(source).model_type == PUBLISHED["model_type"]:
            _rewrite(folder / "config.json", folder / "config.json", PUBLISHED)

    def engine_folder(self, folder: str, room: Path) -> str:
        """A folder in the published layout; weights and tokenizer are links."""
        own = Path(folder).absolute()
        if json.loads((own / "config.json").read_text())["model_type"] == PUBLISHED["model_type"]:
            return folder
        for path in own.iterdir():
            if path.name not in ("config.json", "processor_config.json"):
                (room / path.name).symlink_to(path)
        _rewrite(own / "config.json", room / "config.json", PUBLISHED)
        processor = {"processor_class": "PixtralProcessor", **TOKENS}
        _rewrite(own / "processor_config.json", room / "processor_config.json", processor)
        return str(room)

    # --- from nothing -------------------------------------------------------------------------------------------------

    def tokenizer(self) -> Any:
        return byte_tokenizer(TOKENS["image_break_token"], **TOKENS)

    def config_ids(self, ids: Any) -> dict[str, int]:
        return {"image_token_id": ids[TOKENS["image_token"]]}

    def processor(self, sizes: Sizes, tokenizer: Any) -> Any:
        return LightOnOcrProcessor(
            image_processor=PixtralImageProcessor(
                size={"longest_edge": sizes.vision["image_size"]}, patch_size={"height": 28, "width": 28}
            ),
            tokenizer=tokenizer,
            patch_size=sizes.vision["patch_size"],
            spatial_merge_size=2,
            chat_template=CHAT_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", TOKENS["image_token"]),
        )


def attend_by_image(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: None,
    scaling: float,
    lengths: list[int],
    bounds_N: Tensor,
    **_: Any,
) -> tuple[Tensor, None]:
    """Patches (1, heads, S, width) see those of their own image; `lengths`: how many each image has."""
    if (output := by_kernel(query, key, value, bounds_N, max(lengths), scaling)) is not None:
        return output, None
    images = zip(*(x.split(lengths, dim=2) for x in (query, key, value)), strict=True)
    seen = [scaled_dot_product_attention(*image, scale=scaling) for image in images]
    return torch.cat(seen, dim=2).transpose(1, 2), None


def patches(image: Tensor, side: int) -> Tensor:
    """(S, K) of an image (3, H, W), row by row; K: colours, rows and columns of a patch, as in the kernel."""
    patches_3RPCP = image.unflatten(2, (-1, side)).unflatten(1, (-1, side))
    return patches_3RPCP.permute(1, 3, 0, 2, 4).flatten(2).flatten(0, 1)


def _step(processor: Any) -> int:
    """Pixels to a side of what one token stands for."""
    return processor.patch_size * processor.spatial_merge_size


def _rewrite(source: Path, out: Path, changes: dict[str, Any]) -> None:
    written = json.loads(source.read_text()) | changes
    out.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")
