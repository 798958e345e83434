"""The embedded policy's shape: a tiny Qwen2.5-VL with a byte-level tokenizer, built from nothing.

The classes are transformers' own; only sizes differ from the published models. Tokens are bytes, plus the fixed
strings of the output format (front matter keys, table tags), so that a page is about as many tokens as characters.
Knows nothing about training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from ocr_rl.models.settings import PromptSettings, write_settings

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# Fixed strings of the transcript format: one token each instead of 3 to 22 bytes.
FORMAT = (
    "---\n",
    "primary_language: ",
    "is_rotation_valid: ",
    "rotation_correction: ",
    "is_table: ",
    "is_diagram: ",
    "en\n",
    "null\n",
    "True\n",
    "False\n",
    "0\n",
    "<table>\n",
    "</table>",
    "<tr>",
    "</tr>\n",
    "<th>",
    "</th>",
    "<td>",
    "</td>",
    "**",
    "\\[ ",
    " \\]",
    "\\frac{",
    "\\sqrt{",
    "}{",
)
SETTINGS = PromptSettings(longest_px=280, instruction="", max_prompt_tokens=256, max_tokens=512)
TEXT: dict[str, Any] = dict(
    hidden_size=256,
    intermediate_size=688,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=2048,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 12, 12]},
)
VISION: dict[str, Any] = dict(
    depth=4,
    hidden_size=192,
    intermediate_size=512,
    num_heads=3,
    in_channels=3,
    patch_size=14,
    spatial_merge_size=2,
    temporal_patch_size=2,
    window_size=112,
    out_hidden_size=256,
    fullatt_block_indexes=[0, 1, 2, 3],
    tokens_per_second=2,
)
# Shorter than Qwen's (roles are left out), same structure: text and image of the user, then the answer.
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in c %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)


def new_nano(folder: Path, seed: int) -> None:
    """Write a random-weight policy of 5.8 M parameters (tokenizer and processor included) to `folder`."""
    write_random(folder, seed, text=TEXT, vision=VISION, tied=True, settings=SETTINGS, max_patches=1024)


def write_random(
    folder: Path,
    seed: int,
    *,
    text: dict[str, Any],
    vision: dict[str, Any],
    tied: bool,
    settings: PromptSettings,
    max_patches: int,
) -> None:
    """A Qwen2.5-VL of any sizes (the keys of transformers' configs) with random weights and this file's tokenizer."""
    tokenizer = _tokenizer()
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(config_of(text, vision, tied=tied))
    config = model.generation_config
    assert config is not None
    config.eos_token_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
    config.pad_token_id = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    model.save_pretrained(folder)
    write_processor(folder, settings=settings, max_patches=max_patches)


def config_of(text: dict[str, Any], vision: dict[str, Any], *, tied: bool) -> Qwen2_5_VLConfig:
    """The configuration of any sizes, with this file's tokenizer."""
    tokenizer = _tokenizer()
    ids = {token: tokenizer.get_vocab()[token] for token in SPECIAL}
    special = {"bos_token_id": None, "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"]}
    return Qwen2_5_VLConfig(
        text_config={"vocab_size": -(-len(tokenizer) // 8) * 8, "tie_word_embeddings": tied, **text, **special},
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=tied,
    )


def write_processor(folder: Path, *, settings: PromptSettings, max_patches: int) -> None:
    """Everything of a policy but its weights and configuration."""
    Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=14 * 14 * max_patches),
        tokenizer=_tokenizer(),
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
    write_settings(folder, settings)


def _tokenizer() -> PreTrainedTokenizerFast:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate((*SPECIAL, *letters))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in FORMAT])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL),
        clean_up_tokenization_spaces=False,
    )
    fast.image_token = "<|image_pad|>"
    fast.video_token = "<|video_pad|>"
    fast.chat_template = CHAT_TEMPLATE
    return fast
