"""Supervised fine-tuning: which pages a step sees, what is learnt of them, and going on where it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from ocr_rl import config
from ocr_rl.contract import Page, UserError
from ocr_rl.learn.algos.setting import OpenPages, Setting
from ocr_rl.learn.algos.sft import reference_rows, sft, target_text
from ocr_rl.learn.step import Step
from ocr_rl.pages.epochs import draw
from ocr_rl.pages.synth.make import make_document
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.text.front_matter import split_front_matter
from tests.learn.conftest import Counter

PAGES = [Page(id=f"{n:08x}:p1", pdf=Path(f"{n}.pdf"), number=1) for n in range(5)]


def test_every_epoch_is_all_pages_in_another_order() -> None:
    epochs = [draw(PAGES, 5, at, "seed") for at in (0, 5, 10)]
    assert all(sorted(page.id for page in epoch) == [page.id for page in PAGES] for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert draw(PAGES, 5, 0, "another seed") != epochs[0]


@pytest.mark.parametrize("at", [0, 1, 4, 5, 7, 12])
def test_what_is_drawn_depends_on_how_many_were_drawn_alone(at: int) -> None:
    turns = [page for turn in range(15) for page in draw(PAGES, 1, turn, "seed")]
    for n in (1, 2):  # 1 + 5 // 3: so many in a row are never twice the same
        assert draw(PAGES, n, at, "seed") == turns[at : at + n]


def lessons(*steps: int) -> config.Sft:
    lesson = {"pages_per_step": 2, "front_matter": False}
    stages = [{**lesson, "steps": n, "pages": {"synth": "nano", "seed": i}} for i, n in enumerate(steps)]
    return config.Sft.model_validate({"stages": stages})


def run_sft(cfg: config.Sft, open_pages: OpenPages, prompter: Prompter, start: int = 0) -> Iterator[Step]:
    """The steps of a learner that has done `start` of them."""
    learner: Any = Counter(prompter, start)
    return sft(cfg, Setting(seed=0, learner=learner, open_pages=open_pages, folder=Path("no folder")), {})


def read(rows: Sequence[Row], prompter: Prompter) -> list[str]:
    return [prompter.decode(row.completion_ids) for row in rows]


def test_a_curriculum_is_its_stages_one_after_the_other(open_pages, prompter: Prompter) -> None:
    steps = list(run_sft(lessons(3, 2), open_pages, prompter))
    assert [step.metrics["stage"] for step in steps] == [0, 0, 0, 1, 1]
    texts = [text for step in steps for text in read(step.rows, prompter)]
    assert sorted(texts[:6]) == ["Page 1", "Page 1", "Page 2", "Page 2", "Page 3", "Page 3"]  # two epochs of three
    assert texts[6:] == ["Page 4"] * 4


@pytest.mark.parametrize("start", [1, 3, 4, 5])
def test_sft_goes_on_where_it_was(open_pages, prompter: Prompter, start: int) -> None:
    rows = [step.rows for step in run_sft(lessons(3, 2), open_pages, prompter)]
    assert [step.rows for step in run_sft(lessons(3, 2), open_pages, prompter, start)] == rows[start:]


def test_reference_rows_end_with_eos_and_every_token_counts_the_same(
    tiny_pages: list[Page], prompter: Prompter
) -> None:
    pages = [tiny_pages[0], replace(tiny_pages[1], reference="")]
    rows = reference_rows([(page, prompter.prompt(page)) for page in pages], prompter, front_matter=False)
    assert [len(row.completion_ids) for row in rows] == [7, 1]  # six bytes and EOS; a blank page is EOS alone
    assert all(row.completion_ids[-1] == prompter.eos_id for row in rows)
    assert {row.weight for row in rows} == {1 / 8}
    assert len({row.group_id for row in rows}) == 2


def test_pages_without_a_reference_are_left_out_or_named(tiny_pages: list[Page], prompter: Prompter) -> None:
    mixed = [replace(tiny_pages[0], reference=None), tiny_pages[1]]
    (step,) = run_sft(lessons(1), lambda source: mixed, prompter)
    assert read(step.rows, prompter) == ["Page 2"]  # once, though the lesson asks for two pages a step
    with pytest.raises(UserError, match=r"sft\.stages\.0\.pages: no page has a reference"):
        next(run_sft(lessons(1), lambda source: mixed[:1], prompter))


@pytest.mark.parametrize("front_matter", [True, False])
@pytest.mark.parametrize("kind", ["chars", "line", "nano", "notice"])
def test_a_target_survives_the_tokenizer(prompter: Prompter, kind: str, front_matter: bool) -> None:
    document = make_document(kind, 21, 0, 4 if kind == "notice" else 25)
    for number, reference in enumerate(document.references, 1):
        page = Page(id=f"ab:p{number}", pdf=Path("a.pdf"), number=number, reference=reference)
        text = target_text(page, front_matter=front_matter)
        ids = prompter.encode(text)
        assert prompter.decode(ids) == text
        assert not set(ids) & {*prompter.banned_ids, prompter.eos_id}
        assert split_front_matter(text)[1].strip() == reference.strip()
        assert (split_front_matter(text)[0] is not None) == front_matter
