"""Prose that stays on a subject: templates filled with the subject's words, and with names, dates and numbers.

Sentences in other languages are rows of common words. Faker's lists are used as data only, so that drawing depends on
the generator alone. Knows nothing about pages.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from random import Random

from ocr_rl.pages.synth import words


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The words of one field."""

    things: tuple[str, ...]
    kinds: tuple[str, ...]  # adjectives
    acts: tuple[str, ...]  # verbs in the past tense that take an object
    bodies: tuple[str, ...]  # who acts
    measures: tuple[tuple[str, str], ...]  # (quantity, unit)


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _subject(things: str, kinds: str, acts: str, bodies: str, measures: str) -> Subject:
    pairs = tuple(
        (pair.rsplit(" in ", 1)[0].strip(), pair.rsplit(" in ", 1)[1].strip()) for pair in measures.split(",")
    )
    return Subject(things=_split(things), kinds=_split(kinds), acts=_split(acts), bodies=_split(bodies), measures=pairs)


SUBJECTS: tuple[Subject, ...] = (
    _subject(
        "breakwater, quay wall, dredged channel, tide gauge, lock gate, mooring line, slipway, container berth,"
        " pile cap,"
        "navigation light, pilot launch, silt trap, sea lock, fender, crane rail",
        "tidal, eastern, reinforced, sheltered, inner, outer, corroded, temporary, shallow, newly built",
        "widened, inspected, replaced, surveyed, strengthened, closed, relocated, drained, repaired, tested",
        "the harbour board, the port engineer, the contractor, the pilot service, the dredging company, the inspector",
        "water depth in m, wave height in m, concrete strength in MPa, load in kN, throughput in tonnes",
    ),
    _subject(
        "seedling, leaf litter, root system, field plot, pollen sample, soil core, herbarium sheet, understorey,"
        " seed bank,"
        "lichen cover, grazing fence, hay meadow, transect, canopy gap, wetland",
        "perennial, shaded, native, invasive, calcareous, drained, mature, sparse, untreated, northern",
        "recorded, sampled, mapped, fenced, replanted, measured, identified, compared, photographed, revisited",
        "the survey team, the botanists, the reserve, the field assistants, the university, the volunteers",
        "plant height in cm, soil moisture in %, leaf area in cm², nitrogen content in mg/kg, biomass in g",
    ),
    _subject(
        "annual budget, reserve fund, property levy, street lighting contract, library grant, sewer bond,"
        " audit opinion,"
        "pension liability, capital programme, parking permit, council resolution, capital account, rate base",
        "municipal, unrestricted, deferred, supplementary, recurring, audited, provisional, statutory, interim, net",
        "approved, amended, deferred, published, transferred, rejected, reviewed, financed, adopted, reconciled",
        "the council, the finance committee, the treasurer, the auditor, the district clerk, the members",
        "revenue in thousand dollars, expenditure in thousand dollars, tax rate in %, population in residents,"
        " debt in $",
    ),
    _subject(
        "control group, dosage, follow-up visit, blood sample, placebo arm, adverse event, discharge letter,"
        " ward round,"
        "questionnaire, baseline value, consent form, study protocol, imaging series, primary endpoint, relapse",
        "randomised, chronic, elderly, double-blind, acute, untreated, stratified, systolic, preliminary, secondary",
        "enrolled, monitored, excluded, reported, adjusted, reduced, observed, documented, stratified, assessed",
        "the investigators, the clinic, the ethics committee, the nurses, the sponsor, the review board",
        "blood pressure in mmHg, body weight in kg, heart rate in bpm, dose in mg, haemoglobin in g/dL",
    ),
    _subject(
        "burial mound, pottery sherd, post hole, hearth, trench, bronze fibula, charcoal layer, flint blade,"
        " city gate,"
        "cistern, inscription, coin hoard, mosaic floor, rampart, storage pit",
        "Roman, medieval, prehistoric, disturbed, painted, collapsed, domestic, late, undated, monumental",
        "excavated, dated, catalogued, reconstructed, uncovered, described, restored, drawn, sieved, attributed",
        "the excavators, the museum, the expedition, the curator, the institute, the conservators",
        "trench depth in cm, wall thickness in m, age in years, sherd weight in g, area in m²",
    ),
    _subject(
        "training set, loss function, attention layer, learning rate, decoder, validation split, gradient estimate,"
        "baseline model, feature map, sampling scheme, error bound, kernel, latent variable, prior, benchmark",
        "stochastic, sparse, convex, pretrained, unbiased, linear, robust, regularised, approximate, empirical",
        "optimised, evaluated, initialised, compared, fine-tuned, bounded, estimated, ablated, approximated, derived",
        "the authors, earlier work, our method, the baseline, the reviewers, a recent study",
        "accuracy in %, run time in s, batch size in samples, perplexity in nats, memory in GiB",
    ),
    _subject(
        "branch line, signal box, goods yard, viaduct, timetable, locomotive shed, level crossing, station roof,"
        " ballast,"
        "dining car, ticket hall, tunnel portal, junction, mail train, turntable",
        "narrow-gauge, disused, electrified, double-track, express, rural, abandoned, overnight, steep, freight",
        "opened, electrified, closed, rebuilt, doubled, inspected, delayed, extended, sold, photographed",
        "the railway company, the station master, the ministry, the engineers, the county, the passengers",
        "gradient in ‰, line speed in km/h, track length in km, axle load in t, journey time in min",
    ),
    _subject(
        "lease agreement, notice period, security deposit, tenant, liability clause, arbitration,"
        " written consent, party wall,"
        "insurance policy, premises, service charge, deed, guarantor, breach, assignment",
        "binding, reasonable, written, mutual, joint, exclusive, commercial, outstanding, applicable, prior",
        "terminated, signed, renewed, assigned, disputed, waived, enforced, registered, amended, served",
        "the landlord, the tenant, the court, the parties, the agent, the insurer",
        "rent in $, deposit in $, floor area in m², interest in %, notice in days",
    ),
)

