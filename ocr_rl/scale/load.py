"""What a step has to do: pages, samples and their lengths, passes through the model, bytes that travel.

A step is a rollout with all its updates. Knows nothing about machines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.scale.parts import Figure

MOST = 1_000_000  # samples of a step that are scheduled one by one
HF_ROWS = 64  # that the transformers sampler writes side by side, in whole pages
Busy = list[tuple[int, int]]  # (decoding steps, samples that are written in each of them), from the first to the last


@dataclass(frozen=True, slots=True, kw_only=True)
class Bytes:
    """Of a policy, as far as its configuration says."""

    sent: int  # to the engines after each update
    saved: int  # in a checkpoint
    weights: int  # that learner cards gather from each other for each micro-batch and pass
    gradients: int  # that they sum


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One step. `lengths` are of any number of samples: those of a step are spread over them."""

    pages: int  # asked
    learnt: float  # pages that are learnt from: others are flat, or could not be scored
    samples: int  # of a page
    lengths: tuple[int, ...]  # tokens; () where nobody knows
    prompt_tokens: Figure | None  # of a page, image included
    rows: int  # samples that an engine writes side by side
    page_limit: float | None = None  # a page's samples end at so many times what it says
    continuous: bool = True  # whether an engine begins the next sample when one ends (vLLM), or when a batch ends
    micro_tokens: int
    passes: int = 0  # forward passes before the update
    updates: int = 1  # times that a rollout is learnt from
    workers: int = 1  # that score
    save_every: int = 1  # steps
    bytes: Bytes | None = None

    @property
    def mean(self) -> float:
        """Tokens of a sample; 0 where nobody knows."""
        return sum(self.lengths) / max(1, len(self.lengths))

    @property
    def views(self) -> int:
        """How often a page is computed in one pass: a group that does not fit a micro-batch is cut up."""
        prompt = self.prompt_tokens.value if self.prompt_tokens else 0.0
        if prompt + self.samples * self.mean <= self.micro_tokens:
            return 1
        fit = max(1, int((self.micro_tokens - prompt) // max(1.0, self.mean)))
        return math.ceil(self.samples / fit)


def load_of(
    recipe: config.Recipe,
    *,
    lengths: Sequence[int] = (),
    prompt_tokens: Figure | None = None,
    learnt_share: float = 1.0,
    asked_share: float = 1.0,
    sizes: Bytes | None = None,
) -> Load:
    """A step of a recipe; UserError for an algorithm that does not sample between its updates.

    `asked_share`: pages asked over `pages_per_step`, more than 1 with refills; `learnt_share`: of these learnt from.
    """
    algorithm, sampling = recipe.algorithm, recipe.sampling
    if not isinstance(algorithm, config.Grpo | config.Ppo):
        raise UserError(f"plan: [{algorithm.name}] does not sample between its updates; give a recipe of grpo or ppo.")
    ppo = algorithm if isinstance(algorithm, config.Ppo) else None
    again = algorithm.minibatches > 1 if ppo is None else ppo.updates > 1 or ppo.beta_of_reward > 0
    pages = max(1, round(asked_share * algorithm.pages_per_step))
    if pages * algorithm.samples_per_page > MOST:
        raise UserError(
            f"plan: {pages:,} pages a step with {algorithm.samples_per_page} samples each are more than {MOST:,} "
            f"samples; lower {algorithm.name}.pages_per_step."
        )
    return Load(
        pages=pages,
        learnt=learnt_share * pages,
        samples=algorithm.samples_per_page,
        lengths=tuple(min(length, sampling.max_tokens) for length in lengths),
        prompt_tokens=prompt_tokens,
        rows=sampling.max_num_seqs,
        page_limit=sampling.page_limit,
        continuous=sampling.engine != "transformers",
        micro_tokens=recipe.optim.micro_tokens,
        passes=again + (algorithm.beta > 0) + (ppo is not None),
        updates=ppo.epochs if ppo else 1,
        workers=recipe.scoring.workers,
        save_every=recipe.save_every,
        bytes=sizes,
    )


def spread(lengths: Sequence[int], n: int) -> list[int]:
    """`n` lengths with the distribution of `lengths`, the longest first."""
    ordered = sorted(lengths, reverse=True)
    return [ordered[int((i + 0.5) * len(ordered) / n)] for i in range(n)] if ordered else []


def of_an_engine(load: Load, pages: int) -> list[int]:
    """Lengths of the samples of so many of the step's pages: of the engine that has the longest one of all.

    In an order that is always the same, as if by chance.
    """
    step, n = spread(load.lengths, load.pages * load.samples), pages * load.samples
    chosen = [step[int(i * len(step) / n)] for i in range(n)]
    Random(0).shuffle(chosen)
    return chosen


def lengths_between(mean: float, longest: float, n: int) -> list[int]:
    """`n` lengths with that mean: one of the longest, the others alike."""
    others = round((n * mean - longest) / (n - 1)) if n > 1 else 0
    return [max(1, others)] * (n - 1) + [round(longest)] if longest > mean else [round(mean)] * n


def busy_of(load: Load, pages: int, room: int | None = None) -> Busy:
    """How an engine is used while it writes the samples of so many pages; `room`: samples that its memory holds."""
    lengths = of_an_engine(load, pages)
    rows = max(1, load.rows if room is None else min(load.rows, room))
    if load.continuous:
        return occupancy(lengths, rows)
    batch = max(1, HF_ROWS // load.samples) * load.samples
    parts = [lengths[start : start + batch] for start in range(0, len(lengths), batch)]
    return [(max(part), len(part)) for part in parts]


def occupancy(lengths: Sequence[int], rows: int) -> Busy:
    """Samples are begun in order, `rows` of them side by side, the next one when one ends."""
    waiting, ends, now = list(reversed(lengths)), list[int](), 0
    busy: Busy = []
    while waiting or ends:
        while waiting and len(ends) < rows:
            heappush(ends, now + waiting.pop())
        end = ends[0]
        busy.append((end - now, len(ends)))
        now = end
        while ends and ends[0] == now:
            heappop(ends)
    return [(steps, width) for steps, width in busy if steps]
