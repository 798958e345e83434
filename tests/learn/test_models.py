"""A model that is loaded: what is none is named, and its faster patch embedding is the one of transformers."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionPatchEmbed

from ocr_rl.contract import UserError
from ocr_rl.models import load
from ocr_rl.models.load import load_model
from tests.learn.conftest import apart


def test_what_cannot_be_loaded_is_named(tmp_path: Path, policy_dir: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: cannot be loaded"):
        load_model(str(tmp_path / "nowhere"))
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    with pytest.raises(UserError, match="other: "):
        load_model(str(other))
    cut = tmp_path / "cut"
    cut.mkdir()
    for path in policy_dir.iterdir():
        (cut / path.name).write_bytes(path.read_bytes()[: 5000 if path.suffix == ".safetensors" else None])
    with pytest.raises(UserError, match="cut: cannot be loaded"):
        load_model(str(cut))


def test_weights_that_lack_something_are_not_filled_with_random_numbers(tmp_path: Path, policy_dir: Path) -> None:
    shutil.copytree(policy_dir, tmp_path / "less")
    stored = load_file(policy_dir / "model.safetensors")
    name = "model.language_model.norm.weight"
    short = {
        key: weight for key, weight in stored.items() if "language_model.norm" not in key and "model.norm" not in key
    }
    assert len(short) == len(stored) - 1
    save_file(short, tmp_path / "less" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"its weights lack {name} \\(1 in all\\)"):
        load_model(str(tmp_path / "less"))
    (other,) = set(stored) - set(short)
    save_file(short | {other: torch.ones(3)}, tmp_path / "less" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="less: cannot be loaded"):
        load_model(str(tmp_path / "less"))


def patches(model: Any, n: int) -> Tensor:
    shape = model.model.visual.patch_embed.proj.weight[0].numel()
    return torch.randn(n, shape, generator=torch.Generator().manual_seed(0))


def test_the_patch_embedding_is_the_convolution_of_transformers(policy_dir: Path) -> None:
    model: Any = load_model(str(policy_dir))
    ours = model.model.visual.patch_embed
    theirs = copy.deepcopy(ours)
    theirs.__class__ = Qwen2_5_VisionPatchEmbed
    assert type(ours) is not type(theirs)
    outputs, gradients = {}, {}
    for name, embed in (("ours", ours), ("theirs", theirs)):
        out = embed(patches(model, 12))
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        outputs[name], gradients[name] = {"out": out.detach()}, {"weight": embed.proj.weight.grad}
    assert outputs["ours"]["out"].shape == outputs["theirs"]["out"].shape
    assert apart(outputs["ours"], outputs["theirs"]) < 1e-5
    assert apart(gradients["ours"], gradients["theirs"]) < 1e-5


def test_a_copy_of_the_patch_embedding_has_weights_of_its_own(policy_dir: Path) -> None:
    model: Any = load_model(str(policy_dir))
    twin = copy.deepcopy(model)
    embed, other = model.model.visual.patch_embed, twin.model.visual.patch_embed
    assert type(other) is type(embed)
    seen = patches(model, 3)
    before = embed(seen)
    with torch.no_grad():
        other.proj.weight.mul_(2)
    assert torch.equal(embed(seen), before)
    assert torch.allclose(other(seen), 2 * before)
    other(seen).sum().backward()
    assert other.proj.weight.grad is not None and embed.proj.weight.grad is None


def test_a_hub_name_is_its_snapshots_folder(policy_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(load, "snapshot_download", lambda name, **how: asked.append((name, how)) or str(policy_dir))
    assert load.model_folder("Somebody/Some-Model") == str(policy_dir)
    assert load.model_folder("Somebody/Some-Model", "0123abc") == str(policy_dir)
    assert asked == [
        ("Somebody/Some-Model", {"revision": commit, "ignore_patterns": load._OTHER_FORMATS})
        for commit in (None, "0123abc")
    ]
    assert load.model_folder(str(policy_dir)) == str(policy_dir) and len(asked) == 2  # a folder is asked of nobody


@pytest.mark.parametrize(
    ("folder", "commit"),
    [
        ("/cache/hub/models--a--b/snapshots/0123abc", "0123abc"),
        ("models/snapshots/first", None),
        ("runs/sft/ckpt/000100/model", None),
        ("nano", None),
    ],
)
def test_the_commit_of_a_snapshot_is_the_name_of_its_folder(folder: str, commit: str | None) -> None:
    assert load.commit_of(folder) == commit


@pytest.mark.parametrize("name", ["Somebody/No-Such-Model", "no such name", "a/b/c"])
def test_a_name_that_nobody_has_is_one_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=f"Model {name}: cannot be loaded: [^\n]+$"):
        load.model_folder(name)