_OPENINGS = (
    "In {year}, ", "By {month} of that year, ", "According to {name}, ", "After the {kind} {thing} was {act}, ",
    "Despite the {kind} {thing}, ", "As {name} noted, ", "For this reason, ", "In contrast, ", "On {date}, ",
    "Later, ",
)  # fmt: skip
_CORES = (
    "{body} {act} the {kind} {thing}",
    "{body} {act} the {thing} and the {kind} {thing2}",
    "the {kind} {thing} was {act} by {body}",
    "the {quantity} of the {thing} rose from {n1} to {n2} {unit}",
    "the {quantity} reached {n1} {unit}",
    "{body} {act} neither the {thing} nor the {thing2}",
    "a {kind} {thing} was {act} before the {thing2}",
    "{name} {act} {count} of the {things}",
    "between {n1} and {n2} {unit} were measured near the {kind} {thing}",
    "no {thing} had been {act} since {year}",
    "the {thing} remained {kind}, while the {thing2} was {act}",
    "most of the {things} were {kind} or had been {act}",
)
_ENDINGS = (
    "", "", "", "", " within {count} weeks", ", although {body} disagreed", " in {place}",
    ", as shown in section {sec}",
    " for the first time", ", which cost ${money}", " (see {code})", "; the {thing3} was {act2} instead",
    " because the {thing3} was {kind2}",
)  # fmt: skip
_PLACES = (
    "Aldermoor", "Brackwater", "Castelnau", "Dunmore", "Eastholm", "Fairlight", "Graben", "Hollin", "Ivybridge",
    "Kestrel Bay",
    "Lindau", "Marlow", "Nordhafen", "Ostrava", "Port Ellis", "Quarry Hill", "Ravensburg", "Stanmore", "Torvik",
    "Wexley",
)  # fmt: skip
_COUNTS = ("two", "three", "four", "five", "six", "seven", "nine", "eleven", "twelve", "fifteen", "twenty")


def sentence(rng: Random, subject: Subject) -> str:
    core = rng.choice(_OPENINGS) + rng.choice(_CORES) if rng.random() < 0.4 else rng.choice(_CORES)
    text = filled(core + rng.choice(_ENDINGS), rng, subject)
    return text[0].upper() + text[1:] + "."


