"""Operations of an update by formula: by hand on a tiny shape, and against torch's own counter."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.flops import peak_of, update_work
from benchmarks.gpu.policies import Load, grids_of, open_random, random_rows, write_policy
from ocr_rl.config import Policy
from ocr_rl.learn.network import base
from ocr_rl.objectives.losses import NegativeLogLikelihood

LOAD = Load(groups=2, samples=3, completion=7, longest_px=112, micro_tokens=4096)


def tiny(**text: Any) -> SimpleNamespace:
    sizes = {
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "num_hidden_layers": 3,
        "vocab_size": 10,
    }
    vision = {
        "hidden_size": 4,
        "intermediate_size": 6,
        "spatial_merge_size": 2,
        "window_size": 4,
        "patch_size": 2,
        "in_channels": 3,
        "temporal_patch_size": 2,
        "fullatt_block_indexes": [1],
        "depth": 2,
        "out_hidden_size": 8,
    }
    return SimpleNamespace(text_config=SimpleNamespace(**sizes | text), vision_config=SimpleNamespace(**vision))


def test_the_count_by_hand() -> None:
    """A page of 4 x 2 patches; a prompt of 5 tokens with completions of 2 and 3."""
    work = update_work(tiny(), [[5, 2, 3]], [(4, 2)], Policy(path="m"))
    layer = 2 * 10 * (64 + 32 + 32 + 64 + 3 * 128)  # q, k, v, o and three of the MLP; 10 tokens
    pairs = 15 + (2 * 5 + 3) + (3 * 5 + 6)
    logits = 2 * 5 * 8 * 10
    linear = 2 * 8 * (4 * 12 + 16 + 3 * 24)  # 8 patches
    whole, windows = 4 * 4 * 64, 4 * 4 * (16 + 16)  # one layer sees all patches, one two windows of 2 x 2 patches each
    embed, merger = 2 * 8 * 24 * 4, 2 * 2 * (16 * 16 + 16 * 8)
    text = 3 * (layer + 4 * 8 * pairs)
    vision = 2 * linear + whole + windows
    assert work.forward == text + logits + vision + embed + merger
    assert work.backward == 2 * text + 2 * logits + 2 * vision + embed + 2 * merger
    assert work.again == logits
    kept = update_work(tiny(), [[5, 2, 3]], [(4, 2)], Policy(path="m", gradient_checkpointing=True))
    assert (kept.useful, kept.again) == (
        work.useful,
        text + vision + logits - 3 * 2 * 10 * 128 - 2 * 2 * 8 * 24,  # but for each block's last product
    )


def test_adapters_and_a_frozen_tower_by_hand() -> None:
    policy = Policy(path="m", lora_rank=2, freeze_vision=True)
    work = update_work(tiny(), [[5, 2, 3]], [(4, 2)], policy)
    full = update_work(tiny(), [[5, 2, 3]], [(4, 2)], Policy(path="m"))
    adapters = 3 * 2 * 10 * 2 * (16 + 12 + 12 + 16 + 3 * 24)  # 3 layers, 10 tokens, rank 2, I + O
    layers = 3 * 2 * 10 * (64 + 32 + 32 + 64 + 3 * 128)
    attention, logits = 3 * 4 * 8 * 49, 2 * 5 * 8 * 10
    assert work.forward == full.forward + adapters
    assert work.backward == layers + 2 * adapters + 2 * attention + logits
    assert work.again == 0


@pytest.mark.parametrize(
    ("policy", "limit"),
    [
        ({}, 1e-9),
        ({"gradient_checkpointing": True}, 1e-9),
        # Of the first layer's three inputs no gradient is needed: three of 28 adapters' and of 28 layers' products.
        ({"lora_rank": 4, "freeze_vision": True}, 0.05),
    ],
    ids=["all weights", "checkpointing", "adapters"],
)
def test_linear_layers_are_those_that_torch_counts(tmp_path: Path, policy: dict[str, Any], limit: float) -> None:
    path = write_policy("tiny", tmp_path / "policy", LOAD)
    learner = open_random(path, policy, LOAD)
    rows = random_rows(learner, LOAD, tmp_path)
    with FlopCounterMode(display=False) as counter:
        learner.update(rows, NegativeLogLikelihood())
    of = {str(op): flops for op, flops in counter.get_flop_counts()["Global"].items()}
    counted = sum(flops for op, flops in of.items() if op in ("aten.mm", "aten.addmm"))
    settings: Any = base(learner.module).config
    K, grids = len(rows[0].prompt.expanded_ids), grids_of(learner, rows)
    cfg = Policy.model_validate({"path": path, **policy})
    work = update_work(settings, [[K, 7, 7, 7]] * 2, grids, cfg)
    # All four layers of this tower see whole pages.
    text = 4 * 4 * 256 * 2 * (K * (K + 1) // 2 + 3 * (7 * K + 28))
    vision = 4 * 4 * 192 * sum((h * w) ** 2 for h, w in grids)
    times = 3 + bool(policy.get("gradient_checkpointing"))
    attention = times * text + (1 if policy.get("freeze_vision") else times) * vision
    uncounted = (
        0 if policy.get("lora_rank") else 2 * 42 * 256 * settings.text_config.vocab_size
    )  # the head's gradient, added in place
    assert counted + uncounted == pytest.approx(work.useful + work.again - attention, rel=limit)


def test_the_peak_is_looked_up_by_a_part_of_the_name() -> None:
    assert peak_of("NVIDIA H200") == 989e12 and peak_of("cpu") is None
