"""Further attempts at a page: hotter while a transcript does not end, upright where the policy calls it turned."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocr_rl.contract import Page
from ocr_rl.evaluate.transcribe import attempts
from ocr_rl.rollout.flow import Prompt
from ocr_rl.rollout.sampler.base import Sampling
from tests.evaluate.scripted import FakePrompter, ScriptedSampler


def some_pages(count: int) -> list[Page]:
    return [Page(id=f"d:p{n}", pdf=Path("d.pdf"), number=n) for n in range(1, count + 1)]


def hotter_for_later_pages(page: Page, prompt: Prompt, how: Sampling) -> str:
    return f"page {page.number} at {how.temperature}" + ("..." if how.temperature < 0.3 * (page.number - 1) else "")


def test_what_does_not_end_is_asked_for_again_hotter() -> None:
    sampler = ScriptedSampler(hotter_for_later_pages)
    results = list(attempts(some_pages(3), sampler, FakePrompter(), max_tokens=99, retries=(0.2, 0.5), batch=2))
    assert [page.number for page, _ in results] == [1, 2, 3]
    assert [[attempt.temperature for attempt in tries] for _, tries in results] == [
        [0.0],
        [0.0, 0.2, 0.5],
        [0.0, 0.2, 0.5],
    ]
    assert [tries[-1].transcript.finish for _, tries in results] == ["stop", "stop", "length"]


UPSIDE_DOWN = """---
primary_language: en
is_rotation_valid: False
rotation_correction: 180
is_table: False
is_diagram: False
---
"""


def test_a_page_called_turned_is_asked_for_once_more_upright() -> None:
    def script(page: Page, prompt: Prompt, how: Sampling) -> str:
        if page.number == 1:
            return "upright" if prompt.image.rotation else UPSIDE_DOWN + "umop"
        return UPSIDE_DOWN + "for ever" + ("..." if how.temperature == 0 else "")

    sampler = ScriptedSampler(script)
    (_, first), (_, second) = attempts(some_pages(2), sampler, FakePrompter(), max_tokens=99, retries=(0.2,))
    assert [(a.rotation, a.transcript.body) for a in first] == [(0, "umop"), (180, "upright")]
    # turned once and not back again; the retry keeps the turned image
    assert [(a.rotation, a.temperature) for a in second] == [(0, 0.0), (180, 0.0), (180, 0.2)]


@pytest.mark.parametrize(("correction", "clockwise"), [(90, 270), (180, 180), (270, 90)])
def test_a_page_is_turned_counter_clockwise_as_olmocr_turns_it(correction: int, clockwise: int) -> None:
    front = UPSIDE_DOWN.replace("180", str(correction))
    sampler = ScriptedSampler(lambda page, prompt, how: "upright" if prompt.image.rotation else front + "umop")
    ((_, tries),) = attempts(some_pages(1), sampler, FakePrompter(), max_tokens=99, retries=(0.2,))
    assert [attempt.rotation for attempt in tries] == [0, clockwise]


def test_without_retries_nothing_is_asked_twice() -> None:
    sampler = ScriptedSampler(lambda page, prompt, how: UPSIDE_DOWN + "...")
    ((_, tries),) = attempts(some_pages(1), sampler, FakePrompter(), max_tokens=99)
    assert len(tries) == 1
