"""Which canary catches what: engines and learners broken on purpose, one way at a time, for every family.

    python -m benchmarks.robustness.canaries [--family qwen3_vl]

Columns: `gap` between sampler and learner in nats (float32: at most 1e-4 where nothing is wrong), `require_eyes` before
the first step, `load` (the engine is asked what it holds), `page_gain` of 0, `error` where it cannot go on at all. Then
the embedded policy with broken positions on both sides, which no gap shows: `page_gain` and `place_gain` of references.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image

from benchmarks.families.engine import written
from benchmarks.families.policies import learner_of, loud_policy, origin_of, two_pages
from ocr_rl import config
from ocr_rl.contract import Page, UserError
from ocr_rl.learn.algos.sft import reference_rows
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.probe import gains, looks, require_eyes
from ocr_rl.models.families import FAMILIES
from ocr_rl.models.load import model_folder
from ocr_rl.pages.source import open_pages
from ocr_rl.policy import open_origin
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.hf import HfSampler

SAME, OTHER = 1e-5, 1e-2  # nats: two computations of one policy in float32, another policy
Breaks = Callable[[Learner, Any], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """One thing that goes wrong, and who is to notice."""

    breaks: Breaks
    caught_by: frozenset[str]
    lora: bool = False
    applies: Callable[[Learner, Page], bool] = lambda learner, page: True


@contextmanager
def random_tower(learner: Learner, sampler: Any) -> Iterator[None]:
    """The engine holds what it was given, and then loses its tower: a sleep level that drops weights, a wild write."""
    load = sampler.load

    @torch.no_grad()
    def broken(weights: Any, policy: int) -> None:
        load(weights, policy)
        noise = torch.Generator().manual_seed(0)
        for part in learner.family.vision_parts(sampler._model):
            for weight in part.parameters():
                weight.copy_(0.1 * torch.randn(weight.shape, generator=noise))

    with patch.object(sampler, "load", broken):
        yield


@contextmanager
def tower_not_sent(learner: Learner, sampler: Any) -> Iterator[None]:
    load, old = sampler.load, {name: w.clone() for name, w in sampler._model.state_dict().items()}
    of_vision = learner.family.of_vision
    broken = lambda weights, policy: load(((n, old[n] if of_vision(n) else w) for n, w in weights), policy)
    with patch.object(sampler, "load", broken):
        yield


def adapters_not_sent(learner: Learner, sampler: Any) -> AbstractContextManager[Any]:
    return patch.object(sampler, "load", lambda weights, policy: None)


@contextmanager
def matrices_not_taken(learner: Learner, sampler: Any) -> Iterator[None]:
    copy_ = torch.Tensor.copy_
    with patch.object(torch.Tensor, "copy_", lambda own, new, *a: own if own.ndim == 2 else copy_(own, new, *a)):
        yield


def rows_of_positions(order: Callable[[Any], Any]) -> Breaks:
    """The learner's positions, their three rows rewritten."""

    def breaks(learner: Learner, sampler: Any) -> AbstractContextManager[Any]:
        right = learner.positions
        return patch.object(learner, "positions", lambda ids, size: order(right(ids, size)))

    return breaks


def has_rows(learner: Learner, page: Page) -> bool:
    """Whether its positions tell rows and columns of the page from the order of tokens."""
    prompt = learner.prompter.prompt(page)
    _, sizes = learner.prompter.pixels([learner.prompter.image(prompt)])
    rows = learner.positions(prompt.expanded_ids, tuple(sizes[0].tolist()))
    return not rows[1].equal(rows[2])


def deep_features_left_out(learner: Learner, sampler: Any) -> AbstractContextManager[Any]:
    return patch.object(learner.family, "deep_inputs", lambda *given: {}, create=True)


def has_deep_features(learner: Learner, page: Page) -> bool:
    vision = learner.module.config.vision_config  # type: ignore[union-attr]
    return bool(getattr(vision, "deepstack_visual_indexes", None))


