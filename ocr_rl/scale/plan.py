"""From a recipe, what was measured and a number of cards to the sheet that `ocr-rl plan` prints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.scale.advice import splits_of
from ocr_rl.scale.load import Load, lengths_between, load_of
from ocr_rl.scale.measured import read_measured
from ocr_rl.scale.parts import Figure, with_given
from ocr_rl.scale.runs import Measured
from ocr_rl.scale.sheet import Sheet, make_sheet
from ocr_rl.scale.step import Split

if TYPE_CHECKING:
    from ocr_rl.scale.room import Sizes

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be planned."""

    name: str
    recipe: config.Recipe
    gpus: int  # of a node
    nodes: int = 1
    split: str | None = None
    ahead: bool = False
    measured: Sequence[Path] = ()
    given: dict[str, Figure]
    card_gib: float | None = None


def answer(question: Question) -> Sheet:
    """The plans. UserError for what cannot be planned."""
    recipe, notes = question.recipe, list[str]()
    splits = require_splits(question)
    load_of(recipe)  # refuses algorithms that have no such step, before anything is read
    known = read_measured(question.measured, recipe)
    runs, sizes = known.runs, _sizes(recipe, notes)
    load, source = _load(recipe, known.about | question.given, runs, sizes, notes)
    engine_samples = -(-load.pages // max(1, splits[0].engines)) * load.samples
    parts = with_given(known.parts, question.given, min(load.rows, engine_samples))
    if runs and runs[0].recipe.sampling.engine != recipe.sampling.engine:
        notes.append(
            f"The runs sampled with {runs[0].recipe.sampling.engine}, the recipe says {recipe.sampling.engine}: what "
            "an engine takes is that of the runs."
        )
    if any(run.recipe.sampling.engine == "vllm_server" for run in runs):
        notes.append("The runs' server is taken to be one engine on one card.")
    card = None if question.card_gib is None else int(question.card_gib * GIB)
    rooms = sizes.rooms(splits, load, card) if sizes else [None] * len(splits)
    return make_sheet(
        question.name, load, parts, splits, rooms, ahead=question.ahead, lengths_source=source, notes=notes
    )


def require_splits(question: Question) -> list[Split]:
    """The splits to look at: the one that is asked for, a node's or the whole; else those that make sense."""
    if question.split is None:
        cards, times = (question.gpus, question.nodes) if question.gpus > 1 else (question.nodes, 1)
        return [Split(learners=times * s.learners, engines=times * s.engines) for s in splits_of(cards)]
    learners, plus, engines = question.split.replace(" ", "").partition("+")
    if not plus or not (learners.isdecimal() and engines.isdecimal() and int(learners) and int(engines)):
        raise UserError(f"--split {question.split!r}: write the learner's cards and the engines' cards, as in 6+2.")
    cards, total = int(learners) + int(engines), question.gpus * question.nodes
    if cards not in (question.gpus, total):
        raise UserError(
            f"--split {question.split!r}: shares out {cards} cards, and there are {question.gpus} in a node"
            f"{f' ({total} in all)' if question.nodes > 1 else ''}; give --gpus and --nodes too."
        )
    times = 1 if cards == total else question.nodes
    return [Split(learners=int(learners) * times, engines=int(engines) * times)]


def _sizes(recipe: config.Recipe, notes: list[str]) -> Sizes | None:
    from ocr_rl.scale.room import sizes_of  # here: what is wrong is refused before torch is imported

    try:
        return sizes_of(recipe)
    except UserError as error:
        notes.append(f"Memory is not looked at: {str(error).rstrip('.')}.")
        return None


def _load(
    recipe: config.Recipe,
    given: dict[str, Figure],
    runs: Sequence[Measured],
    sizes: Sizes | None,
    notes: list[str],
) -> tuple[Load, str]:
    """The step's load, and where its samples' lengths come from: what a user says, else the runs."""
    prompt = given.get("prompt_tokens") or _prompt_of(runs)
    if prompt is None and sizes is not None:
        prompt = Figure(sizes.page_tokens(), "an A4 page at this size")
    rollouts = [rollout.load for run in runs for rollout in run.rollouts]
    asked = (
        sum(load.pages for load in rollouts)
        / sum(
            run.recipe.algorithm.pages_per_step * len(run.rollouts)  # type: ignore[attr-defined]  # read_run sees to it
            for run in runs
        )
        if runs
        else 1.0
    )
    learnt = sum(load.learnt for load in rollouts) / sum(load.pages for load in rollouts) if runs else 1.0
    shared = load_of(
        recipe,
        prompt_tokens=prompt,
        asked_share=asked,
        learnt_share=learnt,
        sizes=sizes.bytes if sizes else None,
    )
    lengths, source = _lengths(recipe, given, runs, shared.pages * shared.samples)
    if runs and lengths and (cut := _cut_lower(runs, recipe)):
        notes.append(f"{cut:.0%} of the runs' samples ended at a lower max_tokens than this recipe's.")
    if lengths and "mean_tokens" not in given:
        notes.extend(_other_limits(runs, recipe))
    return replace(shared, lengths=tuple(min(length, recipe.sampling.max_tokens) for length in lengths)), source


def _prompt_of(runs: Sequence[Measured]) -> Figure | None:
    values = [run.prompt_tokens for run in runs]
    if not values or None in values:
        return None
    return Figure(sum(value or 0.0 for value in values) / len(values), ", ".join(run.source for run in runs))


def _lengths(
    recipe: config.Recipe, given: dict[str, Figure], runs: Sequence[Measured], n: int
) -> tuple[list[int], str]:
    if mean := given.get("mean_tokens"):
        longest = given.get("longest_tokens", Figure(recipe.sampling.max_tokens, "the longest is max_tokens"))
        sources = dict.fromkeys((mean.source, longest.source))
        return lengths_between(mean.value, max(mean.value, longest.value), n), f"{', '.join(sources)}; others alike"
    if "longest_tokens" in given:
        raise UserError("--set longest_tokens: say mean_tokens too.")
    return [length for run in runs for length in run.lengths], ", ".join(run.source for run in runs)


def _other_limits(runs: Sequence[Measured], recipe: config.Recipe) -> Iterator[str]:
    """Where samples of the runs ended at another multiple of their pages than this recipe's would."""
    limit = recipe.sampling.page_limit
    known = {run.recipe.sampling.page_limit or math.inf for run in runs}
    says = "no sampling.page_limit" if limit is None else f"sampling.page_limit = {limit:g}"
    if min(known) < (limit or math.inf):
        yield (
            f"Samples of the runs ended at {min(known):g} times what their page says, and this recipe has {says}: its "
            "samples may be longer than those."
        )
    if max(known) > (limit or math.inf):
        yield (
            f"This recipe has {says}, runs had {'none' if max(known) == math.inf else f'{max(known):g}'}: its longest "
            "samples, which hold the others up, are shorter than those."
        )


def _cut_lower(runs: Sequence[Measured], recipe: config.Recipe) -> float:
    """Share of the runs' samples that a lower max_tokens than the recipe's may have cut off."""
    lower = [run for run in runs if run.recipe.sampling.max_tokens < recipe.sampling.max_tokens]
    cut = sum(length >= run.recipe.sampling.max_tokens for run in lower for length in run.lengths)
    return cut / max(1, sum(len(run.lengths) for run in runs))
