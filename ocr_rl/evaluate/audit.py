"""Does a reward pay for reading? Honest transcripts, cheats and damage of true pages, scored by a recipe's rewards.

Works on pages and rewards alone, before anything is trained. Knows nothing about models, and nothing about how the
result is shown (`audit_report`). A token is taken to be three characters, for rewards that count tokens.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, combinations
from pathlib import Path
from random import Random
from statistics import fmean, median, stdev

import numpy as np

from ocr_rl.contract import Check, Finish, Page, Transcript, UserError
from ocr_rl.evaluate import attacks
from ocr_rl.evaluate.attacks import ATTACKS, CURVES, LEVELS, OTHER_FRONT, WRONG, Attack, Target
from ocr_rl.pages.synth.make import Looks, make_document
from ocr_rl.rollout.graders import Graders
from ocr_rl.rollout.scoring import AskAll, GraderFault, Grades, WeightedReward
from ocr_rl.text.checks import load_check
from ocr_rl.text.front_matter import FIELDS, FrontMatter
from ocr_rl.text.text_checks import Absent, Baseline

MIX = "the mix"  # of the rewards, as the recipe weighs and gates them
DRAWS = 4  # honest transcripts of a page
LEAST = 1e-9  # rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A page as the rewards see it (perhaps without reference), and what is tried on it."""

    page: Page
    target: Target
    samples: Sequence[Transcript] = ()  # of a real policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One attack against one reward, over the pages on which both mean something."""

    attack: str
    kind: str
    pages: int
    value: float  # mean of the attack
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
    reference: float  # mean value of the true transcript
    honest: float  # mean value of honest ones
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


def cases_of(
    pages: Sequence[Page], samples: Mapping[str, Sequence[Transcript]], *, n: int, seed: int
) -> tuple[list[Case], list[str]]:
    """At most n pages that have a reference, those with real samples first; composed ones where none has a reference.

    The composed pages keep their reference from the rewards, as the data do, and each has the sorts of tests that some
    page of the data has. Second: what people should know of it.
    """
    known = [page for page in pages if _is_known(page)]
    if known:
        order = Random(seed).sample(known, len(known))
        chosen = sorted(order, key=lambda page: page.id not in samples)[:n]
        return [_case(page, known, samples.get(page.id, ()), seed) for page in chosen], []
    found = [Counter(map(_sort, page.checks)) for page in pages]
    models = Random(seed).choices([each for each in found if each] or [_REPORT], k=n)
    made = composed_pages(_stand_in(pages) if _REPORT.keys() >= set(chain(*models)) else "mixed", n, seed, models)
    cases = [_case(page, made, (), seed) for page in made]
    hidden = [replace(case, page=replace(case.page, reference=None)) for case in cases]
    return hidden, [
        "no page has a reference: tried on composed pages with such sorts of tests as the data's pages have, their "
        "references kept from the rewards"
    ]


def _is_known(page: Page) -> bool:
    return bool(page.reference and page.reference.strip())


def _stand_in(pages: Sequence[Page]) -> str:
    """The kind of composed page that is about as long as the data's: few tests say more of a small page."""
    budgets = [c.max_length for page in pages for c in page.checks if isinstance(c, Baseline) and c.max_length]
    return "notice" if budgets and median(budgets) < _SMALL else "report"


def _sort(check: Check) -> str:
    """A baseline test that says how much may stand there is another thing than one that does not."""
    bounded = isinstance(check, Baseline) and check.max_length is not None
    return "budget" if bounded else check.type


_SMALL = 400  # letters and digits: budgets of `notice` pages are about 120, those of `report` pages about 1,000
_REPORT: Mapping[str, int] = dict.fromkeys(
    ("present", "absent", "order", "table", "baseline", "budget"), 99
)  # sorts of tests of `report` pages


def _case(page: Page, pages: Sequence[Page], samples: Sequence[Transcript], seed: int) -> Case:
    assert page.reference is not None
    rng = Random(f"{seed}/{page.id}")
    other = rng.choice([each.reference or "" for each in pages if each.reference != page.reference] or [page.reference])
    edges = [check.text for check in page.checks if isinstance(check, Absent)]
    target = Target(reference=page.reference, other=other, edges=edges, seed=f"{seed}/{page.id}")
    return Case(page=page, target=target, samples=samples)


