"""One transcript of one page -> a row of verdicts and similarities; rows -> figures with intervals, and differences.

Everything in a report is computed from these rows, and rows live in JSONL. This file knows nothing about where a
transcript came from (policy, engine or folder) nor about how figures are shown.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ocr_rl.contract import Check, Finish, Page, Reading, Transcript, UserError, Verdict
from ocr_rl.evaluate.stats import (
    BASELINE_FILE,
    Interval,
    Tally,
    bootstrap_mean,
    holm,
    paired_difference,
    permutation_test,
)
from ocr_rl.text.checks import judge
from ocr_rl.text.distance import character_error_rate, indel_similarity, word_error_rate
from ocr_rl.text.ngrams import sentence_bleu

ClusterBy = Literal["page", "document"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRow:
    """The verdict of one unit test."""

    id: str
    type: str
    passed: bool
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """One transcript of one page, judged. The four similarities are None where the page has no reference."""

    page: str  # the page's id, "<document>:p<number>"
    repeat: int = 1  # 1-based, of several transcripts of one page
    tags: tuple[str, ...] = ()  # sorted
    checks: tuple[CheckRow, ...] = ()
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


def grade(page: Page, transcript: Transcript, reading: Reading = "compatible", *, repeat: int = 1) -> Graded:
    """Run every check of the page and compare with its reference, if it has one."""
    text, reference = transcript.body, page.reference
    verdicts = _verdicts(page.checks, text, reading)
    known = {} if reference is None else _similarities(reference, text)
    return Graded(
        page=page.id,
        repeat=repeat,
        tags=tuple(sorted(page.tags)),
        checks=tuple(
            CheckRow(id=check.id, type=check.type, passed=verdict.passed, why=verdict.why)
            for check, verdict in zip(page.checks, verdicts, strict=True)
        ),
        finish=transcript.finish,
        num_tokens=transcript.num_tokens,
        text=text,
        **known,
    )


def _verdicts(checks: Sequence[Check], text: str, reading: Reading) -> Sequence[Verdict]:
    """A check that raises is at fault itself: here it is named and counts as failed, and the others still count."""
    try:
        return judge(checks, text, reading)
    except Exception as fault:
        if len(checks) == 1:
            return [Verdict(passed=False, why=f"the test itself broke: {type(fault).__name__}: {fault}")]
        return [_verdicts([check], text, reading)[0] for check in checks]


def _similarities(reference: str, text: str) -> dict[str, float]:
    """Error rates see runs of white space as one space: where a line breaks is not a reading error."""
    true, read = " ".join(reference.split()), " ".join(text.split())
    return {
        "bleu": _bleu(reference, text),
        "diff_ratio": indel_similarity(reference, text),
        "cer": character_error_rate(true, read),
        "wer": word_error_rate(true, read),
    }


def _bleu(reference: str, text: str) -> float:
    """Sentence BLEU in [0, 1]: sacrebleu nrefs:1|case:mixed|eff:yes|tok:13a|smooth:exp. Two empty texts: 1."""
    if not reference.split() or not text.split():
        return float(reference.split() == text.split())
    return min(1.0, sentence_bleu(text, reference).score / 100)


# ---- rows on disk


def to_json(row: Graded) -> dict[str, Any]:
    return asdict(row)


def from_json(fields: Mapping[str, Any], *, where: str = "row") -> Graded:
    """Raises UserError, beginning with `where`, for what `to_json` did not write."""
    try:
        checks = tuple(CheckRow(**check) for check in fields["checks"])
        return Graded(**{**fields, "tags": tuple(fields["tags"]), "checks": checks})
    except (KeyError, TypeError) as fault:
        raise UserError(f"{where}: not a row of graded transcripts ({fault}); write it with `ocr-rl bench`") from None


def write_rows(path: Path, rows: Iterable[Graded]) -> None:
    # ASCII JSON: a transcript may hold half a surrogate pair, which UTF-8 cannot encode
    path.write_text("".join(json.dumps(to_json(row)) + "\n" for row in rows), encoding="utf-8")


def read_rows(path: Path) -> list[Graded]:
    """Raises UserError naming the file and line that is broken."""
    return list(_read_rows(path))


def _read_rows(path: Path) -> Iterator[Graded]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as fault:
        raise UserError(f"{path}: cannot be read ({fault}); give a JSONL file of graded transcripts") from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                fields = json.loads(line)
            except ValueError as fault:
                raise UserError(f"{where}: not JSON ({fault}); delete the line or write the file again") from None
            yield from_json(fields, where=where)


# ---- figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure of a transcript. `of` gives no value where it does not apply, several where tests count one by one."""

    name: str
    label: str
    unit: Literal["%", "tokens"]
    better: Literal[1, -1, 0]  # higher, lower, neither
    of: Callable[[Graded], Sequence[float]]


def _field(name: str) -> Callable[[Graded], Sequence[float]]:
    def of(row: Graded) -> Sequence[float]:
        value = getattr(row, name)
        return () if value is None else (value,)

    return of


def _tests(type_: str | None = None) -> Callable[[Graded], Sequence[float]]:
    return lambda row: [float(check.passed) for check in row.checks if type_ in (None, check.type)]


def _length(row: Graded) -> Sequence[float]:
    return (float(row.num_tokens),) if row.num_tokens else ()


