"""What is particular to Qwen2.5-VL: names of its parts, image features among the tokens, M-RoPE positions.

The rest of the project asks these functions and knows no family. Shapes: X packed tokens, P images, L prompt tokens, D
the width.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionPatchEmbed

MODEL_TYPE = "qwen2_5_vl"
_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv", "proj", "gate_proj", "up_proj", "down_proj")


def lora_targets(*, vision: bool, names: Sequence[str] = _LINEAR) -> str:
    """A regular expression for the layers that get adapters; with `vision` those of the tower's blocks too."""
    towers = r"(language_model|visual\.blocks)" if vision else r"language_model"
    return rf".*{towers}.*\.({'|'.join(map(re.escape, names))})"


def vision_tower(model: Any) -> nn.Module:
    """What `policy.freeze_vision` freezes."""
    return model.model.visual


def of_vision(name: str) -> bool:
    """Whether a weight of that name belongs to the vision tower."""
    return "visual" in name


def blocks(model: Any) -> list[nn.Module]:
    """The layers of both towers: what is cut up over the ranks piece by piece."""
    return [*model.model.visual.blocks, *model.model.language_model.layers]


def vision_sizes(vision: Any) -> tuple[int, int, int]:
    """(width, MLP width, layers) of a vision tower's configuration."""
    return vision.hidden_size, vision.intermediate_size, vision.depth


def hidden_states(
    model: Any, input_ids_1X: Tensor, position_ids_31X: Tensor, mask: Any, pixel_values: Tensor, grid_P3: Tensor
) -> Tensor:
    """Last hidden states (1, X, D) of packed tokens. The vision tower runs once per image, however many samples."""
    inner = model.model
    embeds_1XD = inner.get_input_embeddings()(input_ids_1X)
    features = inner.get_image_features(pixel_values.to(inner.visual.dtype), grid_P3)
    features = getattr(features, "pooler_output", features)
    if isinstance(features, list | tuple):
        features = torch.cat(list(features))
    is_image = (input_ids_1X == model.config.image_token_id)[..., None].expand_as(embeds_1XD)
    embeds_1XD = embeds_1XD.masked_scatter(is_image, features.to(embeds_1XD.dtype))
    return inner.language_model(
        inputs_embeds=embeds_1XD,
        position_ids=position_ids_31X,
        attention_mask={"full_attention": mask, "sliding_attention": mask},
        use_cache=False,
    ).last_hidden_state


def prompt_positions(model: Any, prompt_ids: tuple[int, ...], grid: tuple[int, ...]) -> Tensor:
    """M-RoPE positions (3, L) of a prompt with one image of that grid, from the model's own rule."""
    ids_1L = torch.tensor([prompt_ids])
    positions_31L, _ = model.model.get_rope_index(
        ids_1L,
        mm_token_type_ids=(ids_1L == model.config.image_token_id).int(),
        image_grid_thw=torch.tensor([grid]),
        attention_mask=torch.ones_like(ids_1L),
    )
    return positions_31L[:, 0]


def speed_up(model: Any) -> None:
    """Compute the patch embedding as the matrix product that it is; the results are the same to rounding."""
    model.model.visual.patch_embed.__class__ = _MatmulPatchEmbed


class _MatmulPatchEmbed(Qwen2_5_VisionPatchEmbed):
    """Its Conv3d has a stride as large as its kernel, so each patch is one product with the kernel.

    On a CPU that convolution was 44 % of the embedded policy's whole update, most of it in the backward pass.
    """

    def forward(self, hidden_states: Tensor) -> Tensor:
        weight_DK = self.proj.weight.flatten(1)
        return torch.nn.functional.linear(hidden_states.view(-1, weight_DK.shape[1]).to(weight_DK.dtype), weight_DK)