def composed_pages(kind: str, n: int, seed: int, models: Sequence[Mapping[str, int]] | None = None) -> list[Page]:
    """At most n synthetic pages with text on them; with `models`, page k has no more tests of a sort than they say.

    Their PDFs are thrown away: all that an audit needs of a page is what it says.
    """
    made: list[Page] = []
    for index in range(8 * n):
        document = make_document(kind, seed, index, 1, Looks(scan=0.0))
        checks = [load_check(test) for test in document.tests]
        kept = checks if models is None else _at_most(checks, models[len(made)], Random(f"{seed}/{index}"))
        (reference,), (front,) = document.references, document.front_matter
        if reference.strip() and (kept or models is None):
            page_id, pdf = f"composed_{index}:p1", Path(document.name)
            made.append(Page(id=page_id, pdf=pdf, number=1, reference=reference, checks=kept, tags=front.tags))
        if len(made) == n:
            break
    return made


def audit(cases: Sequence[Case], rewards: Sequence[WeightedReward], ask_all: AskAll, notes: Sequence[str]) -> Audit:
    """Try everything on every case. UserError where there is no case or a reward fails."""
    if not cases:
        raise UserError("rewards audit: there is no page to try anything on; give pages that have a reference.")
    tried = _try_all(cases, ask_all)
    names = [each.name for each in rewards]
    gates = [note for each in rewards if each.gate is not None and (note := _partly(each.name, tried))]
    return Audit(
        judged=[*(_judged(each.name, tried, each.gate) for each in rewards), _judged(MIX, tried, None)],
        correlation={pair: found for pair in combinations(names, 2) if (found := _agreement(*pair, tried)) is not None},
        pages=len(cases),
        samples=sum(len(case.samples) for case in cases),
        notes=[*notes, *gates],
    )


def _partly(gate: str, tried: Sequence[_Tried]) -> str:
    """Of a gate that does not apply everywhere: on how many pages, and why not on the others."""
    silent = [one.silent[gate] for one in tried if gate in one.silent]
    if not silent:
        return ""
    return f"the gate {gate} applies to {len(tried) - len(silent)} of {len(tried)} pages ({silent[0]})"


def _at_most(checks: Sequence[Check], most: Mapping[str, int], rng: Random) -> list[Check]:
    """Of each sort as many as `most` says, drawn at random."""
    kept: Counter[str] = Counter()
    chosen = []
    for check in rng.sample(checks, len(checks)):
        kept[_sort(check)] += 1
        if kept[_sort(check)] <= most.get(_sort(check), 0):
            chosen.append(check)
    return chosen


SHORT = 16  # pages of the audit before training


def require_honest(pages: Sequence[Page], graders: Graders, seed: int) -> None:
    """Before training: UserError where a cheat beats honest transcripts in what the recipe would pay for."""
    known = [page for page in pages if _is_known(page)]
    bare = [page for page in pages if not _is_known(page)]
    for part in filter(None, (known, bare)):  # what holds with references may not hold without
        _require_honest(part, graders, seed)


def _require_honest(pages: Sequence[Page], graders: Graders, seed: int) -> None:
    cases, _ = cases_of(pages, {}, n=SHORT, seed=seed)
    found = audit(cases, graders.rewards, graders.grade, [])
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
    silent: Mapping[str, str] = field(default_factory=dict)  # rewards that do not apply, and why
    ties: Mapping[str, Sequence[float]] = field(default_factory=dict)  # caption where the reference has it, elsewhere

    def of(self, name: str, sort: str, what: str = "") -> list[float]:
        return [self.values[name][k] for k in self.places.get((sort, what), ())]


def _try_all(cases: Sequence[Case], ask_all: AskAll) -> list[_Tried]:
    labelled = [list(_transcripts(case)) for case in cases]
    asked = [(case.page, [one for _, one in each]) for case, each in zip(cases, labelled, strict=True)]
    floats = {case.page.id: found for case in cases if (found := _floating(case)) is not None}
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
                silent={name: s[0].why for name, s in grades.scores.items() if s[0].value is None},
            )
        )
    ties = {page_id: _values(_graded(next(answers))) for page_id in floats}
    return [replace(one, ties=ties.get(one.page_id, {})) for one in tried]


def _graded(grades: Grades | GraderFault) -> Grades:
    if isinstance(grades, GraderFault):
        raise UserError(f"{grades}; mend the reward, or take it out of the recipe.")
    return grades


