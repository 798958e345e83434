"""The model: seconds of a step by stage, on so many learner cards and engines. `docs/scale.md` has its formulas.

A stage without a measured part has no seconds, and the step then takes *at least* the sum of the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ocr_rl.scale.load import Busy, Load, busy_of
from ocr_rl.scale.parts import Figure, Parts

SAMPLING, LEARNING = ("sample", "score"), ("reference", "update")  # the two sides that `ahead` lets go on at once
STAGES = ("load", *SAMPLING, *LEARNING, "save")


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Cards by what they do; without cards for engines the one engine shares the learner's."""

    learners: int
    engines: int = 0

    @property
    def shared(self) -> bool:
        return self.engines == 0

    def __str__(self) -> str:
        return "shared" if self.shared else f"{self.learners} + {self.engines}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """`lacks`: the parts that are not measured; with some of them the seconds are the least that it takes."""

    seconds: float | None
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """What a step takes, and who waits."""

    split: Split
    ahead: bool  # whether the next rollout is sampled while the learner updates
    stages: Mapping[str, Stage]
    engine_pages: int  # of the busiest engine
    busiest: float  # pages of the busiest learner card
    even: float  # pages of a learner card on average, as a share of the busiest one's
    engines_even: float  # of engines
    rows: int  # samples that an engine writes side by side at most
    waves: int  # how often an engine fills up
    tail_s: float  # of sampling, with less than half of these rows at work

    @property
    def sampling_s(self) -> float:
        return sum(self.stages[name].seconds or 0.0 for name in SAMPLING)

    @property
    def learning_s(self) -> float:
        return sum(self.stages[name].seconds or 0.0 for name in LEARNING)

    @property
    def serial_s(self) -> float:
        """What no side can do while the other works."""
        return sum(self.stages[name].seconds or 0.0 for name in ("load", "save"))

    @property
    def step_s(self) -> float:
        """All that is measured: the least that a step takes where something is not."""
        sides = (self.sampling_s, self.learning_s)
        return self.serial_s + (max(sides) if self.ahead else sum(sides))

    @property
    def lacks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for stage in self.stages.values() for name in stage.lacks))

    @property
    def learners_wait(self) -> float | None:
        """Share of a step in which a learner card does nothing; None where its stages are not measured."""
        return self._wait(LEARNING, self.learning_s * self.even)

    @property
    def engines_wait(self) -> float | None:
        return self._wait(("sample",), (self.stages["sample"].seconds or 0.0) * self.engines_even)

    @property
    def limit(self) -> str:
        """The stage, or the side, that holds up a step the longest."""
        if self.ahead and self.sampling_s and self.learning_s:
            return "sampling" if self.sampling_s > self.learning_s else "learning"
        known = {name: stage.seconds for name, stage in self.stages.items() if stage.seconds}
        return max(known, key=lambda name: known[name]) if known else "not measured"

    def _wait(self, names: tuple[str, ...], works_s: float) -> float | None:
        known = all(self.stages[name].seconds is not None for name in names)
        return 1 - works_s / self.step_s if known and self.step_s else None


def plan_step(load: Load, parts: Parts, split: Split, *, ahead: bool = False, room: int | None = None) -> StepPlan:
    """A step of `load` on `split`; `room`: samples whose keys and values an engine's memory holds.

    Engine and learner on one card take turns, whatever `ahead` says.
    """
    pages = math.ceil(load.pages / max(1, split.engines))
    busy = busy_of(load, pages, room) if load.lengths else []
    busiest = load.learnt if split.learners == 1 else math.ceil(load.learnt / split.learners)
    rows = max((width for _, width in busy), default=0)
    tail = [(steps, width) for steps, width in busy if 2 * width < rows]
    return StepPlan(
        split=split,
        ahead=ahead and not split.shared,
        stages={
            "load": _load(load, parts),
            "sample": _sample(load, parts, pages, busy),
            "score": _score(load, parts),
            "reference": _pass(load, parts, split, busiest, "annotate", load.passes, there_and_back=False),
            "update": _pass(load, parts, split, busiest, "update", load.updates, there_and_back=True),
            "save": _save(load, parts),
        },
        engine_pages=pages,
        busiest=busiest,
        even=load.learnt / split.learners / busiest if busiest else 1.0,
        engines_even=load.pages / (max(1, split.engines) * pages),
        rows=rows,
        waves=math.ceil(pages * load.samples / rows) if rows else 0,
        tail_s=decode_s(parts, tail) or 0.0,
    )


def decode_s(parts: Parts, busy: Busy) -> float | None:
    """Seconds of these decoding steps; a step's time is a + b rows up to the rows measured, above it in proportion."""
    if parts.decode_step_s is None:
        return None
    step_s, row_s = parts.decode_step_s.value, parts.decode_row_s.value if parts.decode_row_s else 0.0
    most = parts.decode_rows.value if parts.decode_rows else math.inf
    return sum(steps * (step_s + row_s * min(rows, most)) * max(1.0, rows / most) for steps, rows in busy)


