"""The learner: a reader that takes optimiser steps on rows. It knows rows and losses, no algorithm.

An update has two halves, so that several learners of one step (a policy and its critic) are all computed and checked
before any of them moves: `prepare` leaves a gradient, `apply` takes the step, `drop` forgets the gradient.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.learn import ranks
from ocr_rl.learn.masters import Masters
from ocr_rl.learn.network import Reads, adapter_of, base, named_weights, save_model
from ocr_rl.learn.optimizers import load_moments, open_optimizers, rate_factor
from ocr_rl.learn.reader import ImageOf, Reader
from ocr_rl.learn.undrawn import Undrawn, without_undrawn
from ocr_rl.models.settings import write_settings
from ocr_rl.models.weights import Adapter, Named, Weights
from ocr_rl.objectives.losses import Loss, Read, Scalars, Sums
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Origin
from ocr_rl.rollout.sampler.base import seed_for

__all__ = ["ImageOf", "Learner"]


class Learner(Reader):
    """One network with its optimiser. `policy` counts updates: the version of the weights."""

    def __init__(
        self,
        origin: Origin,
        policy: config.Policy,
        optim: config.Optim,
        *,
        steps: int,
        reference: bool,
        seed: int = 0,
        name: str = "policy",
        reads: Reads = Reads.WORDS,
        stop_gradient: bool = False,
        critic_adapter: bool = False,
    ) -> None:
        """`steps`: length of the rate's schedule; `reads`: what its losses look at; the rest as a reader's."""
        super().__init__(
            origin,
            policy,
            micro_tokens=optim.micro_tokens,
            reference=reference,
            seed=seed,
            name=name,
            head=Reads.SCALARS in reads or critic_adapter,
            stop_gradient=stop_gradient,
            critic_adapter=critic_adapter,
        )
        self.settings = optim
        self.steps = steps
        self.reads = reads
        self.dropout = policy.lora_dropout
        self._seed = seed
        self._moves = object()  # another one with each move
        self.masters = Masters(self.module, self.head if Reads.SCALARS in reads else None, seed)
        self.optimizers = open_optimizers(self.masters.by_name, optim)

    def update(self, rows: Sequence[Row], loss: Loss) -> dict[str, float]:
        """One optimiser step on all `rows` together; metrics are means per completion token of the step.

        FloatingPointError where loss or gradient is not finite, Undrawn where a page cannot be drawn: nothing has
        changed then.
        """
        return update_together([(self, rows, loss)])[0]

    def prepare(self, rows: Sequence[Row], loss: Loss) -> dict[str, float]:
        """The gradient of a step, clipped; returns the step's metrics. Raises what `update` raises."""
        ranks.tell(self.name, "prepare", rows, loss)
        rate = self._set_rate()
        self._forget_gradient()  # of an update that was broken off
        parts: list[Sums] = []  # nobody reads them before the last pass: the host goes on to the next one
        with self._own_dropout():
            for batch, counts in self._batches(rows):
                with record_function("ocr_rl forward"):
                    read = self.network(batch, self.reads)
                with record_function("ocr_rl loss"):
                    value, more = loss(read, batch) if counts else (_nothing_of(read), {})
                with record_function("ocr_rl backward"):
                    (value + _nothing_of(read) if counts and ranks.world() > 1 else value).backward()
                    self.masters.take_gradients()
                if counts:
                    entropy = {"entropy": read.entropy_N.sum()} if isinstance(read, Read) else {}
                    parts.append({"loss": value.detach(), **entropy, **more})
        sums = _added(ranks.gathered(_added(_read(parts))))
        learnt = self.masters.by_name.values()
        norm = float(ranks.whole(torch.nn.utils.clip_grad_norm_(learnt, self.settings.max_grad_norm)))
        if not (math.isfinite(norm) and math.isfinite(sums["loss"])):
            self._forget_gradient()  # whoever goes on must not add to it
            raise FloatingPointError(f"the loss or its gradient is not finite at update {self.policy}")
        tokens = sum(len(row.completion_ids) for row in rows)
        whole = {"loss"} | {name for name in sums if name.endswith(("_max", "_mean"))}
        metrics = {name: value if name in whole else value / tokens for name, value in sums.items()}
        return metrics | {"grad_norm": norm, "lr": rate, "tokens": tokens}

    def apply(self) -> None:
        """Take the step that `prepare` left the gradient of."""
        ranks.tell(self.name, "apply")
        self._moves = object()
        with record_function("ocr_rl step"):
            for optimizer in self.optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            self.masters.hand_back()
        self.policy += 1

    def drop(self) -> None:
        """Forget the gradient that `prepare` left."""
        ranks.tell(self.name, "drop")
        self._forget_gradient()

    def _forget_gradient(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def stand_still(self) -> None:
        """Let a step of the schedule pass without moving."""
        ranks.tell(self.name, "stand_still")
        self.policy += 1

    def annotate(self, rows: Sequence[Row], *, old: bool, reference: bool) -> list[Row]:
        """Rows with the log-probabilities that are asked for: new rows, nothing filled in later.

        With dropout those of samples are asked for in any case: the update's own, which stand for the old policy's
        otherwise, are not the sampler's to compare with. Rows whose page cannot be drawn are left out.
        """
        old = old or (self.dropout > 0 and any(row.sampler_logprobs is not None for row in rows))

        def annotated(rows: Sequence[Row]) -> list[Row]:
            before = self.logprobs(rows) if old else [None] * len(rows)
            ref = self.logprobs(rows, reference=True) if reference else [None] * len(rows)
            return [replace(row, old_logprobs=o, ref_logprobs=r) for row, o, r in zip(rows, before, ref, strict=True)]

        return without_undrawn(rows, annotated)[1]

    def weights(self) -> Weights:
        """What a sampler is to load: the adapters where these learn, else all weights, read to the end.

        Their state is what torch counts for each tensor that is written to, and ours: a step, or a state loaded.
        """
        if self.adapters:
            return self.adapter()
        written = tuple(weight._version for weight in base(self.module).state_dict().values())
        return Named(state=(self._moves, written), gather=self.all_weights)

    def all_weights(self) -> Iterator[tuple[str, Tensor]]:
        ranks.tell(self.name, "gather")
        yield from ranks.to_the_end(named_weights(self.module))

    def adapter(self) -> Adapter:
        """The adapters as they are now, in float32, with what they belong on."""
        ranks.tell(self.name, "adapter")
        return adapter_of(self.module, self.origin.path, self.base_marks)

    def gather(self) -> None:
        """What the other ranks do while the first one reads `weights`, or saves them."""
        for _ in named_weights(self.module):
            pass

    def save_adapter(self, folder: Path) -> None:
        """A peft folder: what `PeftModel.from_pretrained` puts over the model that the run started from."""
        self.adapter().save(folder)

    def save(self, folder: Path, *, dtype: str | None = None) -> None:
        """The policy as an ordinary Hugging Face folder, in the dtype that it is trained in unless told otherwise."""
        ranks.tell(self.name, "gather")
        save_model(self.module, folder, source=self.origin.path, dtype=dtype or self.dtype)
        write_settings(folder, self.origin.settings)

    def save_state(self, path: Path) -> None:
        """What `load_state` goes on from, with any number of ranks: each writes its own part, beside the others'."""
        ranks.tell(self.name, "save_state", path)
        state = {
            "weights": {name: master.detach() for name, master in self.masters.by_name.items()},
            "optimizers": [o.state_dict() for o in self.optimizers],
            "policy": self.policy,
            "ranks": ranks.world(),
        }
        ranks.each(lambda: torch.save(ranks.own_part(state), ranks.file_of(path, ranks.rank())))

    def load_state(self, path: Path) -> None:
        """Raises UserError where a weight that learns is not in it."""
        ranks.tell(self.name, "load_state", path)
        first = _mapped(path)
        parts = [first, *(_mapped(ranks.file_of(path, k)) for k in range(1, first.get("ranks", 1)))]
        learnt = self.masters.by_name
        if lost := sorted(set(learnt) - set(first["weights"])):
            raise UserError(
                f"{path}: lacks {lost[0]} ({len(lost)} in all); delete this checkpoint to use an older one."
            )
        with torch.no_grad():
            for name, weight in learnt.items():
                saved = ranks.joined([part["weights"][name] for part in parts], weight.shape)
                weight.copy_(ranks.cut_like(saved, weight))
        self.masters.hand_back()
        self._moves = object()
        of_each = zip(*(part["optimizers"] for part in parts), strict=True)
        for optimizer, own in zip(self.optimizers, of_each, strict=True):
            load_moments(optimizer, own)
        self.policy = first["policy"]

    @contextmanager
    def _own_dropout(self) -> Iterator[None]:
        """Dropout of an update draws by the run's seed and the update, so that a run gone on with draws the same."""
        if not self.dropout:
            yield
            return
        with torch.random.fork_rng():
            torch.manual_seed(seed_for(self._seed, "dropout", self.policy, ranks.rank()))
            yield

    def _set_rate(self) -> float:
        factor = rate_factor(self.policy, self.steps, self.settings)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
        return self.settings.lr * factor


def update_together(moves: Sequence[tuple[Learner, Sequence[Row], Loss]]) -> list[dict[str, float]]:
    """One optimiser step of each learner, or of none: all gradients are checked before any of the learners moves.

    Raises what `Learner.update` raises.
    """
    started = time.perf_counter()
    metrics = []
    for i, (learner, rows, loss) in enumerate(moves):
        try:
            metrics.append(learner.prepare(rows, loss))
        except (FloatingPointError, Undrawn):
            for prepared, _, _ in moves[:i]:
                prepared.drop()
            raise
    for learner, _, _ in moves:
        learner.apply()
    return [figures | {"update_s": time.perf_counter() - started} for figures in metrics]


def _mapped(path: Path) -> dict[str, Any]:
    """A state on the disk, not read: each rank takes its part of one tensor at a time, and no second copy exists."""
    return torch.load(path, map_location="cpu", mmap=True, weights_only=True)


def _nothing_of(read: Read | Scalars) -> Tensor:
    """0, with a gradient through all that was read: ranks sum the same weights, whatever a loss looks at."""
    scalars = read.scalars if isinstance(read, Read) else read
    parts = [read.logprob_N] if isinstance(read, Read) else []
    parts += [] if scalars is None else [scalars.value_N]
    return torch.stack([0 * part.sum() for part in parts]).sum()


def _read(parts: Sequence[Sums]) -> list[dict[str, float]]:
    """The sums of all micro-batches as numbers: the host waits for the device once."""
    tensors = [value.double() for some in parts for value in some.values() if isinstance(value, Tensor)]
    numbers = iter(torch.stack(tensors).tolist() if tensors else [])
    return [{name: next(numbers) if isinstance(v, Tensor) else v for name, v in some.items()} for some in parts]


def _added(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for some in parts:
        _add(sums, some)
    return sums


def _add(sums: dict[str, float], parts: Mapping[str, float]) -> None:
    """Sums grow by the parts; where the name ends in `_max` the larger one stays."""
    for name, part in parts.items():
        sums[name] = max(sums[name], part) if name.endswith("_max") else sums[name] + part
