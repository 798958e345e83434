"""The plans of several splits side by side: as a table to read, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from ocr_rl.scale.advice import GIB, Room, advise
from ocr_rl.scale.load import Load
from ocr_rl.scale.parts import PART_NAMES, Figure, Parts
from ocr_rl.scale.step import STAGES, Split, StepPlan, plan_step

_NOTHING = "not measured"
WIDTH = 118


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A recipe's step on each of some splits."""

    name: str
    load: Load
    lengths_source: str
    parts: Parts
    plans: Sequence[StepPlan]
    rooms: Sequence[Room | None]  # of each plan
    notes: Sequence[str] = ()  # what could not be looked at, and what was taken to be so

    @property
    def best(self) -> int | None:
        """The quickest plan that fits; None where none fits, or no side of any is measured."""
        fitting = [
            k
            for k, (plan, room) in enumerate(zip(self.plans, self.rooms, strict=True))
            if (room is None or room.fits) and plan.sampling_s and plan.learning_s
        ]
        return min(fitting, key=lambda k: self.plans[k].step_s, default=None)


def make_sheet(
    name: str,
    load: Load,
    parts: Parts,
    splits: Sequence[Split],
    rooms: Sequence[Room | None],
    *,
    ahead: bool,
    lengths_source: str,
    notes: Sequence[str] = (),
) -> Sheet:
    """Plans of all splits; `rooms`: their memory, where it is known."""
    plans = [
        plan_step(load, parts, split, ahead=ahead, room=room.samples if room else None)
        for split, room in zip(splits, rooms, strict=True)
    ]
    return Sheet(
        name=name, load=load, lengths_source=lengths_source, parts=parts, plans=plans, rooms=rooms, notes=notes
    )


def to_text(sheet: Sheet) -> str:
    """Everything that a person wants to read of it."""
    lines = [*_load_lines(sheet), *_part_lines(sheet.parts), "", *_table(sheet)]
    indents = {"- ": "  "}
    sentences = (wrap(line, WIDTH, subsequent_indent=indents.get(line[:2], "")) for line in _sentences(sheet))
    return "\n".join([*lines, "", *(line for part in sentences for line in part)]).rstrip()


def _sentences(sheet: Sheet) -> list[str]:
    """What is not known, the quickest split, and what to change of it; then why others do not fit."""
    lines = []
    if lacks := list(dict.fromkeys(name for plan in sheet.plans for name in plan.lacks)):
        lines.append(
            f"Not measured: {', '.join(lacks)}. So a step takes at least that. Give a run on such a machine "
            "(--measured RUN), or a number (--set NAME=NUMBER)."
        )
    lines += sheet.notes
    if sheet.best is not None:
        plan, room = sheet.plans[sheet.best], sheet.rooms[sheet.best]
        if len(sheet.plans) > 1:
            lines.append(f"Quickest: {plan.split}, {_least(plan)}{_seconds(plan.step_s)} s a step.")
        lines += [f"- {sentence}" for sentence in advise(sheet.load, sheet.parts, plan, room)]
    for plan, room in zip(sheet.plans, sheet.rooms, strict=True):
        if room is not None and not room.fits:
            lines += [f"- {plan.split}: {sentence}" for sentence in advise(sheet.load, sheet.parts, plan, room)]
    return lines


def to_json(sheet: Sheet) -> dict[str, Any]:
    """The same as data; null where nothing is measured."""
    figures = {name: getattr(sheet.parts, name) for name in PART_NAMES}
    return {
        "recipe": sheet.name,
        "parts": {
            name: None if figure is None else {"value": figure.value, "source": figure.source}
            for name, figure in figures.items()
        },
        "notes": list(sheet.notes),
        "quickest": None if sheet.best is None else str(sheet.plans[sheet.best].split),
        "splits": [_as_json(sheet, plan, room) for plan, room in zip(sheet.plans, sheet.rooms, strict=True)],
    }


def _as_json(sheet: Sheet, plan: StepPlan, room: Room | None) -> dict[str, Any]:
    return {
        "split": str(plan.split),
        "learners": plan.split.learners,
        "engines": plan.split.engines,
        "ahead": plan.ahead,
        "seconds": {name: plan.stages[name].seconds for name in STAGES},
        "step_s": plan.step_s,
        "not_measured": list(plan.lacks),
        "learners_wait": plan.learners_wait,
        "engines_wait": plan.engines_wait,
        "limit": plan.limit,
        "learner_card_gib": None if room is None else room.learner / GIB,
        "engine_samples": None if room is None else room.samples,
        "fits": None if room is None or room.card is None else room.fits,
        "advice": advise(sheet.load, sheet.parts, plan, room),
    }


def _load_lines(sheet: Sheet) -> list[str]:
    load = sheet.load
    prompt = f"{load.prompt_tokens.value:,.0f} tokens ({load.prompt_tokens.source})" if load.prompt_tokens else _NOTHING
    samples = f"{load.pages * load.samples:,} samples"
    lengths = f"{_NOTHING}" if not load.lengths else f"{load.mean:,.0f} tokens, the longest {max(load.lengths):,}"
    source = f" ({sheet.lengths_source})" if load.lengths else ""
    return [
        f"{sheet.name}: {load.pages} pages a step, {load.learnt:.3g} of them learnt from, {samples}",
        f"  a prompt: {prompt}",
        f"  a sample: {lengths}{source}",
    ]


def _part_lines(parts: Parts) -> list[str]:
    """What is measured, by its source."""
    by_source: dict[str, list[str]] = {}
    for name in PART_NAMES:
        figure: Figure | None = getattr(parts, name)
        if figure is not None:
            by_source.setdefault(figure.source, []).append(f"{name} {_number(figure.value)}")
    texts = (f"{source}: {', '.join(names)}" for source, names in by_source.items())
    return [line for text in texts for line in wrap(text, WIDTH, subsequent_indent="  ", break_long_words=False)]


def _table(sheet: Sheet) -> list[str]:
    heads = ["cards", *STAGES, "step", "learners wait", "engines wait", "GiB a learner", "limit"]
    rows = [heads]
    for plan, room in zip(sheet.plans, sheet.rooms, strict=True):
        rows.append(
            [
                str(plan.split),
                *(_stage(plan, name) for name in STAGES),
                f"{_least(plan)}{_seconds(plan.step_s)}" if plan.step_s else "?",
                _share(plan.learners_wait),
                _share(None if plan.split.shared else plan.engines_wait),
                "?" if room is None else f"{room.learner / GIB:.1f}{'' if room.fits else ' (too much)'}",
                plan.limit,
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    order = "each after the other" if not sheet.plans[0].ahead else "sample and score beside reference and update"
    return [f"seconds of a step, {order}:", *aligned]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _stage(plan: StepPlan, name: str) -> str:
    stage = plan.stages[name]
    return "?" if stage.seconds is None else f"{'>' if stage.lacks else ''}{_seconds(stage.seconds)}"


def _least(plan: StepPlan) -> str:
    return "at least " if plan.lacks else ""


def _seconds(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "?" if value is None else f"{value:.0%}"
