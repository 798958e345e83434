"""Pairs of transcripts of one page, a better and a worse one, and the rows that losses read of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any

from ocr_rl.contract import Page, UserError
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.rows import packed_length
from ocr_rl.learn.undrawn import without_undrawn
from ocr_rl.rollout.asking import ask, require_one
from ocr_rl.rollout.collect import Refused
from ocr_rl.rollout.flow import ComparedGroup, Prompt, Row
from ocr_rl.rollout.prompt import Prompter


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The best and the worst sample of one page, with the reference policy's log-probabilities of their tokens."""

    page_id: str
    chosen_ids: tuple[int, ...]
    rejected_ids: tuple[int, ...]
    chosen_reward: float | None = None  # None: somebody's preference
    rejected_reward: float | None = None
    chosen_ref: tuple[float, ...] = ()
    rejected_ref: tuple[float, ...] = ()


Prompted = Sequence[tuple[Pair, Prompt]]


def pair_of(row: Mapping[str, Any]) -> Pair:
    """What `asdict` made of a pair, read from JSON again."""
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    return Pair(**fields)


def best_and_worst(compared: ComparedGroup, margin: float) -> Pair | None:
    """The first best sample that ended by itself and the first worst of all; None for a tie."""
    return next(iter(ranked_pairs(compared, margin, 1)), None)


def ranked_pairs(compared: ComparedGroup, margin: float, n: int) -> list[Pair]:
    """Up to `n` pairs: the best sample that ended by itself with the worst of all, the second best with the second ...

    Learning a sample that was cut off would teach not to end. A tie is left out: rewards that differ by no more than
    `margin`. Of equals the first one counts first.
    """
    rewards, samples = compared.rewards, compared.group.samples
    ended = [k for k, sample in enumerate(samples) if sample.finish == "stop"]
    best = sorted(ended, key=lambda k: -rewards[k])
    worst = sorted(range(len(samples)), key=lambda k: rewards[k])
    return [
        Pair(
            page_id=compared.group.page.id,
            chosen_ids=samples[high].token_ids,
            rejected_ids=samples[low].token_ids,
            chosen_reward=rewards[high],
            rejected_reward=rewards[low],
        )
        for high, low in list(zip(best, worst, strict=False))[:n]
        if rewards[high] - rewards[low] > max(margin, 1e-9)
    ]


def flipped(pairs: Sequence[Pair], share: float, seed: int) -> list[Pair]:
    """Label noise: that share of the pairs (rounded) with chosen and rejected exchanged."""
    wrong = set(Random(f"flip/{seed}").sample(range(len(pairs)), round(share * len(pairs))))
    return [_exchanged(pair) if i in wrong else pair for i, pair in enumerate(pairs)]


def _exchanged(pair: Pair) -> Pair:
    return replace(
        pair,
        chosen_ids=pair.rejected_ids,
        rejected_ids=pair.chosen_ids,
        chosen_reward=pair.rejected_reward,
        rejected_reward=pair.chosen_reward,
    )


def with_prompts(
    pairs: Sequence[Pair], pages: Sequence[Page], prompter: Prompter, refused: Refused
) -> list[tuple[Pair, Prompt]]:
    """The pairs whose page has a prompt. UserError where there are pairs, and none of them is left."""
    by_id = {page.id: page for page in pages}
    of_pairs = [by_id[page_id] for page_id in dict.fromkeys(pair.page_id for pair in pairs)]
    prompted = ask(of_pairs, prompter, refused)
    if pairs:
        require_one(prompted, of_pairs, refused)
    prompts = {page.id: prompt for page, prompt in prompted}
    return [(pair, prompts[pair.page_id]) for pair in pairs if pair.page_id in prompts]


def with_reference(prompted: Prompted, learner: Learner) -> list[Pair]:
    """Log-probabilities of both answers by the policy as it is now, or by `policy.reference`: kept with the pair.

    Pairs whose page cannot be drawn are left out.
    """
    told = partial(learner.logprobs, reference=learner.reference is not None)
    rows, values = without_undrawn(pair_rows(prompted), told)
    pairs = [prompted[row.group_id][0] for row in rows[::2]]
    return [
        replace(pair, chosen_ref=chosen, rejected_ref=rejected)
        for pair, chosen, rejected in zip(pairs, values[::2], values[1::2], strict=True)
    ]


def pair_rows(prompted: Prompted) -> list[Row]:
    """Two rows a pair, the chosen one (advantage +1) before the rejected one (-1); every pair counts the same."""
    rows = []
    for i, (pair, prompt) in enumerate(prompted):
        for sign, ids, ref in ((1, pair.chosen_ids, pair.chosen_ref), (-1, pair.rejected_ids, pair.rejected_ref)):
            row = Row(prompt=prompt, completion_ids=ids, group_id=i, weight=1 / len(prompted), advantage=float(sign))
            rows.append(replace(row, ref_logprobs=ref or None))
    return rows


def best_rows(prompted: Prompted) -> list[Row]:
    """One row a page, the chosen answer, every token of the step counting the same, as in SFT."""
    weight = 1 / sum(len(pair.chosen_ids) for pair, _ in prompted)
    return [
        Row(prompt=prompt, completion_ids=pair.chosen_ids, group_id=i, weight=weight)
        for i, (pair, prompt) in enumerate(prompted)
    ]


def require_room(prompted: Prompted, micro_tokens: int) -> None:
    """UserError where a pair is longer than a micro-batch: its loss needs both answers at once."""
    rows = pair_rows(prompted)
    longest = max((packed_length(rows[i : i + 2]) for i in range(0, len(rows), 2)), default=0)
    if longest > micro_tokens:
        raise UserError(
            f"optim.micro_tokens is {micro_tokens}, the longest pair has {longest} tokens with its page: raise it, or "
            "lower sampling.max_tokens."
        )
