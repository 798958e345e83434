"""The searching attacker finds what simple rewards pay for, and nothing where a reward reads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from random import Random

import pytest

from ocr_rl.contract import Page, Transcript
from ocr_rl.evaluate.damage import with_wrong_characters
from ocr_rl.evaluate.search import FALL, Ask, Start, search
from ocr_rl.evaluate.search_edits import EDITS, Source
from ocr_rl.text.elements import element_score
from tests.evaluate.simple_rewards import OTHERS, PAGES, Longer, True_

STARTS = [
    Start(
        page=page,
        front="---\na: b\n---\n",
        text=with_wrong_characters(page.reference or "", 0.05, Random(0)),
        other=OTHERS[2],
        quality=partial(element_score, page.reference or ""),
        seed=page.id,
    )
    for page in PAGES[:2]
]


def _ask(reward) -> Ask:
    return lambda groups: [[score.value or 0.0 for score in reward(page, group)] for page, group in groups]


def test_it_finds_that_length_pays() -> None:
    for hole, start in zip(search(STARTS, _ask(Longer()), 100), STARTS, strict=True):
        assert hole.page_id == start.page.id
        assert hole.rise == pytest.approx((len(hole.text) - len(start.text)) / 5000)
        assert hole.rise > 0.01 and hole.edits
        assert hole.fall == pytest.approx(start.quality(start.text) - start.quality(hole.text))
        assert hole.fall >= FALL


def test_it_finds_nothing_where_the_reward_is_what_it_is_judged_by() -> None:
    def quality(groups: Sequence[tuple[Page, Sequence[Transcript]]]) -> list[list[float]]:
        return [[element_score(page.reference or "", t.body) for t in group] for page, group in groups]

    assert [(hole.rise, hole.text) for hole in search(STARTS, quality, 200)] == [(0.0, "")] * 2


def test_the_seed_decides() -> None:
    assert search(STARTS, _ask(True_()), 60) == search(STARTS, _ask(True_()), 60)
    assert search(STARTS, _ask(Longer()), 60) == search(STARTS, _ask(Longer()), 60)


def test_it_asks_for_no_text_twice_and_keeps_to_its_budget() -> None:
    asked: list[str] = []

    def ask(groups: Sequence[tuple[Page, Sequence[Transcript]]]) -> list[list[float]]:
        asked.extend(transcript.raw for _, group in groups for transcript in group)
        return _ask(Longer())(groups)  # type: ignore[return-value]

    search(STARTS[:1], ask, 60)
    assert len(asked) == len(set(asked)) == 61
    assert all(text.startswith("---\na: b\n---\n") for text in asked)


@pytest.mark.parametrize("name", EDITS)
def test_every_edit_changes_a_full_page_and_bears_any_text(name: str) -> None:
    source = Source(text=OTHERS[0], other=OTHERS[2])
    rng = Random(0)
    page = f"{OTHERS[0]}\n\n\\[ x = 1 \\]\n\n**Bold** end."
    assert any(EDITS[name](page, source, rng) not in (None, page) for _ in range(10))
    for odd in ("", " \n", "<td>", "#", "<table><tr></tr></table>"):
        EDITS[name](odd, source, rng)
