"""The pages of an audit, and the transcripts that it tries on each.

Three sorts of pages: those with a reference, composed pages that stand in where no page has one, and pages without
reference of which there are real samples. For rewards that count tokens, three characters are one token. Knows nothing
about rewards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from random import Random
from statistics import median

from ocr_rl.contract import Check, Finish, Page, Transcript
from ocr_rl.evaluate.attacks import ATTACKS, Attack, Target, caption_moved
from ocr_rl.evaluate.damage import CURVES, LEVELS, WRONG, with_wrong_characters
from ocr_rl.text.checks import load_check
from ocr_rl.text.front_matter import FIELDS, FrontMatter
from ocr_rl.text.text_checks import Absent, Baseline

Label = tuple[str, str]  # of a transcript: its sort ("reference", "honest", "attack", ...) and its name within the sort
DRAWS = 4  # honest transcripts of a page
_SMALL = 400  # letters and digits: budgets of `notice` pages are about 120, those of `report` pages about 1,000
_REPORT: Mapping[str, int] = dict.fromkeys(
    ("present", "absent", "order", "table", "baseline", "budget"), 99
)  # sorts of tests of `report` pages


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A page as the rewards see it (perhaps without reference), and what the audit makes transcripts of."""

    page: Page
    target: Target
    samples: Sequence[Transcript] = ()  # of a real policy
    own: Transcript | None = None  # the sample that cheats are made of, where the page's true text is unknown


def cases_of(
    pages: Sequence[Page], samples: Mapping[str, Sequence[Transcript]], *, n: int, seed: int
) -> tuple[list[Case], list[str]]:
    """The cases, and notes on them for people. `samples`: real transcripts by page id.

    At most n cases are pages with a reference; those with real samples come first. Where no page has a reference, they
    are composed pages. A composed page has the sorts of tests that some page of the data has, and hides its reference
    from the rewards, as the data do. At most n further cases are pages without reference that have real samples.
    """
    with_reference = [page for page in pages if has_reference(page)]
    cases, notes = [], []
    if with_reference:
        order = Random(seed).sample(with_reference, len(with_reference))
        chosen = sorted(order, key=lambda page: page.id not in samples)[:n]
        cases = [_case(page, with_reference, samples.get(page.id, ()), seed) for page in chosen]
    else:
        cases = _composed(pages, n, seed)
        notes.append(
            "no page has a reference: tried on composed pages with such sorts of tests as the data's pages have, their "
            "references kept from the rewards"
        )
    if sampled := _of_samples([page for page in pages if not has_reference(page)], samples, n, seed):
        notes.append(f"on {len(sampled)} pages without reference cheats are made of a real sample, to score below it")
    return [*cases, *sampled], notes


def _composed(pages: Sequence[Page], n: int, seed: int) -> list[Case]:
    counts = [Counter(map(_sort, page.checks)) for page in pages]
    models = Random(seed).choices([count for count in counts if count] or [_REPORT], k=n)
    kind = _stand_in(pages) if _REPORT.keys() >= set(chain(*models)) else "mixed"
    composed = composed_pages(kind, n, seed, models)
    return [_hidden(_case(page, composed, (), seed)) for page in composed]


def _of_samples(pages: Sequence[Page], samples: Mapping[str, Sequence[Transcript]], n: int, seed: int) -> list[Case]:
    """Cases whose cheats are made of a page's first sample that ended by itself and is not blank.

    Samples are drawn at random, so the first is as good as any.
    """
    ended = {
        page.id: sample
        for page in pages
        if (sample := next((s for s in samples.get(page.id, ()) if s.finish == "stop" and s.body.strip()), None))
    }
    sampled = [replace(page, reference=ended[page.id].body) for page in pages if page.id in ended]
    chosen = Random(seed).sample(sampled, min(n, len(sampled)))
    return [_hidden(replace(_case(page, sampled, samples[page.id], seed), own=ended[page.id])) for page in chosen]


def _hidden(case: Case) -> Case:
    return replace(case, page=replace(case.page, reference=None))


def has_reference(page: Page) -> bool:
    """Whether the page has a reference that is not blank."""
    return bool(page.reference and page.reference.strip())


def _stand_in(pages: Sequence[Page]) -> str:
    """The kind of composed page that is about as long as the data's pages.

    Length matters, because a few tests say more about a small page than about a large one.
    """
    budgets = [c.max_length for page in pages for c in page.checks if isinstance(c, Baseline) and c.max_length]
    return "notice" if budgets and median(budgets) < _SMALL else "report"


def _sort(check: Check) -> str:
    """The check's type. A baseline test with a maximal length is a sort of its own: it bounds what may be added."""
    bounded = isinstance(check, Baseline) and check.max_length is not None
    return "budget" if bounded else check.type


