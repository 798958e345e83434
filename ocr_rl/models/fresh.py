"""Policies that begin from nothing: random weights, a byte-level tokenizer, any family, any sizes.

The classes are transformers' own; only sizes differ from the published models. Knows nothing about training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from ocr_rl.contract import UserError
from ocr_rl.models.families import FAMILIES
from ocr_rl.models.family import Family, Sizes
from ocr_rl.models.settings import PromptSettings, write_settings
from ocr_rl.text.suggest import did_you_mean

NANO = "nano"  # the embedded policy's shape: the smallest Qwen2.5-VL
SETTINGS = PromptSettings(longest_px=280, instruction="", max_prompt_tokens=256, max_tokens=512)
BY_NAME: dict[str, Family] = {family.model_type: family for family in FAMILIES}
BY_NAME[NANO] = BY_NAME["qwen2_5_vl"]


def require_shape(shape: str) -> Family:
    """The family of a shape. UserError for a name that none has."""
    if shape not in BY_NAME:
        known = ", ".join(sorted(BY_NAME))
        raise UserError(f"policy.fresh: there is no shape {shape!r}{did_you_mean(shape, BY_NAME)} (there are {known}).")
    return BY_NAME[shape]


def new_policy(folder: Path, seed: int, shape: str = NANO) -> None:
    """Write a random-weight policy of about 6 million parameters (tokenizer and processor included) to `folder`."""
    write_fresh(folder, seed, require_shape(shape))


def write_fresh(
    folder: Path, seed: int, family: Family, sizes: Sizes | None = None, settings: PromptSettings = SETTINGS
) -> None:
    """A policy of a family, of any sizes, with random weights."""
    sizes = sizes or family.nano
    tokenizer = family.tokenizer()
    torch.manual_seed(seed)
    model: Any = getattr(transformers, family.architectures[0])(family.config(sizes, tokenizer))
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(family.end_token or str(tokenizer.eos_token))
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    write_processor(folder, family, sizes, settings)


def write_processor(folder: Path, family: Family, sizes: Sizes, settings: PromptSettings = SETTINGS) -> None:
    """Everything of a policy but its weights and configuration."""
    family.processor(sizes, family.tokenizer()).save_pretrained(folder)
    write_settings(folder, settings)