def _sample(load: Load, parts: Parts, pages: int, busy: Busy) -> Stage:
    lengths = () if load.lengths else ("mean_tokens",)
    names = ("decode_step_s", "decode_row_s", "decode_rows", "prefill_page_s", "draw_page_s")
    lacks = (*lengths, *_lacking(parts, *names))
    writing = decode_s(parts, busy)
    if writing is None or not busy:
        return Stage(seconds=None, lacks=lacks)
    drawing = load.pages * _value(parts.draw_page_s)  # of all engines' pages: one thread feeds them
    return Stage(seconds=drawing + pages * _value(parts.prefill_page_s) + writing, lacks=lacks)


def _score(load: Load, parts: Parts) -> Stage:
    if parts.score_sample_s is None:
        return Stage(seconds=None, lacks=("score_sample_s",))
    return Stage(seconds=load.pages * load.samples * parts.score_sample_s.value / load.workers)


def _pass(
    load: Load, parts: Parts, split: Split, pages: float, kind: str, times: int, *, there_and_back: bool
) -> Stage:
    """`times` passes over the busiest card's rows. Its exchange with other cards goes on beside: the longer counts."""
    if times == 0:
        return Stage(seconds=0.0)
    rate, page = getattr(parts, f"{kind}_tokens_per_s"), getattr(parts, f"{kind}_page_s")
    lacks = () if load.lengths else ("mean_tokens",)
    lacks += _lacking(parts, f"{kind}_tokens_per_s")
    if page is None and load.prompt_tokens is None:
        lacks += ("prompt_tokens",)
    if lacks:
        return Stage(seconds=None, lacks=lacks)
    prompt = load.prompt_tokens.value if load.prompt_tokens else 0.0
    page_s = page.value if page else prompt / rate.value
    computing = pages * (load.views * page_s + load.samples * load.mean / rate.value)
    if split.learners == 1 or (parts.learners and parts.learners.value > 1):
        return Stage(seconds=times * computing)
    if load.bytes is None or parts.gather_bytes_per_s is None:
        return Stage(seconds=times * computing, lacks=("gather_bytes_per_s",))
    micro_batches = math.ceil(pages * (load.views * prompt + load.samples * load.mean) / load.micro_tokens)
    travelling = load.bytes.weights + there_and_back * (load.bytes.weights + load.bytes.gradients)
    share = (split.learners - 1) / split.learners
    return Stage(seconds=times * max(computing, micro_batches * travelling * share / parts.gather_bytes_per_s.value))


def _load(load: Load, parts: Parts) -> Stage:
    if parts.sync_s is not None:
        return Stage(seconds=parts.sync_s.value)
    return _moved(load.bytes.sent if load.bytes else None, parts.transfer_bytes_per_s, "transfer_bytes_per_s")


def _save(load: Load, parts: Parts) -> Stage:
    """A checkpoint's share of each step."""
    saved = load.bytes.saved / load.save_every if load.bytes else None
    return _moved(saved, parts.checkpoint_bytes_per_s, "checkpoint_bytes_per_s")


def _moved(size: float | None, rate: Figure | None, name: str) -> Stage:
    if size is None or rate is None:
        return Stage(seconds=None, lacks=(name,))
    return Stage(seconds=size / rate.value)


def _lacking(parts: Parts, *names: str) -> tuple[str, ...]:
    return tuple(name for name in names if getattr(parts, name) is None)


def _value(figure: Figure | None) -> float:
    return figure.value if figure else 0.0
