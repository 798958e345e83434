"""A study's tables: the arms at their end, by test type, against GRPO, what they cost, and how they were tuned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ocr_rl.config import Typeset
from ocr_rl.evaluate import floors
from ocr_rl.evaluate.figures import Comparison, check_types, compare
from ocr_rl.evaluate.report import Section
from ocr_rl.evaluate.results import PageResult
from ocr_rl.evaluate.stats import Interval, holm
from ocr_rl.evaluate.tables import floor_line, p_value
from ocr_rl.study.findings import MATTERS, OWN, Measured, apart, contrast, contrast_p, per_page, percent, points
from ocr_rl.study.jobs import reward_model_jobs
from ocr_rl.study.plan import REWARD_MODEL
from ocr_rl.study.results import Of, Results, at_seconds, bleu, cost_of, pass_rate, peak_of


def sections_of(results: Results, plot: bytes, level: floors.Floors | None) -> list[Section]:
    """Those before the claims; `plot` is what every arm reached for its cost."""
    arms = results.ended_arms()
    against = {arm: compare(*_paired(results, arm)) for arm in arms}
    judges = _judges(results)
    tuned = [_tuned(results, name) for name, arm in results.study.arms.items() if len(arm.trials) > 1]
    return [
        Section(
            title="Pass rate against what it cost",
            text=(
                f"Pass rate on {_count(results)} validation pages by tokens generated and by seconds of sampling, "
                "scoring and learning (evaluation left out): the mean over seeds, the band from the lowest seed to the "
                "highest. SFT and the start generate nothing. While a round's samples are drawn nothing is learnt, nor "
                "while a reward model is built."
            ),
            png=plot,
        ),
        Section(
            title="The arms at the end, on the test pages",
            text=(
                f"{len(results.pages)} pages, opened once, greedy; intervals of 95 % by redrawing pages; "
                f"{_scatter(arms)}. All arms had the same pages and start; SFT reads their reference transcripts, all "
                f"others learn from the same rewards and see no reference{_learned(results)}. p, of "
                "the change, is of pages and runs, as its interval." + (f" {floor_line(level)}" if level else "")
            ),
            header=(
                "arm",
                "pass rate, %",
                "change, points",
                "p",
                "BLEU, change",
                "CER, change",
                "runs apart",
                "change by seed",
            ),
            rows=[
                ("start", _level(results.began()), *_NOTHING),
                *(_arm(results, arm, measured) for arm, measured in arms.items()),
                *((name, _level(Measured(pages=per_page(rows))), *_NOTHING) for name, rows in _rows_of(level)),
            ],
        ),
        Section(
            title="By test type",
            text=(
                "Change of the share of tests passed, in points; * where Holm's p over an arm's types is below 0.05. "
                "Pages are redrawn, runs are not: these figures speak of the runs that there were."
            ),
            header=("type", *arms),
            rows=[(type_, *(_type(against[arm], type_) for arm in arms)) for type_ in check_types(results.start)],
        ),
        Section(
            title="Each arm against GRPO",
            text=(
                "GRPO's pass rate on the test pages less the arm's, in points; p of pages and runs both, then Holm's "
                "over these comparisons. GRPO or the arm is ahead where Holm's p is below 0.05; they are alike where "
                f"the interval lies within {100 * MATTERS:.0f} points of 0; nothing is decided otherwise."
            ),
            header=("arm", "GRPO ahead by", "p", "Holm's p", "so", "by seed"),
            rows=_against_grpo(results, arms),
        ),
        Section(
            title="Any two arms",
            text=(
                "The row's pass rate on the test pages less the column's, in points; * where Holm's p over all these "
                "pairs is below 0.05. Not the main comparison, which has one arm on one side."
            ),
            header=("arm", *list(arms)[:-1]),
            rows=_any_two(arms),
        ),
        Section(title="The ledger", text=_LEDGER_TEXT, header=_LEDGER, rows=_ledger(results, list(arms))),
        *([Section(title="The reward models", text=_JUDGES_TEXT, header=_JUDGES, rows=judges)] if judges else []),
        *([Section(title="The tuning trials", text=_TUNED_TEXT, header=_TUNED, rows=tuned)] if tuned else []),
    ]


def _scatter(arms: Mapping[str, Measured]) -> str:
    """How far the runs of one arm lie apart; with fewer than three runs an arm has the spread of all."""
    known = {arm: measured.noise.sd for arm, measured in arms.items() if measured.noise.freedom}
    if not known:
        return "with one seed an arm, the intervals know nothing of how runs differ"
    least, most = min(known, key=lambda arm: known[arm]), max(known, key=lambda arm: known[arm])
    between = f"{100 * known[least]:.1f} ({least}) to {100 * known[most]:.1f} ({most})"
    if known[least] == known[most]:
        between = f"{100 * known[least]:.1f}"
    return f"runs of one arm lie {between} points apart (standard deviation over seeds), which the intervals hold"


def _rows_of(level: floors.Floors | None) -> list[tuple[str, Sequence[PageResult]]]:
    return list(level.rows.items()) if level else []


def _learned(results: Results) -> str:
    arms = [name for name, arm in results.study.arms.items() if arm.scored_by == REWARD_MODEL]
    return f", {' and '.join(arms)} by way of a reward model that was learnt from these" if arms else ""


def _paired(results: Results, arm: str) -> tuple[list[PageResult], list[PageResult]]:
    """The start and the arm at every seed that ended, each seed a repeat of the page."""
    after, before = [], []
    for k, rows in enumerate(results.runs(arm), 1):
        after += [replace(row, repeat=k) for row in rows]
        before += [replace(row, repeat=k) for row in results.start]
    return before, after


@dataclass(frozen=True, slots=True)
class Lead:
    """Of GRPO over an arm, on the test pages."""

    size: Interval
    p: float
    holm: float  # over all arms

    @property
    def word(self) -> str:
        """By the rule that the section states."""
        if self.holm < 0.05:
            return "GRPO ahead" if self.size.mean > 0 else "GRPO behind"
        return "alike" if self.size.low > -MATTERS and self.size.high < MATTERS else "undecided"


def leads(arms: Mapping[str, Measured]) -> dict[str, Lead]:
    """GRPO's over each other arm; none without GRPO."""
    if "grpo" not in arms:
        return {}
    grpo, others = arms["grpo"], {arm: measured for arm, measured in arms.items() if arm != "grpo"}
    by_arm = {arm: contrast_p((1, grpo), (-1, measured)) for arm, measured in others.items()}
    held = holm(by_arm)
    return {arm: Lead(contrast((1, grpo), (-1, others[arm])), p, held[arm]) for arm, p in by_arm.items()}


