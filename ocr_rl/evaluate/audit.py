"""Does a reward pay for reading? Honest transcripts, cheats and damage of true pages, scored by a recipe's rewards.

Works on pages and rewards alone, before anything is trained. Knows nothing about models, nothing about which pages and
transcripts are tried (`cases`), and nothing about how the result is shown (`audit_report`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import combinations
from statistics import fmean, stdev

import numpy as np

from ocr_rl.contract import Page, UserError
from ocr_rl.evaluate.attacks import ATTACKS, CURVES, LEVELS, Attack
from ocr_rl.evaluate.cases import Case, cases_of, floating, is_known, transcripts
from ocr_rl.objectives.advantages import ADVANTAGES
from ocr_rl.rollout.reward_pool import RewardPool
from ocr_rl.rollout.scoring import GroupScores, RewardFault, ScoreAll, WeightedReward

MIX = "the mix"  # of the rewards, as the recipe weighs and gates them
LEAST = 1e-9  # rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One attack against one reward, over the pages on which both mean something."""

    attack: str
    kind: str
    pages: int
    value: float  # mean of the attack; for the mix of a "gdpo" recipe of its advantages, as `fair` and `worst`
    fair: float  # mean of what it must stay below: honest transcripts (a cheat) or the reference (damage)
    above: float  # share of pages where it scores higher than that
    level: float  # share of pages where it scores the same
    worst: float  # largest lead over what it must stay below, of a page
    example: str  # the page's id and the attack's text on it

    @property
    def wins(self) -> bool:
        """At least as good as what it must stay below, on the mean of the pages."""
        return self.value >= self.fair - LEAST


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Mean value as damage grows, at 0 and each of `attacks.LEVELS`."""

    kind: str
    values: Sequence[float]

    @property
    def falls(self) -> bool:
        """Never rises on the way (a hundredth is noise of the pages), and ends lower than it began."""
        steps = zip(self.values, self.values[1:], strict=False)
        return all(b <= a + 0.01 for a, b in steps) and self.values[-1] < self.values[0] - LEAST


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """All that was found about one reward, or about the mix."""

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
        """Cheats that score higher than honest transcripts, or that cannot be told from them, on the mean of pages."""
        return [one for one in self.outcomes if one.kind != "damage" and one.wins]

    def blind_to(self) -> list[Outcome]:
        """Damage that costs nothing on the mean of the pages."""
        return [one for one in self.outcomes if one.kind == "damage" and one.wins]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    judged: Sequence[Judged]  # every reward, then the mix
    correlation: Mapping[tuple[str, str], float]  # Spearman, over honest, damaged and real transcripts of a page
    pages: int
    samples: int
    notes: Sequence[str]

    @property
    def mix(self) -> Judged:
        return self.judged[-1]


# Why "gdpo" alone: every other mode shifts and scales a group's weighted means, so it ranks siblings as they do.
_BY_ADVANTAGE = (
    'the mix trains on advantage "gdpo": its cheats and damage stand for their advantages, each in a group with what '
    "it must stay below"
)


def audit(
    cases: Sequence[Case],
    rewards: Sequence[WeightedReward],
    ask_all: ScoreAll,
    notes: Sequence[str],
    how: str = "none",
) -> Audit:
    """Try everything on every case. UserError where there is no case or a reward fails.

    `how`, a key of ADVANTAGES: what the recipe trains on, by which the mix is judged.
    """
    if not cases:
        raise UserError("rewards audit: there is no page to try anything on; give pages that have a reference.")
    tried = _try_all(cases, ask_all)
    names = [each.name for each in rewards]
    gates = [note for each in rewards if each.gate is not None and (note := _partly(each.name, tried))]
    return Audit(
        judged=[*(_judged(each.name, tried, each.gate) for each in rewards), _judged(MIX, tried, None, how)],
        correlation={pair: found for pair in combinations(names, 2) if (found := _agreement(*pair, tried)) is not None},
        pages=len(cases),
        samples=sum(len(case.samples) for case in cases),
        notes=[*notes, *gates, *([_BY_ADVANTAGE] if how == "gdpo" else [])],
    )


def _partly(gate: str, tried: Sequence[_Tried]) -> str:
    """Of a gate that does not apply everywhere: on how many pages, and why not on the others."""
    silent = [one.silent[gate] for one in tried if gate in one.silent]
    if not silent:
        return ""
    return f"the gate {gate} applies to {len(tried) - len(silent)} of {len(tried)} pages ({silent[0]})"


SHORT = 16  # pages of the audit before training


def require_honest(pages: Sequence[Page], graders: RewardPool, siblings: int, seed: int, how: str) -> None:
    """Before training: UserError where a cheat beats honest transcripts in what the recipe trains on (`how`)."""
    known = [page for page in pages if is_known(page)]
    bare = [page for page in pages if not is_known(page)]
    # Apart, for what holds with references may not hold without.
    parts = [cases_of(part, {}, n=SHORT, seed=seed)[0] for part in (known, bare) if part]
    with closing(patient(graders, siblings, [case for cases in parts for case in cases])) as asked:
        for cases in parts:
            _require_honest(cases, asked, how)


def patient(graders: RewardPool, siblings: int, cases: Sequence[Case]) -> RewardPool:
    """The same rewards in workers of their own, with as much more time as the audit's groups have more transcripts.

    `siblings`: how many a group of training has, for which the limit is meant.
    """
    largest = max((sum(1 for _ in transcripts(case)) for case in cases), default=0)
    return replace(graders, timeout_s=graders.timeout_s * max(1.0, largest / siblings))


def _require_honest(cases: Sequence[Case], graders: RewardPool, how: str) -> None:
    found = audit(cases, graders.rewards, graders.score_all, [], how)
    for note in found.notes:
        print(f"audit of the rewards: {note}")
    if beaten := found.mix.beaten_by():
        worst = max(beaten, key=lambda one: one.value - one.fair)
        raise UserError(
            f"rewards: {worst.attack!r} earns {worst.value:.2f} where honest transcripts earn {worst.fair:.2f} (cheats "
            f"that do as well: {len(beaten)}){''.join(f'; {note}' for note in found.notes)}; harden the mix "
            "(`ocr-rl rewards audit` shows how it fails, docs/rewards.md what helps), or train all the same with "
            "scoring.audit=false."
        )


# ---- one page


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    """A page's transcripts by what they are, and the values of every reward that applies, one per transcript."""

    page_id: str
    places: Mapping[tuple[str, str], Sequence[int]]  # (sort, name) -> which transcripts
    texts: Sequence[str]
    values: Mapping[str, Sequence[float]]
    grades: GroupScores  # what the values are of
    silent: Mapping[str, str] = field(default_factory=dict)  # rewards that do not apply, and why
    ties: Mapping[str, Sequence[float]] = field(default_factory=dict)  # caption where the reference has it, elsewhere

    def of(self, name: str, sort: str, what: str = "") -> list[float]:
        return [self.values[name][k] for k in self.places.get((sort, what), ())]

    def advantages(self, of: Sequence[int], siblings: Sequence[int]) -> list[float]:
        """GDPO's of some transcripts, in one group with others."""
        at = list(dict.fromkeys([*of, *siblings]))
        return list(ADVANTAGES["gdpo"]([_only(self.grades, at)])[0][: len(of)])


