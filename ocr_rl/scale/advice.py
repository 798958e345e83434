"""What holds a step up, and what to change: plain sentences, each from one figure of a plan.

Bounds are those from which a change is worth its trouble. Knows nothing about how plans are made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ocr_rl.scale.load import Load
from ocr_rl.scale.parts import Parts
from ocr_rl.scale.step import Split, StepPlan, plan_step

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Memory of a split, in bytes: of a learner card at its peak, of an engine's weights, of what a card has."""

    learner: int
    engine: int  # weights; 0 where the engine shares the learner's card
    sample: float  # keys and values of one sample of mean length, with its share of the page's prompt
    card: int | None = None
    ways: tuple[str, ...] = ()  # how a learner needs less

    @property
    def fits(self) -> bool:
        """Whether learner and engine fit; True where nobody says how large a card is."""
        return self.card is None or (self.learner <= self.card and self.engine < self.engine_share)

    @property
    def engine_share(self) -> float:
        """What of a card vLLM takes where it is alone (its own default)."""
        return 0.9 * (self.card or 0)

    @property
    def samples(self) -> int | None:
        """That an engine of its own has room for side by side; None where that is not known."""
        if self.card is None or not self.engine or not self.sample:
            return None
        return max(0, int((self.engine_share - self.engine) / self.sample))


def advise(load: Load, parts: Parts, plan: StepPlan, room: Room | None = None) -> list[str]:
    """Sentences about one plan of `load` with `parts`, what must change first."""
    if room is not None and not room.fits:
        return list(_of_memory(room))
    return [
        *_of_cards(load, parts, plan, room),
        *_of_sampling(load, plan, room),
        *_of_learning(load),
        *_of_the_rest(load, plan),
    ]


def _of_memory(room: Room) -> Iterator[str]:
    assert room.card is not None  # `fits` is true otherwise
    card = f"{room.card / GIB:.0f} GiB"
    if room.learner > room.card:
        ways = f": {', '.join(room.ways)}" if room.ways else ""
        yield f"A learner card needs {room.learner / GIB:.0f} GiB of {card}{ways}."
    if room.engine and room.engine >= room.engine_share:
        yield (
            f"An engine's weights alone are {room.engine / GIB:.0f} GiB of {card}: give an engine several cards "
            "(tensor parallelism at the server)."
        )


def _of_cards(load: Load, parts: Parts, plan: StepPlan, room: Room | None) -> Iterator[str]:
    split, samples = plan.split, room.samples if room else None
    if plan.ahead:
        for side, moved in (("engines", 1), ("learner", -1)):
            other = Split(learners=split.learners - moved, engines=split.engines + moved)
            if not other.learners or not other.engines:
                continue
            sooner = plan_step(load, parts, other, ahead=True, room=samples)
            if sooner.step_s < 0.95 * plan.step_s:
                yield (
                    f"Sampling takes {plan.sampling_s:.1f} s, learning {plan.learning_s:.1f} s: with one card more for "
                    f"the {side} ({other}) a step takes {sooner.step_s:.1f} s of {plan.step_s:.1f} s."
                )
    if not plan.ahead and not split.shared and plan.sampling_s and plan.learning_s:
        saved = min(plan.sampling_s, plan.learning_s)
        if saved > 0.1 * plan.step_s:
            yield (
                "One side waits while the other works: sampling the next rollout meanwhile (ahead = 1) makes "
                f"{plan.step_s - saved:.1f} s of {plan.step_s:.1f} s."
            )
    if split.learners > 1 and plan.even < 0.8:
        yield (
            f"{load.learnt:.3g} pages on {split.learners} learner cards: the busiest has {plan.busiest:.0f}, so "
            f"{1 - plan.even:.0%} of them wait for it; learn from a multiple of {split.learners} pages."
        )


def _of_sampling(load: Load, plan: StepPlan, room: Room | None) -> Iterator[str]:
    seconds = plan.stages["sample"].seconds
    if not seconds:
        return
    asked = plan.engine_pages * load.samples
    fit = room.samples if room is not None else None
    if fit is not None and fit < min(load.rows, asked):
        yield (
            f"An engine's memory holds {fit} samples side by side, of {asked}: use more engines, or shorter samples "
            "(sampling.max_tokens, sampling.page_limit)."
        )
    elif load.continuous and plan.waves > 1:
        yield (
            f"Each engine writes {asked} samples in {plan.waves} waves of {plan.rows}: raise sampling.max_num_seqs to "
            f"{asked}{f', there is room for {fit}' if fit is not None else ''}."
        )
    if plan.tail_s > 0.3 * seconds:
        yield (
            f"For {plan.tail_s:.1f} s of {seconds:.1f} s an engine writes less than half of its {plan.rows} samples: "
            f"the longest ones hold the others up. {_shorter(load)}"
            f"{'' if plan.ahead or plan.split.shared else ', or let the learner use the time (ahead = 1)'}."
        )


def _shorter(load: Load) -> str:
    if load.page_limit is None:
        return "Lower sampling.max_tokens, or end each page's samples by what it says (sampling.page_limit = 2)"
    return f"Lower sampling.max_tokens, or sampling.page_limit ({load.page_limit:g})"


def _of_learning(load: Load) -> Iterator[str]:
    prompt = load.prompt_tokens.value if load.prompt_tokens else 0.0
    if (load.views - 1) * prompt > 0.1 * (load.views * prompt + load.samples * load.mean):
        whole = math.ceil(prompt + load.samples * load.mean)
        yield (
            f"A group does not fit a micro-batch, so a page is computed {load.views} times a pass: raise "
            f"optim.micro_tokens to {whole}, if memory allows."
        )


def _of_the_rest(load: Load, plan: StepPlan) -> Iterator[str]:
    step = plan.step_s
    loading, scoring, saving = (plan.stages[name].seconds or 0.0 for name in ("load", "score", "save"))
    if loading > 0.15 * step:
        yield (
            f"Handing over the weights takes {loading:.1f} s of {step:.1f} s: weights that a server is sent "
            "(its --weight-transfer-config), or adapters alone (policy.lora_rank), take less than a file."
        )
    if scoring > 0.1 * step:
        yield f"Rewards take {scoring:.1f} s of {step:.1f} s with {load.workers} workers: raise scoring.workers."
    if saving > 0.1 * step:
        yield f"Checkpoints take {saving:.1f} s of {step:.1f} s: save less often than every {load.save_every} steps."


def splits_of(cards: int) -> list[Split]:
    """Ways to share cards out that are worth a look: one engine, then about a quarter, a half, three quarters."""
    if cards == 1:
        return [Split(learners=1)]
    engines = sorted({max(1, round(cards * share)) for share in (1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4)} - {cards})
    return [Split(learners=cards - n, engines=n) for n in engines]
