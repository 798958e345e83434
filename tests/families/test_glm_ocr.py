"""GLM-OCR: what ends an answer, its prompt to the letter, the bias of its patches, the merger that vLLM would cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from transformers import AutoModelForImageTextToText, GenerationConfig

from ocr_rl.contract import UserError
from ocr_rl.models.fresh import BY_NAME, write_processor
from ocr_rl.models.load import load_model
from ocr_rl.rollout.prompt import Prompter, load_prompter
from ocr_rl.rollout.sampler.vllm_server import ServerSettings, VllmServerSampler
from tests.families.conftest import only

FAMILY = BY_NAME["glm_ocr"]
here = only("glm_ocr")


@here
def test_one_turn_is_written_as_the_published_template_writes_it(folder: Path) -> None:
    prompter = load_prompter(folder, 160, instruction="Text Recognition:", image_first=True)
    text = "[gMASK]<sop><|user|>\n<|begin_of_image|><|image|><|end_of_image|>Text Recognition:<|assistant|>\n"
    assert prompter.processor.tokenizer.decode(prompter.token_ids) == text


@here
def test_an_answer_ends_where_the_users_turn_begins(folder: Path, prompter: Prompter) -> None:
    ids = prompter.processor.tokenizer.get_vocab()
    assert prompter.processor.tokenizer.eos_token == "<|endoftext|>"
    assert prompter.eos_id == ids["<|user|>"] == GenerationConfig.from_pretrained(folder).eos_token_id
    assert {ids[token] for token in ("<|endoftext|>", "<|image|>", "<|end_of_image|>")} <= set(prompter.banned_ids)
    assert prompter.eos_id not in prompter.banned_ids


@here
def test_placeholders_that_are_not_special_are_never_sampled(prompter: Prompter) -> None:
    """As in the published tokenizer.json, where they are ordinary added tokens."""
    from ocr_rl.rollout.prompt import _banned_ids

    class Ordinary:
        added_tokens_decoder: dict = {}
        get_vocab = staticmethod(prompter.processor.tokenizer.get_vocab)

    assert prompter.image_id in _banned_ids(Ordinary(), prompter.family, prompter.eos_id)


@here
def test_the_patch_embedding_keeps_its_bias(folder: Path) -> None:
    plain = AutoModelForImageTextToText.from_pretrained(folder).model.visual.patch_embed
    ours = load_model(str(folder)).model.visual.patch_embed
    assert type(plain) is not type(ours)
    with torch.no_grad():  # a fresh one is zero
        ours.proj.bias.copy_(plain.proj.bias.normal_())
    patches = torch.randn(5, plain.proj.weight[0].numel())
    assert (ours(patches) - plain(patches)).abs().max() < 1e-5
    assert (ours(patches) - plain.proj.bias - plain(patches)).abs().max() > 1e-2


@here
def test_adapters_reach_every_linear_layer(folder: Path) -> None:
    model = load_model(str(folder))
    text = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj"}
    assert set(FAMILY.lora_names(model, text=True, tower=False)) == text
    assert set(FAMILY.lora_names(model, text=True, tower=True)) == text | {"qkv", "proj", "gate_proj", "up_proj"}


@pytest.fixture
def cut(tmp_path: Path) -> tuple[Path, Prompter]:
    """A model without weights whose merger is wider than what vLLM makes."""
    sizes = replace(FAMILY.nano, text={**FAMILY.nano.text, "intermediate_size": 688})
    config = FAMILY.config(sizes, FAMILY.tokenizer())
    config.architectures = list(FAMILY.architectures)
    config.save_pretrained(tmp_path)
    write_processor(tmp_path, FAMILY, sizes)
    return tmp_path, load_prompter(tmp_path, 160, instruction="")


CUT = r"merger .* is 768 wide .* which is 688, and cuts"


def test_a_merger_that_vllm_would_cut_is_refused_before_a_server_is_asked(cut: tuple[Path, Prompter]) -> None:
    with pytest.raises(UserError, match=CUT):
        VllmServerSampler(*cut, ServerSettings(url="http://127.0.0.1:9"))
    FAMILY.require_engine(FAMILY.config(FAMILY.nano, FAMILY.tokenizer()))


@pytest.mark.slow
def test_a_merger_that_vllm_would_cut_is_refused_before_an_engine_starts(cut: tuple[Path, Prompter]) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    from ocr_rl.rollout.sampler.vllm.engine import EngineSettings, VllmSampler

    with pytest.raises(UserError, match=CUT):
        VllmSampler(*cut, EngineSettings())
