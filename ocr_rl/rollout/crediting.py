"""Credit for the groups of a run: places are found in worker processes, for transcripts are anybody's text.

A group in which that could not be done, or not in time, keeps one advantage a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from tqdm import tqdm

from ocr_rl import config
from ocr_rl.contract import Check, Earned, Page, Reading, UserError
from ocr_rl.pages.workers import Pool, Refusal
from ocr_rl.rollout.credit import Parts, Placed, Tested, by_siblings, by_spans, of_tests, pieces, splits, with_tokens
from ocr_rl.rollout.flow import ComparedGroup
from ocr_rl.rollout.scoring import ScoredGroup, WeightedReward
from ocr_rl.rollout.token_ends import token_ends
from ocr_rl.text.source_map import Span
from ocr_rl.text.sources import Sources
from ocr_rl.text.spans import Located, locate_in, telling

Credited = tuple[ScoredGroup, ComparedGroup]  # the same group, before and after it was compared
Credit = Callable[[Sequence[Credited]], list[ComparedGroup]]


@dataclass(frozen=True, slots=True)
class _Job:
    reward: Tested | Placed
    page: Page
    bodies: Sequence[str]  # of siblings


def locate_group(checks: Sequence[Check], bodies: Sequence[str], reading: Reading) -> list[list[Located]]:
    """Verdicts of each test in each sibling; with their places where siblings differ in that test.

    What a sibling lacks is placed by one that has it, and never by the page's reference: who trains on tests alone
    does so with credit too.
    """
    sources = [Sources(body, reading) for body in bodies]
    verdicts = [[own.judge(check) for check in checks] for own in sources]
    rows = [[Located(verdict=verdict) for verdict in row] for row in verdicts]
    for t, check in enumerate(checks):
        if len({row[t].degree for row in verdicts}) < 2:
            continue
        both = [(own, row[t]) for own, row in zip(sources, verdicts, strict=True)]
        told = next((telling(check, verdict, own) for own, verdict in both if verdict.passed), None)
        for row, (own, verdict) in zip(rows, both, strict=True):
            row[t] = locate_in(check, verdict, own, told)
    return rows


def _work(job: _Job) -> list[Sequence[Earned]]:
    if isinstance(job.reward, Placed):
        return _plain([job.reward.place(job.page, body) for body in job.bodies])
    checks = job.page.checks
    return [*of_tests(job.reward, checks, locate_group(checks, job.bodies, job.reward.reading))]


def _plain(parts: Parts) -> list[Sequence[Earned]]:
    """The same in Python's own types: a reward of one's own may say anything. Refusal for unlike siblings."""
    if len({len(own) for own in parts}) > 1:
        raise Refusal("place gives more parts of one sibling than of another")
    return [
        [Earned(adds=float(part.adds), spans=_spans(part.spans), wrong=_spans(part.wrong)) for part in own]
        for own in parts
    ]


def _spans(spans: Sequence[Span]) -> tuple[Span, ...]:
    return tuple((int(start), int(end)) for start, end in spans)


def open_credit(
    recipe: config.Recipe, rewards: Sequence[WeightedReward], tokenizer: Any
) -> SpanCredit | SiblingCredit | None:
    """What shares advantages out as the recipe says; None where each sample keeps its own as it is."""
    cfg = recipe.algorithm
    if not isinstance(cfg, config.Grpo) or cfg.credit == "sample":
        return None
    if cfg.credit == "siblings":
        return SiblingCredit(share=cfg.credit_share)
    return SpanCredit(
        rewards=rewards,
        tokenizer=tokenizer,
        share=cfg.credit_share,
        workers=recipe.scoring.workers,
        timeout_s=recipe.scoring.timeout_s,
    )


@dataclass(slots=True, kw_only=True)
class SpanCredit:
    """`credit = "spans"`: what a test or an element adds stands where its text was found. `close` ends the workers."""

    rewards: Sequence[WeightedReward]  # of the recipe
    tokenizer: Any
    share: float
    workers: int
    timeout_s: float
    _pool: Pool = field(init=False)
    _told: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        if not any(isinstance(reward.reward, Tested | Placed) and reward.weight > 0 for reward in self.rewards):
            raise UserError(
                'grpo.credit = "spans" puts the rewards of unit tests and of elements where they were earned, and no '
                'reward of this recipe is one: add pass_degree, pass_rate or elements, or set grpo.credit = "siblings".'
            )
        self._pool = Pool(_work, workers=self.workers, timeout_s=self.timeout_s)

    def __call__(self, groups: Sequence[Credited]) -> list[ComparedGroup]:
        """The groups with an advantage for each token."""
        jobs = [self._jobs(scored, compared) for scored, compared in groups]
        with closing(self._pool.run(job for of_group in jobs for job in of_group)) as answers:
            parts = (result for _, result in answers)
            return [
                self._credited(scored, compared, list(islice(parts, len(of_group))))
                for (scored, compared), of_group in zip(groups, jobs, strict=True)
            ]

    def _jobs(self, scored: ScoredGroup, compared: ComparedGroup) -> list[_Job]:
        """One for each reward that splits."""
        group = compared.group
        bodies = [sample.transcript().body for sample in group.samples]
        own = [reward.reward for reward in self.rewards if splits(reward, scored.scores)]
        return [_Job(reward, group.page, bodies) for reward in own if isinstance(reward, Tested | Placed)]

    def _credited(
        self, scored: ScoredGroup, compared: ComparedGroup, parts: Sequence[Parts | Refusal]
    ) -> ComparedGroup:
        located: list[Parts] = []
        for part in parts:
            if isinstance(part, Refusal):
                self._tell(compared.group.page, str(part))
                return compared
            located.append(part)
        own = pieces(compared, scored.scores, self.rewards, located)
        if not any(piece.spans for of_sample in own for piece in of_sample):
            self._tell(compared.group.page, "nothing that tells them apart has a place in their texts")
            return compared
        samples = compared.group.samples
        return with_tokens(
            compared,
            by_spans(
                own,
                [token_ends(self.tokenizer, sample.token_ids, sample.text) for sample in samples],
                [len(sample.text) - len(sample.transcript().body) for sample in samples],
                self.share,
            ),
        )

    def _tell(self, page: Page, why: str) -> None:
        """Each reason once: the metrics count the groups."""
        if why not in self._told:
            self._told.add(why)
            tqdm.write(f"No credit by spans for samples of page {page.id}: {why}. They keep one advantage each.")

    def close(self) -> None:
        self._pool.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class SiblingCredit:
    """`credit = "siblings"`: the advantage stands where a sample differs from siblings of other reward."""

    share: float

    def __call__(self, groups: Sequence[Credited]) -> list[ComparedGroup]:
        """The groups with an advantage for each token."""
        return [
            with_tokens(
                compared,
                by_siblings(
                    [sample.token_ids for sample in compared.group.samples],
                    compared.rewards,
                    compared.advantages,
                    self.share,
                ),
            )
            for _, compared in groups
        ]

    def close(self) -> None:
        """Nothing is held."""
