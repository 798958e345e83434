"""The learner: log-probabilities of rows, and optimiser steps on them. It knows rows and losses, no algorithm.

With several ranks each has a learner with a part of the weights, and a method that needs them all tells the others.
"""

from __future__ import annotations

import copy
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.learn import ranks
from ocr_rl.learn.losses import Loss
from ocr_rl.learn.model import (
    base,
    forward_hidden,
    named_weights,
    read_packed,
    save_model,
    token_logprobs,
    trainable,
)
from ocr_rl.learn.rows import Batch, collate
from ocr_rl.rollout.flow import Prompt, Row
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.load import load_model
from ocr_rl.rollout.settings import PromptSettings, write_settings

ImageOf = Callable[[Prompt], Image.Image]


class Learner:
    """One policy with its optimiser. `policy` counts updates: the version of the weights."""

    def __init__(
        self,
        path: str,
        prompter: Prompter,
        prompt_settings: PromptSettings,
        policy: config.Policy,
        optim: config.Optim,
        *,
        steps: int,
        reference: bool,
        seed: int = 0,
    ) -> None:
        """`path`: the model to start from; `reference`: keep it, frozen. `steps`: length of the rate's schedule.

        `seed` is for the random numbers that LoRA's adapters begin with.
        """
        self.path = path
        self.prompt_settings = prompt_settings
        self.prompter = prompter
        self.settings = optim
        self.steps = steps
        self.policy = 0
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = load_model(path, dtype=policy.dtype, trust_remote_code=policy.trust_remote_code)
        read_packed(model)
        if ranks.world() == 1:  # otherwise each rank takes its part only
            model.to(self.device)  # type: ignore[arg-type]
        # With LoRA the reference is the same model with its adapters switched off; otherwise a frozen copy.
        frozen = reference and policy.lora_rank == 0
        self.reference = copy.deepcopy(model).requires_grad_(False).eval() if frozen else None
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.module = trainable(model, policy)
        ranks.shard(base(self.module))
        if self.reference is not None:
            ranks.shard(self.reference)
        self.module.train()
        self.autocast = policy.autocast
        self.dtype = policy.dtype
        self.optimizers = _optimizers(self.module, optim)
        self.positions = lru_cache(maxsize=256)(self._positions)

    def update(self, rows: Sequence[Row], loss: Loss) -> dict[str, float]:
        """One optimiser step on all `rows` together; metrics are means per completion token of the step.

        FloatingPointError where loss or gradient is not finite: nothing has changed then.
        """
        ranks.tell("update", rows, loss)
        started = time.perf_counter()
        rate = self._set_rate()
        own: dict[str, float] = defaultdict(float)
        for batch, counts in self._batches(rows):
            logprob_N, entropy_N = self._logprobs(self.module, batch)
            if not counts:
                (0 * logprob_N.sum()).backward()
                continue
            value, parts = loss(logprob_N, batch)
            value.backward()
            _add(own, {"loss": float(value.detach()), "entropy": float(entropy_N.sum()), **parts})
        sums: dict[str, float] = defaultdict(float)
        for share in ranks.gathered(own):
            _add(sums, share)
        parameters = [p for p in self.module.parameters() if p.requires_grad]
        norm = float(ranks.whole(torch.nn.utils.clip_grad_norm_(parameters, self.settings.max_grad_norm)))
        if not (math.isfinite(norm) and math.isfinite(sums["loss"])):
            for optimizer in self.optimizers:
                optimizer.zero_grad(set_to_none=True)  # whoever goes on must not add to it
            raise FloatingPointError(f"the loss or its gradient is not finite at update {self.policy}")
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.policy += 1
        tokens = sum(len(row.completion_ids) for row in rows)
        whole = {"loss"} | {name for name in sums if name.endswith(("_max", "_mean"))}
        metrics = {name: value if name in whole else value / tokens for name, value in sums.items()}
        return metrics | {"grad_norm": norm, "lr": rate, "tokens": tokens, "update_s": time.perf_counter() - started}

    @torch.no_grad()
    def logprobs(
        self, rows: Sequence[Row], *, reference: bool = False, image: ImageOf | None = None
    ) -> list[tuple[float, ...]]:
        """Log-probabilities of each row's completion under the current (or the reference) weights, in row order.

        `image` shows another image than the prompt's own (of the same size): does the policy look at all?
        """
        if image is not None and ranks.world() > 1:
            image = {row.prompt: image(row.prompt) for row in rows}.__getitem__  # pixels can be sent, functions cannot
        ranks.tell("logprobs", rows, reference=reference, image=image)
        place = {id(row): i for i, row in enumerate(rows)}
        own: dict[int, tuple[float, ...]] = {}
        self.module.eval()
        try:
            for batch, counts in self._batches(rows, image):
                model = self.reference if reference and self.reference is not None else self.module
                with self._adapters_off() if reference and self.reference is None else nullcontext():
                    logprob_N = self._logprobs(model, batch)[0].cpu()
                lengths = [len(row.completion_ids) for row in batch.rows]
                for row, piece in zip(batch.rows, logprob_N.split(lengths), strict=True):
                    if counts:
                        own[place[id(row)]] = tuple(piece.tolist())
        finally:
            self.module.train()
        found = {i: values for share in ranks.gathered(own) for i, values in share.items()}
        return [found[place[id(row)]] for row in rows]

    def annotate(self, rows: Sequence[Row], *, old: bool, reference: bool) -> list[Row]:
        """Rows with the log-probabilities that are asked for: new rows, nothing filled in later."""
        before = self.logprobs(rows) if old else [None] * len(rows)
        ref = self.logprobs(rows, reference=True) if reference else [None] * len(rows)
        return [replace(row, old_logprobs=o, ref_logprobs=r) for row, o, r in zip(rows, before, ref, strict=True)]

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        ranks.tell("gather")
        yield from ranks.to_the_end(named_weights(self.module))

    def gather(self) -> None:
        """What the other ranks do while the first one reads `weights`, or saves them."""
        for _ in named_weights(self.module):
            pass

    def save(self, folder: Path, *, dtype: str | None = None) -> None:
        """The policy as an ordinary Hugging Face folder, in the dtype that it is trained in unless told otherwise."""
        ranks.tell("gather")
        save_model(self.module, folder, source=self.path, dtype=dtype or self.dtype)
        write_settings(folder, self.prompt_settings)

    def save_state(self, path: Path) -> None:
        """What `load_state` goes on from, with any number of ranks."""
        ranks.tell("save_state", path)
        state = {
            "weights": self._learnt(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "policy": self.policy,
        }
        state = ranks.collected(state)
        if ranks.rank() == 0:
            torch.save(state, path)

    def load_state(self, path: Path) -> None:
        ranks.tell("load_state", path)
        where = self.device if ranks.world() == 1 else "cpu"  # whole tensors, of which a rank keeps its part
        state: dict[str, Any] = torch.load(path, map_location=where, weights_only=True)
        learnt = self._learnt()
        if lost := sorted(set(learnt) - set(state["weights"])):
            raise UserError(
                f"{path}: lacks {lost[0]} ({len(lost)} in all); delete this checkpoint to use an older one."
            )
        with torch.no_grad():
            for name, weight in learnt.items():
                weight.copy_(ranks.cut_like(state["weights"][name], weight))
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            held = [p for group in optimizer.param_groups for p in group["params"]]
            for i, values in saved["state"].items():
                saved["state"][i] = {name: ranks.cut_like(value, held[i]) for name, value in values.items()}
            optimizer.load_state_dict(saved)
        self.policy = state["policy"]

    def _learnt(self) -> dict[str, Tensor]:
        """Weights that training moves; the others are those of the model that it starts from."""
        return {name: p.detach() for name, p in self.module.named_parameters() if p.requires_grad}

    def _batches(self, rows: Sequence[Row], image: ImageOf | None = None) -> Iterator[tuple[Batch, bool]]:
        """This rank's micro-batches, and whether they count (`ranks.passes`)."""
        image = image or self.prompter.image
        for groups, counts in ranks.passes(rows, self.settings.micro_tokens):
            images = [image(group[0].prompt) for group in groups]
            pixel_values, grid = self.prompter.pixels(images)
            pixels = (torch.from_numpy(pixel_values), torch.from_numpy(grid).long())
            positions = lambda row, grid: self.positions(row.prompt.expanded_ids, tuple(grid.tolist()))  # noqa: E731
            yield collate(groups, pixels, positions).to(self.device), counts

    def _logprobs(self, module: torch.nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        model = base(module)
        first = batch.rows[0]
        assert all((r.temperature, r.banned_ids) == (first.temperature, first.banned_ids) for r in batch.rows)

        def through() -> tuple[Tensor, Tensor]:
            hidden_1XD = forward_hidden(
                model,
                input_ids_1X=batch.input_ids_1X,
                position_ids_31X=batch.position_ids_31X,
                packing=batch.packing,
                pixel_values=batch.pixel_values,
                image_grid_thw=batch.image_grid_thw,
            )
            return token_logprobs(
                hidden_1XD[0].index_select(0, batch.source_N),
                model.lm_head.weight,
                batch.target_N,
                temperature=first.temperature,
                banned_ids=first.banned_ids,
            )

        with torch.autocast(self.device.type, torch.bfloat16) if self.autocast else nullcontext():
            return ranks.run(model, through)

    def _positions(self, prompt_ids: tuple[int, ...], grid: tuple[int, ...]) -> Tensor:
        """M-RoPE positions (3, prompt length) from the model's own rule; most prompts of a run are alike."""
        model = base(self.module)
        ids_1L = torch.tensor([prompt_ids])
        positions_31L, _ = model.model.get_rope_index(
            ids_1L,
            mm_token_type_ids=(ids_1L == model.config.image_token_id).int(),
            image_grid_thw=torch.tensor([grid]),
            attention_mask=torch.ones_like(ids_1L),
        )
        return positions_31L[:, 0]

    def _adapters_off(self) -> Any:
        return self.module.disable_adapter()  # type: ignore[operator]

    def _set_rate(self) -> float:
        factor = rate_factor(self.policy, self.steps, self.settings)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
        return self.settings.lr * factor


def _add(sums: dict[str, float], parts: Mapping[str, float]) -> None:
    """Sums grow by the parts; where the name ends in `_max` the larger one stays."""
    for name, part in parts.items():
        sums[name] = max(sums[name], part) if name.endswith("_max") else sums[name] + part


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
    return [p for name, p in named if p.ndim == 2 and "embed" not in name and "lm_head" not in name]


def _optimizers(module: torch.nn.Module, optim: config.Optim) -> list[torch.optim.Optimizer]:
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    adam = {"betas": optim.betas, "weight_decay": optim.weight_decay}
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
