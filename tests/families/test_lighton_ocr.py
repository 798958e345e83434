"""LightOnOCR's two layouts, its pictures, and what vLLM is given.

`published` makes of a folder what lightonai/LightOnOCR-2-1B (files of 2026-01-16) and LightOnOCR-1B-1025 (of 2025-10)
hold: same keys, same kinds of values, other sizes.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from PIL import Image
from transformers import AutoConfig, AutoProcessor, LightOnOcrConfig, LightOnOcrForConditionalGeneration

from ocr_rl.contract import UserError
from ocr_rl.learn.network import save_model
from ocr_rl.models.families import FAMILIES
from ocr_rl.models.families.lighton_ocr import TOKENS, LightOnOcr
from ocr_rl.models.fresh import new_policy
from ocr_rl.models.load import empty_model, load_config, load_model
from ocr_rl.rollout.prompt import Prompter, load_prompter
from ocr_rl.rollout.sampler.base import require_adapters

CHAT_TEMPLATE = """\
{% set image_count = namespace(value=0) %}
{% for message in messages %}
{% if loop.first and message['role'] != 'system' %}
<|im_start|>system<|im_end|>
{% endif %}
<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}
{{ message['content'] }}<|im_end|>
{% else %}
{% for content in message['content'] %}
{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}
{% set image_count.value = image_count.value + 1 %}
{% if add_vision_id %}
Picture {{ image_count.value }}:
{% endif -%}
<|image_pad|>
{%- elif 'text' in content %}
{{ content['text'] }}
{% endif %}
{% endfor %}
<|im_end|>
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}"""
SHAPES = [(160, 80), (57, 160), (160, 160), (84, 29), (28, 30), (400, 1000), (449, 448)]


def published(folder: Path, generation: int = 2) -> None:
    """Turn a folder in transformers' layout into the other one, in place."""
    config, nested, tokenizer = (
        json.loads((folder / name).read_text())
        for name in ("config.json", "processor_config.json", "tokenizer_config.json")
    )
    del config["tie_word_embeddings"]
    config |= {
        "architectures": ["LightOnOCRForConditionalGeneration"],
        "model_type": "mistral3",
        "multimodal_projector_bias": False,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -1,
    }
    config["vision_config"]["rope_parameters"] = {"rope_theta": 10000, "rope_type": "default"}
    pictures = nested["image_processor"] | {
        "do_pad": None,
        "image_processor_type": "PixtralImageProcessorFast",
        "patch_size": 14,
        "processor_class": "PixtralProcessor",
    }
    own = {"patch_size": 14, "spatial_merge_size": 2, **TOKENS}
    if generation == 2:
        own |= {"processor_class": "PixtralProcessor", "image_processor": pictures}
    else:
        own |= {"processor_class": "LightOnOCRProcessor"}  # which transformers does not have
        _write(folder / "preprocessor_config.json", pictures | {"processor_class": "LightOnOCRProcessor"})
        for name in ("extra_special_tokens", "model_specific_special_tokens", *TOKENS):
            tokenizer.pop(name, None)
    _write(folder / "config.json", config)
    _write(folder / "processor_config.json", own)
    _write(folder / "tokenizer_config.json", tokenizer | {"processor_class": "LightOnOCRProcessor"})
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)


def _write(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data))


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ours") / "policy"
    new_policy(folder, 0, "lighton_ocr")
    return folder


@pytest.fixture(scope="module", params=[1, 2], ids=["LightOnOCR-1B", "LightOnOCR-2-1B"])
def theirs(request: pytest.FixtureRequest, ours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("theirs") / "policy"
    shutil.copytree(ours, folder)
    published(folder, request.param)
    return folder


def test_both_layouts_are_one_policy(ours: Path, theirs: Path) -> None:
    assert AutoConfig.from_pretrained(theirs).model_type == "mistral3"
    one, other = load_config(str(ours)), load_config(str(theirs))
    assert isinstance(other, LightOnOcrConfig)
    assert (other.image_token_id, other.spatial_merge_size, other.tie_word_embeddings) == (one.image_token_id, 2, True)
    for part in ("text_config", "vision_config"):
        assert getattr(other, part).to_dict() == getattr(one, part).to_dict()
    same_weights(load_model(str(ours)), load_model(str(theirs)))
    assert type(empty_model(str(theirs), tied=True)) is LightOnOcrForConditionalGeneration


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())


