"""What a run has written so far, read as it lies there: recipe, metrics, groups, evaluations, pages.

Runs of older versions are read too: what their groups do not say is None. Nothing here writes, and nothing needs a
run to be whole: a run that is under way, was killed or is damaged in one file shows what is left.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ocr_rl.config import ALGORITHMS, PageSource, page_source
from ocr_rl.contract import Page, UserError
from ocr_rl.evaluate.results import PageResult, read_rows
from ocr_rl.files import MAX_GROUP, Unreadable, read_objects
from ocr_rl.pages.bound import FILE as BOUND
from ocr_rl.pages.bound import difference, fingerprint
from ocr_rl.pages.source import open_pages
from ocr_rl.rollout.token_trace import columns
from ocr_rl.run import by_step, read_json, read_jsonl
from ocr_rl.text.front_matter import split_front_matter

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """A run's folder and its recipe, as `config.json` has it."""

    folder: Path
    recipe: Row
    algorithm: str  # "grpo", "sft" …
    total: int  # steps

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def section(self) -> Row:
        """The algorithm's own part of the recipe."""
        return self.recipe[self.algorithm]

    @property
    def sources(self) -> dict[str, PageSource]:
        """What pages come from: those that are learnt from under "", held-out ones under their set's name."""
        sets = (self.recipe.get("evaluation") or {}).get("sets") or {}
        given = {**sets, "": self.section.get("pages")}
        sources = {}
        for name, source in given.items():
            try:
                sources |= {} if source is None else {name: page_source(source)}
            except ValidationError:
                continue  # of a version with other sources
        return sources

    def metrics(self) -> list[Row]:
        try:
            rows = read_jsonl(self.folder / "metrics.jsonl")
        except OSError as flaw:
            raise UserError(f"{self.folder / 'metrics.jsonl'}: cannot be read ({flaw}); mend or move it.") from None
        return [row for row in rows if _is_step(row.get("step"))]


