"""The rewards of a recipe in worker processes: a reward that hangs, crashes or eats memory is a counted fault.

One job is one reward on one group, so the reward that failed is known by name, and slow rewards share the workers. What
a fault happened on is kept for replay. Knows nothing about what a fault means for training (`scoring.FaultBudget`).
"""

from __future__ import annotations

import json
from collections.abc import Container, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

from ocr_rl.config import LEARNED, Gate, RewardChoice
from ocr_rl.contract import Finish, Page, Reward, Score, Transcript, UserError
from ocr_rl.pages.workers import Pool, Refusal, guarded
from ocr_rl.plugins import REWARDS, is_built_in, load_reward
from ocr_rl.rollout.scoring import GroupScores, RewardFault, WeightedReward, ask, combine
from ocr_rl.text.front_matter import split_front_matter

PageGroup = tuple[Page, Sequence[Transcript]]
Answer = tuple[Score, ...] | RewardFault  # of one reward: a score per transcript


Choice = RewardChoice | Gate


def weighted(
    choices: Sequence[Choice], *, timeout_s: float = 60.0, learned: Mapping[str, Reward] | None = None
) -> list[WeightedReward]:
    """A recipe's rewards and gates, loaded; what is run is user code. UserError where one cannot be made.

    Those that do not ship are made in a worker first, so that one that hangs or ends its process is a sentence too.
    `learned`: reward models that are open, by name.
    """
    learned = learned or {}
    if closed := [c.name for c in choices if c.name.startswith(LEARNED) and c.name not in learned]:
        raise UserError(f"Reward {closed[0]} is a learned one, which only a training run asks: leave it out here.")
    if odd := [c.name for c in choices if c.name in learned and c.options]:
        raise UserError(f"Reward {odd[0]} has no options; leave them out.")
    foreign = [
        (choice.name, json.dumps(choice.options))
        for choice in choices
        if choice.name not in learned and not is_built_in(REWARDS, choice.name)
    ]
    for (name, _), refused in guarded(_refused, foreign, workers=1, timeout_s=timeout_s):
        if isinstance(refused, Refusal):
            raise UserError(f"Reward {name} cannot be made: {refused}; mend it, or take it out of the recipe.")
        if refused:
            raise UserError(refused)
    return [_weighted(c, learned.get(c.name) or load_reward(c.name, c.options)) for c in choices]


def _weighted(choice: Choice, reward: Reward) -> WeightedReward:
    if isinstance(choice, Gate):
        return WeightedReward(
            name=choice.name, reward=reward, weight=0.0, gate=choice.at_least, holds=choice.holds or ()
        )
    return WeightedReward(name=choice.name, reward=reward, weight=choice.weight, by_part=choice.by_part)


def _refused(choice: tuple[str, str]) -> str:
    name, options = choice
    try:
        load_reward(name, json.loads(options))
    except UserError as error:
        return str(error)
    return ""


@dataclass(frozen=True, slots=True)
class _Job:
    name: str
    options: str  # JSON: workers find plug-ins by name, for a plug-in in a file is no module that pickle could import
    page: Page
    group: Sequence[Transcript]


def _work(job: _Job) -> Answer:
    try:
        return ask(job.name, _loaded(job.name, job.options), job.page, job.group)
    except RewardFault as fault:
        return fault
    except UserError as error:  # the reward cannot be made
        return RewardFault(job.name, job.page.id, str(error))


@cache
def _loaded(name: str, options: str) -> Reward:
    return load_reward(name, json.loads(options))