_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou])")


def filled(template: str, rng: Random, subject: Subject) -> str:
    thing, thing2, thing3 = rng.sample(subject.things, 3)
    quantity, unit = rng.choice(subject.measures)
    low, high = amounts(rng)
    text = template.format(
        thing=thing,
        thing2=thing2,
        thing3=thing3,
        things=_plural(rng.choice(subject.things)),
        kind=rng.choice(subject.kinds),
        kind2=rng.choice(subject.kinds),
        act=rng.choice(subject.acts),
        act2=rng.choice(subject.acts),
        body=rng.choice(subject.bodies),
        quantity=quantity,
        unit=unit,
        n1=low,
        n2=high,
        year=rng.randint(1880, 2025),
        month=rng.choice(words.MONTHS),
        date=words.date(rng),
        name=words.name(rng),
        count=rng.choice(_COUNTS),
        place=place(rng),
        sec=f"{rng.randint(1, 9)}.{rng.randint(1, 9)}",
        money=f"{rng.randint(1, 900)},{rng.randint(0, 999):03}",
        code=words.code(rng),
    )
    return _ARTICLE.sub(r"\1n ", text)


def amounts(rng: Random) -> tuple[str, str]:
    """Two numbers in one format, the smaller first."""
    low, factor = rng.randint(2, 900), rng.choice((1, 1, 0.1, 37))
    both = (low * factor, (low + rng.randint(5, 300)) * factor)
    return (f"{both[0]:,.1f}", f"{both[1]:,.1f}") if factor == 0.1 else (f"{both[0]:,.0f}", f"{both[1]:,.0f}")


def place(rng: Random) -> str:
    return rng.choice(_PLACES)


def _plural(thing: str) -> str:
    if thing.endswith("s"):
        return thing
    if thing.endswith(("ch", "sh", "x")):
        return f"{thing}es"
    return thing[:-1] + "ies" if thing.endswith("y") and thing[-2] not in "aeiou" else f"{thing}s"


_TITLES = (
    "{kind} {things}", "The {thing} of {place}", "{things} and {quantity}", "On the {kind} {thing}",
    "{quantity}, {year}",
    "{place}: {things}", "Notes on the {thing}", "{kind} {things} in {place}", "What {body} {act}",
    "Results of {year}",
)  # fmt: skip


def title(rng: Random, subject: Subject) -> str:
    text = filled(rng.choice(_TITLES), rng, subject)
    return text[0].upper() + text[1:]


# --- other languages --------------------------------------------------------------------------------------------------

# code -> (Faker's locale, typeface or None for any Latin one, whether words have spaces between them)
LANGUAGES: dict[str, tuple[str, str | None, bool]] = {
    "de": ("de_DE", None, True),
    "fr": ("fr_FR", None, True),
    "es": ("es_ES", None, True),
    "pl": ("pl_PL", "DejaVu Serif", True),
    "cs": ("cs_CZ", "DejaVu Sans", True),
    "ru": ("ru_RU", "DejaVu Serif", True),
    "uk": ("uk_UA", "DejaVu Sans", True),
    "el": ("el_GR", "DejaVu Serif", True),
    "hy": ("hy_AM", "DejaVu Sans", True),
    "th": ("th_TH", "Noto Sans Thai", False),
    "ja": ("ja_JP", "Noto Serif JP", False),
}


@cache
def _vocabulary(locale: str) -> tuple[str, ...]:
    module = import_module(f"faker.providers.lorem.{locale}")
    return tuple(sorted({word for word in module.Provider.word_list if "." not in word and len(word) > 1}))


def foreign(rng: Random, language: str, length: int) -> str:
    """A sentence of about `length` words."""
    locale, _, spaced = LANGUAGES[language]
    drawn = [rng.choice(_vocabulary(locale)) for _ in range(max(2, length))]
    if not spaced:
        end = "。" if language == "ja" else ""
        return "".join(drawn) + end
    text = " ".join(drawn)
    return text[0].upper() + text[1:] + "."
