"""The optimisers of a network, and the schedule of their rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ocr_rl import config
from ocr_rl.learn.ranks import cut_like, joined


def rate_factor(step: int, steps: int, optim: config.Optim) -> float:
    """Linear warm-up, flat, then a linear cool-down over the last share of the run (step counts from 0).

    Or the schedule's straight lines.
    """
    if optim.schedule:
        at, shares = np.array(optim.schedule).T
        return float(np.interp(step, at, shares))
    up = min(1.0, (step + 1) / optim.warmup) if optim.warmup else 1.0
    cooling = optim.cooldown * steps
    left = min(1.0, (steps - step) / cooling) if cooling else 1.0
    return up * (optim.final + (1 - optim.final) * left)


def muon_matrices(named: Sequence[tuple[str, Tensor]]) -> list[Tensor]:
    """The weights that Muon is for: matrices inside the layers."""
    return [p for name, p in named if p.ndim == 2 and "embed" not in name and "head" not in name]


def _one_kernel(tensors: Iterable[Tensor]) -> dict[str, bool]:
    """On a GPU AdamW works in one kernel, without temporaries as large as the weights; elsewhere as torch chooses."""
    return {"fused": True} if all(tensor.is_cuda for tensor in tensors) else {}


def open_optimizers(learnt: Mapping[str, Tensor], optim: config.Optim) -> list[torch.optim.Optimizer]:
    """The recipe's optimisers over the learnt weights (`masters.Masters`), by name."""
    named = [*learnt.items()]
    adam = {"betas": optim.betas, "weight_decay": optim.weight_decay, **_one_kernel(learnt.values())}
    if optim.name == "adamw":
        groups = [{"params": [p for _, p in named], "peak": optim.lr}]
        return [torch.optim.AdamW(groups, lr=optim.lr, **adam)]
    matrices = muon_matrices(named)
    chosen = {id(p) for p in matrices}
    others = [p for _, p in named if id(p) not in chosen]
    rate = optim.adam_lr or optim.lr
    return [
        torch.optim.Muon(
            [{"params": matrices, "peak": optim.lr}],
            lr=optim.lr,
            momentum=0.95,
            weight_decay=optim.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW([{"params": others, "peak": rate}], lr=rate, **adam),
    ]


def load_moments(optimizer: torch.optim.Optimizer, parts: Sequence[dict[str, Any]]) -> None:
    """Take over a state from the ranks' parts, leaf by leaf: what was there goes first; nothing of `parts` is kept."""
    held = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.state.clear()
    saved = parts[0]
    for i, values in saved["state"].items():
        for name, value in values.items():
            whole = joined([part["state"][i][name] for part in parts], held[i].shape)
            device = held[i].device if value.ndim else value.device  # where a count of steps lies is the optimiser's
            values[name] = cut_like(whole, held[i]).to(device, copy=True)
    optimizer.load_state_dict(saved)
