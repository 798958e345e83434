"""InternVL: prompt and tiles as transformers' processor makes them, both text models, what vLLM reads otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from PIL import Image

from benchmarks.families.policies import plain_logprobs
from ocr_rl.contract import UserError
from ocr_rl.models.fresh import BY_NAME, write_fresh
from ocr_rl.models.load import load_model
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Prompter
from tests.families.conftest import MakeLearner, only
from tests.learn.conftest import largest_gap

FAMILY = BY_NAME["internvl"]
here = only("internvl")


@here
@pytest.mark.parametrize(("width", "height", "tiles"), [(112, 112, 1), (80, 160, 3), (198, 280, 7)])
def test_prompt_and_tiles_are_those_of_the_processor(prompter: Prompter, width: int, height: int, tiles: int) -> None:
    """With the tokens around the image, and the small picture of the whole after more than one tile."""
    processor, image = prompter.processor, Image.linear_gradient("L").resize((width, height)).convert("RGB")
    text = processor.tokenizer.decode(prompter.token_ids)
    made = processor(images=[image], text=text, return_tensors="pt")
    assert prompter.expand(prompter.num_image_tokens(image)) == tuple(made["input_ids"][0].tolist())
    pixels, sizes = prompter.pixels([image])
    assert sizes.tolist() == [[tiles]]
    assert torch.from_numpy(pixels).equal(made["pixel_values"])


@here
def test_a_qwen3_under_a_tower_of_the_larger_models_is_packed_too(
    make_learner: MakeLearner, prompter: Prompter, rows: list[Row], tmp_path: Path
) -> None:
    text = {**FAMILY.nano.text, "model_type": "qwen3", "head_dim": 64}
    vision = {**FAMILY.nano.vision, "use_qk_norm": True, "norm_type": "rms_norm"}
    write_fresh(tmp_path, 0, FAMILY, replace(FAMILY.nano, text=text, vision=vision, tied=False))
    model = load_model(str(tmp_path))
    expected = [plain_logprobs(model, prompter, row).tolist() for row in rows]
    assert largest_gap(make_learner(path=tmp_path).logprobs(rows), expected) < FAMILY.rounding


@pytest.mark.parametrize("changed", [{"vision_feature_layer": -2}, {"vision_feature_select_strategy": "full"}])
def test_a_tower_that_vllm_would_read_otherwise_is_refused(changed: dict) -> None:
    config = FAMILY.config(FAMILY.nano, FAMILY.tokenizer())
    FAMILY.require_engine(config)
    for name, value in changed.items():
        setattr(config, name, value)
    with pytest.raises(UserError, match="vLLM reads the last layer"):
        FAMILY.require_engine(config)
