"""Why rollouts teach nothing: a gate holds every sample back, or the policy reads none of the pages.

Either shows in the first rollouts, and more of them do not help. Other reasons for groups without a difference (pages
that are learnt, samples that are alike) may pass, and get no sentence here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean

from ocr_rl.rollout.flow import Group, Sample
from ocr_rl.rollout.scoring import ScoredGroup

ROLLOUTS = 3  # in a row without a group to learn from, until this is asked
_ALL = 0.99  # of the samples
_SAME = 1e-9
_WAYS_OUT = (
    "teach it by SFT on such pages first, start from a policy that reads them, or give it larger images "
    "(policy.longest_px)"
)


def why_stuck(groups: Sequence[ScoredGroup], score: Callable[[Sequence[Group]], list[ScoredGroup]]) -> str:
    """The reason in one sentence, "" where it is another one. `score` is asked about empty transcripts of the pages.

    `groups` are those of rollouts of which none had a difference to learn from.
    """
    if not groups:
        return ""
    return _held_back(groups) or _at_floor(groups, score)


def _held_back(groups: Sequence[ScoredGroup]) -> str:
    samples = sum(len(scored.group.samples) for scored in groups)
    held: Counter[str] = Counter()
    lost = 0  # samples that earn nothing, and that some gate holds back
    for scored in groups:
        held.update({gate: sum(of_gate) for gate, of_gate in scored.scores.held.items()})
        for reward, *gates in zip(scored.scores.rewards, *scored.scores.held.values(), strict=True):
            lost += reward <= _SAME and any(gates)
    if lost < _ALL * samples:
        return ""
    shares = [f"{gate} {_percent(count / samples)}" for gate, count in held.most_common() if count]
    first = held.most_common(1)[0][0]
    values = [score.value for scored in groups for score in scored.scores.by_reward[first] if score.value is not None]
    return (
        f"gates hold everything back, of {samples} samples of {_pages(groups)} pages: {', '.join(shares)} (the mean of "
        f"{first} is {fmean(values):.2f}). Lower the at_least of {first}, or take the gate out. Or the policy reads "
        f"none of the pages: {_WAYS_OUT}."
    )


def _at_floor(groups: Sequence[ScoredGroup], score: Callable[[Sequence[Group]], list[ScoredGroup]]) -> str:
    """Pages on which an empty transcript is right, blank ones, say nothing."""
    floors = {scored.group.page.id: scored.scores.rewards[0] for scored in score([_empty(g.group) for g in groups])}
    telling = [scored for scored in groups if floors.get(scored.group.page.id, 0.0) < 1 - _SAME]
    rewards = [(reward, floors.get(g.group.page.id, 0.0)) for g in telling for reward in g.scores.rewards]
    if not rewards or any(reward > floor + _SAME for reward, floor in rewards):
        return ""
    best, level = max(reward for reward, _ in rewards), fmean(floor for _, floor in rewards)
    return (
        f"the policy reads none of the pages: of {len(rewards)} samples of {_pages(telling)} pages none earns more "
        f"than an empty transcript does (the best {best:.2f}, empty ones {level:.2f}). Way out: {_WAYS_OUT}."
    )


def _pages(groups: Sequence[ScoredGroup]) -> int:
    return len({scored.group.page.id for scored in groups})


def _empty(group: Group) -> Group:
    """A group of one empty transcript of the same page."""
    sample = Sample(token_ids=(0,), logprobs=(0.0,), text="", finish="stop", policy=0)
    return Group(
        page=group.page,
        prompt=group.prompt,
        samples=(sample,),
        temperature=group.temperature,
        banned_ids=group.banned_ids,
    )


def _percent(share: float) -> str:
    return f"{share:.0%}" if share in (0.0, 1.0) else f"{share:.1%}"
