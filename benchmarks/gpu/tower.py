"""A vision tower forward and backward, by transformers' way and by the kernel for segments (`ocr_rl.models.tower`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from benchmarks.gpu.policies import Load, drawn_pages, freed, random_model, write_policy
from benchmarks.gpu.update import peak_mib, timed
from ocr_rl import config
from ocr_rl.models import tower
from ocr_rl.models.family import Family
from ocr_rl.policy import open_origin

WAYS = {"transformers": "sdpa", "kernel": tower.BY_BOUNDS}


def towers(shapes: Sequence[str], load: Load, rounds: int, work: Path) -> dict[str, Any]:
    """Seconds and memory of one page in bfloat16, and how far features and gradients are from float32's."""
    AttentionInterface.register(tower.BY_BOUNDS, tower.attend_by_bounds)
    cases = []
    for shape in shapes:
        path = write_policy(shape, work / shape, load)
        prompter = open_origin(config.Policy(path=path), path).prompter
        (page,) = drawn_pages(work, 1)
        values, sizes = map(torch.from_numpy, prompter.pixels([prompter.image(prompter.prompt(page))]))
        with freed():
            exact = _answer(prompter.family, random_model(path), values, sizes, "sdpa")
        for way, name in WAYS.items():
            with freed():
                model = random_model(path, dtype="bfloat16")
                act = partial(_answer, prompter.family, model, values, sizes, name)
                apart = max(float((x - y).norm() / y.norm()) for x, y in zip(act(), exact, strict=True))
                seconds = median(timed(act) for _ in range(rounds))
                cases.append({"shape": shape, "way": way, "seconds": seconds, "distance": apart})
                cases[-1] |= {"memory_mib": peak_mib(act), "patches": len(values)}
                del model, act
    return {"longest_px": load.longest_px, "cases": cases}


def _answer(family: Family, model: Any, values: Tensor, sizes: Tensor, way: str) -> list[Tensor]:
    """Features, and the gradients of the first and the last layer by their mean square; on the CPU, in float32."""
    model.config.vision_config._attn_implementation_internal = way
    visual = model.model.visual
    device, dtype = visual.device, visual.dtype
    model.zero_grad(set_to_none=True)
    seen = family.see(model, values.to(device, dtype), sizes.to(device))
    torch.stack([x.float().square().mean() for x in seen]).sum().backward()
    layers = [visual.blocks[i].attn.qkv.weight.grad for i in (0, -1)]
    return [x.detach().float().cpu() for x in (*seen, *layers)]
