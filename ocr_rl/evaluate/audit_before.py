"""The short audit before training: pages whose own truth earns too little, and a mix that pays for something else.

It takes well under a minute on one processor. Limits are wider than those of `ocr-rl rewards audit`, since a few pages
say less. Knows nothing about models.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from random import Random

from ocr_rl.contract import Page, UserError
from ocr_rl.evaluate.attacks import ATTACKS, Kind
from ocr_rl.evaluate.audit import Audit, Limits, audit, patient
from ocr_rl.evaluate.audit_pages import TRUTH, cases_of, front_of, has_reference, is_blank, transcript
from ocr_rl.evaluate.audit_trials import scores_or_error
from ocr_rl.rollout.reward_pool import RewardPool
from ocr_rl.rollout.scoring import GroupScores, WeightedReward

PAGES = 4
ERRORS = (0.01, 0.1)
EVALUATIONS = 40  # of the searching attacker, a page
LIMITS = Limits(gain=0.02, rise=0.05)
TRUTHS = 200  # pages whose own truth is scored
_TRUE = 0.9  # the least that a page's own truth must earn

_ALL_THE_SAME = "or train all the same with scoring.audit=false"
_MINE = "`ocr-rl pages mine PDFS --out DATA` makes them"
_HELP: dict[Kind, str] = {
    "omission": f"give the pages a test for each of their blocks ({_MINE}), or references and the reward `elements`",
    "order": f"give the pages order tests across all their blocks ({_MINE}), or references and the reward `elements`",
    "invention": f"add the reward `budget` and give the pages a baseline test with max_length ({_MINE})",
    "marks": f"give the pages format tests and a reward that reads their text ({_MINE})",
    "hiding": 'use reading = "strict" and rewards of what a reader sees (`pass_degree`, `budget`)',
    "letters": f"give the pages tests of their words and cells ({_MINE}), or references and the reward `elements`",
    "shown": "",
    "harmless": "use rewards of what a reader sees (`pass_degree`, `elements`)",
}


def require_honest(pages: Sequence[Page], pool: RewardPool, siblings: int, seed: int, advantage: str) -> None:
    """Before training: UserError where a page's own truth earns little, or where the mix pays for no reading.

    Pages with and without reference are audited apart, because a mix may hold on the first and fail on the second.
    Blank pages are left out: there, nothing is the right answer.
    """
    with_reference = [page for page in pages if has_reference(page)]
    without = [page for page in pages if not has_reference(page) and not is_blank(page)]
    with closing(patient(pool, siblings)) as patient_pool:
        _require_truths(Random(seed).sample(with_reference, min(TRUTHS, len(with_reference))), patient_pool)
        for part in filter(None, (with_reference, without)):
            cases, _ = cases_of(part, {}, n=PAGES, seed=seed)
            result = audit(
                cases,
                pool.rewards,
                patient_pool.score_all,
                [],
                advantage,
                errors=ERRORS,
                evaluations=EVALUATIONS,
                limits=LIMITS,
            )
            for note in result.notes:
                print(f"audit of the rewards: {note}")
            _require_holds(result)


def _require_truths(pages: Sequence[Page], pool: RewardPool) -> None:
    """UserError for pages whose true transcript a gate holds back, or which it earns less than `_TRUE`."""
    groups = [(page, [transcript(page.reference or "", front_of(page))]) for page in pages]
    failing = [
        (page, why)
        for page, scores in zip(pages, map(scores_or_error, pool.score_all(groups)), strict=True)
        if (why := _failing(scores, pool.rewards))
    ]
    if failing:
        page, why = failing[0]
        raise UserError(
            f"rewards: the true transcript of {page.pdf.name}, page {page.number} {why} (pages of which that is so: "
            f"{len(failing)} of {len(pages)}); `ocr-rl pages check DATA` names the tests that a page's own reference "
            f"fails, mend them or take the page out, {_ALL_THE_SAME}."
        )


def _failing(scores: GroupScores, rewards: Sequence[WeightedReward]) -> str:
    """What is wrong with the scores of a true transcript; "" if nothing is."""
    (passes,), (total,) = scores.passes, scores.rewards
    if passes and total >= _TRUE:
        return ""
    values = {name: (value, s[0].why) for name, s in scores.by_reward.items() if (value := s[0].value) is not None}
    if not passes:
        name = next(r.name for r in rewards if r.gate is not None and r.name in values and values[r.name][0] < r.gate)
        return f"is held back by the gate {name} ({values[name][1]})"
    name = min(scores.weights, key=lambda reward: values[reward][0])
    return f"earns {total:.2f}, least of {name} ({values[name][1]})"


def _require_holds(result: Audit) -> None:
    if result.holds:
        return
    notes = "".join(f"; {note}" for note in result.notes)
    shown = f"(`ocr-rl rewards audit` shows how, docs/rewards.md what helps); {_ALL_THE_SAME}{notes}."
    if holes := result.mix.holes(result.limits):
        worst = holes[0]
        wrong = f"honest readings with {worst.source} of their letters wrong"
        honest = "the truth" if worst.source == TRUTH else wrong
        raise UserError(
            f"rewards: {worst.attack!r} {_earns(worst.gain)} {honest} and reads no better (attacks that "
            f"pay: {len({hole.attack for hole in holes})}): {_help(worst.attack)} {shown}"
        )
    hole = result.searched[0]
    raise UserError(
        f"rewards: an attacker that searches makes readings earn {result.rise:.2f} more while they get worse, most on "
        f"page {hole.page_id} ({hole.rise:.2f}; edits: {', '.join([*dict.fromkeys(hole.edits)][:4])}): "
        f"{_HELP['invention']} {shown}"
    )


def _earns(gain: float) -> str:
    return f"earns {gain:.2f} more than" if gain > LIMITS.gain else "earns as much as"


def _help(name: str) -> str:
    kinds: dict[str, Kind] = {attack.name: attack.kind for attack in ATTACKS}
    return _HELP[kinds.get(name, "omission")]
