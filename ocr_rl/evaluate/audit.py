"""Does a reward pay for reading? It must score honest transcripts above cheats, and true ones above damaged ones.

An audit needs pages and rewards alone, before anything is trained. Knows nothing about models, about which pages and
transcripts are tried (`audit_pages`) nor about how the result is shown (`audit_report`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean, stdev

import numpy as np

from ocr_rl.contract import Page, UserError
from ocr_rl.evaluate.attacks import ATTACKS, Attack
from ocr_rl.evaluate.audit_pages import Case, cases_of, has_reference, transcripts
from ocr_rl.evaluate.audit_trials import MIX, Trial, run_trials
from ocr_rl.evaluate.damage import CURVES, LEVELS
from ocr_rl.rollout.reward_pool import RewardPool
from ocr_rl.rollout.scoring import ScoreAll, WeightedReward

LEAST = 1e-9  # rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One attack on one reward, over the pages to which both apply."""

    attack: str
    kind: str
    pages: int
    value: float  # mean of the attack; for the mix of a "gdpo" recipe its advantages, likewise `fair` and `worst`
    fair: float  # mean of its bar: of honest transcripts (a cheat) or of the reference (damage)
    above: float  # share of pages where it scores higher than its bar
    level: float  # share of pages where it scores the same
    worst: float  # largest lead over the bar on a page
    example: str  # the page's id and the attack's text on it

    @property
    def wins(self) -> bool:
        """Whether it reaches its bar, on the mean of the pages."""
        return self.value >= self.fair - LEAST


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
    reference: float | None  # mean value of the true transcript
    honest: float | None  # mean value of honest ones
    outcomes: Sequence[Outcome]
    curves: Sequence[Curve]
    tie: float | None  # what a caption on the other side of its table costs; None without tables
    spread: float | None  # mean standard deviation within real groups; None without any
    honest_held: float | None  # share of honest transcripts below the reward's gate; None without a gate
    samples_held: float | None  # the same of real samples

    def beaten_by(self) -> list[Outcome]:
        """Cheats that score no lower than honest transcripts, on the mean of the pages."""
        return [outcome for outcome in self.outcomes if outcome.kind != "damage" and outcome.wins]

    def blind_to(self) -> list[Outcome]:
        """Damage that costs nothing on the mean of the pages."""
        return [outcome for outcome in self.outcomes if outcome.kind == "damage" and outcome.wins]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    rewards: Sequence[RewardAudit]  # every reward, then the mix
    correlation: Mapping[tuple[str, str], float]  # Spearman, over honest, damaged and real transcripts of a page
    pages: int
    samples: int
    notes: Sequence[str]

    @property
    def mix(self) -> RewardAudit:
        return self.rewards[-1]


# Why "gdpo" alone: every other advantage shifts and scales a group's rewards, so it ranks siblings as they do.
_BY_ADVANTAGE = (
    'the mix trains on advantage "gdpo": its cheats and damage stand for their advantages, each in a group with what '
    "it must stay below"
)


def audit(
    cases: Sequence[Case],
    rewards: Sequence[WeightedReward],
    score_all: ScoreAll,
    notes: Sequence[str],
    advantage: str = "centred",
) -> Audit:
    """Try everything on every case. UserError where there is no case or a reward fails.

    `advantage`, a key of ADVANTAGES, is what the recipe trains on; the audit of the mix compares that.
    """
    if not cases:
        raise UserError("rewards audit: there is no page to try anything on; give pages that have a reference.")
    trials = run_trials(cases, score_all)
    pairs = {pair: _agreement(*pair, trials) for pair in combinations((reward.name for reward in rewards), 2)}
    gates = [note for reward in rewards if reward.gate is not None and (note := _partly(reward.name, trials))]
    return Audit(
        rewards=[
            *(_audit_reward(reward.name, trials, reward.gate) for reward in rewards),
            _audit_reward(MIX, trials, None, advantage),
        ],
        correlation={pair: rank for pair, rank in pairs.items() if rank is not None},
        pages=len(cases),
        samples=sum(len(case.samples) for case in cases),
        notes=[*notes, *gates, *([_BY_ADVANTAGE] if advantage == "gdpo" else [])],
    )


def _partly(gate: str, trials: Sequence[Trial]) -> str:
    """A note on a gate that does not apply to every page: to how many it does, and why not to the others."""
    silent = [trial.silent[gate] for trial in trials if gate in trial.silent]
    if not silent:
        return ""
    return f"the gate {gate} applies to {len(trials) - len(silent)} of {len(trials)} pages ({silent[0]})"


SHORT = 16  # pages of the audit before training


def require_honest(pages: Sequence[Page], pool: RewardPool, siblings: int, seed: int, advantage: str) -> None:
    """Before training: UserError where a cheat beats honest transcripts in what the recipe trains on (`advantage`).

    Pages with and without reference are audited apart, because a mix may hold on the first and fail on the second.
    """
    with_reference = [page for page in pages if has_reference(page)]
    without = [page for page in pages if not has_reference(page)]
    parts = [cases_of(part, {}, n=SHORT, seed=seed)[0] for part in (with_reference, without) if part]
    with closing(patient(pool, siblings, [case for cases in parts for case in cases])) as patient_pool:
        for cases in parts:
            _require_honest(cases, patient_pool, advantage)


def patient(pool: RewardPool, siblings: int, cases: Sequence[Case]) -> RewardPool:
    """The same rewards in workers of their own, with more time: in proportion to the transcripts of a group.

    `siblings`: the size of a group in training, for which the time limit is meant.
    """
    largest = max((sum(1 for _ in transcripts(case)) for case in cases), default=0)
    return replace(pool, timeout_s=pool.timeout_s * max(1.0, largest / siblings))


