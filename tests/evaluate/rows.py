"""Page results as short as can be, for tests of figures."""

from __future__ import annotations

from collections.abc import Sequence

from ocr_rl.evaluate.results import CheckVerdict, PageResult


def row(page: str, passed: Sequence[bool], type_: str = "present", **more) -> PageResult:
    checks = tuple(CheckVerdict(id=f"{page}/{n}", type=type_, passed=ok) for n, ok in enumerate(passed))
    return PageResult(page=page, checks=checks, **{"finish": "stop", "num_tokens": 10, "text": "", **more})
