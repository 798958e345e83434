"""One transcript of one page -> a page result: the verdict of every check, and how like the reference it is.

A report is computed from page results alone. They live in JSONL, one row each. This file knows nothing about where a
transcript came from (policy, engine or folder) nor about figures over many pages.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ocr_rl.contract import Check, Finish, Page, Reading, Transcript, UserError, Verdict
from ocr_rl.text.checks import judge
from ocr_rl.text.elements import compare
from ocr_rl.text.figures import bleu, cer, diff_ratio, pair, wer


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckVerdict:
    """The verdict of one check, with the check's id and type; `why` is for people."""

    id: str
    type: str
    passed: bool
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageResult:
    """What one transcript of one page came to.

    Figures against the reference are None where there is none, and those of an element where it has no such element.
    """

    page: str  # the page's id, "<document>:p<number>"
    repeat: int = 1  # 1-based, of several transcripts of one page
    tags: tuple[str, ...] = ()  # sorted
    checks: tuple[CheckVerdict, ...] = ()
    elements: float | None = None  # [0, 1]: the element score, below it its parts (`ocr_rl.text.elements`)
    text_blocks: float | None = None
    teds: float | None = None
    teds_structure: float | None = None
    formulas: float | None = None
    order: float | None = None
    bleu: float | None = None  # [0, 1]
    diff_ratio: float | None = None  # [0, 1]
    cer: float | None = None  # >= 0; more than 1 where the transcript is far too long
    wer: float | None = None  # >= 0
    finish: Finish
    num_tokens: int  # 0 where unknown (an engine, a file)
    text: str  # the transcript without front matter

    @property
    def document(self) -> str:
        return self.page.rsplit(":p", 1)[0]

    @property
    def pass_rate(self) -> float | None:
        """Share of the page's unit tests that pass; None without tests."""
        return sum(check.passed for check in self.checks) / len(self.checks) if self.checks else None


def judge_page(page: Page, transcript: Transcript, reading: Reading = "compatible", *, repeat: int = 1) -> PageResult:
    """Run every check of the page on the transcript; compare the transcript with the reference, if there is one."""
    text, reference = transcript.body, page.reference
    similarities = {} if reference is None else _similarities(reference, text)
    return PageResult(
        page=page.id,
        repeat=repeat,
        tags=tuple(sorted(page.tags)),
        checks=check_verdicts(page, text, reading),
        finish=transcript.finish,
        num_tokens=transcript.num_tokens,
        text=text,
        **similarities,
    )


def check_verdicts(page: Page, text: str, reading: Reading) -> tuple[CheckVerdict, ...]:
    """The verdicts of the page's checks on a transcript without front matter, in their order."""
    verdicts = judge_each(page.checks, text, reading)
    return tuple(
        CheckVerdict(id=check.id, type=check.type, passed=verdict.passed, why=verdict.why)
        for check, verdict in zip(page.checks, verdicts, strict=True)
    )


def judge_each(checks: Sequence[Check], text: str, reading: Reading) -> Sequence[Verdict]:
    """A check that raises counts as failed, and its verdict names the fault. The other checks still count."""
    try:
        return judge(checks, text, reading)
    except Exception as fault:
        if len(checks) == 1:
            return [Verdict(passed=False, why=f"the test itself broke: {type(fault).__name__}: {fault}")]
        return [judge_each([check], text, reading)[0] for check in checks]


def _similarities(reference: str, text: str) -> dict[str, float | None]:
    """The figures that rewards pay for, by the same definitions."""
    texts = pair(reference, text)
    return _elements(reference, text) | {
        "bleu": bleu(texts).value,
        "diff_ratio": diff_ratio(texts).value,
        "cer": cer(texts).value,
        "wer": wer(texts).value,
    }


def _elements(reference: str, text: str) -> dict[str, float | None]:
    """The element score and its parts; none of them where formulas differ and cannot be rendered (no extra `math`)."""
    try:
        scores = compare(reference, text)
    except ModuleNotFoundError:
        return {}
    return {
        "elements": scores.value,
        "text_blocks": scores.text,
        "teds": scores.tables,
        "teds_structure": scores.tables_structure,
        "formulas": scores.formulas,
        "order": scores.order,
    }


# ---- rows on disk


def to_json(row: PageResult) -> dict[str, Any]:
    return asdict(row)


def from_json(fields: Mapping[str, Any], *, where: str = "row") -> PageResult:
    """Raises UserError, beginning with `where`, for what `to_json` did not write."""
    try:
        checks = tuple(CheckVerdict(**check) for check in fields["checks"])
        return PageResult(**{**fields, "tags": tuple(fields["tags"]), "checks": checks})
    except (KeyError, TypeError) as fault:
        raise UserError(f"{where}: not a row of page results ({fault}); write it with `ocr-rl bench`") from None


def write_rows(path: Path, rows: Iterable[PageResult]) -> None:
    # ASCII JSON: a transcript may hold half a surrogate pair, which UTF-8 cannot encode
    path.write_text("".join(json.dumps(to_json(row)) + "\n" for row in rows), encoding="utf-8")


def read_rows(path: Path) -> list[PageResult]:
    """Raises UserError naming the file and line that is broken."""
    return list(_read_rows(path))


def _read_rows(path: Path) -> Iterator[PageResult]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as fault:
        raise UserError(f"{path}: cannot be read ({fault}); give a JSONL file of page results") from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError) as fault:
                raise UserError(f"{where}: not JSON ({fault}); delete the line or write the file again") from None
            yield from_json(fields, where=where)