def _require_honest(cases: Sequence[Case], pool: RewardPool, advantage: str) -> None:
    result = audit(cases, pool.rewards, pool.score_all, [], advantage)
    for note in result.notes:
        print(f"audit of the rewards: {note}")
    if beaten := result.mix.beaten_by():
        worst = max(beaten, key=lambda outcome: outcome.value - outcome.fair)
        raise UserError(
            f"rewards: {worst.attack!r} earns {worst.value:.2f} where honest transcripts earn {worst.fair:.2f} (cheats "
            f"that do as well: {len(beaten)}){''.join(f'; {note}' for note in result.notes)}; harden the mix "
            "(`ocr-rl rewards audit` shows how it fails, docs/rewards.md what helps), or train all the same with "
            "scoring.audit=false."
        )


# ---- one reward over all pages


def _audit_reward(name: str, trials: Sequence[Trial], gate: float | None, advantage: str = "centred") -> RewardAudit:
    def held(sort: str) -> float | None:
        values = [value for trial in scored for value in trial.of(name, sort)]
        return fmean(value < gate - LEAST for value in values) if gate is not None and values else None

    scored = [trial for trial in trials if name in trial.values]
    ties = [trial.ties[name][0] - trial.ties[name][1] for trial in scored if name in trial.ties]
    spreads = [stdev(group) for trial in scored if len(group := trial.of(name, "sample")) > 1]
    true = [trial for trial in scored if trial.of(name, "reference")]
    return RewardAudit(
        name=name,
        pages=len(scored),
        reference=_mean([value for trial in scored for value in trial.of(name, "reference")]),
        honest=_mean([value for trial in scored for value in trial.of(name, "honest")]),
        outcomes=[outcome for attack in ATTACKS for outcome in _outcomes(name, attack, scored, advantage)],
        curves=[_curve(name, kind, true) for kind in CURVES] if true else [],
        tie=_mean(ties),
        spread=_mean(spreads),
        honest_held=held("honest"),
        samples_held=held("sample"),
    )


def _outcomes(name: str, attack: Attack, trials: Sequence[Trial], advantage: str) -> Iterator[Outcome]:
    """A cheat against honest transcripts and against real samples; damage against the reference.

    The bar of a cheat that is made of a sample is that very sample, because its siblings may be far from it.
    """
    bars = {"reference": "damage"} if attack.kind == "damage" else {"honest": "cheat", "sample": "cheat (samples)"}
    for bar, kind in bars.items():
        pairs = [
            (trial, *pair)
            for trial in trials
            if ("attack", attack.name) in trial.places
            and (pair := _pair(name, attack, trial, bar, advantage)) is not None
        ]
        if not pairs:
            continue
        leads = [value - fair for _, value, fair in pairs]
        largest = max(range(len(pairs)), key=leads.__getitem__)
        worst = pairs[largest][0]
        text = worst.texts[worst.places["attack", attack.name][0]]
        yield Outcome(
            attack=attack.name,
            kind=kind,
            pages=len(pairs),
            value=fmean(value for _, value, _ in pairs),
            fair=fmean(fair for _, _, fair in pairs),
            above=fmean(lead > LEAST for lead in leads),
            level=fmean(abs(lead) <= LEAST for lead in leads),
            worst=leads[largest],
            example=f"{worst.page_id}\n{text}",
        )


def _pair(name: str, attack: Attack, trial: Trial, bar: str, advantage: str) -> tuple[float, float] | None:
    """The values of the attack and of its bar on a page; None where the page has no transcript of that sort."""
    (cheat,), siblings = trial.places["attack", attack.name], trial.places.get((bar, ""), ())
    fair = (trial.places.get(("own", ""), ()) if bar == "sample" else ()) or siblings
    if not fair:
        return None
    if advantage == "gdpo":
        value, *others = trial.advantages([cheat, *fair], siblings)
        return value, fmean(others)
    return trial.values[name][cheat], fmean(trial.values[name][k] for k in fair)


def _curve(name: str, kind: str, trials: Sequence[Trial]) -> Curve:
    levels = [[trial.of(name, "curve", f"{kind}/{share}")[0] for trial in trials] for share in LEVELS]
    start = [trial.of(name, "reference")[0] for trial in trials]
    return Curve(kind=kind, values=[fmean(level) for level in [start, *levels]])


# ---- two rewards


def _agreement(a: str, b: str, trials: Sequence[Trial]) -> float | None:
    """Spearman's rank correlation within a page, mean over pages; of real samples where there are more than two."""
    correlations = []
    for trial in trials:
        if a in trial.values and b in trial.values:
            siblings = _compared(trial)
            ranks = np.array([_ranks([trial.values[name][k] for k in siblings]) for name in (a, b)])
            if ranks.std(axis=1).min() > 0:
                correlations.append(float(np.corrcoef(ranks)[0, 1]))
    return _mean(correlations)


def _compared(trial: Trial) -> Sequence[int]:
    samples = trial.places.get(("sample", ""), ())
    if len(samples) > 2:
        return samples
    return [k for label, places in trial.places.items() if label[0] != "attack" for k in places]


def _ranks(values: Sequence[float]) -> list[float]:
    """From 0; equal values share the mean of their ranks."""
    rounded = [round(value, 9) for value in values]
    below = [sum(other < value for other in rounded) for value in rounded]
    return [low + (rounded.count(value) - 1) / 2 for low, value in zip(below, rounded, strict=True)]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
