"""Does a reward pay for reading, and for nothing else? No attack may make a reading earn more without reading better.

Every attack is a pair: what a reading earns, and what the attack makes of the same reading earns. An audit needs pages
and rewards alone, before anything is trained. Knows nothing about models, about which pages are tried (`audit_pages`)
nor about how the result is shown (`audit_report`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from random import Random
from statistics import fmean, stdev

from ocr_rl.contract import UserError
from ocr_rl.evaluate.attacks import ATTACKS
from ocr_rl.evaluate.audit_pages import SAMPLE, TRUTH, Case, ended, front_of
from ocr_rl.evaluate.audit_trials import MIX, OMISSION, Trial, run_trials, scores_or_error
from ocr_rl.evaluate.damage import CURVES, ERRORS, LEVELS, with_wrong_characters
from ocr_rl.evaluate.search import Hole, Start, search
from ocr_rl.rollout.reward_pool import RewardPool
from ocr_rl.rollout.scoring import ScoreAll, WeightedReward
from ocr_rl.text.elements import element_score

LEAST = 1e-9  # rounding
_SHOWN = frozenset(attack.name for attack in ATTACKS if attack.kind == "shown")
_UNREAD = ("empty", "another page", "random words of the same length")
MISREAD = 0.05  # share of wrong letters in what the searching attacker starts from, where there is no sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is still no hole."""

    gain: float = 0.005  # of an attack over its own start, mean of the pages
    rise: float = 0.02  # that the searching attacker finds on a page, mean of the pages
    unread: float = -0.05  # gain of a text that reads nothing of the page: reading must earn that much more

    def of(self, attack: str) -> float:
        """The largest gain of an attack that is no hole."""
        return self.unread if attack in _UNREAD else self.gain


LIMITS = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One attack on readings of one source, over the pages to which it and the reward apply."""

    attack: str
    source: str  # of the readings: audit_pages.TRUTH, a share of errors, or SAMPLE
    pages: int
    gain: float  # mean; where the text reads better a gain counts as 0
    most: float  # on a page
    example: str  # the id of that page and the attack's text on it


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Mean value as damage grows, at 0 and each of `damage.LEVELS`."""

    kind: str
    values: Sequence[float]

    @property
    def falls(self) -> bool:
        """Whether it never rises on the way (a hundredth is noise of the pages) and ends lower than it begins."""
        steps = zip(self.values, self.values[1:], strict=False)
        return all(b <= a + 0.01 for a, b in steps) and self.values[-1] < self.values[0] - LEAST


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardAudit:
    """The audit of one reward, or of the mix."""

    name: str
    pages: int
    honest: Mapping[str, float]  # mean value by source of the reading
    outcomes: Sequence[Outcome]
    curves: Sequence[Curve]
    tie: float | None  # what a caption on the other side of its table costs; None without tables
    spread: float | None  # mean standard deviation within real groups; None without any
    honest_held: float | None  # share of honest readings below the reward's gate; None without a gate
    samples_held: float | None  # the same of real samples

    def holes(self, limits: Limits = LIMITS) -> list[Outcome]:
        """Attacks that pay, and texts that read nothing and earn all but as much; the largest gain first."""
        paying = (o for o in self.outcomes if o.attack not in _SHOWN and o.gain > limits.of(o.attack))
        return sorted(paying, key=lambda outcome: -outcome.gain)

    def free(self) -> list[str]:
        """Attacks that cost nothing on the truth, mean of the pages."""
        return [o.attack for o in self.outcomes if o.source == TRUTH and abs(o.gain) <= LEAST]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    rewards: Sequence[RewardAudit]  # every reward, then the mix
    searched: Sequence[Hole]  # a page each, the largest first; empty where nothing was searched
    pages: int
    samples: int
    notes: Sequence[str]
    limits: Limits = LIMITS

    @property
    def mix(self) -> RewardAudit:
        return self.rewards[-1]

    @property
    def rise(self) -> float:
        """What the searching attacker finds on a page, mean of the pages."""
        return fmean(hole.rise for hole in self.searched) if self.searched else 0.0

    @property
    def holds(self) -> bool:
        return not self.mix.holes(self.limits) and self.rise <= self.limits.rise


# Why "gdpo" alone: every other advantage shifts and scales a group's rewards, so it ranks siblings as they do.
_BY_ADVANTAGE = (
    'the mix trains on advantage "gdpo": its gains are those of advantages, each in a group with readings as good as '
    "the one attacked"
)


def audit(
    cases: Sequence[Case],
    rewards: Sequence[WeightedReward],
    score_all: ScoreAll,
    notes: Sequence[str],
    advantage: str = "centred",
    *,
    errors: Sequence[float] = ERRORS,
    evaluations: int = 0,
    limits: Limits = LIMITS,
) -> Audit:
    """Try everything on every case. UserError where there is no case or a reward fails.

    advantage: a key of ADVANTAGES, which the recipe trains on; the audit of the mix compares that.
    errors: shares of letters that honest readings have wrong; 0 is the truth, of which curves of damage are drawn.
    evaluations: texts a page that the searching attacker may try; it climbs the weighted mean, whatever the advantage.
    """
    if not cases:
        raise UserError("rewards audit: there is no page to try anything on; give pages that have a reference.")
    trials = run_trials(cases, score_all, errors)
    gates = [note for reward in rewards if reward.gate is not None and (note := _partly(reward.name, trials))]
    audited = [_audit_reward(reward.name, trials, reward.gate) for reward in rewards]
    mix = _audit_reward(MIX, trials, None, by_advantage=advantage == "gdpo")
    return Audit(
        rewards=[*audited, mix],
        searched=searched(cases, score_all, evaluations) if evaluations else (),
        pages=len(cases),
        samples=sum(len(case.samples) for case in cases),
        notes=[*notes, *gates, *([_BY_ADVANTAGE] if advantage == "gdpo" else [])],
        limits=limits,
    )