@pytest.mark.parametrize("instruction", ["", "Read."])
def test_the_published_template_gets_an_empty_system_turn(theirs: Path, instruction: str) -> None:
    prompter = load_prompter(theirs, 160, instruction=instruction, image_first=True)
    text = prompter.processor.tokenizer.decode(prompter.token_ids)
    assert text == (
        "<|im_start|>system<|im_end|>\n<|im_start|>user\n<|image_pad|>"
        f"{instruction and instruction + chr(10)}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert prompter.processor.tokenizer.convert_ids_to_tokens(prompter.eos_id) == "<|im_end|>"


def test_placeholders_are_counted_as_pixels_are_made(ours: Path, theirs: Path) -> None:
    """Whatever patch size the folder's image processor says: the tower's patches come in whole tokens."""
    images = [Image.new("RGB", shape, "white") for shape in SHAPES]
    for folder in (ours, theirs):
        prompter = load_prompter(folder, 448, instruction="")
        pixels, sizes = prompter.pixels(images)
        assert pixels.shape == (len(images), 3, *sizes.max(0))
        assert (sizes % 28 == 0).all() and sizes.max() <= 448
        assert [prompter.num_image_tokens(image) for image in images] == (sizes // 28).prod(1).tolist()
    ids = AutoProcessor.from_pretrained(ours)(text="<|image_pad|>", images=images[0])["input_ids"][0]
    assert len(ids) == (sizes[0] // 28).prod() and set(ids.tolist()) == {prompter.image_id}  # no breaks between rows


def test_what_is_beside_a_small_image_is_not_seen(ours: Path) -> None:
    """Images of several sizes share one array, and each has its features as if alone."""
    prompter, model = load_prompter(ours, 448, instruction=""), load_model(str(ours))
    LightOnOcr().pack(model)
    images = [Image.effect_noise(shape, 90).convert("RGB") for shape in [(160, 80), (60, 200)]]
    features = [seen(prompter, model, [image]) for image in images]
    assert (seen(prompter, model, images) - torch.cat(features)).abs().max() < 1e-5
    assert (features[0].mean(0) - features[1].mean(0)).abs().max() > 1e-3


@torch.no_grad()
def seen(prompter: Prompter, model: Any, images: list[Image.Image]) -> torch.Tensor:
    pixels, sizes = prompter.pixels(images)
    pixels = np.where(pixels == 0, 7.0, pixels)  # padding is 0: it may be anything
    return prompter.family.see(model, torch.from_numpy(pixels).float(), torch.from_numpy(sizes))[0]


def test_a_saved_policy_keeps_the_layout_that_it_came_in(ours: Path, theirs: Path, tmp_path: Path) -> None:
    model = load_model(str(theirs))
    with torch.no_grad():
        model.model.vision_projection.norm.weight.mul_(2)
    for source, kind in ((ours, "lighton_ocr"), (theirs, "mistral3")):
        save_model(model, tmp_path / kind, source=str(source))
        assert json.loads((tmp_path / kind / "config.json").read_text())["model_type"] == kind
        same_weights(load_model(str(tmp_path / kind)), model)
        # As the models' cards load it.
        same_weights(LightOnOcrForConditionalGeneration.from_pretrained(tmp_path / kind), model)
        again, source_prompter = (load_prompter(f, 160, instruction="") for f in (tmp_path / kind, source))
        assert again.token_ids == source_prompter.token_ids


def test_vllm_is_given_the_published_layout(ours: Path, theirs: Path, tmp_path: Path) -> None:
    assert LightOnOcr().engine_folder(str(theirs), tmp_path) == str(theirs)
    assert not list(tmp_path.iterdir())
    assert LightOnOcr().engine_folder(str(ours), tmp_path) == str(tmp_path)
    links = {path.name for path in tmp_path.iterdir() if path.is_symlink()}
    assert {"model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= links
    config, processor = AutoConfig.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    assert (config.model_type, config.architectures) == ("mistral3", ["LightOnOCRForConditionalGeneration"])
    assert config.image_token_index == load_config(str(ours)).image_token_id == processor.image_token_id
    assert type(processor).__name__ == "PixtralProcessor"
    assert {name: getattr(processor, name) for name in TOKENS} == TOKENS
    assert all(family.engine_folder("a", tmp_path) == "a" for family in FAMILIES if not isinstance(family, LightOnOcr))


def test_adapters_in_the_tower_are_refused() -> None:
    require_adapters(LightOnOcr(), in_tower=False)
    with pytest.raises(UserError, match=r"no adapters on all of the vision tower of LightOnOCR: set policy\.lora"):
        require_adapters(LightOnOcr(), in_tower=True)
