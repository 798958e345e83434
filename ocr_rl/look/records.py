"""What the page loads piece by piece: the samples of a step, a page with its tests, and numbers of each visit.

Plain JSON, short where there is much of it; `page/data.js` reads it. Texts are data here: nothing is escaped, and
nothing of them becomes markup anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any

from PIL import Image

from ocr_rl.contract import Check, Page, Verdict
from ocr_rl.evaluate.results import PageResult
from ocr_rl.evaluate.view import asks, data_uri
from ocr_rl.look.findings import Visit, disagreement
from ocr_rl.look.run_log import Siblings
from ocr_rl.pages.workers import Refusal

SHOWN_CHARACTERS = 20_000  # of a transcript or reference
_SHOWN_WHY = 400  # of a reason
_DIGITS = 4
Tests = Sequence[tuple[str, str, str]]  # id, type, question


def tests_of(checks: Sequence[Check]) -> Tests:
    return [(check.id, check.type, asks(check)) for check in checks]


def page_record(
    page: Page | None, id_: str, tests: Tests, images: Callable[[Page], Image.Image] | None
) -> dict[str, Any]:
    """A page as it is shown: image (or why there is none), reference, tests with their questions."""
    reference = page.reference if page else None
    return {
        "id": id_,
        "image": {"why": "the page is not there"} if page is None else data_uri(page, images),
        "reference": None if reference is None else reference[:SHOWN_CHARACTERS],
        "tests": [[id_, type_, question[:_SHOWN_WHY]] for id_, type_, question in tests],
        "tags": sorted(page.tags) if page else [],
    }


def group_record(group: Siblings, page: int, judged: Sequence[Sequence[Verdict]] | Refusal | None) -> dict[str, Any]:
    """Siblings with their verdicts; `page` is the page's number in the index. `judged` is None without tests."""
    reasons = _Reasons()
    verdicts = judged if isinstance(judged, Sequence) else [()] * len(group.texts)
    samples = [_sample(group, k, verdicts[k], reasons) for k in range(len(group.texts))]
    return {
        "page": page,
        "samples": samples,
        "scores": {name: _short(values) for name, values in group.scores.items()},
        "parts": {name: {part: _short(v) for part, v in of.items()} for name, of in group.parts.items() if of},
        "reasons": reasons.texts,
        "whys": {str(k): {name: why[:_SHOWN_WHY] for name, why in of.items()} for k, of in group.whys.items()},
        **({"unjudged": str(judged)} if isinstance(judged, Refusal) else {}),
    }


def _sample(group: Siblings, k: int, verdicts: Sequence[Verdict], reasons: _Reasons) -> dict[str, Any]:
    text, failed = group.texts[k], [verdict for verdict in verdicts if not verdict.passed]
    return {
        **_shown(text),
        "finish": group.finishes[k],
        "tokens": group.tokens[k],
        "reward": group.rewards[k],
        "advantage": group.advantages[k],
        "bits": "".join("1" if verdict.passed else "0" for verdict in verdicts),
        "degrees": [round(100 * verdict.degree) for verdict in failed],
        "why": [reasons.place(verdict.why) for verdict in failed],
        **({"trace": trace} if (trace := group.traces[k]) else {}),
        **({"token_advantages": _short(own)} if (own := group.token_advantages[k]) else {}),
    }


def evaluation_record(result: PageResult, page: int, tests: Tests) -> dict[str, Any]:
    """The transcript of a held-out page, in the form of a group of one sample, with the verdicts it got then."""
    reasons, by_id = _Reasons(), {check.id: check for check in result.checks}
    checks = [by_id.get(id_) for id_, _, _ in tests]
    failed = [check for check in checks if check is not None and not check.passed]
    sample = {
        **_shown(result.text),
        "finish": result.finish,
        "tokens": result.num_tokens,
        "bits": "".join("-" if check is None else str(int(check.passed)) for check in checks),
        "why": [reasons.place(check.why) for check in failed],
    }
    scores = {"elements": [round(result.elements, _DIGITS)]} if result.elements is not None else {}
    return {"page": page, "samples": [sample], "scores": scores, "parts": {}, "reasons": reasons.texts, "whys": {}}


class _Reasons:
    """Sentences of a group, each kept once: siblings fail alike."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def place(self, why: str) -> int:
        return self._places.setdefault(why[:_SHOWN_WHY], len(self._places))

    @property
    def texts(self) -> list[str]:
        return list(self._places)


def _shown(text: str) -> dict[str, Any]:
    hidden = len(text) - SHOWN_CHARACTERS
    return {"text": text[:SHOWN_CHARACTERS], **({"hidden": hidden} if hidden > 0 else {})}


def _short(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else round(value, _DIGITS) for value in values]


# ---- visits


def visit_of(step: int, group: Siblings, tests: Tests, judged: Sequence[Sequence[Verdict]] | Refusal | None) -> Visit:
    """The numbers of a group of samples."""
    rewards = [reward for reward in group.rewards if reward is not None]
    known = len(rewards) == len(group.rewards)  # of older runs those of the best and the worst alone are known
    passes = truths = None
    if isinstance(judged, Sequence) and tests:
        passes = tuple(sum(verdicts[i].passed for verdicts in judged) for i in range(len(tests)))
        truths = [fmean(verdict.passed for verdict in verdicts) for verdicts in judged]
    return Visit(
        step=step,
        set="",
        page=group.page_id,
        samples=len(group.texts),
        tests=tuple(id_ for id_, _, _ in tests),
        types=tuple(type_ for _, type_, _ in tests),
        passes=passes,
        best=max(truths) if truths else None,
        reward=fmean(rewards) if rewards else None,
        spread=pstdev(rewards) if known and rewards else None,
        against=disagreement(group.rewards, truths) if truths else (0, 0),
    )


def evaluation_visit(step: int, name: str, result: PageResult) -> Visit:
    """The numbers of an evaluation's transcript."""
    checks = result.checks
    return Visit(
        step=step,
        set=name,
        page=result.page,
        samples=1,
        tests=tuple(check.id for check in checks),
        types=tuple(check.type for check in checks),
        passes=tuple(int(check.passed) for check in checks) or None,
        best=result.pass_rate,
    )


def visit_row(visit: Visit, page: int, set_: int) -> list[Any]:
    """A visit in the index: step, page, set, samples, reward, truth, best truth, spread, share of tests that split,
    pairs that reward and truth order differently, and pairs in all."""
    split = None
    if visit.passes:
        split = fmean(0 < passed < visit.samples for passed in visit.passes)
    figures: Sequence[float | None] = (visit.reward, visit.truth, visit.best, visit.spread, split)
    return [visit.step, page, set_, visit.samples, *_short(figures), *visit.against]


def history_record(visits: Sequence[Visit], sets: Mapping[str, int], tests: Tests) -> list[dict[str, Any]]:
    """A page's visits in order: how many samples pass each of its tests (null where nobody judged)."""
    rows = []
    for visit in sorted(visits, key=lambda visit: (sets[visit.set], visit.step)):
        passes = dict(zip(visit.tests, visit.passes or (), strict=False))
        rows.append(
            {
                "step": visit.step,
                "set": sets[visit.set],
                "samples": visit.samples,
                "reward": None if visit.reward is None else round(visit.reward, _DIGITS),
                "passes": [passes.get(id_) for id_, _, _ in tests],
            }
        )
    return rows