def _only(grades: GroupScores, at: Sequence[int]) -> GroupScores:
    """Of some of the siblings."""
    return replace(
        grades,
        by_reward={name: tuple(scores[k] for k in at) for name, scores in grades.by_reward.items()},
        passes=tuple(grades.passes[k] for k in at),
        rewards=tuple(grades.rewards[k] for k in at),
    )


def _try_all(cases: Sequence[Case], ask_all: ScoreAll) -> list[_Tried]:
    labelled = [list(transcripts(case)) for case in cases]
    asked = [(case.page, [one for _, one in each]) for case, each in zip(cases, labelled, strict=True)]
    floats = {case.page.id: found for case in cases if (found := floating(case)) is not None}
    answers = iter(ask_all([*asked, *floats.values()]))
    tried = []
    for (page, group), labels in zip(asked, labelled, strict=True):
        places: dict[tuple[str, str], list[int]] = {}
        for k, (label, _) in enumerate(labels):
            places.setdefault(label, []).append(k)
        grades = _graded(next(answers))
        tried.append(
            _Tried(
                page_id=page.id,
                places=places,
                texts=[one.body for one in group],
                values=_values(grades),
                grades=grades,
                silent={name: s[0].why for name, s in grades.by_reward.items() if s[0].value is None},
            )
        )
    ties = {page_id: _values(_graded(next(answers))) for page_id in floats}
    return [replace(one, ties=ties.get(one.page_id, {})) for one in tried]


def _graded(grades: GroupScores | RewardFault) -> GroupScores:
    if isinstance(grades, RewardFault):
        raise UserError(f"{grades}; mend the reward, or take it out of the recipe.")
    return grades


def _values(grades: GroupScores) -> dict[str, list[float]]:
    values = {MIX: list(grades.rewards)}
    for name, scores in grades.by_reward.items():
        if scores[0].value is not None:
            values[name] = [score.value for score in scores if score.value is not None]
    return values


