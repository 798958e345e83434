"""Random policies in the published shapes, made where they are needed: nothing is downloaded, no weights are written.

Each is an ordinary `Learner` on a page and random transcripts: what an update costs does not depend on what is read.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import torch
from PIL import Image, ImageDraw, ImageFont
from transformers import AutoModelForImageTextToText

from benchmarks.policy.shapes import MAX_PATCHES, SHAPES
from ocr_rl import config
from ocr_rl.contract import Page
from ocr_rl.learn.learner import Learner
from ocr_rl.models.families.qwen2_5_vl import Qwen2_5Vl
from ocr_rl.models.family import Sizes
from ocr_rl.models.fresh import write_processor
from ocr_rl.models.load import DTYPES, load_config
from ocr_rl.models.settings import PromptSettings
from ocr_rl.policy import open_origin
from ocr_rl.rollout.flow import Row

_FAMILY = Qwen2_5Vl()
_SHAPES: dict[str, Sizes] = {"tiny": replace(_FAMILY.nano, max_patches=MAX_PATCHES)}
for _name in ("3B", "7B"):
    _shape = SHAPES[f"Qwen2.5-VL-{_name}"]
    _cut, (_layers, _depth) = _shape.sizes(), _shape.layers
    _SHAPES[_name] = replace(
        _cut,
        text={**_cut.text, "num_hidden_layers": _layers},
        vision={**_cut.vision, "depth": _depth, "fullatt_block_indexes": [7, 15, 23, 31]},
    )
# For memory on a CPU: a few GiB, beside which what a process holds of its own tells little.
_SHAPES["190M"] = replace(
    _SHAPES["3B"],
    text={
        **_SHAPES["3B"].text,
        "vocab_size": 32000,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "num_hidden_layers": 8,
    },
    vision={
        **_SHAPES["3B"].vision,
        "hidden_size": 640,
        "intermediate_size": 2560,
        "num_heads": 8,
        "out_hidden_size": 1024,
        "depth": 8,
        "fullatt_block_indexes": [3, 7],
    },
)
# Its vocabulary as published: half of the weights are embeddings, which are the head's too.
_SHAPES["315M"] = replace(
    _SHAPES["190M"], text={**_SHAPES["190M"].text, "vocab_size": _SHAPES["3B"].text["vocab_size"]}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What an update is made of."""

    groups: int  # pages
    samples: int  # of each page
    completion: int  # tokens of each sample
    longest_px: int
    micro_tokens: int


def write_policy(shape: str, folder: Path, load: Load) -> str:
    """The folder of a policy of that shape ("3B", "7B", "315M", "190M" or "tiny") without weights; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = PromptSettings(longest_px=load.longest_px, instruction="", max_prompt_tokens=8192, max_tokens=4096)
    _FAMILY.config(_SHAPES[shape], _FAMILY.tokenizer()).save_pretrained(folder)
    write_processor(folder, _FAMILY, _SHAPES[shape], settings)
    return str(folder)


def random_model(path: str, *, dtype: str = "float32", **_: Any) -> Any:
    """In place of `load_model`: weights are drawn on the device that computes."""
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForImageTextToText.from_config(
            load_config(path), dtype=DTYPES[dtype], attn_implementation="sdpa"
        )
    _FAMILY.prepare(model)
    return model


def open_random(
    path: str, policy: dict[str, Any], load: Load, *, optim: str = "adamw", reference: bool = False
) -> Learner:
    """A learner with random weights."""
    settings = config.Policy.model_validate({"path": path, **policy})
    cfg = config.Optim.model_validate({"name": optim, "lr": 1e-6, "micro_tokens": load.micro_tokens})
    with mock.patch("ocr_rl.learn.reader.load_model", random_model):
        return Learner(open_origin(settings, path), settings, cfg, steps=100, reference=reference)


def random_rows(learner: Learner, load: Load, folder: Path) -> list[Row]:
    """Random transcripts of pages that are full of text; weights sum to 1."""
    rng, prompter = Random(0), learner.prompter
    words = prompter.encode("the quick brown fox 0123456789")
    rows = []
    for group, page in enumerate(drawn_pages(folder, load.groups)):
        prompt = prompter.prompt(page)
        rows += [
            Row(
                prompt=prompt,
                completion_ids=(*rng.choices(words, k=load.completion - 1), prompter.eos_id),
                group_id=group,
                weight=1 / (load.groups * load.samples * load.completion),
            )
            for _ in range(load.samples)
        ]
    return rows


def grids_of(learner: Learner, rows: Sequence[Row]) -> list[tuple[int, int]]:
    """(rows, columns) of patches of each group's page."""
    first = {row.group_id: row for row in reversed(rows)}.values()
    _, grids = learner.prompter.pixels([learner.prompter.image(row.prompt) for row in first])
    return [(int(h), int(w)) for _, h, w in grids]


@contextmanager
def freed():
    """What the block held on the device is free after it, also where it ran out of memory."""
    try:
        yield
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def drawn_pages(folder: Path, n: int) -> list[Page]:
    """Pages of letter size in one PDF, drawn without typesetting."""
    pdf = folder / "pages.pdf"
    folder.mkdir(parents=True, exist_ok=True)
    images = [Image.new("L", (850, 1100), "white") for _ in range(n)]
    for number, image in enumerate(images):
        lines = "\n".join(f"Page {number}, line {k}: " + "the quick brown fox " * 4 for k in range(60))
        ImageDraw.Draw(image).multiline_text((40, 40), lines, fill="black", font=ImageFont.load_default(size=12))
    images[0].save(pdf, save_all=True, append_images=images[1:])
    return [Page(id=f"0a1b2c3d:p{k}", pdf=pdf, number=k, reference=None) for k in range(1, n + 1)]
