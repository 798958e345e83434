"""GRPO: sample G transcripts of each page, score them, learn from how each compares with its siblings.

Shao et al. 2024 (arXiv 2402.03300). A generator of steps: it resumes only after the learner's update, so sampling is
on-policy by shape. Weights are those of the whole step, so micro-batches cannot change the answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from statistics import stdev
from typing import Any

from tqdm import tqdm

from ocr_rl import config
from ocr_rl.contract import Page, UserError
from ocr_rl.learn.algos.asking import ask, require_one, with_left_out
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.losses import grpo as grpo_loss
from ocr_rl.learn.step import Step
from ocr_rl.pages.epochs import Rests, draw
from ocr_rl.pages.raster import PageError
from ocr_rl.rollout.advantage import has_signal, shares, with_advantages
from ocr_rl.rollout.flow import Group, Prompt, Row, ScoredGroup
from ocr_rl.rollout.sampler.base import Sampler, Sampling, seed_for
from ocr_rl.rollout.scoring import GradedGroup

Score = Callable[[Sequence[Group]], list[GradedGroup]]
_EMPTY_ROLLOUTS = 20  # in a row without one group to learn from: something is wrong


def grpo(
    cfg: config.Grpo,
    sampling: config.Sampling,
    seed: int,
    state: Mapping[str, Any],
    pages: Sequence[Page],
    sampler: Sampler,
    learner: Learner,
    score: Score,
) -> Iterator[Step]:
    """Steps from `state` (a step's own `state`, or empty) to `cfg.steps` optimiser updates."""
    drawn, empty = int(state.get("drawn", 0)), 0
    rests = Rests(cfg.rest, state.get("rests", {}))
    refused: dict[str, PageError] = {}
    loss = grpo_loss(
        ratio=cfg.ratio,
        epsilon=cfg.epsilon,
        epsilon_high=cfg.epsilon_high,
        surrogate=cfg.surrogate,
        delta=cfg.delta,
        beta=cfg.beta,
        kl=cfg.kl,
        level=cfg.importance_level,
        cap=cfg.importance_cap,
    )
    # Of a rollout that taught nothing too: the next step's line has them. `lost` are groups that could not be graded.
    generated, lost, clock = 0, 0, dict[str, float]()
    while learner.policy < cfg.steps:
        with _timed(clock, "sync_s"):
            sampler.load(learner.weights(), learner.policy)
        graded: list[GradedGroup] = []
        chosen: list[Page] = []
        asked: list[tuple[Page, Prompt]] = []
        seen: list[ScoredGroup] = []
        live: list[ScoredGroup] = []
        for _ in range(1 + cfg.refills):
            missing = cfg.pages_per_step - len(live)
            if missing == 0:
                break
            how = Sampling(
                n=cfg.samples_per_page,
                temperature=sampling.temperature,
                max_tokens=sampling.max_tokens,
                seed=seed_for(seed, drawn),  # the same page and weights may come again, the same samples not
            )
            with _timed(clock, "rollout_s"):
                more, turns = rests.draw(pages, missing, drawn, str(seed), {page.id for page in chosen})
                usable = ask(more, learner.prompter, refused)
                learner.prompter.prefetch(draw(pages, cfg.pages_per_step, drawn + turns, str(seed)))
                groups = rollout(sampler, usable, how) if usable else []
            drawn += turns
            chosen += more
            asked += usable
            with _timed(clock, "score_s"):
                graded += score(groups)
            generated += sum(len(sample.token_ids) for group in groups for sample in group.samples)
            seen = with_advantages(graded, cfg.advantage)  # of the whole step: a refill is not a batch of its own
            live = [one for one in seen if has_signal(one)]
        for one in seen:
            rests.learn(one.group.page.id, has_signal(one))
        live = [upside_down(one, cfg.flip, f"{seed}/{drawn}") for one in live]
        require_one(asked, chosen, refused)
        lost += len(asked) - len(graded)
        figures = {**describe(seen), "pages_drawn": drawn, **clock}
        metrics = with_left_out(figures, len(chosen) - len(asked))
        if learner.policy == 0 and seen:
            tqdm.write(describe_shares(graded, cfg.advantage))
        rows = to_rows(live, cfg, sampling.max_tokens)  # none too when every sample was cut off and masked
        empty = 0 if rows else empty + 1
        if empty == _EMPTY_ROLLOUTS:
            raise UserError(
                f"grpo: {empty} rollouts in a row gave no group whose samples differ in reward; use easier pages, "
                "a higher temperature or more samples per page."
                + (f" {lost} groups could not be graded: see the run's faults/." if lost else "")
            )
        if not rows:
            continue
        with _timed(clock, "annotate_s"):
            # One update a rollout: the old policy is the one that is updated, and the pass through it the update's own.
            rows = learner.annotate(rows, old=cfg.minibatches > 1, reference=cfg.beta > 0)
        once = {"generated": generated, **({"faults": lost} if lost else {})}  # of the rollout, not of each update
        parts = split_by_group(rows, cfg.minibatches)
        for i, part in enumerate(parts):
            last = i == len(parts) - 1 or learner.policy + 1 == cfg.steps
            yield Step(
                rows=reweighted(part, rows, cfg.aggregation),
                loss=loss,
                metrics={**metrics, **clock, **(once if i == 0 else {})},
                groups=live if last else (),
                state={"drawn": drawn, **({"rests": rests.state} if rests.state else {})} if last else None,
            )
            if learner.policy >= cfg.steps:
                return
        generated, lost, clock = 0, 0, {}


def upside_down(one: ScoredGroup, share: float, key: str) -> ScoredGroup:
    """Label noise: with probability `share` (by hash, so a resumed run has the same) the best sample is the worst."""
    if seed_for("flip", key, one.group.page.id) / 2**62 >= share:
        return one
    return replace(one, advantages=tuple(-advantage for advantage in one.advantages))


def rollout(sampler: Sampler, asked: Sequence[tuple[Page, Prompt]], how: Sampling) -> list[Group]:
    """One group a page, in page order whatever order the engine finished them in."""
    place = {page.id: i for i, (page, _) in enumerate(asked)}
    return sorted(sampler.sample(asked, how), key=lambda group: place[group.page.id])


def to_rows(groups: Sequence[ScoredGroup], cfg: config.Grpo, max_tokens: int) -> list[Row]:
    """One row a sample; a token's weight is its share of the whole step, as the aggregation says.

    grpo: each group, then each sample, then each token counts the same (METHODS: 1/J, 1/G, 1/T). dapo: each token of
    the step counts the same (arXiv 2503.14476). dr_grpo: constant length `max_tokens` (arXiv 2503.20783).
    """
    kept = [
        [k for k, sample in enumerate(one.group.samples) if sample.finish == "stop" or not cfg.mask_unfinished]
        for one in groups
    ]
    tokens = sum(len(one.group.samples[k].token_ids) for one, ks in zip(groups, kept, strict=True) for k in ks)
    rows = []
    for j, (one, ks) in enumerate(zip(groups, kept, strict=True)):
        for k in ks:
            sample = one.group.samples[k]
            sample_weight = 1 / (len(groups) * len(one.group.samples))
            weight = {
                "grpo": sample_weight / len(sample.token_ids),
                "dapo": 1 / tokens,
                "dr_grpo": sample_weight / max_tokens,
            }[cfg.aggregation]
            rows.append(
                Row(
                    prompt=one.group.prompt,
                    completion_ids=sample.token_ids,
                    group_id=j,
                    weight=weight,
                    advantage=one.advantages[k],
                    temperature=one.group.temperature,
                    banned_ids=one.group.banned_ids,
                    sampler_logprobs=sample.logprobs,
                )
            )
    return rows


def split_by_group(rows: Sequence[Row], parts: int) -> list[list[Row]]:
    """At most `parts` minibatches of whole groups: a page is computed once."""
    ids = sorted({row.group_id for row in rows})
    parts = min(parts, len(ids))
    where = {group_id: i * parts // len(ids) for i, group_id in enumerate(ids)}
    split: list[list[Row]] = [[] for _ in range(parts)]
    for row in rows:
        split[where[row.group_id]].append(row)
    return split


def reweighted(part: Sequence[Row], rows: Sequence[Row], aggregation: str) -> list[Row]:
    """A minibatch is a step of its own: with dapo its tokens share the weight there, otherwise its samples do.

    By tokens dr_grpo would weigh a token by the lengths of its neighbours, which is what it is there to avoid.
    """

    def size(some: Sequence[Row]) -> int:
        return sum(len(row.completion_ids) for row in some) if aggregation == "dapo" else len(some)

    return [replace(row, weight=row.weight * size(rows) / size(part)) for row in part]


def describe_shares(graded: Sequence[GradedGroup], how: str, what: str = "the advantage") -> str:
    """How much of the first groups' advantages each reward makes, as one line; `what` they are in an algorithm."""
    found = shares([one.grades for one in graded], how)
    said = ", ".join(f"{name} {share:.0%}" for name, share in sorted(found.items(), key=lambda item: -item[1]))
    return f"share of {what} on the first {len(graded)} groups: {said or 'none, all samples are alike'}"


def describe(groups: Sequence[ScoredGroup]) -> dict[str, float]:
    """What the rollout was like, over all its groups, those without signal too.

    A reward's value is the mean of its samples, `<name>/spread` the mean of its standard deviations within groups, and
    `live/<name>/<part>` the share of groups whose samples differ in a part, such as the tests of one type.
    """
    samples = [sample for one in groups for sample in one.group.samples]
    figures = {
        "reward": _mean([reward for one in groups for reward in one.rewards]),
        "length": _mean([len(sample.token_ids) for sample in samples]),
        "finished": _mean([float(sample.finish == "stop") for sample in samples]),
        "flat_groups": _mean([float(not has_signal(one)) for one in groups]),
    }
    parts: dict[str, list[float]] = {}
    for one in groups:
        for name, part in {(name, part) for name, scores in one.scores.items() for s in scores for part in s.parts}:
            told = {score.parts.get(part) for score in one.scores[name]}
            parts.setdefault(f"live/{name}/{part}", []).append(float(len(told) > 1))
        for name, scores in one.scores.items():
            values = [score.value for score in scores if score.value is not None]
            if len(values) > 1:
                parts.setdefault(f"{name}/spread", []).append(stdev(values))
            for score in scores:
                if score.value is not None:
                    parts.setdefault(name, []).append(score.value)
                for part, value in score.parts.items():
                    parts.setdefault(f"{name}/{part}", []).append(value)
    return figures | {name: _mean(values) for name, values in parts.items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))


@contextmanager
def _timed(clock: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    clock[name] = clock.get(name, 0.0) + time.perf_counter() - started
