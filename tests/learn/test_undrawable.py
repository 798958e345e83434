"""What a page that cannot be drawn, or is too long, costs: itself alone, in every algorithm, and in the learner."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch

from ocr_rl import config
from ocr_rl.contract import Page, UserError
from ocr_rl.learn.algos.best_of_n import best_of_n
from ocr_rl.learn.algos.dpo import dpo
from ocr_rl.learn.algos.pairs import Pair, with_reference
from ocr_rl.learn.fit import _learn
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.probe import Canary
from ocr_rl.learn.step import Step
from ocr_rl.learn.undrawn import Undrawn, without_undrawn
from ocr_rl.pages.epochs import draw
from ocr_rl.pages.raster import PageError
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import Sampling
from ocr_rl.train.evaluation import by_likelihood
from tests.learn.conftest import NLL, Asked, Counter, MakeLearner, Referee, blind, without_file
from tests.learn.test_grpo import DIFFERENT, run_grpo
from tests.learn.test_grpo import settings as grpo_settings
from tests.learn.test_rounds import LENGTHS, run_rounds
from tests.learn.test_rounds import settings as round_settings
from tests.learn.test_sft import lessons, read, run_sft


def test_a_page_that_cannot_be_drawn_costs_itself_alone(
    tiny_pages, prompter, counter, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = without_file(tiny_pages, 2)
    cfg = grpo_settings(pages_per_step=4, refills=0)
    steps = list(run_grpo(cfg, pages, Asked(prompter, DIFFERENT), counter))
    assert [step.metrics["undrawable"] for step in steps] == [1] * 4
    assert all(
        {row.prompt.page_id for row in step.rows} == {page.id for page in pages} - {pages[1].id} for step in steps
    )
    assert all(sum(row.weight * len(row.completion_ids) for row in step.rows) == pytest.approx(1) for step in steps)
    assert [step.state for step in steps] == [{"drawn": n} for n in (4, 8, 12, 16)]
    assert capsys.readouterr().out.count("left out: gone.pdf, page 2: there is no such file") == 1


def test_a_page_that_cannot_be_drawn_is_refilled_like_one_without_signal(tiny_pages, prompter, counter) -> None:
    order = [page.number for page in draw(tiny_pages, 4, 0, "0")]
    sampler = Asked(prompter, DIFFERENT)
    step = next(run_grpo(grpo_settings(refills=2), without_file(tiny_pages, order[0], order[2]), sampler, counter))
    assert sampler.pages == [order[1:2], order[3:4]]  # the first refill had no page to sample
    assert (step.metrics["undrawable"], step.state) == (2, {"drawn": 4})


def test_a_prompt_that_is_too_long_costs_its_page_alone(tiny_pages, prompter: Prompter) -> None:
    most = len(prompter.prompt(tiny_pages[2]).expanded_ids)
    strict = replace(prompter, max_prompt_tokens=most)  # the last page is taller
    cfg = grpo_settings(pages_per_step=4, refills=0)
    step = next(run_grpo(cfg, tiny_pages, Asked(strict, DIFFERENT), Counter(strict)))
    too_long = [page.id for page in tiny_pages if len(prompter.prompt(page).expanded_ids) > most]
    assert step.metrics["undrawable"] == len(too_long) > 0
    assert not {row.prompt.page_id for row in step.rows} & set(too_long)


def test_a_step_without_any_page_left_stops_the_run(tiny_pages, prompter, counter) -> None:
    broken = without_file(tiny_pages, 1, 2, 3, 4)
    with pytest.raises(UserError, match=r"No page of a step is left.*gone\.pdf.*take such pages out of the dataset"):
        next(run_grpo(grpo_settings(refills=0), broken, Asked(prompter, DIFFERENT), counter))
    with pytest.raises(UserError, match=r"No page of a step is left.*gone\.pdf"):
        next(run_sft(lessons(3), lambda source: broken, prompter))


def test_sft_leaves_out_a_page_that_cannot_be_drawn(tiny_pages, prompter: Prompter) -> None:
    pages = without_file(tiny_pages[:3], 2)
    steps = list(run_sft(lessons(3), lambda source: pages, prompter))
    texts = [text for step in steps for text in read(step.rows, prompter)]
    assert sorted(texts) == ["Page 1", "Page 1", "Page 3", "Page 3"]  # two epochs, as with page 2
    assert sum(step.metrics.get("undrawable", 0) for step in steps) == 2
    assert all(sum(row.weight * len(row.completion_ids) for row in step.rows) == pytest.approx(1) for step in steps)
    again = list(run_sft(lessons(3), lambda source: pages, prompter, 1))
    assert [step.rows for step in again] == [step.rows for step in steps[1:]]


def test_pairs_of_a_page_that_cannot_be_drawn_are_left_out(
    tiny_pages, prompter: Prompter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pairs.jsonl"
    pages = without_file(tiny_pages, 2)
    answers = [("a", "b"), ("a", "c")]
    rows = [{"pdf": p.pdf.name, "page": p.number, "chosen": x, "rejected": y} for p in pages[:2] for x, y in answers]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    cfg = round_settings(preferences=path, steps=2)
    run = lambda pages: run_rounds(dpo, cfg, pages, Asked(prompter, LENGTHS), Referee(prompter), tmp_path)
    steps = list(run(pages))
    assert [{row.prompt.page_id for row in step.rows} for step in steps] == [{pages[0].id}] * 2
    assert [step.metrics.get("undrawable") for step in steps] == [2, None]  # both of its pairs, when they are read
    assert capsys.readouterr().out.count("left out: gone.pdf, page 2") == 1
    lost = run(without_file(tiny_pages, 1, 2))  # gone after the round's pairs were written
    with pytest.raises(UserError, match=r"No page of a step is left.*gone\.pdf"):
        next(lost)


def test_a_round_leaves_out_a_page_that_cannot_be_drawn(tiny_pages, prompter: Prompter, tmp_path: Path) -> None:
    for algorithm, kind in ((dpo, config.Dpo), (best_of_n, config.BestOfN)):
        sampler = Asked(prompter, LENGTHS)
        folder = tmp_path / algorithm.__name__
        steps = list(
            run_rounds(algorithm, round_settings(kind), without_file(tiny_pages, 2), sampler, Referee(prompter), folder)
        )
        assert sorted(sampler.pages[0]) == [1, 3, 4]
        assert [step.metrics.get("undrawable") for step in steps] == [1, None, None, None]
        assert all(tiny_pages[1].id != row.prompt.page_id for step in steps for row in step.rows)
        with pytest.raises(UserError, match=r"No page of a step is left.*gone\.pdf"):
            broken = without_file(tiny_pages, 1, 2, 3, 4)
            next(run_rounds(algorithm, round_settings(kind), broken, sampler, Referee(prompter), folder / "none"))


# --- a page that was drawn when it was asked for, and cannot be when it is learnt from --------------------------------


def gone(rows: list[Row], group_id: int) -> list[Row]:
    """The rows, those of that group with a page whose file is not there any more."""
    lose = lambda prompt: replace(prompt, image=replace(prompt.image, pdf=Path("gone.pdf")))
    return [replace(row, prompt=lose(row.prompt)) if row.group_id == group_id else row for row in rows]


def numbers(learner: Learner) -> list[torch.Tensor]:
    return [weight.detach().clone() for _, weight in learner.all_weights()]


@pytest.mark.parametrize("micro_tokens", [64, 10_000])  # the lost page alone in a pass, and beside the other
@pytest.mark.parametrize("freeze_vision", [False, True])  # whose pages the tower reads once
def test_trap_10_an_update_loses_the_page_alone(
    make_learner: MakeLearner,
    rows: list[Row],
    capsys: pytest.CaptureFixture[str],
    micro_tokens: int,
    freeze_vision: bool,
) -> None:
    policy = {"freeze_vision": freeze_vision}
    learner, other = (make_learner(policy=policy, micro_tokens=micro_tokens) for _ in range(2))
    before = numbers(learner)
    for lost in (0, 1):
        with pytest.raises(Undrawn, match=r"gone\.pdf, page .: there is no such file"):
            learner.update(gone(rows, lost), NLL)
    assert all(map(torch.equal, numbers(learner), before))
    figures, pages = _learn(Step(rows=gone(rows, 1), loss=NLL), learner, None, {})  # no gradient of those is left
    expected, none = _learn(Step(rows=rows[:4], loss=NLL), other, None, {})
    assert (pages, none, learner.policy) == (1, 0, 1)
    assert {**figures, "update_s": 0} == {**expected, "update_s": 0}
    assert all(map(torch.equal, numbers(learner), numbers(other)))
    assert capsys.readouterr().out.count("left out: gone.pdf, page") == 1


def test_without_any_page_left_an_update_stops_the_run(make_learner: MakeLearner, rows: list[Row]) -> None:
    learner = make_learner()
    with pytest.raises(UserError, match=r"No page of a step is left.*gone\.pdf.*go on with --resume"):
        _learn(Step(rows=gone(gone(rows, 0), 1), loss=NLL), learner, None, {})
    assert learner.policy == 0


def test_what_a_learner_says_of_rows_and_pairs_leaves_the_page_out(
    make_learner: MakeLearner, rows: list[Row], prompter: Prompter
) -> None:
    learner = make_learner(reference=True)
    told = learner.annotate(gone(rows, 0), old=True, reference=True)
    assert told == learner.annotate(rows[4:], old=True, reference=True)
    answers = [(*prompter.encode(text), prompter.eos_id) for text in ("a", "b")]
    prompted = [
        (Pair(page_id=row.prompt.page_id, chosen_ids=answers[0], rejected_ids=answers[1]), row.prompt)
        for row in (gone(rows, 0)[0], rows[4])
    ]
    assert with_reference(prompted, learner) == with_reference(prompted[1:], learner)


def test_a_canary_takes_another_page(make_learner: MakeLearner, tiny_pages: list[Page], prompter: Prompter) -> None:
    learner = make_learner()
    canary = Canary(learner, Asked(prompter, DIFFERENT), tiny_pages, Sampling(max_tokens=4), 0)
    canary.ask()
    canary._rows = gone(canary._rows, 0)  # its file goes while the engine writes
    assert canary.gap() == {}
    canary.ask()
    assert {row.prompt.page_id for row in canary._rows} == {tiny_pages[1].id}
    assert canary.gap()["gap"] > 0


def test_what_is_lost_before_an_update_is_counted_too(tiny_pages, prompter, make_learner: MakeLearner) -> None:
    """With a KL to the start the learner reads the samples first: their pages are gone between these two."""
    learner = make_learner(reference=True)
    ask, lost = learner.annotate, tiny_pages[0]

    def annotate(rows: list[Row], **how: bool) -> list[Row]:
        (number,) = {row.group_id for row in rows if row.prompt.page_id == lost.id}
        return ask(gone(rows, number), **how)

    learner.annotate = annotate  # type: ignore[method-assign]
    cfg = grpo_settings(pages_per_step=4, refills=0, beta=0.1)
    step = next(run_grpo(cfg, tiny_pages, Asked(prompter, DIFFERENT), learner))
    assert step.metrics["undrawable"] == 1 and lost.id not in {row.prompt.page_id for row in step.rows}


def test_who_reads_other_rows_is_not_asked_for_ever(rows: list[Row]) -> None:
    def others(_: Any) -> None:
        raise Undrawn(
            {replace(rows[0].prompt.image, pdf=Path("other.pdf")): PageError(Path("other.pdf"), 1, "is gone")}
        )

    with pytest.raises(Undrawn, match="other.pdf, page 1: is gone"):
        without_undrawn(rows, others)


def test_a_held_out_page_that_is_gone_is_named(make_learner: MakeLearner, tiny_pages: list[Page]) -> None:
    learner = make_learner()
    stage = {"steps": 1, "pages_per_step": 1, "pages": {"synth": "nano"}}
    evaluate = by_likelihood(config.Sft.model_validate({"stages": [stage]}), {"new": tiny_pages[:2]}, learner)
    assert evaluate is not None and evaluate(0)["nll_page"] > 0
    learner.prompter = blind(learner.prompter, tiny_pages[0].number)
    with pytest.raises(UserError, match=r"page 1: there is no such file; take the page out of the evaluation pages"):
        evaluate(1)