METRICS = (
    Metric(name="pass_rate", label="pass rate", unit="%", better=1, of=_field("pass_rate")),
    Metric(name="tests", label="tests passed", unit="%", better=1, of=_tests()),
    Metric(name="bleu", label="BLEU", unit="%", better=1, of=_field("bleu")),
    Metric(name="diff_ratio", label="diff ratio", unit="%", better=1, of=_field("diff_ratio")),
    Metric(name="cer", label="CER", unit="%", better=-1, of=_field("cer")),
    Metric(name="wer", label="WER", unit="%", better=-1, of=_field("wer")),
    Metric(name="stopped", label="ended by itself", unit="%", better=1, of=lambda row: (float(row.finish == "stop"),)),
    Metric(name="num_tokens", label="length", unit="tokens", better=0, of=_length),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Figures of one candidate. A figure that applies to none of its pages is left out."""

    pages: int
    tests: int
    transcripts: int
    metrics: Mapping[str, Interval]  # by the name in METRICS; pass_rate is a mean over pages, tests one over tests
    by_type: Mapping[str, Interval]  # share of the tests of each type that pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """`after` less `before`, paired by page."""

    difference: Interval
    p: float  # two-sided, page labels swapped
    p_holm: float | None = None  # adjusted over the test types; None where it stands alone
    fixed: int = 0  # tests that fail before and pass after
    broken: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    metrics: Mapping[str, Change]
    by_type: Mapping[str, Change]


def summary(rows: Sequence[Graded], *, cluster: ClusterBy = "page", seed: int = 0, draws: int = 2000) -> Summary:
    """Every figure with its 95 % interval from a bootstrap over pages (or documents). Raises UserError without rows."""
    if not rows:
        raise UserError("no graded transcripts to summarise; check the folder of pages and the candidate's name")

    def estimate(of: Callable[[Graded], Sequence[float]]) -> Interval | None:
        values = _clusters(rows, of, cluster)
        return bootstrap_mean(values, seed=seed, draws=draws) if values else None

    figures = {metric.name: estimate(metric.of) for metric in METRICS}
    by_type = {type_: estimate(_tests(type_)) for type_ in check_types(rows)}
    return Summary(
        pages=len({row.page for row in rows}),
        tests=len({(row.page, check.id) for row in rows for check in row.checks}),
        transcripts=len(rows),
        metrics={name: figure for name, figure in figures.items() if figure},
        by_type={name: figure for name, figure in by_type.items() if figure},
    )


def compare(
    before: Sequence[Graded],
    after: Sequence[Graded],
    *,
    cluster: ClusterBy = "page",
    seed: int = 0,
    draws: int = 2000,
    permutations: int = 10_000,
) -> Comparison:
    """Paired differences of every figure. Raises UserError where pages or tests of the two are not the same."""
    if alone := sorted(_questions(before) ^ _questions(after)):
        page, check = alone[0]
        raise UserError(
            f"two candidates can only be compared on the same pages and tests, but {len(alone)} stand on one side only "
            f"(the first: page {page}, {check or 'no test'}); grade both again on one folder"
        )

    def change(of: Callable[[Graded], Sequence[float]], flips: tuple[int, int] = (0, 0)) -> Change | None:
        old, new = _clusters(before, of, cluster), _clusters(after, of, cluster)
        if not old or old.keys() != new.keys():  # no such tests, or references on one side only
            return None
        difference = paired_difference(old, new, seed=seed, draws=draws)
        p = permutation_test(old, new, seed=seed, draws=permutations)
        return Change(difference=difference, p=p, fixed=flips[0], broken=flips[1])

    flips = _flips(before, after)
    every = (sum(fixed for fixed, _ in flips.values()), sum(broken for _, broken in flips.values()))
    figures = {m.name: change(m.of, every if m.name in ("pass_rate", "tests") else (0, 0)) for m in METRICS}
    by_type = {type_: change(_tests(type_), flips.get(type_, (0, 0))) for type_ in check_types(before)}
    adjusted = holm({type_: found.p for type_, found in by_type.items() if found})
    return Comparison(
        metrics={name: found for name, found in figures.items() if found},
        by_type={type_: replace(found, p_holm=adjusted[type_]) for type_, found in by_type.items() if found},
    )


def tallies(rows: Sequence[Graded], file_of: Mapping[str, str]) -> list[Tally]:
    """Rows of one candidate (all repeats) as input of `benchmark_score`.

    `file_of` maps a check's id to the JSONL file it came from; checks that are in none are the added baseline tests.
    """
    found: dict[tuple[str, str, str], list[bool]] = defaultdict(list)
    for row in rows:
        for check in row.checks:
            found[row.page, check.id, check.type].append(check.passed)
    return [
        Tally(
            id=id_,
            type=type_,
            file=file_of.get(id_, BASELINE_FILE),
            page=page,
            passes=sum(passed),
            repeats=len(passed),
        )
        for (page, id_, type_), passed in found.items()
    ]


def check_types(rows: Iterable[Graded]) -> list[str]:
    return sorted({check.type for row in rows for check in row.checks})


def _clusters(
    rows: Iterable[Graded], of: Callable[[Graded], Sequence[float]], cluster: ClusterBy
) -> dict[str, list[float]]:
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if found := of(row):
            values[row.page if cluster == "page" else row.document].extend(found)
    return dict(values)


def _questions(rows: Iterable[Graded]) -> set[tuple[str, str]]:
    """(page, check id) of everything asked; a page counts even without checks."""
    return {(row.page, id_) for row in rows for id_ in ("", *(check.id for check in row.checks))}


def _flips(before: Iterable[Graded], after: Iterable[Graded]) -> dict[str, tuple[int, int]]:
    """By test type: how many tests (of the same page and repeat) went from fail to pass, and from pass to fail."""
    was = {(row.page, row.repeat, check.id): check.passed for row in before for check in row.checks}
    flips: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for row in after:
        for check in row.checks:
            passed = was.get((row.page, row.repeat, check.id), check.passed)
            fixed, broken = flips[check.type]
            flips[check.type] = (fixed + (check.passed and not passed), broken + (passed and not check.passed))
    return dict(flips)
