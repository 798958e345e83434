"""What an audit tries, and on which pages: those whose text is known, composed ones that stand in for the others, and
those of which there are real samples.

A token is taken to be three characters, for rewards that count tokens. Knows nothing about rewards.
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
from ocr_rl.evaluate.attacks import (
    ATTACKS,
    CURVES,
    LEVELS,
    OTHER_FRONT,
    WRONG,
    Attack,
    Target,
    caption_moved,
    with_wrong_characters,
)
from ocr_rl.text.checks import load_check
from ocr_rl.text.front_matter import FIELDS, FrontMatter
from ocr_rl.text.text_checks import Absent, Baseline

DRAWS = 4  # honest transcripts of a page
_SMALL = 400  # letters and digits: budgets of `notice` pages are about 120, those of `report` pages about 1,000
_REPORT: Mapping[str, int] = dict.fromkeys(
    ("present", "absent", "order", "table", "baseline", "budget"), 99
)  # sorts of tests of `report` pages


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A page as the rewards see it (perhaps without reference), and what is tried on it."""

    page: Page
    target: Target
    samples: Sequence[Transcript] = ()  # of a real policy
    own: Transcript | None = None  # of a page whose text nobody knows: the sample that cheats are made of


def cases_of(
    pages: Sequence[Page], samples: Mapping[str, Sequence[Transcript]], *, n: int, seed: int
) -> tuple[list[Case], list[str]]:
    """At most n pages that have a reference, those with real samples first; composed ones where none has a reference.
    Besides, at most n pages without reference of which there are real samples.

    The composed pages keep their reference from the rewards, as the data do, and each has the sorts of tests that some
    page of the data has. Second: what people should know of it.
    """
    known = [page for page in pages if is_known(page)]
    cases, notes = [], []
    if known:
        order = Random(seed).sample(known, len(known))
        chosen = sorted(order, key=lambda page: page.id not in samples)[:n]
        cases = [_case(page, known, samples.get(page.id, ()), seed) for page in chosen]
    else:
        cases = _composed(pages, n, seed)
        notes.append(
            "no page has a reference: tried on composed pages with such sorts of tests as the data's pages have, their "
            "references kept from the rewards"
        )
    if sampled := _of_samples([page for page in pages if not is_known(page)], samples, n, seed):
        notes.append(f"on {len(sampled)} pages without reference cheats are made of a real sample, to score below it")
    return [*cases, *sampled], notes


def _composed(pages: Sequence[Page], n: int, seed: int) -> list[Case]:
    found = [Counter(map(_sort, page.checks)) for page in pages]
    models = Random(seed).choices([each for each in found if each] or [_REPORT], k=n)
    made = composed_pages(_stand_in(pages) if _REPORT.keys() >= set(chain(*models)) else "mixed", n, seed, models)
    return [_hidden(_case(page, made, (), seed)) for page in made]


def _of_samples(pages: Sequence[Page], samples: Mapping[str, Sequence[Transcript]], n: int, seed: int) -> list[Case]:
    """Cheats are made of the first sample that ended by itself and says something: one drawn at random, so to speak."""
    ended = {
        page.id: one
        for page in pages
        if (one := next((s for s in samples.get(page.id, ()) if s.finish == "stop" and s.body.strip()), None))
    }
    said = [replace(page, reference=ended[page.id].body) for page in pages if page.id in ended]
    chosen = Random(seed).sample(said, min(n, len(said)))
    return [_hidden(replace(_case(page, said, samples[page.id], seed), own=ended[page.id])) for page in chosen]


def _hidden(case: Case) -> Case:
    return replace(case, page=replace(case.page, reference=None))


def is_known(page: Page) -> bool:
    return bool(page.reference and page.reference.strip())


def _stand_in(pages: Sequence[Page]) -> str:
    """The kind of composed page that is about as long as the data's: few tests say more of a small page."""
    budgets = [c.max_length for page in pages for c in page.checks if isinstance(c, Baseline) and c.max_length]
    return "notice" if budgets and median(budgets) < _SMALL else "report"


def _sort(check: Check) -> str:
    """A baseline test that says how much may stand there is another thing than one that does not."""
    bounded = isinstance(check, Baseline) and check.max_length is not None
    return "budget" if bounded else check.type


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
    from ocr_rl.pages.synth.make import Looks, make_document  # needs the extra `synth`

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


def _at_most(checks: Sequence[Check], most: Mapping[str, int], rng: Random) -> list[Check]:
    """Of each sort as many as `most` says, drawn at random."""
    kept: Counter[str] = Counter()
    chosen = []
    for check in rng.sample(checks, len(checks)):
        kept[_sort(check)] += 1
        if kept[_sort(check)] <= most.get(_sort(check), 0):
            chosen.append(check)
    return chosen


# ---- what is tried


def transcripts(case: Case) -> Iterator[tuple[tuple[str, str], Transcript]]:
    """Every transcript that is tried on a case, after its label: sort and name."""
    yield from _of_own(case, case.own) if case.own is not None else _of_reference(case)
    for sample in case.samples:
        yield ("sample", ""), sample


def _of_own(case: Case, own: Transcript) -> Iterator[tuple[tuple[str, str], Transcript]]:
    """A sample, and cheats behind its front matter; damage would tell nothing of a text that is not true."""
    yield ("own", ""), own
    yield from _attacks(case, own.raw.removesuffix(own.body), [one for one in ATTACKS if one.kind == "cheat"])


def _of_reference(case: Case) -> Iterator[tuple[tuple[str, str], Transcript]]:
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


def _attacks(case: Case, front: str, tried: Sequence[Attack]) -> Iterator[tuple[tuple[str, str], Transcript]]:
    for attack in tried:
        if (text := attack.make(case.target)) is not None:
            behind = _front(case.page, lies=True) if attack.name == OTHER_FRONT else front
            yield ("attack", attack.name), _transcript(text, behind, "length" if attack.endless else "stop")


def floating(case: Case) -> tuple[Page, list[Transcript]] | None:
    """The page with a caption before its table, and two transcripts: as it is, and with the caption after the table."""
    found = caption_moved(case.target.reference)
    if found is None or case.own is not None:
        return None
    page = replace(case.page, reference=found[0] if case.page.reference is not None else None)
    return page, [_transcript(text, _front(case.page)) for text in found]


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
