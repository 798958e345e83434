"""The pages of an audit, and the readings of each that it attacks.

Three sorts of pages: those with a reference, composed pages that stand in where no page has one, and pages without
reference of which there are real samples. Readings are the truth, the truth with letters wrong, and real samples.
Knows nothing about attacks nor about rewards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from random import Random
from statistics import median

from ocr_rl.contract import Check, Finish, Page, Transcript
from ocr_rl.evaluate.damage import ERRORS, with_wrong_characters
from ocr_rl.text.checks import load_check
from ocr_rl.text.front_matter import FIELDS, FrontMatter
from ocr_rl.text.text_checks import Absent, Baseline

TRUTH, SAMPLE = "truth", "sample"  # where a reading comes from; or a share of errors, as in "2 %"
READERS = 4  # honest readings of a page with the same share of errors
SAMPLES = 2  # real samples of a page that are attacked
_SMALL = 400  # visible characters: budgets of `notice` pages are about 120, those of `report` pages about 1,000
_REPORT: Mapping[str, int] = dict.fromkeys(
    ("present", "absent", "order", "table", "baseline", "budget"), 99
)  # sorts of tests of `report` pages


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A page as the rewards see it (perhaps without reference), and what attacks may know of it."""

    page: Page
    truth: str | None  # the true transcript; None where only real samples are known
    other: str  # the text of another page
    edges: Sequence[str] = ()  # running header and footer, as far as known
    samples: Sequence[Transcript] = ()  # of a real policy
    seed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """An honest reading of a page, and what its siblings read."""

    source: str  # TRUTH, SAMPLE, or a share of errors
    transcript: Transcript
    siblings: Sequence[Transcript]  # as good as it; not empty

    @property
    def front(self) -> str:
        """What stands before the body."""
        return self.transcript.raw.removesuffix(self.transcript.body)


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
        texts = _references(with_reference)
        cases = [_case(page, texts, samples.get(page.id, ()), seed) for page in chosen]
    else:
        cases = _composed(pages, n, seed)
        notes.append(
            "no page has a reference: tried on composed pages with such sorts of tests as the data's pages have, their "
            "references kept from the rewards"
        )
    if sampled := _of_samples([page for page in pages if not has_reference(page)], samples, n, seed):
        notes.append(
            f"on {len(sampled)} pages without reference real samples are attacked, where nobody can say which text is "
            "better"
        )
    return [*cases, *sampled], notes


def _composed(pages: Sequence[Page], n: int, seed: int) -> list[Case]:
    counts = [Counter(map(_sort, page.checks)) for page in pages if not is_blank(page)]
    models = Random(seed).choices([count for count in counts if count] or [_REPORT], k=n)
    composed = composed_pages(_stand_in(pages, set(chain(*models))), n, seed, models)
    texts = _references(composed)
    return [_hidden(_case(page, texts, (), seed)) for page in composed]


def _references(pages: Sequence[Page]) -> dict[str, str]:
    return {page.id: page.reference or "" for page in pages}


def _of_samples(pages: Sequence[Page], samples: Mapping[str, Sequence[Transcript]], n: int, seed: int) -> list[Case]:
    """Cases of pages with a sample that ended by itself and is not blank."""
    usable = [page for page in pages if ended(samples.get(page.id, ()))]
    chosen = Random(seed).sample(usable, min(n, len(usable)))
    texts = {page.id: ended(samples[page.id])[0].body for page in usable}
    return [replace(_case(page, texts, samples[page.id], seed), truth=None) for page in chosen]


def ended(samples: Sequence[Transcript]) -> list[Transcript]:
    """The samples that ended by themselves and are not blank."""
    return [sample for sample in samples if sample.finish == "stop" and sample.body.strip()]


def _hidden(case: Case) -> Case:
    return replace(case, page=replace(case.page, reference=None))


def has_reference(page: Page) -> bool:
    """Whether the page has a reference that is not blank."""
    return bool(page.reference and page.reference.strip())


def is_blank(page: Page) -> bool:
    """Whether the page is known to hold nothing: its reference is blank, or its tests allow no character."""
    if page.reference is not None:
        return not page.reference.strip()
    return any(isinstance(check, Baseline) and check.max_length == 0 for check in page.checks)


def _stand_in(pages: Sequence[Page], sorts: Collection[str]) -> str:
    """The kind of composed page that is about as long as the data's pages and may have these sorts of tests.

    Length matters, because a few tests say more about a small page than about a large one.
    """
    budgets = [c.max_length for page in pages for c in page.checks if isinstance(c, Baseline) and c.max_length]
    if budgets and median(budgets) < _SMALL:
        return "nano" if "math" in sorts else "notice"
    return "report" if _REPORT.keys() >= set(sorts) else "mixed"


def _sort(check: Check) -> str:
    """The check's type. A baseline test with a maximal length is a sort of its own: it bounds what may be added."""
    bounded = isinstance(check, Baseline) and check.max_length is not None
    return "budget" if bounded else check.type


def _case(page: Page, texts: Mapping[str, str], samples: Sequence[Transcript], seed: int) -> Case:
    """`texts`: of the pages, by id."""
    name = f"{seed}/{page.id}"
    others = [text for text in texts.values() if text != texts[page.id]]
    return Case(
        page=page,
        truth=texts[page.id],
        other=Random(name).choice(others or [texts[page.id]]),
        edges=[check.text for check in page.checks if isinstance(check, Absent)],
        samples=samples,
        seed=name,
    )


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


# ---- readings


def readings(case: Case, errors: Sequence[float] = ERRORS) -> Iterator[Reading]:
    """Honest readings with these shares of errors (0: the truth), and at most `SAMPLES` real samples that ended."""
    if case.truth is not None:
        front = front_of(case.page)
        for share in errors:
            texts = [
                with_wrong_characters(case.truth, share, Random(f"{case.seed}/{share}/{k}")) for k in range(READERS)
            ]
            first, *others = (transcript(text, front) for text in texts)
            yield Reading(source=percent(share) if share else TRUTH, transcript=first, siblings=others)
    real = ended(case.samples)
    for k, sample in enumerate(real[:SAMPLES]):
        yield Reading(source=SAMPLE, transcript=sample, siblings=[*real[:k], *real[k + 1 :]] or [sample])


def percent(share: float) -> str:
    return f"{100 * share:g} %"


def transcript(body: str, front: str, finish: Finish = "stop") -> Transcript:
    """A text as a policy would have written it; for rewards that count tokens, three characters are one token."""
    return Transcript(raw=front + body, body=body, finish=finish, num_tokens=len(front + body) // 3)


def front_of(page: Page, *, lies: bool = False) -> str:
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