def open_run(folder: Path) -> RunFolder:
    """UserError for a folder that is no run's."""
    try:
        recipe = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        algorithm = next(name for name in ALGORITHMS if isinstance(recipe.get(name), dict))
        return RunFolder(folder=folder, recipe=recipe, algorithm=algorithm, total=_total(recipe[algorithm]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration, RecursionError, OverflowError):
        raise UserError(f"{folder}: holds no config.json of a run; give a folder that `ocr-rl train` wrote.") from None


def _is_step(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 10**9


def _total(section: Row) -> int:
    """Of SFT the steps of all stages."""
    stages = section.get("stages") or ()
    return sum(int(stage["steps"]) for stage in stages) if stages else int(section["steps"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Siblings:
    """The samples of one page at a step, or at an evaluation its one transcript."""

    page_id: str
    texts: tuple[str, ...]  # as written, front matter included
    finishes: tuple[str, ...]
    tokens: tuple[int, ...]
    rewards: tuple[float | None, ...]
    advantages: tuple[float | None, ...]
    scores: Mapping[str, tuple[float | None, ...]]  # by reward, one per sample
    parts: Mapping[str, Mapping[str, tuple[float | None, ...]]]  # by reward and part
    traces: tuple[Mapping[str, str] | None, ...]  # of `token_trace.columns`, each in base64
    token_advantages: tuple[Sequence[float] | None, ...]
    whys: Mapping[int, Mapping[str, str]]  # of the best and the worst sample: the rewards' reasons

    @property
    def bodies(self) -> list[str]:
        """The texts without front matter: what tests judge."""
        return [split_front_matter(text)[1] for text in self.texts]


def group_files(run: Path) -> dict[int, Path]:
    """Files of groups by step."""
    return by_step(run / "groups")


def evaluation_files(run: Path, names: Sequence[str]) -> Iterator[tuple[int, str, Path]]:
    """(step, set, file) of every evaluation of these sets, in order."""
    for step, folder in by_step(run / "eval").items():
        for name in names:
            if (path := folder / f"{name}.jsonl").is_file():
                yield step, name, path


def read_step(path: Path) -> tuple[list[Siblings], list[str]]:
    """The groups of a step, and a sentence for every line that is none."""
    groups, flaws = [], []
    try:
        for number, row in read_objects(path, MAX_GROUP, halves=True):
            try:
                if isinstance(row, Unreadable):
                    raise ValueError(str(row))
                groups.append(_siblings(row))
            except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as flaw:
                flaws.append(f"{path.name}, line {number}: {flaw}")
    except Unreadable as flaw:
        flaws.append(f"{path.name}: {flaw}")
    return groups, flaws


def _siblings(row: Row) -> Siblings:
    samples = row["samples"]
    texts = tuple(_text(sample["text"]) for sample in samples)
    if not texts:
        raise ValueError("the group has no samples")
    n = len(texts)
    scores = row.get("scores") or {}
    shown = {
        k: row[end] for end in ("worst", "best") if end in row and (k := _place(row, end, texts, samples)) is not None
    }
    return Siblings(
        page_id=str(row["page"]),
        texts=texts,
        finishes=tuple(str(sample.get("finish", "")) for sample in samples),
        tokens=tuple(int(sample.get("tokens", 0)) for sample in samples),
        rewards=_numbers(row.get("rewards") or [shown[k]["reward"] if k in shown else None for k in range(n)], n),
        advantages=_numbers(
            row.get("advantages") or [shown[k]["advantage"] if k in shown else None for k in range(n)], n
        ),
        scores={str(name): _numbers(score["values"], n) for name, score in scores.items()},
        parts={
            str(name): {str(part): _numbers(values, n) for part, values in (score.get("parts") or {}).items()}
            for name, score in scores.items()
        },
        traces=tuple(_trace(sample.get("trace")) for sample in samples),
        token_advantages=tuple(_list(sample.get("token_advantages")) for sample in samples),
        whys={k: {str(name): str(why) for name, why in (of.get("why") or {}).items()} for k, of in shown.items()},
    )


def _trace(trace: Any) -> dict[str, str] | None:
    """A sample's tokens as the page reads them: the bytes of each figure in base64."""
    codes = columns(trace)
    return None if codes is None else {name: base64.b64encode(of).decode("ascii") for name, of in codes.items()}


def _place(row: Row, end: str, texts: Sequence[str], samples: Sequence[Row]) -> int | None:
    """Which sample the row shows as its best or worst: by its reward where those of all are known, else by its text."""
    rewards = row.get("rewards")
    fits = [k for k, text in enumerate(texts) if text == row[end]["text"]]
    if rewards and fits:
        return min(fits, key=lambda k: abs(rewards[k] - row[end]["reward"]))
    return fits[0] if fits else None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a sample's text is no text")
    return value


def _numbers(values: Any, n: int) -> tuple[float | None, ...]:
    if len(values) != n:
        raise ValueError(f"{len(values)} figures for {n} samples")
    return tuple(number(value) for value in values)


def _list(values: Any) -> Sequence[float] | None:
    return [number(value) or 0.0 for value in values] if isinstance(values, list) else None


def number(value: Any) -> float | None:
    """The value where it is a finite number, else None."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer of hundreds of digits
        return None


def read_evaluation(path: Path) -> tuple[list[PageResult], list[str]]:
    """The page results of an evaluation, and what is wrong with the file if it cannot be read."""
    try:
        return read_rows(path), []
    except UserError as flaw:
        return [], [str(flaw)]


def pages_of(run: RunFolder, name: str, source: PageSource) -> tuple[dict[str, Page], str]:
    """The pages of a source by their id, and a sentence where they are not there, or not what the run learnt from."""
    study = run.folder.resolve().parent.parent  # whose runs share their pages
    root = study / "pages" if (study / "study.json").is_file() else run.folder / "pages"
    of = f"the pages of {name}" if name else "the pages"
    try:
        pages = open_pages(source, root, typesets=False)
        changed = _changed(run.folder, source, pages)
    except (UserError, ModuleNotFoundError, OSError) as flaw:
        return {}, f"{of} cannot be opened, so there are no images and no tests: {flaw}"
    note = f"{of} are not those of the run ({changed}), and tests are judged as they are now" if changed else ""
    return {page.id: page for page in pages}, note


def _changed(run: Path, source: PageSource, pages: Sequence[Page]) -> str | None:
    """What of the pages has changed since the run began, as half a sentence."""
    if not (run / BOUND).exists():
        return None
    begun = read_json(run / BOUND, holds=("sources",))["sources"]
    name = json.dumps(source.model_dump(mode="json", exclude_none=True), sort_keys=True)
    return difference(begun[name], fingerprint(pages)) if name in begun else None