# ---- all pages


def _judged(name: str, tried: Sequence[_Tried], gate: float | None, how: str = "none") -> Judged:
    def held(sort: str) -> float | None:
        values = [value for one in seen for value in one.of(name, sort)]
        return fmean(value < gate - LEAST for value in values) if gate is not None and values else None

    seen = [one for one in tried if name in one.values]
    ties = [one.ties[name][0] - one.ties[name][1] for one in seen if name in one.ties]
    spreads = [stdev(group) for one in seen if len(group := one.of(name, "sample")) > 1]
    outcomes = [found for attack in ATTACKS for found in _outcomes(name, attack, seen, how)]
    true = [one for one in seen if one.of(name, "reference")]
    curves = [_curve(name, kind, true) for kind in CURVES] if true else []
    return Judged(
        name=name,
        pages=len(seen),
        reference=_mean([value for one in seen for value in one.of(name, "reference")]),
        honest=_mean([value for one in seen for value in one.of(name, "honest")]),
        outcomes=outcomes,
        curves=curves,
        tie=fmean(ties) if ties else None,
        spread=fmean(spreads) if spreads else None,
        honest_held=held("honest"),
        samples_held=held("sample"),
    )


def _outcomes(name: str, attack: Attack, tried: Sequence[_Tried], how: str) -> Iterator[Outcome]:
    """Against honest transcripts and against real samples (cheats), or against the reference (damage).

    A cheat that is made of a sample is held against that very sample: its siblings may be far from it.
    """
    sorts = {"reference": "damage"} if attack.kind == "damage" else {"honest": "cheat", "sample": "cheat (samples)"}
    for against, kind in sorts.items():
        pairs = [
            (one, *pair)
            for one in tried
            if ("attack", attack.name) in one.places and (pair := _pair(name, attack, one, against, how)) is not None
        ]
        if not pairs:
            continue
        leads = [value - fair for _, value, fair in pairs]
        at = max(range(len(pairs)), key=leads.__getitem__)
        worst = pairs[at][0]
        text = worst.texts[worst.places["attack", attack.name][0]]
        yield Outcome(
            attack=attack.name,
            kind=kind,
            pages=len(pairs),
            value=fmean(value for _, value, _ in pairs),
            fair=fmean(fair for _, _, fair in pairs),
            above=fmean(lead > LEAST for lead in leads),
            level=fmean(abs(lead) <= LEAST for lead in leads),
            worst=leads[at],
            example=f"{worst.page_id}\n{text}",
        )


def _pair(name: str, attack: Attack, one: _Tried, against: str, how: str) -> tuple[float, float] | None:
    """What the attack has on a page, and what it must stay below; None where the page has nothing of that sort."""
    (at,), siblings = one.places["attack", attack.name], one.places.get((against, ""), ())
    fair = (one.places.get(("own", ""), ()) if against == "sample" else ()) or siblings
    if not fair:
        return None
    if how == "gdpo":
        value, *others = one.advantages([at, *fair], siblings)
        return value, fmean(others)
    return one.values[name][at], fmean(one.values[name][k] for k in fair)


def _curve(name: str, kind: str, tried: Sequence[_Tried]) -> Curve:
    levels = [[one.of(name, "curve", f"{kind}/{share}")[0] for one in tried] for share in LEVELS]
    start = [one.of(name, "reference")[0] for one in tried]
    return Curve(kind=kind, values=[fmean(level) for level in [start, *levels]])


def _agreement(a: str, b: str, tried: Sequence[_Tried]) -> float | None:
    """Spearman's rank correlation within a page, mean over pages; of real samples where there are any."""
    found = []
    for one in tried:
        if a in one.values and b in one.values:
            sort = ("sample", "") if len(one.places.get(("sample", ""), ())) > 2 else None
            at = (
                one.places[sort]
                if sort
                else [k for label, ks in one.places.items() if label[0] != "attack" for k in ks]
            )
            ranks = np.array([_ranks([one.values[name][k] for k in at]) for name in (a, b)])
            if ranks.std(axis=1).min() > 0:
                found.append(float(np.corrcoef(ranks)[0, 1]))
    return fmean(found) if found else None


def _ranks(values: Sequence[float]) -> list[float]:
    """From 0; equal values share the mean of their ranks."""
    rounded = [round(value, 9) for value in values]
    below = [sum(other < value for other in rounded) for value in rounded]
    return [low + (rounded.count(value) - 1) / 2 for low, value in zip(below, rounded, strict=True)]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