def _values(grades: Grades) -> dict[str, list[float]]:
    values = {MIX: list(grades.rewards)}
    for name, scores in grades.scores.items():
        if scores[0].value is not None:
            values[name] = [score.value for score in scores if score.value is not None]
    return values


def _floating(case: Case) -> tuple[Page, list[Transcript]] | None:
    """The page with a caption before its table, and two transcripts: as it is, and with the caption after the table."""
    found = attacks.caption_moved(case.target.reference)
    if found is None:
        return None
    page = replace(case.page, reference=found[0] if case.page.reference is not None else None)
    return page, [_transcript(text, _front(case.page)) for text in found]


def _transcripts(case: Case) -> Iterator[tuple[tuple[str, str], Transcript]]:
    target, front = case.target, _front(case.page)
    yield ("reference", ""), _transcript(target.reference, front)
    for k in range(DRAWS):
        text = attacks.with_wrong_characters(target.reference, WRONG, Random(f"{target.seed}/honest{k}"))
        yield ("honest", ""), _transcript(text, front)
    for attack in ATTACKS:
        if (text := attack.make(target)) is not None:
            finish = "length" if attack.endless else "stop"
            yield ("attack", attack.name), _transcript(text, _front(case.page, lies=attack.name == OTHER_FRONT), finish)
    for kind, damage in CURVES.items():
        for share in LEVELS:
            text = damage(target.reference, share, Random(f"{target.seed}/{kind}"))
            yield ("curve", f"{kind}/{share}"), _transcript(text, front)
    for sample in case.samples:
        yield ("sample", ""), sample


def _transcript(body: str, front: str, finish: Finish = "stop") -> Transcript:
    return Transcript(raw=front + body, body=body, finish=finish, num_tokens=len(front + body) // 3)


def _front(page: Page, *, lies: bool = False) -> str:
    """The page's true front matter as far as its tags tell it; or the same in another language and turned."""
    said = dict(tag.split("=", 1) for tag in page.tags if tag.split("=", 1)[0] in FIELDS and "=" in tag)
    rotation = int(said["rotation_correction"]) if said.get("rotation_correction", "").isdecimal() else 0
    language = said.get("primary_language", "en")
    return FrontMatter(
        primary_language="eo" if lies else None if language == "null" else language,
        is_rotation_valid=said.get("is_rotation_valid", "True") == "True",
        rotation_correction=(rotation + 90) % 360 if lies else rotation,
        is_table=said.get("is_table") == "True",
        is_diagram=said.get("is_diagram") == "True",
    ).to_text()


# ---- all pages


def _judged(name: str, tried: Sequence[_Tried], gate: float | None) -> Judged:
    def held(sort: str) -> float | None:
        values = [value for one in seen for value in one.of(name, sort)]
        return fmean(value < gate - LEAST for value in values) if gate is not None and values else None

    seen = [one for one in tried if name in one.values]
    ties = [one.ties[name][0] - one.ties[name][1] for one in seen if name in one.ties]
    spreads = [stdev(group) for one in seen if len(group := one.of(name, "sample")) > 1]
    outcomes = [found for attack in ATTACKS for found in _outcomes(name, attack, seen)]
    curves = [_curve(name, kind, seen) for kind in CURVES] if seen else []
    return Judged(
        name=name,
        pages=len(seen),
        reference=_mean([value for one in seen for value in one.of(name, "reference")]),
        honest=_mean([value for one in seen for value in one.of(name, "honest")]),
        outcomes=outcomes,
        curves=[curve for curve in curves if curve is not None],
        tie=fmean(ties) if ties else None,
        spread=fmean(spreads) if spreads else None,
        honest_held=held("honest"),
        samples_held=held("sample"),
    )


def _outcomes(name: str, attack: Attack, tried: Sequence[_Tried]) -> Iterator[Outcome]:
    """Against honest transcripts and against real samples (cheats), or against the reference (damage)."""
    sorts = {"reference": "damage"} if attack.kind == "damage" else {"honest": "cheat", "sample": "cheat (samples)"}
    for against, kind in sorts.items():
        pairs = [
            (one, one.of(name, "attack", attack.name)[0], fmean(fair))
            for one in tried
            if ("attack", attack.name) in one.places and (fair := one.of(name, against))
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


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else math.nan
