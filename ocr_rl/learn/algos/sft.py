"""Supervised fine-tuning: rows are the pages' reference transcripts, the loss is their negative log-likelihood.

Which pages a step sees is a function of (seed, step) alone, so going on after a kill needs no saved position.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from ocr_rl import config
from ocr_rl.contract import Page, UserError
from ocr_rl.learn.algos.setting import OpenPages, Setting
from ocr_rl.learn.step import Step
from ocr_rl.objectives.losses import NegativeLogLikelihood
from ocr_rl.pages.epochs import draw
from ocr_rl.pages.raster import PageError
from ocr_rl.rollout.asking import ask, require_one, small_step, with_left_out
from ocr_rl.rollout.flow import Prompt, Row
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.text.front_matter import FrontMatter


def sft(cfg: config.Sft, setting: Setting, state: Mapping[str, Any]) -> Iterator[Step]:
    """Steps from `learner.policy` to the curriculum's end; where to go on is that number alone, `state` is not read."""
    start, first = setting.learner.policy, 0
    refused: dict[str, PageError] = {}
    for number, stage in enumerate(cfg.stages):
        if start < first + stage.steps:
            yield from _lesson(number, stage, max(start - first, 0), setting, refused)
        first += stage.steps


def _lesson(
    number: int, stage: config.Stage, start: int, setting: Setting, refused: dict[str, PageError]
) -> Iterator[Step]:
    """The steps of one stage from `start` on."""
    pages, key = _lesson_pages(number, stage, setting.open_pages), f"{setting.seed}/{number}"
    prompter, n = setting.learner.prompter, stage.pages_per_step
    if len(pages) < n:
        tqdm.write(small_step(f"sft.stages.{number}", len(pages), n))
    for step in range(start, stage.steps):
        started = time.perf_counter()
        chosen = draw(pages, n, step * n, key)
        prompted = ask(chosen, prompter, refused)
        require_one(prompted, chosen, refused)
        rows = reference_rows(prompted, prompter, front_matter=stage.front_matter)
        prompter.prefetch(draw(pages, n, (step + 1) * n, key))
        figures = {"stage": number, "pages_s": time.perf_counter() - started}
        yield Step(rows=rows, loss=NegativeLogLikelihood(), metrics=with_left_out(figures, len(chosen) - len(prompted)))


def require_lessons(cfg: config.Sft, open_pages: OpenPages) -> None:
    """Before training: UserError for a stage whose folder has nothing to learn from. Synthetic pages always have."""
    for number, stage in enumerate(cfg.stages):
        if isinstance(stage.pages, config.Folder):
            _lesson_pages(number, stage, open_pages)


def _lesson_pages(number: int, stage: config.Stage, open_pages: OpenPages) -> list[Page]:
    pages = [page for page in open_pages(stage.pages) if page.reference is not None]
    if not pages:
        raise UserError(f"sft.stages.{number}.pages: no page has a reference transcript to learn from.")
    return pages


def reference_rows(prompted: Sequence[tuple[Page, Prompt]], prompter: Prompter, *, front_matter: bool) -> list[Row]:
    """One row a page, every token of the step counting the same."""
    targets = [
        (*prompter.encode(target_text(page, front_matter=front_matter)), prompter.eos_id) for page, _ in prompted
    ]
    weight = 1 / sum(map(len, targets))
    return [
        Row(prompt=prompt, completion_ids=target, group_id=i, weight=weight)
        for i, ((_, prompt), target) in enumerate(zip(prompted, targets, strict=True))
    ]


def target_text(page: Page, *, front_matter: bool) -> str:
    """What the policy should write: the reference, behind olmOCR's front matter if asked for."""
    assert page.reference is not None
    if not front_matter:
        return page.reference
    return front_matter_of(page.reference).to_text() + page.reference


def front_matter_of(reference: str) -> FrontMatter:
    """The fields that a reference transcript itself determines; the page stands upright, its language is English."""
    tables = sum(len(part.split("</table>")[0]) for part in reference.split("<table>")[1:])
    return FrontMatter(
        primary_language="en" if reference else None,
        is_rotation_valid=True,
        rotation_correction=0,
        is_table=tables > len(reference) / 2,
        is_diagram=False,
    )