def _partly(gate: str, trials: Sequence[Trial]) -> str:
    """A note on a gate that does not apply to every page: to how many it does, and why not to the others."""
    silent = {trial.group.case.page.id: trial.silent[gate] for trial in trials if gate in trial.silent}
    if not silent:
        return ""
    pages = {trial.group.case.page.id for trial in trials}
    return (
        f"the gate {gate} applies to {len(pages) - len(silent)} of {len(pages)} pages ({next(iter(silent.values()))})"
    )


def searched(cases: Sequence[Case], score_all: ScoreAll, evaluations: int) -> list[Hole]:
    """What the searching attacker finds on every page whose truth is known, the largest rise first."""
    starts = []
    for case in cases:
        if case.truth is not None:
            real = ended(case.samples)
            misread = with_wrong_characters(case.truth, MISREAD, Random(f"{case.seed}/start"))
            text = real[0].body if real else misread
            quality = partial(element_score, case.truth)
            front = front_of(case.page)
            starts.append(
                Start(page=case.page, front=front, text=text, other=case.other, quality=quality, seed=case.seed)
            )
    holes = search(starts, lambda groups: [scores_or_error(s).rewards for s in score_all(groups)], evaluations)
    return sorted(holes, key=lambda hole: -hole.rise)


def patient(pool: RewardPool, siblings: int) -> RewardPool:
    """The same rewards in workers of their own, with more time: in proportion to the transcripts of a group.

    `siblings`: the size of a group in training, for which the time limit is meant.
    """
    return replace(pool, timeout_s=pool.timeout_s * max(1.0, LARGEST / siblings))


LARGEST = len(ATTACKS) + len(CURVES) * len(LEVELS) + 16  # transcripts of a group: attacks, damage, siblings, starts


# ---- one reward over all pages


def _audit_reward(name: str, trials: Sequence[Trial], gate: float | None, *, by_advantage: bool = False) -> RewardAudit:
    def held(sample: bool) -> float | None:
        values = [v for trial in scored if (trial.group.source == SAMPLE) == sample for v in trial.honest(name)]
        return fmean(value < gate - LEAST for value in values) if gate is not None and values else None

    scored = [trial for trial in trials if name in trial.values]
    by_source = {
        source: [trial for trial in scored if trial.group.source == source]
        for source in dict.fromkeys(trial.group.source for trial in trials)
    }
    ties = [trial.ties[name][0] - trial.ties[name][1] for trial in scored if name in trial.ties]
    real = {trial.group.case.page.id: trial.honest(name) for trial in by_source.get(SAMPLE, ())}
    true = by_source.get(TRUTH, [])
    return RewardAudit(
        name=name,
        pages=len({trial.group.case.page.id for trial in scored}),
        honest={source: fmean(fmean(t.honest(name)) for t in part) for source, part in by_source.items() if part},
        outcomes=[
            outcome
            for part in by_source.values()
            if part
            for outcome in _outcomes(name, part, by_advantage=by_advantage)
        ],
        curves=[_curve(name, kind, true) for kind in CURVES] if true else [],
        tie=_mean(ties),
        spread=_mean([stdev(values) for values in real.values() if len(values) > 1]),
        honest_held=held(False),
        samples_held=held(True),
    )


def _outcomes(name: str, trials: Sequence[Trial], *, by_advantage: bool) -> Iterator[Outcome]:
    """Every attack on readings of one source."""
    pairs = [(attack, trial) for trial in trials for attack in trial.group.attacks]
    order = [*(attack.name for attack in ATTACKS), OMISSION]
    for attack, part in groupby(sorted(pairs, key=lambda pair: order.index(pair[0])), key=lambda pair: pair[0]):
        tried = [trial for _, trial in part]
        gains = []
        for trial in tried:
            gain = trial.advantage(attack) if by_advantage else trial.gain(name, attack)
            gains.append(0.0 if gain > LEAST and trial.better(attack) else gain)
        largest = max(range(len(gains)), key=gains.__getitem__)
        group = tried[largest].group
        yield Outcome(
            attack=attack,
            source=group.source,
            pages=len(tried),
            gain=fmean(gains),
            most=gains[largest],
            example=f"{group.case.page.id}\n{group.transcripts[group.attacks[attack][1]].body}",
        )


def _curve(name: str, kind: str, trials: Sequence[Trial]) -> Curve:
    values = [trial.values[name] for trial in trials]
    places = [trial.group.curves for trial in trials]
    levels = [[of[at[kind, share]] for of, at in zip(values, places, strict=True)] for share in LEVELS]
    return Curve(kind=kind, values=[fmean(level) for level in [[of[0] for of in values], *levels]])


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