def _case(page: Page, pages: Sequence[Page], samples: Sequence[Transcript], seed: int) -> Case:
    assert page.reference is not None
    rng = Random(f"{seed}/{page.id}")
    others = [other.reference or "" for other in pages if other.reference != page.reference]
    other = rng.choice(others or [page.reference])
    edges = [check.text for check in page.checks if isinstance(check, Absent)]
    target = Target(reference=page.reference, other=other, edges=edges, seed=f"{seed}/{page.id}")
    return Case(page=page, target=target, samples=samples)


def composed_pages(kind: str, n: int, seed: int, models: Sequence[Mapping[str, int]] | None = None) -> list[Page]:
    """At most n synthetic pages with text on them; page k has no more tests of a sort than `models[k]` says.

    Their PDFs are thrown away, because an audit needs only the text and the tests of a page.
    """
    from ocr_rl.pages.synth.make import Looks, make_document  # needs the extra `synth`

    composed: list[Page] = []
    for index in range(8 * n):
        document = make_document(kind, seed, index, 1, Looks(scan=0.0))
        checks = [load_check(test) for test in document.tests]
        kept = checks if models is None else _at_most(checks, models[len(composed)], Random(f"{seed}/{index}"))
        (reference,), (front,) = document.references, document.front_matter
        if reference.strip() and (kept or models is None):
            page_id, pdf = f"composed_{index}:p1", Path(document.name)
            composed.append(Page(id=page_id, pdf=pdf, number=1, reference=reference, checks=kept, tags=front.tags))
        if len(composed) == n:
            break
    return composed


def _at_most(checks: Sequence[Check], most: Mapping[str, int], rng: Random) -> list[Check]:
    """Checks drawn at random, of each sort at most as many as `most` says."""
    kept: Counter[str] = Counter()
    chosen = []
    for check in rng.sample(checks, len(checks)):
        kept[_sort(check)] += 1
        if kept[_sort(check)] <= most.get(_sort(check), 0):
            chosen.append(check)
    return chosen


# ---- transcripts


def transcripts(case: Case) -> Iterator[tuple[Label, Transcript]]:
    """Every transcript that the audit tries on a case, after its label."""
    yield from _of_own(case, case.own) if case.own is not None else _of_reference(case)
    for sample in case.samples:
        yield ("sample", ""), sample


def _of_own(case: Case, own: Transcript) -> Iterator[tuple[Label, Transcript]]:
    """A sample, and cheats behind its front matter. Damage is left out: the sample may be damaged itself."""
    yield ("own", ""), own
    yield from _attacks(case, own.raw.removesuffix(own.body), [attack for attack in ATTACKS if attack.kind == "cheat"])


def _of_reference(case: Case) -> Iterator[tuple[Label, Transcript]]:
    target, front = case.target, _front(case.page)
    yield ("reference", ""), _transcript(target.reference, front)
    for k in range(DRAWS):
        text = with_wrong_characters(target.reference, WRONG, Random(f"{target.seed}/honest{k}"))
        yield ("honest", ""), _transcript(text, front)
    yield from _attacks(case, front, ATTACKS)
    for kind, damage in CURVES.items():
        for share in LEVELS:
            text = damage(target.reference, share, Random(f"{target.seed}/{kind}"))
            yield ("curve", f"{kind}/{share}"), _transcript(text, front)


def _attacks(case: Case, front: str, tried: Sequence[Attack]) -> Iterator[tuple[Label, Transcript]]:
    for attack in tried:
        if (text := attack.make(case.target)) is not None:
            before = _front(case.page, lies=True) if attack.front == "lies" else front
            yield ("attack", attack.name), _transcript(text, before, "length" if attack.endless else "stop")


def floating(case: Case) -> tuple[Page, list[Transcript]] | None:
    """The page with a caption before its table, and two transcripts: the true one, and one with the caption after it.

    None where the page has no table or where its true text is unknown.
    """
    orders = caption_moved(case.target.reference)
    if orders is None or case.own is not None:
        return None
    page = replace(case.page, reference=orders[0] if case.page.reference is not None else None)
    return page, [_transcript(text, _front(case.page)) for text in orders]


def _transcript(body: str, front: str, finish: Finish = "stop") -> Transcript:
    return Transcript(raw=front + body, body=body, finish=finish, num_tokens=len(front + body) // 3)


def _front(page: Page, *, lies: bool = False) -> str:
    """The page's true front matter as far as its tags give it; `lies`: with another language and a false rotation."""
    fields = dict(tag.split("=", 1) for tag in page.tags if tag.split("=", 1)[0] in FIELDS and "=" in tag)
    rotation = int(fields["rotation_correction"]) if fields.get("rotation_correction", "").isdecimal() else 0
    language = fields.get("primary_language", "en")
    return FrontMatter(
        primary_language="eo" if lies else None if language == "null" else language,
        is_rotation_valid=fields.get("is_rotation_valid", "True") == "True",
        rotation_correction=(rotation + 90) % 360 if lies else rotation,
        is_table=fields.get("is_table") == "True",
        is_diagram=fields.get("is_diagram") == "True",
    ).to_text()