@contextmanager
def another_patch(learner: Learner, sampler: Any) -> Iterator[None]:
    """The engine cuts pages into as many patches as if these were of 16 px where they are of 14."""
    prompter: Prompter = sampler._prompter
    family: Any = copy.copy(prompter.family)
    smaller = lambda image: image.resize((image.width * 7 // 8, image.height * 7 // 8))
    family.pixels = lambda processor, images: prompter.family.pixels(processor, [smaller(image) for image in images])
    with patch.object(sampler, "_prompter", replace(prompter, family=family)):
        yield


def page_not_shown(learner: Learner, sampler: Any) -> AbstractContextManager[Any]:
    right = Prompter.image
    return patch.object(Prompter, "image", lambda self, prompt: Image.new("RGB", right(self, prompt).size, "white"))


SWAPPED = rows_of_positions(lambda rows: rows[[0, 2, 1]])
DROPPED = rows_of_positions(lambda rows: rows[[0, 0, 0]])
BROKEN = {
    "nothing": Broken(breaks=lambda learner, sampler: nullcontext(), caught_by=frozenset()),
    "random tower in the engine": Broken(breaks=random_tower, caught_by=frozenset({"gap", "eyes"})),
    "tower not sent": Broken(breaks=tower_not_sent, caught_by=frozenset({"gap", "eyes"})),
    "adapters not sent": Broken(breaks=adapters_not_sent, caught_by=frozenset({"gap", "eyes"}), lora=True),
    "matrices not taken": Broken(breaks=matrices_not_taken, caught_by=frozenset({"load"})),
    "patch of another size": Broken(breaks=another_patch, caught_by=frozenset({"error"})),
    "rows of positions swapped": Broken(breaks=SWAPPED, caught_by=frozenset({"gap"}), applies=has_rows),
    "rows of positions dropped": Broken(breaks=DROPPED, caught_by=frozenset({"gap"}), applies=has_rows),
    "DeepStack left out": Broken(
        breaks=deep_features_left_out, caught_by=frozenset({"gap"}), applies=has_deep_features
    ),
    "page never shown": Broken(breaks=page_not_shown, caught_by=frozenset({"page_gain"})),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    caught_by: frozenset[str]
    gap: float | None = None  # nats


def outcome(folder: Path, pages: Sequence[Page], broken: Broken) -> Outcome | None:
    """Which canaries notice; None where the family has nothing of the kind."""
    learner, sampler = prepared(folder, lora=broken.lora), HfSampler(folder, origin_of(folder).prompter)
    if not broken.applies(learner, pages[0]):
        return None
    try:
        with broken.breaks(learner, sampler):
            return _noticed(learner, sampler, pages)
    except (RuntimeError, ValueError):
        return Outcome(caught_by=frozenset({"error"}))


def _noticed(learner: Learner, sampler: HfSampler, pages: Sequence[Page]) -> Outcome:
    caught = set()
    try:
        require_eyes(learner, sampler, pages)
    except UserError as error:
        caught.add("load" if "does not hold" in str(error) else "eyes")
    if "load" in caught:
        return Outcome(caught_by=frozenset(caught))
    sampler.load(learner.weights(), 1)
    rows = written(sampler, learner.prompter, pages)
    ours = learner.logprobs(rows)
    pairs = zip((row.sampler_logprobs or () for row in rows), ours, strict=True)
    gap = max(abs(a - b) for row, other in pairs for a, b in zip(row, other, strict=True))
    if gap > SAME:
        caught.add("gap")
    if gains(learner, rows)["page_gain"] == 0:
        caught.add("page_gain")
    return Outcome(caught_by=frozenset(caught), gap=gap)


def prepared(folder: Path, *, lora: bool) -> Learner:
    """A learner that is away from the folder's weights: adapters that do something, or a larger tower."""
    learner = learner_of(origin_of(folder), {"lora_rank": 2} if lora else {})
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in learner.module.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
            elif not lora and weight.ndim > 1:
                weight.mul_(1.05)
    return learner


BOTH_SIDES = {
    "as they are": lambda rows: rows,
    "swapped": lambda rows: rows[[0, 2, 1]],
    "dropped": lambda rows: rows[[0, 0, 0]],
    "numbered through": lambda rows: torch.arange(rows.shape[1]).expand(3, -1),
}


def reading_policy(scratch: Path, pages: int = 8) -> tuple[Learner, list[Row]]:
    """The embedded policy, and rows of references of pages that it has not seen."""
    path = model_folder("nano")
    policy = config.Policy(path=path)
    origin = open_origin(policy, path)
    source = config.Typeset(synth="notice", n=pages, seed=5, pages_per_document=pages)
    prompted = [(page, origin.prompter.prompt(page)) for page in open_pages(source, scratch)]
    learner = Learner(origin, policy, config.Optim(), steps=1, reference=False)
    return learner, reference_rows(prompted, origin.prompter, front_matter=True)


def sight(learner: Learner, rows: Sequence[Row], order: Callable[[Any], Any]) -> tuple[float, float]:
    """(page_gain, place_gain) of references, with the rows of positions rewritten wherever they are used."""
    with rows_of_positions(order)(learner, None):
        seen = looks(learner, rows)
    return seen["nll_blank"] - seen["nll_page"], seen["place_gain"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--family", action="append", choices=[family.model_type for family in FAMILIES])
    args = parser.parse_args()
    torch.set_num_threads(1)
    families = [family for family in FAMILIES if not args.family or family.model_type in args.family]
    with TemporaryDirectory() as name:
        scratch = Path(name)
        pages = two_pages(scratch)
        folders = [loud_policy(scratch / family.model_type, family) for family in families]
        print(
            "| broken | " + " | ".join(family.name for family in families) + " |\n|---" + "|---" * len(families) + "|"
        )
        for what, broken in BROKEN.items():
            cells = [_cell(outcome(folder, pages, broken)) for folder in folders]
            print(f"| {what} | {' | '.join(cells)} |", flush=True)
        learner, rows = reading_policy(scratch / "notices")
        print("\n| positions of the embedded policy | page_gain | place_gain |\n|---|--:|--:|")
        for what, order in BOTH_SIDES.items():
            page, place = sight(learner, rows, order)
            print(f"| {what} | {page:.2f} | {place:.2f} |", flush=True)


def _cell(result: Outcome | None) -> str:
    if result is None:
        return "has none"
    gap = "" if result.gap is None else f" ({result.gap:.1e})"
    return (", ".join(sorted(result.caught_by)) or "none") + gap


if __name__ == "__main__":
    main()
