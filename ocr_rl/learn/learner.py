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

import torch
from PIL import Image
from torch import Tensor

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.learn import ranks
from ocr_rl.learn.masters import Masters
from ocr_rl.learn.network import PolicyNetwork, base, named_weights, read_packed, save_model, trainable
from ocr_rl.learn.optimizers import load_moments, open_optimizers, rate_factor
from ocr_rl.learn.rows import Batch, collate
from ocr_rl.models import qwen2_5_vl as family
from ocr_rl.models.load import empty_model, load_model
from ocr_rl.models.settings import write_settings
from ocr_rl.objectives.losses import Loss
from ocr_rl.rollout.flow import Prompt, Row
from ocr_rl.rollout.prompt import Origin

ImageOf = Callable[[Prompt], Image.Image]


class Learner:
    """One policy with its optimiser. `policy` counts updates: the version of the weights."""

    def __init__(
        self,
        origin: Origin,
        policy: config.Policy,
        optim: config.Optim,
        *,
        steps: int,
        reference: bool,
        seed: int = 0,
    ) -> None:
        """`reference`: keep the start, frozen. `steps`: length of the rate's schedule.

        `seed` is for the random numbers that LoRA's adapters begin with.
        """
        self.origin = origin
        self.prompter = origin.prompter
        self.settings = optim
        self.steps = steps
        self.policy = 0
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = policy.dtype
        read = load_model if ranks.rank() == 0 else empty_model  # the others are sent their part (`ranks.shard`)
        model = read(origin.path, dtype=policy.dtype, trust_remote_code=policy.trust_remote_code)
        read_packed(model)
        if ranks.world() == 1:  # otherwise each rank takes its part only
            model.to(self.device)  # type: ignore[arg-type]
        # With LoRA the reference is the same model with its adapters switched off; otherwise a frozen copy.
        frozen = copy.deepcopy(model).requires_grad_(False).eval() if reference and policy.lora_rank == 0 else None
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.module = trainable(model, policy)
        self.network = _sharded(self.module, policy)
        self.reference = None if frozen is None else _sharded(frozen, policy)
        self.module.train()
        self.masters = Masters(self.module)
        self.optimizers = open_optimizers(self.masters.by_name, optim)
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
            read = self.network(batch)
            if not counts:
                (0 * read.logprob_N.sum()).backward()
                self.masters.take_gradients()
                continue
            value, parts = loss(read, batch)
            value.backward()
            self.masters.take_gradients()
            _add(own, {"loss": float(value.detach()), "entropy": float(read.entropy_N.sum()), **parts})
        sums: dict[str, float] = defaultdict(float)
        for share in ranks.gathered(own):
            _add(sums, share)
        learnt = self.masters.by_name.values()
        norm = float(ranks.whole(torch.nn.utils.clip_grad_norm_(learnt, self.settings.max_grad_norm)))
        if not (math.isfinite(norm) and math.isfinite(sums["loss"])):
            for optimizer in self.optimizers:
                optimizer.zero_grad(set_to_none=True)  # whoever goes on must not add to it
            raise FloatingPointError(f"the loss or its gradient is not finite at update {self.policy}")
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.masters.hand_back()
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
                network = self.reference if reference and self.reference is not None else self.network
                with self._adapters_off() if reference and self.reference is None else nullcontext():
                    logprob_N = network(batch).logprob_N.cpu()
                lengths = [len(row.completion_ids) for row in batch.rows]
                for row, piece in zip(batch.rows, logprob_N.split(lengths), strict=True):
                    if counts:
                        own[place[id(row)]] = tuple(piece.tolist())
        finally:
            self.module.train()
        everywhere = {i: values for share in ranks.gathered(own) for i, values in share.items()}
        return [everywhere[place[id(row)]] for row in rows]

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
        save_model(self.module, folder, source=self.origin.path, dtype=dtype or self.dtype)
        write_settings(folder, self.origin.settings)

    def save_state(self, path: Path) -> None:
        """What `load_state` goes on from, with any number of ranks."""
        ranks.tell("save_state", path)
        state = {
            "weights": {name: master.detach() for name, master in self.masters.by_name.items()},
            "optimizers": [o.state_dict() for o in self.optimizers],
            "policy": self.policy,
        }
        state = ranks.collected(state)
        if ranks.rank() == 0:
            torch.save(state, path)

    def load_state(self, path: Path) -> None:
        ranks.tell("load_state", path)
        # Mapped, not read: each rank takes its part of one tensor at a time, and no second copy of the state exists.
        state: dict[str, Any] = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        learnt = self.masters.by_name
        if lost := sorted(set(learnt) - set(state["weights"])):
            raise UserError(
                f"{path}: lacks {lost[0]} ({len(lost)} in all); delete this checkpoint to use an older one."
            )
        with torch.no_grad():
            for name, weight in learnt.items():
                weight.copy_(ranks.cut_like(state["weights"][name], weight))
        self.masters.hand_back()
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            load_moments(optimizer, saved)
        self.policy = state["policy"]

    def _batches(self, rows: Sequence[Row], image: ImageOf | None = None) -> Iterator[tuple[Batch, bool]]:
        """This rank's micro-batches, and whether they count (`ranks.passes`)."""
        image = image or self.prompter.image
        for groups, counts in ranks.passes(rows, self.settings.micro_tokens):
            images = [image(group[0].prompt) for group in groups]
            pixel_values, grid = self.prompter.pixels(images)
            pixels = (torch.from_numpy(pixel_values), torch.from_numpy(grid).long())
            positions = lambda row, grid: self.positions(row.prompt.expanded_ids, tuple(grid.tolist()))  # noqa: E731
            yield collate(groups, pixels, positions).to(self.device), counts

    def _positions(self, prompt_ids: tuple[int, ...], grid: tuple[int, ...]) -> Tensor:
        """M-RoPE positions (3, prompt length); most prompts of a run are alike."""
        return family.prompt_positions(base(self.module), prompt_ids, grid)

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


def _sharded(model: Any, policy: config.Policy) -> PolicyNetwork:
    network = PolicyNetwork(model, autocast=policy.autocast)
    ranks.shard(network, family.blocks(base(model)), short=policy.autocast)
    return network
