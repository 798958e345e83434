"""A rollout: pages are drawn, asked, sampled, scored and compared; groups that teach nothing are replaced.

    got = collect(asking, turns, 8)
    got.live      groups whose samples differ
    got.figures   what the rollout was like

Every algorithm that learns from its own samples uses this one function. It knows nothing about losses or learners.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from ocr_rl.contract import Page
from ocr_rl.pages.epochs import Rests, draw
from ocr_rl.pages.raster import PageError
from ocr_rl.rollout.asking import ask, require_one, with_left_out
from ocr_rl.rollout.compare import has_signal, with_advantages
from ocr_rl.rollout.describe import describe, held_back
from ocr_rl.rollout.flow import ComparedGroup, Group, Prompt, Sample
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import Sampler, Sampling
from ocr_rl.rollout.scoring import ScoredGroup

Score = Callable[[Sequence[Group]], list[ScoredGroup]]  # groups that cannot be scored are left out
Refused = dict[str, PageError]  # pages that have no prompt, by their id


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Whom a rollout asks and how, and by what of the scores siblings are compared."""

    sampler: Sampler
    prompter: Prompter
    score: Score
    sampling: Sampling  # but for its seed
    seed_at: Callable[[int], int]  # pages drawn before -> the sampling's seed
    comparison: str  # a key of ADVANTAGES
    refills: int = 0  # how often groups without signal are replaced
    ahead: int = 0  # pages of the next rollout that are drawn while the engine writes


@dataclass(slots=True, kw_only=True)
class Turns:
    """Which pages come next: a function of the seed and of how many were drawn before, so a number is all to save."""

    pages: Sequence[Page]
    seed: int
    drawn: int = 0
    rests: Rests = field(default_factory=lambda: Rests(0, {}))
    refused: Refused = field(default_factory=dict)

    def take(self, n: int, without: set[str]) -> list[Page]:
        """The next `n` pages that do not rest and are not in `without` (page ids)."""
        pages, turns = self.rests.draw(self.pages, n, self.drawn, str(self.seed), without)
        self.drawn += turns
        return pages

    def ahead(self, n: int) -> list[Page]:
        """The next `n` pages if none of them rests, without drawing them."""
        return draw(self.pages, n, self.drawn, str(self.seed))

    @property
    def state(self) -> dict[str, Any]:
        """JSON: from here a resumed run goes on."""
        return {"drawn": self.drawn, **({"rests": self.rests.state} if self.rests.state else {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """Groups of one rollout, each sample compared with its siblings."""

    groups: Sequence[ComparedGroup]
    scored: Sequence[ScoredGroup]  # the same groups before they were compared
    drawn: int  # pages
    prompted: int  # of these, pages that have a prompt
    generated: int  # tokens
    clock: Mapping[str, float]  # seconds
    after: Mapping[str, Any]  # `Turns.state` after it
    cut: int | None = None  # samples that their page's own limit ended; None where no page has one

    @property
    def live(self) -> list[ComparedGroup]:
        """Groups whose samples differ: only they have a gradient."""
        return [group for group in self.groups if has_signal(group)]

    @property
    def live_with_scores(self) -> list[tuple[ScoredGroup, ComparedGroup]]:
        """The same groups, each with its scores."""
        return [both for both in zip(self.scored, self.groups, strict=True) if has_signal(both[1])]

    @property
    def lost(self) -> int:
        """Groups that could not be scored."""
        return self.prompted - len(self.scored)

    @property
    def figures(self) -> dict[str, float]:
        cut = {} if self.cut is None else {"cut_by_page": self.cut}
        return with_left_out(describe(self.groups) | held_back(self.scored) | cut, self.drawn - self.prompted)


def collect(asking: Asking, turns: Turns, n: int) -> Rollout:
    """Draw and ask until `n` groups teach something, or the refills are used up.

    Advantages are taken over the whole rollout: a refill is no batch of its own. UserError where no page can be asked.
    """
    clock = dict[str, float]()
    pages: list[Page] = []
    prompts: list[tuple[Page, Prompt]] = []
    scored: list[ScoredGroup] = []
    compared: list[ComparedGroup] = []
    samples: list[Sample] = []
    for _ in range(1 + asking.refills):
        missing = n - sum(map(has_signal, compared))
        if missing == 0:
            break
        # The same page and weights may come again, the same samples not.
        sampling = replace(asking.sampling, seed=asking.seed_at(turns.drawn))
        with timed(clock, "rollout_s"):
            chosen = turns.take(missing, {page.id for page in pages})
            with_prompt = ask(chosen, asking.prompter, turns.refused)
            asking.prompter.prefetch(turns.ahead(asking.ahead))
            groups = sample_pages(asking.sampler, with_prompt, sampling) if with_prompt else []
        pages += chosen
        prompts += with_prompt
        with timed(clock, "score_s"):
            scored += asking.score(groups)
        samples += [sample for group in groups for sample in group.samples]
        compared = with_advantages(scored, asking.comparison)
    for group in compared:
        turns.rests.learn(group.group.page.id, has_signal(group))
    require_one(prompts, pages, turns.refused)
    return Rollout(
        groups=compared,
        scored=scored,
        drawn=len(pages),
        prompted=len(prompts),
        generated=sum(len(sample.token_ids) for sample in samples),
        cut=_cut_by_page(samples, asking.sampling),
        clock=clock,
        after=turns.state,
    )


def _cut_by_page(samples: Sequence[Sample], how: Sampling) -> int | None:
    if not how.page_limits:
        return None
    return sum(sample.finish == "length" and len(sample.token_ids) < how.max_tokens for sample in samples)


def sample_pages(sampler: Sampler, prompts: Sequence[tuple[Page, Prompt]], how: Sampling) -> list[Group]:
    """One group a page, in page order whatever order the engine finished them in."""
    place = {page.id: i for i, (page, _) in enumerate(prompts)}
    return sorted(sampler.sample(prompts, how), key=lambda group: place[group.page.id])


@contextmanager
def timed(clock: dict[str, float], name: str) -> Iterator[None]:
    """Add the seconds that the block takes to `clock[name]`."""
    started = time.perf_counter()
    yield
    clock[name] = clock.get(name, 0.0) + time.perf_counter() - started