def _against_grpo(results: Results, arms: Mapping[str, Measured]) -> list[tuple[str, ...]]:
    return [
        (arm, points(lead.size), p_value(lead.p), p_value(lead.holm), lead.word, _by_seed(results, "grpo", arm))
        for arm, lead in leads(arms).items()
    ]


def _any_two(arms: Mapping[str, Measured]) -> list[tuple[str, ...]]:
    """A row for each arm but the first, a cell for each before it."""
    names = list(arms)
    pairs = [(arm, other) for k, arm in enumerate(names) for other in names[:k]]
    by_pair = {f"{arm} {other}": contrast_p((1, arms[arm]), (-1, arms[other])) for arm, other in pairs}
    held = holm(by_pair)

    def cell(arm: str, other: str) -> str:
        star = "*" if held[f"{arm} {other}"] < 0.05 else ""
        return apart(arms[arm], arms[other]) + star

    return [
        (arm, *(cell(arm, other) for other in names[:k]), *("" for _ in names[k:-1]))
        for k, arm in enumerate(names)
        if k
    ]


def _level(measured: Measured) -> str:
    return percent(contrast((1, measured)))


def _arm(results: Results, arm: str, measured: Measured) -> tuple[str, ...]:
    def change(of: Of) -> str:
        after, before = results.measured(arm, of=of), results.began(of)
        return apart(after, before) if after else ""

    p = p_value(contrast_p((1, measured), (-1, results.began())))
    apart_by = f"{100 * measured.noise.sd:.1f}" if measured.runs >= OWN else ""
    seeds = " ".join(f"{100 * (_mean(rows) - _mean(results.start)):+.1f}" for rows in results.runs(arm))
    return (arm, _level(measured), change(pass_rate), p, change(bleu), change(lambda row: row.cer), apart_by, seeds)


