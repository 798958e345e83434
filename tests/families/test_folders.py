"""Folders as they may come: a head of its own, a processor of another model, tokens that are not special."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from transformers import AutoConfig

from benchmarks.families.policies import LONGEST_PX
from ocr_rl.contract import UserError
from ocr_rl.learn.network import save_model
from ocr_rl.models.family import Family
from ocr_rl.models.fresh import write_fresh
from ocr_rl.models.load import empty_model, load_config, load_model
from ocr_rl.rollout.prompt import load_prompter


def copied(folder: Path, to: Path) -> None:
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())


def parameters(model: torch.nn.Module) -> list[tuple[str, torch.Size]]:
    return [(name, weight.shape) for name, weight in model.named_parameters()]


@pytest.mark.parametrize("said", ["truly", "outside only", "nowhere"])
def test_a_head_of_its_own_is_saved_whatever_the_configuration_says(family: Family, said: str, tmp_path: Path) -> None:
    untied = tmp_path / "untied"
    write_fresh(untied, 0, family, replace(family.nano, tied=False))
    written = json.loads((untied / "config.json").read_text())
    parts = {"truly": [], "outside only": [written["text_config"]], "nowhere": [written, written["text_config"]]}[said]
    for part in parts:
        part.pop("tie_word_embeddings", None)
    (untied / "config.json").write_text(json.dumps(written))
    model = load_model(str(untied))
    assert parameters(empty_model(str(untied), tied=False)) == parameters(model)  # of the other ranks
    save_model(model, tmp_path / "saved", source=str(untied))
    again = load_model(str(tmp_path / "saved"))
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name
    assert not torch.equal(again.lm_head.weight, again.get_input_embeddings().weight)  # type: ignore[union-attr]


def test_a_processor_that_cuts_otherwise_is_refused(family: Family, folder: Path, tmp_path: Path) -> None:
    copied(folder, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["vision_config"]["patch_size"] = 12
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"its processor and its config\.json differ"):
        load_prompter(tmp_path, LONGEST_PX, instruction="Read.")


def test_a_configuration_of_another_family_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "qwen2_vl", "architectures": ["Qwen3VLForConditionalGeneration"]})
    )
    assert AutoConfig.from_pretrained(tmp_path).model_type == "qwen2_vl"
    with pytest.raises(UserError, match="the model type of another family, qwen2_vl"):
        load_config(str(tmp_path))


def test_text_that_spells_a_token_stays_text_and_an_end_is_not_written(folder: Path, tmp_path: Path) -> None:
    """Where tokenizer.json declares neither the placeholders nor the end special."""
    copied(folder, tmp_path)
    written = json.loads((tmp_path / "tokenizer.json").read_text())
    for token in written["added_tokens"]:
        token["special"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(written))
    prompter = load_prompter(tmp_path, LONGEST_PX, instruction="Read.")
    tokenizer = prompter.processor.tokenizer
    never = [*prompter.family.never, tokenizer.convert_ids_to_tokens(prompter.eos_id)]
    text = "a " + " b ".join(name for name in never if name in tokenizer.get_vocab()) + " c"
    assert {prompter.eos_id, *prompter.banned_ids} & set(tokenizer.encode(text, add_special_tokens=False))
    ids = prompter.encode(text)
    assert not {prompter.eos_id, *prompter.banned_ids} & set(ids)
    assert prompter.decode(ids) == text
    assert prompter.decode((*prompter.encode("a b"), prompter.eos_id)) == "a b"