@dataclass(slots=True, kw_only=True)
class RewardPool:
    """`workers` processes that ask a mix of rewards, each at most `timeout_s` for one group; `close` ends them.

    A reward of the mix that is `learned` is asked here instead: its weights are in this process, on its device.
    faults: a folder for `<n>.jsonl`, one line as in a run's groups: the page, its transcripts, reward and reason.
    """

    choices: Sequence[Choice]
    rewards: Sequence[WeightedReward]  # of the choices, in their order
    workers: int
    timeout_s: float
    faults: Path | None = None
    learned: Mapping[str, Reward] = field(default_factory=dict)
    _pool: Pool = field(init=False)

    def __post_init__(self) -> None:
        self._pool = Pool(_work, workers=self.workers, timeout_s=self.timeout_s)

    def score_all(self, pages: Sequence[PageGroup]) -> Iterator[GroupScores | RewardFault]:
        """Scores of each page's transcripts in order, or the first fault. UserError where no reward applies."""
        with closing(self.ask(pages)) as all_answers:
            for (page, group), answers in zip(pages, all_answers, strict=True):
                scores = {name: answer for name, answer in answers.items() if not isinstance(answer, RewardFault)}
                fault = next((answer for answer in answers.values() if isinstance(answer, RewardFault)), None)
                if fault is not None:
                    self._keep(fault, page, group)
                yield fault or combine(page, scores, self.rewards)

    def ask(self, pages: Sequence[PageGroup]) -> Generator[dict[str, Answer], None, None]:
        """What every reward answers about each page's transcripts, by name."""
        jobs = (
            _Job(choice.name, json.dumps(choice.options), page, group)
            for page, group in pages
            for choice in self.choices
            if choice.name not in self.learned
        )
        with closing(self._pool.run(jobs)) as results:  # given up half-way, its jobs are ended
            for page, group in pages:
                yield {choice.name: self._answer(choice.name, page, group, results) for choice in self.choices}

    def _answer(self, name: str, page: Page, group: Sequence[Transcript], results: Iterator[Any]) -> Answer:
        if name not in self.learned:
            result = next(results)[1]
            return RewardFault(name, page.id, str(result)) if isinstance(result, Refusal) else result
        try:
            return ask(name, self.learned[name], page, group)
        except RewardFault as fault:
            return fault

    def close(self) -> None:
        self._pool.close()

    def _keep(self, fault: RewardFault, page: Page, group: Sequence[Transcript]) -> None:
        if self.faults is None:
            return
        self.faults.mkdir(parents=True, exist_ok=True)
        options = {choice.name: choice.options for choice in self.choices}[fault.name]
        row = {
            "page": page.id,
            "fault": {"reward": fault.name, "options": options, "reason": fault.reason},
            "samples": [as_json(transcript) for transcript in group],
        }
        number = 1 + max((int(path.stem) for path in self.faults.glob("[0-9]*.jsonl")), default=0)
        text = json.dumps(row) + "\n"  # ASCII: a lone surrogate in a transcript must not stop the run
        (self.faults / f"{number:06d}.jsonl").write_text(text, encoding="utf-8")


def without_learned(pool: RewardPool) -> RewardPool:
    """The rewards that are programs, in workers of their own."""
    return replace(
        pool,
        choices=[choice for choice in pool.choices if choice.name not in pool.learned],
        rewards=[plain for reward in pool.rewards if (plain := _without(reward, pool.learned)) is not None],
        learned={},
    )


def _without(reward: WeightedReward, names: Container[str]) -> WeightedReward | None:
    """A reward, or a gate that holds the others alone; None for one of those names, or for a gate of these alone."""
    holds = tuple(name for name in reward.holds if name not in names)
    if reward.name in names or (reward.holds and not holds):
        return None
    return replace(reward, holds=holds)


def as_json(transcript: Transcript) -> dict[str, Any]:
    return {"text": transcript.raw, "finish": transcript.finish, "tokens": transcript.num_tokens}


def from_json(row: Mapping[str, Any]) -> Transcript:
    """What `as_json` wrote. KeyError, TypeError or ValueError for anything else."""
    if row["finish"] not in get_args(Finish):
        raise ValueError(f"finish is {row['finish']!r}, not {' or '.join(get_args(Finish))}")
    if not isinstance(row["tokens"], int) or row["tokens"] < 0:
        raise ValueError(f"tokens is {row['tokens']!r}, not a number of tokens")
    return Transcript(
        raw=row["text"], body=split_front_matter(row["text"])[1], finish=row["finish"], num_tokens=row["tokens"]
    )