def _mean(rows: Sequence[PageResult]) -> float:
    return float(np.mean(list(per_page(rows).values())))


def _by_seed(results: Results, arm: str, other: str) -> str:
    names = [(f"{arm}-seed{seed}", f"{other}-seed{seed}") for seed in results.study.seeds]
    both = [(results.rows[a], results.rows[b]) for a, b in names if a in results.rows and b in results.rows]
    return " ".join(f"{100 * (_mean(first) - _mean(second)):+.1f}" for first, second in both)


def _type(against: Comparison, type_: str) -> str:
    comparison = against.by_type.get(type_)
    if comparison is None:
        return ""
    star = "*" if comparison.p_holm is not None and comparison.p_holm < 0.05 else ""
    return points(comparison.difference) + star


_NOTHING = ("",) * 6  # of what was not trained, beside its pass rate
_LEDGER = (
    "arm",
    "updates",
    "tokens generated",
    "seconds",
    "validation then, %",
    "GRPO's at those seconds, %",
    "memory, GiB",
)
_LEDGER_TEXT = (
    "Means over seeds. Arms that sample generate about as many tokens each; sampling for pairs is charged to DPO. Two "
    "columns compare at equal seconds: the arm at its end, and GRPO's curve at the same second, read between its "
    "evaluations (after its end, its end). What a reward model cost is charged to each arm that it scores, on top. "
    "Memory is the most that a run's process held, its sampler and what runs before it left behind included."
)


def _ledger(results: Results, arms: Sequence[str]) -> list[tuple[str, ...]]:
    rows = []
    for arm in arms:
        curves, grpo = results.curves_of(arm), results.curves_of("grpo")
        last = [curve[-1] for curve in curves]
        seconds = float(np.mean([p.seconds for p in last]))
        then = f"{100 * np.mean([at_seconds(curve, seconds) for curve in grpo]):.1f}" if grpo and arm != "grpo" else ""
        rows.append(
            (
                arm,
                f"{np.mean([p.step for p in last]):.0f}",
                f"{np.mean([p.tokens for p in last]):,.0f}",
                f"{seconds:.0f}",
                f"{100 * np.mean([p.pass_rate for p in last]):.1f}",
                then,
                peak_of(results, arm),
            )
        )
    return rows


_JUDGES = ("run", "pairs", "held out", "accuracy, %", "calibration error", "tokens", "seconds")
_JUDGES_TEXT = (
    "What the start's own samples taught of the study's rewards: how often the better one of a held-out pair gets the "
    "higher score (labels there are right), and how far its chances are off. One a seed, shared by the arms it scores."
)


def _judges(results: Results) -> list[tuple[str, ...]]:
    return [
        (
            job.name,
            *(f"{sum(row.get(name, 0) for row in rows):.0f}" for name in ("pairs", "pairs_held_out")),
            *(_last(rows, name, scale) for name, scale in (("eval_accuracy", 100), ("eval_ece", 1))),
            f"{cost_of(rows).tokens:,.0f}",
            f"{cost_of(rows).seconds:.0f}",
        )
        for job in reward_model_jobs(results.study)
        if (rows := results.metrics.get(job.name))
    ]


def _last(rows: Sequence[Mapping[str, Any]], name: str, scale: float) -> str:
    values = [row[name] for row in rows if name in row]
    return f"{scale * values[-1]:.3g}" if values else ""


_TUNED = ("arm", "trials, %", "taken")
_TUNED_TEXT = (
    "Pass rate on the validation pages at the end of each trial, at seeds of its own; the best was taken. Where it is "
    "the first or the last of its row, a better one may lie beyond."
)


def _tuned(results: Results, arm: str) -> tuple[str, str, str]:
    trials = results.study.arms[arm].trials
    scores = [results.trials.get((arm, k)) for k in range(len(trials))]
    trial_texts = [
        f"{', '.join(trial) or 'as written'}: {'did not end' if score is None else f'{100 * score:.1f}'}"
        for trial, score in zip(trials, scores, strict=True)
    ]
    return arm, "; ".join(trial_texts), ", ".join(trials[results.chosen.get(arm, 0)]) or "as written"


def _count(results: Results) -> str:
    source = results.study.validation
    return str(source.limit or source.n) if isinstance(source, Typeset) else "the"
