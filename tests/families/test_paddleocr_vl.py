"""PaddleOCR-VL: its prompt to the letter, positions resampled as in vLLM, the names of the files, no adapters there."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from safetensors import safe_open
from torch.nn.functional import interpolate
from transformers import AutoModelForImageTextToText

from ocr_rl.contract import UserError
from ocr_rl.models.fresh import BY_NAME
from ocr_rl.models.load import load_model
from ocr_rl.rollout.prompt import Prompter, load_prompter
from ocr_rl.rollout.sampler.base import require_adapters
from ocr_rl.rollout.sampler.vllm.held import weight_marks
from ocr_rl.rollout.sampler.vllm_loads import Loads
from tests.families.conftest import MakeLearner, only

FAMILY = BY_NAME["paddleocr_vl"]
here = only("paddleocr_vl")


@here
@pytest.mark.parametrize("image_first", [True, False])
def test_one_turn_is_written_as_the_published_template_writes_it(folder: Path, image_first: bool) -> None:
    """The image first, wherever it stands in the turn."""
    prompter = load_prompter(folder, 160, instruction="OCR:", image_first=image_first)
    image = "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>"
    text = f"<|begin_of_sentence|>User: {image}OCR:\nAssistant:\n"
    assert prompter.processor.tokenizer.decode(prompter.token_ids) == text
    assert prompter.processor.tokenizer.convert_ids_to_tokens(prompter.eos_id) == "</s>"
    assert prompter.image_id in prompter.banned_ids


def position_embeddings(model: Any, rows: int, columns: int) -> torch.Tensor:
    """(rows x columns, D) as the tower adds them to the patches of one image."""
    embeddings = model.model.visual.vision_model.embeddings
    pixels = torch.zeros(1, rows * columns, 3, embeddings.patch_size, embeddings.patch_size)
    return embeddings(pixels, torch.tensor([[1, rows, columns]])) - embeddings.patch_embedding.bias


@here
def test_positions_are_resampled_as_vllm_does(folder: Path) -> None:
    ours, plain = load_model(str(folder)), AutoModelForImageTextToText.from_pretrained(folder)
    grid = ours.model.visual.vision_model.embeddings.position_embedding.weight.unflatten(0, (8, 8)).permute(2, 0, 1)
    resampled = interpolate(grid[None], (6, 10), mode="bilinear", align_corners=False)[0].permute(1, 2, 0).flatten(0, 1)
    assert (position_embeddings(ours, 6, 10) - resampled).abs().max() < 1e-5
    assert (position_embeddings(plain, 6, 10) - resampled).abs().max() > 1e-2


@here
def test_vllm_is_given_the_names_of_the_files_and_the_tied_head(
    make_learner: MakeLearner, folder: Path, prompter: Prompter, tmp_path: Path
) -> None:
    with safe_open(folder / "model.safetensors", "pt") as stored:
        files = set(stored.keys())
    given: Any = make_learner().weights()
    weights: dict[str, torch.Tensor] = dict(given)
    assert "lm_head.weight" in weights and "lm_head.weight" not in files
    named = {prompter.family.engine_name(name) for name in weights}
    assert named == files | {"lm_head.weight"}
    loads = Loads(folder, prompter.family, tmp_path)
    loads.take(make_learner().weights(), 1)
    with safe_open(loads.now.weights / "model.safetensors", "pt") as written:
        assert set(written.keys()) == named
        assert torch.equal(written.get_tensor("lm_head.weight"), written.get_tensor("model.embed_tokens.weight"))


@here
def test_frozen_is_what_sees_and_adapters_reach_every_linear_layer(folder: Path, make_learner: MakeLearner) -> None:
    model = load_model(str(folder))
    text = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert set(FAMILY.lora_names(model, text=True, tower=False)) == text
    assert set(FAMILY.lora_names(model, text=True, tower=True)) == text | {"out_proj", "fc1", "fc2"}
    module = make_learner(policy={"freeze_vision": True}).module
    learnt = {name for name, weight in module.named_parameters() if weight.requires_grad}
    assert learnt and not any("visual" in name or "projector" in name for name in learnt)


def test_adapters_are_refused_where_vllm_is_asked_to_take_them() -> None:
    with pytest.raises(UserError, match=r"no adapters for PaddleOCR-VL: set policy\.lora_rank = 0"):
        require_adapters(FAMILY, in_tower=False)


class Renames(torch.nn.Module):
    """A part of vLLM's model that reads weights, and how it renames what lies below it."""

    def __init__(self, names: dict[str, str | None], **parts: torch.nn.Module) -> None:
        super().__init__()
        self.hf_to_vllm_mapper = SimpleNamespace(map_name=lambda name: self.renamed(names, name))
        for name, part in parts.items():
            setattr(self, name, part)

    @staticmethod
    def renamed(names: dict[str, str | None], name: str) -> str | None:
        for old, new in names.items():
            if old in name:
                return None if new is None else name.replace(old, new, 1)
        return name


def test_marks_follow_the_names_of_every_part_that_reads_weights() -> None:
    """As here: no table of stacks on the whole model, one in its tower, and a weight that the tower leaves out."""
    tower = Renames({".q_proj": ".qkv", ".k_proj": ".qkv", "head.": None})
    layers = torch.nn.ModuleDict({"1": torch.nn.ModuleDict({"qkv_proj": torch.nn.Linear(1, 3)})})
    model = Renames({"model.": "language_model."}, visual=tower, language_model=layers)
    worker = SimpleNamespace(model_runner=SimpleNamespace(model=model))
    marks = {"visual.0.q_proj.bias": 1, "visual.0.k_proj.bias": 2, "visual.head.w": 4, "model.1.q_proj.bias": 8}
    assert weight_marks(worker, marks) == {"visual.0.qkv.bias": 3, "language_model.1.q_proj.bias": 8}
    stacked: Any = model
    stacked.packed_modules_mapping = {"qkv_proj": ["q_proj"]}
    assert weight_marks(worker, {"model.1.q_proj.bias": 8}) == {"language_model.1.qkv_proj.bias": 8}
    apart = {"model.2.q_proj.bias": 8}  # a layer that the engine does not stack, whatever the table says
    assert weight_marks(worker, apart) == {"language_model.2.q_proj.bias": 8}
