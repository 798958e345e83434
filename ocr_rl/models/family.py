"""What is asked of a family of models, and what most families answer.

Everything else in the project knows no family: it asks the one of a prompter (`Prompter.family`) or of a configuration
(`families.family_of`). A family is one file in `families/` that says what differs from here; docs/families.md shows the
way to another one.

Shapes: X packed tokens, P images, L prompt tokens, F image features of all images, D the width, B rows, N samples of
each image.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AutoProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from ocr_rl.models.attention import PACKED, Packing, attend
from ocr_rl.models.byte_tokenizer import CHAT_TEMPLATE, byte_tokenizer
from ocr_rl.models.tower import BY_BOUNDS, attend_by_bounds

Messages = list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Of a policy that begins from nothing: keys of transformers' configurations, over the family's own."""

    text: Mapping[str, Any]
    vision: Mapping[str, Any]
    tied: bool = True  # the head is the embedding
    max_patches: int = 1024  # of an image


# What the smallest shapes of the families share.
SMALL_TEXT: Mapping[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
SMALL_TOWER: Mapping[str, Any] = {"hidden_size": 192, "intermediate_size": 512, "patch_size": 14}


class Family:
    """The contract. What stands here holds for a tower with a patch grid, and M-RoPE over text and image tokens."""

    name: str  # as people write it
    model_type: str  # in transformers
    architectures: tuple[str, ...]  # in a folder's config.json; the first one is transformers' class
    vllm_class: str  # module:Class
    config_class: type[Any]
    processor_class: type[Any]
    engine_adapters: Literal["everywhere", "text", "nowhere"] = "everywhere"  # what vLLM has adapters on
    vision: tuple[str, ...] = ("visual",)  # parts of `model.model` that see, mergers and projectors included
    tower_layers = "visual.blocks"  # among them, the list of layers
    tower_depth = "depth"  # what its configuration calls their number
    tower_has_bounds = True  # whether its attention is told where images and windows end
    end_token: str | None = None  # that ends an answer; None: the tokenizer's EOS
    never: tuple[str, ...] = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
    template: Mapping[str, Any] = {}  # what its chat template is told
    rounding = 1e-5  # nats, in float32: what the order of sums may change in a log-probability
    nano: Sizes  # of a policy of about 6 million parameters

    # --- the page becomes a prompt ------------------------------------------------------------------------------------

    def load_processor(self, model: str, *, trust_remote_code: bool) -> Any:
        """transformers' own, from a folder or the hub."""
        return AutoProcessor.from_pretrained(model, trust_remote_code=trust_remote_code)

    def unlike(self, processor: Any, settings: Any) -> str:
        """How the processor cuts images otherwise than the tower reads them; "" where it does not."""
        cut, read = processor.image_processor, settings.vision_config
        for own, towers in (("patch_size", "patch_size"), ("merge_size", "spatial_merge_size")):
            if getattr(cut, own) != getattr(read, towers):
                return f"{own} {getattr(cut, own)}, vision_config.{towers} {getattr(read, towers)}"
        return ""

    def messages(self, instruction: str, *, image_first: bool) -> Messages:
        """What the chat template is given: one turn of the user's, with an image and the instruction."""
        text = [{"type": "text", "text": instruction}] if instruction else []
        image = [{"type": "image"}]
        return [{"role": "user", "content": image + text if image_first else text + image}]

    def num_image_tokens(self, processor: Any, image: Image.Image) -> int:
        """Number of placeholders that stand for an image: its patches after resizing, over merge_size squared."""
        patches = processor.image_processor.get_number_of_image_patches(image.height, image.width)
        return patches // processor.image_processor.merge_size**2

    def image_ids(self, processor: Any, num_image_tokens: int) -> list[int]:
        """What processor and engine write in the place of the template's one placeholder."""
        return [processor.image_token_id] * num_image_tokens

    def pixels(self, processor: Any, images: Sequence[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
        """For the vision tower: float32 pixels of all images, and their sizes (P, ...) as the tower reads them.

        Here (patches, values of a patch) and (P, 3): frames, rows and columns of patches.
        """
        arrays = processor.image_processor(images=list(images), return_tensors="np")
        return np.asarray(arrays["pixel_values"], np.float32), np.asarray(arrays["image_grid_thw"], np.int64)

    # --- the module ---------------------------------------------------------------------------------------------------

    def settings(self, read: Any) -> Any:
        """The configuration of the family's own class, where `AutoConfig` takes a folder of it for another one's."""
        return read

    def prepare(self, model: Any) -> None:
        """Once, after loading: what differs from the engine, or is slow. Results stay the same to rounding."""
        embed_by_product(model.model.visual.patch_embed)

    def pack(self, model: Any) -> None:
        """Let the text model read packed sequences (`hidden_states`), and nothing else any more.

        On a GPU the tower goes by the bounds of images and windows (`tower`).
        """
        AttentionInterface.register(PACKED, attend)
        model.set_attn_implementation({"text_config": PACKED})
        if self.tower_has_bounds and torch.cuda.is_available():
            AttentionInterface.register(BY_BOUNDS, attend_by_bounds)
            model.config.vision_config._attn_implementation_internal = BY_BOUNDS

    def positions(self, model: Any, prompt_ids: Sequence[int], size: Sequence[int]) -> Tensor:
        """Positions (3, L) of a prompt with one image of that size; a completion goes on from the largest."""
        ids_1L = torch.tensor([prompt_ids])
        positions_31L, _ = model.model.get_rope_index(
            ids_1L,
            mm_token_type_ids=(ids_1L == model.config.image_token_id).int(),
            image_grid_thw=torch.tensor([size]),
            attention_mask=torch.ones_like(ids_1L),
        )
        return positions_31L[:, 0]

    def text_positions(self, position_ids_31X: Tensor) -> Tensor:
        """What of them the text model takes."""
        return position_ids_31X

    def see(self, model: Any, pixels: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        """Features (F, D) of all images, which stand in the text; then those that `deep_inputs` is about."""
        return (joined(model.model.get_image_features(pixels, sizes).pooler_output),)

    def deep_inputs(self, deep: Sequence[Tensor], is_image_1X: Tensor) -> dict[str, Any]:
        """What else of the images the text model is given, by keyword."""
        return {}

    def hidden_states(
        self,
        model: Any,
        input_ids_1X: Tensor,
        position_ids_31X: Tensor,
        packing: Packing,
        seen: Sequence[Tensor],
    ) -> Tensor:
        """Last hidden states (1, X, D) of packed tokens. `seen`: what the tower said of the images, each once."""
        inner = model.model
        embeds_1XD = inner.get_input_embeddings()(input_ids_1X)
        is_image_1X = input_ids_1X == model.config.image_token_id
        features_FD, *deep = seen
        where_1XD = is_image_1X[..., None].expand_as(embeds_1XD)
        return inner.language_model(
            inputs_embeds=embeds_1XD.masked_scatter(where_1XD, features_FD.to(embeds_1XD.dtype)),
            position_ids=self.text_positions(position_ids_31X),
            attention_mask=None,
            packing=packing,
            use_cache=False,
            **self.deep_inputs(deep, is_image_1X),
        ).last_hidden_state

    def generate_inputs(self, pixels: Tensor, sizes: Tensor, is_image_BL: Tensor, n: int) -> dict[str, Tensor]:
        """What `generate` takes beside ids and mask, with each of the P images n times, one after the other."""
        images = pixels.split(sizes.prod(-1).tolist())
        return {
            "mm_token_type_ids": is_image_BL.int(),
            "pixel_values": torch.cat([image.repeat(n, *[1] * (image.ndim - 1)) for image in images]),
            "image_grid_thw": sizes.repeat_interleave(n, dim=0),
        }

    # --- its parts and sizes ------------------------------------------------------------------------------------------

    def vision_parts(self, model: Any) -> list[Any]:
        """What `policy.freeze_vision` freezes."""
        return [getattr(model.model, part) for part in self.vision]

    def of_vision(self, name: str) -> bool:
        """Whether a weight of that name belongs to them."""
        return any(f".{part}." in f".{name}" for part in self.vision)

    def blocks(self, model: Any) -> list[nn.Module]:
        """The layers of both towers: what is cut up over the ranks piece by piece."""
        return [*model.model.get_submodule(self.tower_layers), *model.model.language_model.layers]

    def lora_targets(self, names: Iterable[str], *, tower: bool) -> str:
        """A regular expression for the layers of these names that get adapters, with `tower` in its layers too."""
        return rf"{self._within(text=True, tower=tower)}\.({'|'.join(map(re.escape, names))})"

    def lora_names(self, model: nn.Module, *, text: bool, tower: bool) -> list[str]:
        """Names of the linear layers in the text model, and in the tower, that may have adapters."""
        everywhere = re.compile(rf"{self._within(text=text, tower=tower)}\.[^.]+")
        layers = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
        return sorted({name.rpartition(".")[2] for name in layers if everywhere.fullmatch(name)})

    def _within(self, *, text: bool, tower: bool) -> str:
        parts = ["language_model"] * text + [re.escape(self.tower_layers)] * tower
        return rf".*({'|'.join(parts)})\..*"

    def vision_sizes(self, vision: Any) -> tuple[int, int, int]:
        """(width, MLP width, layers) of a vision tower's configuration."""
        return vision.hidden_size, vision.intermediate_size, getattr(vision, self.tower_depth)

    def kept_by_mixers(self, text: Any, size: int, seen: float) -> list[float]:
        """Bytes that a token keeps for the backward pass in what mixes tokens in each layer of a text configuration.

        `size`: of a number in a product; `seen` as `kept_by_attention` has it.
        """
        heads = text.num_key_value_heads / text.num_attention_heads
        return [size * kept_by_attention(text.hidden_size, heads, seen)] * text.num_hidden_layers

    # --- vLLM ---------------------------------------------------------------------------------------------------------

    def require_engine(self, settings: Any) -> None:
        """UserError for a configuration that vLLM computes otherwise."""

    def engine_folder(self, folder: str, room: Path) -> str:
        """The folder that vLLM reads for a policy's: the same, or one that is made in `room`, an empty folder."""
        return folder

    def engine_options(self, *, on_gpu: bool) -> dict[str, Any]:
        """What an engine for this family is opened with, over what all are."""
        return {}

    def ready_engine(self, *, on_gpu: bool) -> None:
        """Called before an engine starts in this process."""

    def engine_names(self, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """The weights under vLLM's names."""
        return ((self.engine_name(name), weight) for name, weight in weights)

    def engine_name(self, name: str) -> str:
        """What vLLM calls a weight that the module calls so, where it knows it under the name of the files alone."""
        return name

    # --- saving -------------------------------------------------------------------------------------------------------

    def finish_folder(self, folder: Path, source: str) -> None:
        """Called when a policy that came from `source`, a folder or hub name, was saved to `folder`."""

    # --- from nothing -------------------------------------------------------------------------------------------------

    def tokenizer(self) -> PreTrainedTokenizerFast:
        return byte_tokenizer()

    def config(self, sizes: Sizes, tokenizer: Any) -> Any:
        """The configuration of a model of these sizes."""
        ids = tokenizer.get_vocab()
        ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        special = {"bos_token_id": None, **ends}
        vocabulary = {"vocab_size": -(-len(tokenizer) // 8) * 8, "tie_word_embeddings": sizes.tied}
        return self.config_class(
            text_config={**vocabulary, **sizes.text, **special},
            vision_config=dict(sizes.vision),
            tie_word_embeddings=sizes.tied,
            **self.config_ids(ids),
        )

    def config_ids(self, ids: Mapping[str, int]) -> dict[str, int]:
        """Of the placeholders, by the names in the configuration."""
        return {
            "image_token_id": ids["<|image_pad|>"],
            "video_token_id": ids["<|video_pad|>"],
            "vision_start_token_id": ids["<|vision_start|>"],
            "vision_end_token_id": ids["<|vision_end|>"],
        }

    def processor(self, sizes: Sizes, tokenizer: Any) -> Any:
        patch = sizes.vision["patch_size"]
        pixels = {"min_pixels": (2 * patch) ** 2, "max_pixels": patch**2 * sizes.max_patches}
        return self.processor_class(
            image_processor=Qwen2VLImageProcessor(**pixels, patch_size=patch),
            tokenizer=tokenizer,
            video_processor=Qwen2VLVideoProcessor(),
            chat_template=CHAT_TEMPLATE,
        )


def kept_by_attention(width: int, heads: float, seen: float) -> float:
    """Numbers that a token keeps for the backward pass in attention; `heads`: heads of keys over those of queries.

    Queries, keys and values before and after they are turned, and the output; and keys and values, repeated for every
    head, as they are laid out for who sees them: `seen` a token, for a page's are there once more for each of its
    samples. `width`: of all queries.
    """
    return width * (1 + 2 * heads + 3 + 2 * seen)


class PlainPositions(Family):
    """One whose text model counts tokens through, those of images too."""

    def positions(self, model: Any, prompt_ids: Sequence[int], size: Sequence[int]) -> Tensor:
        return torch.arange(len(prompt_ids)).expand(3, -1)

    def text_positions(self, position_ids_31X: Tensor) -> Tensor:
        return position_ids_31X[0]


def joined(features: Any) -> Tensor:
    """(F, D): the features of all images, which transformers hands out image by image or as they are."""
    return torch.cat(list(features)) if isinstance(features, list | tuple) else features


def embed_by_product(embed: nn.Module) -> None:
    """Compute a patch embedding as the matrix product that it is; the results are the same to rounding.

    Its convolution has a stride as large as its kernel, so each patch is one product with the kernel. On a CPU that
    convolution was 44 % of the embedded policy's whole update, most of it in the backward pass.
    """
    if not isinstance(embed, _ByProduct):
        embed.__class__ = type("PatchEmbedByProduct", (_ByProduct, type(embed)), {})


class _ByProduct(nn.Module):
    proj: nn.Conv3d

    def forward(self, hidden_states: Tensor) -> Tensor:
        weight_DK = self.proj.weight.flatten(1)
        patches = hidden_states.view(-1, weight_DK.shape[1]).to(weight_DK.dtype)
        return torch.nn.functional.linear(patches, weight_DK, self.proj.bias)
