"""Rows of a data set, with what a policy wrote about each, become scores: by the scoring that training here uses.

A row's columns are `tests` (those of the page, as JSON text or as a list), `reference` (the true transcript) and `id`;
a row has at least one of the first two. It knows nothing about trainers.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence, Sized
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from ocr_rl.api import Mix, MixScore, load_rewards, make_page
from ocr_rl.contract import Page, Score, Transcript, UserError
from ocr_rl.rollout.scoring import RewardFault, WeightedReward, ask
from ocr_rl.text.front_matter import split_front_matter

COLUMNS = ("tests", "reference", "id")
Spec = str | Path | Sequence[str]  # a recipe's mix with its gates, or single rewards


def mix_of(spec: Spec) -> Mix:
    """The mix of `ocr_rl.load_rewards`, loaded once a process. UserError for one that cannot be."""
    if isinstance(spec, Path) or (isinstance(spec, str) and spec.strip()):
        return _mix(spec)
    if isinstance(spec, Sequence) and spec and all(isinstance(name, str) and name.strip() for name in spec):
        return _mix(tuple(map(str, spec)))  # verl hands lists over as a type of its own
    raise UserError(f"spec is {spec!r}; name a recipe (as in 'nano_grpo', or a TOML file) or a list of rewards.")


@cache
def _mix(spec: str | Path | tuple[str, ...]) -> Mix:
    return load_rewards(spec)


def page_of(row: Mapping[str, Any]) -> Page:
    """The page that a row describes. UserError, with the row's id, for a row that describes none."""
    tests, reference, name = (plain(row.get(column)) for column in COLUMNS)
    where = _where(row)
    if tests is None and reference is None:
        raise UserError(f"{where}: it has neither tests nor a reference; give it one of the columns of that name.")
    if not isinstance(reference, str | None):
        raise UserError(f"{where}: reference is {type(reference).__name__}, not text; give the true transcript.")
    if not isinstance(tests, str | list | None):
        raise UserError(f"{where}: tests are a list, JSON or JSON lines, not {type(tests).__name__}.")
    try:
        return make_page(_without_nulls(tests), reference=reference, page_id="row" if name is None else str(name))
    except UserError as error:
        raise UserError(f"{where}: {str(error).removeprefix('make_page: ')}") from None


def plain(value: Any) -> Any:
    """The same without arrays, tuples and NaN, at any depth: tables that went through pandas hold them."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value  # NaN is how pandas writes null


def in_step(what: str, values: Any, number: int | None = None) -> Any:
    """The values, where they are a list with one for each of so many completions; else UserError."""
    if not isinstance(values, Sized) or isinstance(values, str | bytes | Mapping):
        raise UserError(f"{what} is {type(values).__name__}, not a list; pass one value for each completion.")
    if number is not None and len(values) != number:
        raise UserError(f"{what} has {len(values)} values for {number} completions; pass one for each.")
    return values


def _where(row: Mapping[str, Any]) -> str:
    name = plain(row.get("id"))
    return "a row" if name is None else f"row {name}"


def _without_nulls(tests: str | list[Any] | None) -> Any:
    """Columns of structs give every test the fields of all; a field that a test does not have is null there."""
    if tests is None or isinstance(tests, str):
        return tests or ()
    return [
        {field: value for field, value in test.items() if value is not None} if isinstance(test, dict) else test
        for test in tests
    ]


def transcript_of(completion: Any, ids: Sequence[int] | None = None, eos_ids: Collection[int] = ()) -> Transcript:
    """What a trainer hands over: text, or a conversation of which the assistant's text counts.

    `ids` are its tokens. Where `eos_ids` are named, a completion that does not end in one of them was cut off.
    """
    text = _text(completion)
    if not isinstance(ids, Sized | None):
        raise UserError(f"the tokens of a completion are {type(ids).__name__}; pass a list of their numbers, or none.")
    cut = ids is not None and len(eos_ids) > 0 and (len(ids) == 0 or ids[-1] not in eos_ids)
    return Transcript(
        raw=text,
        body=split_front_matter(text)[1],
        finish="length" if cut else "stop",
        num_tokens=0 if ids is None else len(ids),
    )


def _text(completion: Any) -> str:
    if isinstance(completion, str):
        return completion
    if isinstance(completion, Sequence) and all(isinstance(message, Mapping) for message in completion):
        own = [message.get("content") for message in completion if message.get("role", "assistant") == "assistant"]
        return "".join(map(_content, own))
    raise UserError(f"a completion is text or a list of messages, not {type(completion).__name__}.")


def _content(content: Any) -> str:
    """The text of a message; of content in parts, that of the parts which are text."""
    if isinstance(content, str) or content is None:
        return content or ""
    if isinstance(content, Sequence) and all(isinstance(part, Mapping) for part in content):
        return "".join(str(part.get("text") or "") for part in content if part.get("type", "text") == "text")
    raise UserError(f"a message's content is text or a list of parts, not {type(content).__name__}.")


def score_rows(spec: Spec, rows: Sequence[Mapping[str, Any]], transcripts: Sequence[Transcript]) -> Iterator[MixScore]:
    """A mix's score of each row, in order.

    A reward that does not apply to a row is told by a warning, once a process. UserError where a row describes no page,
    a reward fails, or none with a weight applies to the page.
    """
    mix = mix_of(spec)
    for where, page, siblings in _groups(rows, transcripts):
        scores = mix.score(page, siblings)
        rest = " and ".join(part.name for part in mix.rewards if part.weight > 0 and part.name in scores[0].parts)
        for part in mix.rewards:
            effect = f"the score is that of {rest} alone" if part.gate is None else "it stands open"
            _tell_silence(str(spec), where, part, scores[0].scores[part.name], effect)
        yield from scores


def score_alone(
    name: str, rows: Sequence[Mapping[str, Any]], transcripts: Sequence[Transcript]
) -> Iterator[float | None]:
    """One reward's value of each row, in order; None where it does not apply to the page. UserError as `score_rows`."""
    (weighted,) = mix_of((name,)).rewards
    for where, page, siblings in _groups(rows, transcripts):
        try:
            scores = ask(name, weighted.reward, page, siblings)
        except RewardFault as fault:
            raise UserError(f"{fault}.") from fault
        _tell_silence("the rewards", where, weighted, scores[0], "it has no value")
        yield from (score.value for score in scores)


_told: set[tuple[str, str]] = set()  # mix and reward


def _tell_silence(mix: str, where: str, reward: WeightedReward, score: Score, effect: str) -> None:
    """A warning, once a process for each reward of a mix, where a reward does not apply to a row."""
    if score.value is not None or (mix, reward.name) in _told:
        return
    _told.add((mix, reward.name))
    kind, reason = "reward" if reward.gate is None else "gate", f" ({score.why})" if score.why else ""
    warnings.warn(
        f"{where}: the {kind} {reward.name} does not apply{reason}, so {effect} there and on other "
        f"such rows; give rows what it needs, or take it out of {mix} (this is told once).",
        stacklevel=2,
    )


def _groups(
    rows: Sequence[Mapping[str, Any]], transcripts: Sequence[Transcript]
) -> Iterator[tuple[str, Page, list[Transcript]]]:
    """Neighbours with the same columns are siblings: trainers repeat a row for its samples."""
    pairs = zip(rows, transcripts, strict=True)
    for _, group in groupby(pairs, key=lambda pair: repr([plain(pair[0].get(column)) for column in COLUMNS])):
        siblings = list(group)  # by their text: not all that a table may hold can be compared
        yield _where(siblings[0][0]), page_of(siblings[0][0]), [transcript for _, transcript in siblings]
