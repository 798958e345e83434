"""`ocr-rl pages rank`: pages by headroom and tests by suspicion, from samples that are there already. No torch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ocr_rl import outputs
from ocr_rl.config import RewardChoice, Scoring, load_recipe
from ocr_rl.contract import Page, Transcript, UserError
from ocr_rl.evaluate.groups import SavedGroup, read_groups
from ocr_rl.evaluate.headroom import Headroom, chosen, first_of, headroom_of, ranked
from ocr_rl.evaluate.suspects import Suspicion, look_at, suspicions
from ocr_rl.evaluate.tables import to_markdown_table
from ocr_rl.pages.chosen import write_chosen
from ocr_rl.pages.dataset import load_dataset, load_with_contents
from ocr_rl.rollout.reward_pool import RewardPool, weighted
from ocr_rl.rollout.scoring import RewardFault
from ocr_rl.text.checks import judge

SHOWN = 20  # rows that are printed
DEFAULT = "pass_rate"  # the reward where no recipe is named
SUSPECTS = 0.1  # share of the tests that are listed where --top says nothing


def rank_pages(
    data: Path, samples: Path, *, recipe: str | None, top: float | None, out: Path | None, to: Path | None
) -> Iterator[str]:
    """Lines for people; `out` gets every page with its figures, `to` the chosen pages as a dataset."""
    _refuse_taken(out, to)
    groups = read_groups(samples)
    pages = load_dataset(data)
    rows = ranked(list(_headrooms(samples_of(groups, pages, data), recipe)))
    kept = chosen(rows, top)
    by_id = {page.id: page for page in pages}
    yield to_markdown_table(
        ["page", "n", "mean", "best", "headroom", "tests disagreeing", ""],
        [_page_row(row, by_id[row.page]) for row in rows[:SHOWN]],
    )
    rest = Counter(row.rests for row in rows)
    yield (
        f"{len(rows)} pages: {rest['']} have headroom; at rest: {rest['always']} always pass, {rest['never']} never "
        f"do, {rest['flat']} flat; {len(kept)} chosen"
    )
    if out is not None:
        places = {page.id: {"pdf": _name(page, data), "number": page.number} for page in pages}
        ids = {row.page for row in kept}
        outputs.write(out, _lines({**row.to_json(), **places[row.page], "chosen": row.page in ids} for row in rows))
        yield f"every page: {out}"
    if to is not None:
        if not kept:
            raise UserError(f"{samples}: no page has headroom, so no dataset was written; draw more samples or pages.")
        made_by = {"rank": data.name, "by": "headroom", "rewards": recipe or DEFAULT, "top": top}
        write_chosen(data, {row.page for row in kept}, to, made_by)
        yield f'the chosen pages: {to} (in a recipe: pages = {{ dir = "{to}" }})'


def rank_tests(data: Path, samples: Path, *, top: float | None, out: Path | None) -> Iterator[str]:
    """Lines for people; `out` gets the listed tests with what samples read, for `ocr-rl pages review`."""
    _refuse_taken(out, None)
    groups = read_groups(samples)
    pages, contents = load_with_contents(data)
    placed = {test.check.id: test for tests in contents.tests.values() for test in tests}
    rows: list[tuple[Page, Suspicion]] = []
    for page, transcripts in samples_of(groups, pages, data):
        ids = [check.id for check in page.checks]
        rows += [(page, one) for one in suspicions(ids, look_at(page.checks, transcripts))]
    rows.sort(key=lambda row: (-row[1].value, row[1].id))
    listed = rows[: first_of(len(rows), SUSPECTS if top is None else top)]
    listed = [(page, one) for page, one in listed if one.value > 0]
    yield to_markdown_table(
        ["test", "type", "suspicion", "failing", "agreement", "standing", "samples say"],
        [_test_row(placed[one.id].check.type, one) for _, one in listed[:SHOWN]],
    )
    never = sum(one.failing == 1 for _, one in rows)
    yield f"{len(rows)} tests, {never} that no sample passes; the {len(listed)} most suspect are listed"
    if out is not None:
        outputs.write(out, _lines(_suspect(page, one, placed[one.id], data) for page, one in listed))
        yield f"all of them: {out} (ocr-rl pages review {data} {out})"


def samples_of(
    groups: Sequence[SavedGroup], pages: Sequence[Page], data: Path
) -> list[tuple[Page, Sequence[Transcript]]]:
    """The pages that have samples, each with those of its last group. UserError for a page that `data` lacks."""
    samples = {group.page_id: group.samples for group in groups}
    if unknown := set(samples) - {page.id for page in pages}:
        raise UserError(f"{data}: has no page {min(unknown)}; give the dataset that the samples are of.")
    return [(page, samples[page.id]) for page in pages if page.id in samples]


def _headrooms(groups: Sequence[tuple[Page, Sequence[Transcript]]], recipe: str | None) -> Iterator[Headroom]:
    loaded = load_recipe(recipe) if recipe else None
    if loaded is None and (blank := next((page for page, _ in groups if not page.checks), None)):
        raise UserError(
            f"{blank.pdf}, page {blank.number}: has no tests; name a recipe whose rewards count: --rewards."
        )
    choices = loaded.mix if loaded else [RewardChoice(name=DEFAULT)]
    how = loaded.scoring if loaded else Scoring()
    pool = RewardPool(
        choices=choices,
        rewards=weighted(choices, timeout_s=how.timeout_s),
        workers=how.workers,
        timeout_s=how.timeout_s,
    )
    with closing(pool):
        for (page, transcripts), scores in zip(groups, pool.score_all(groups), strict=True):
            if isinstance(scores, RewardFault):
                raise UserError(f"{scores}.")
            verdicts = [judge(page.checks, one.body, "strict") for one in transcripts]
            passed = {check.id: [row[k].passed for row in verdicts] for k, check in enumerate(page.checks)}
            asks = {check.id: check.asked is not None and check.type != "absent" for check in page.checks}
            yield headroom_of(page.id, scores.rewards, passed, asks)


def _page_row(row: Headroom, page: Page) -> list[str]:
    disagreeing = f"{row.contested} of {len(row.shares)}"
    name = f"{page.pdf.name}:{page.number}"
    return [
        name,
        str(row.samples),
        *(f"{value:.3f}" for value in (row.mean, row.best, row.headroom)),
        disagreeing,
        row.rests and f"rests: {row.rests}",
    ]


def _test_row(type_: str, one: Suspicion) -> list[str]:
    figures = (f"{value:.2f}" for value in (one.value, one.failing, one.agreement, one.standing))
    return [one.id, type_, *figures, one.against[:60]]


def _suspect(page: Page, one: Suspicion, placed: Any, data: Path) -> dict[str, Any]:
    return {
        "id": one.id,
        "type": placed.check.type,
        "page": page.id,
        "pdf": _name(page, data),
        "number": page.number,
        "file": placed.file.name,
        "line": placed.line,
        "suspicion": one.value,
        **{name: getattr(one, name) for name in ("failing", "agreement", "standing", "tests", "against", "readings")},
        "test": placed.check.to_json(),
    }


def _name(page: Page, data: Path) -> str:
    return page.pdf.relative_to(data / "pdfs").as_posix()


def _lines(rows: Iterator[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _refuse_taken(out: Path | None, to: Path | None) -> None:
    if out is not None:
        outputs.refuse_taken([out])
    if to is not None and to.exists():
        raise UserError(f"{to}: is there already; give a new folder with --to.")
